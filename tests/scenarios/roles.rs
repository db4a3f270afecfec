//! One process captures, others serve its history: each does its part and says so, and lives when the other ends.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};
use waldelta_testkit::{Replica, Service, ServiceOptions, TestDatabase, WsClient, wait_until};

use crate::setting::{
    PATIENCE, Setting, all_tables, config_file, run_options, waldelta, waldelta_ok, with_databases,
};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const TABLES: [&str; 1] = ["public.t"];
/// Followers look by themselves every second; a debug build on a busy machine takes its time.
const POLLED_WITHIN: Duration = Duration::from_secs(10);

/// A process of this role.
pub fn in_role(role: &str, source: &TestDatabase, history: &TestDatabase) -> ServiceOptions {
    run_options(source, history).args(["--role", role])
}

/// A process that captures, and a setting whose service serves clients.
async fn split(hint: &str) -> (Service, Setting) {
    let (source, history) =
        (TestDatabase::create(hint).await, TestDatabase::create(&format!("{hint}_h")).await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let capture = Service::start(in_role("capture", &source, &history)).await;
    let service = Service::start(in_role("fanout", &source, &history)).await;
    (capture, Setting { service, source, history })
}

async fn status(service: &Service) -> Value {
    serde_json::from_str(&service.get("/v1/status").await.1).unwrap()
}

async fn wait_writer(service: &Service, state: &str) {
    wait_until(&format!("history's writer is {state}"), PATIENCE, async || {
        status(service).await["writer"]["state"] == state
    })
    .await;
}

#[tokio::test]
async fn a_fanout_process_serves_what_is_durable_whether_anybody_writes_or_not() {
    let (mut capture, setting) = split("roles_fanout").await;
    let (mut socket, mut replica) = setting.client("stays").await;
    let (away, mut absent) = setting.client("goes and comes").await;
    setting.source.exec("INSERT INTO t SELECT i, 'first' FROM generate_series(1, 50) i").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let (code, ready) = setting.service.get("/readyz").await;
    assert!(code == 200 && ready.starts_with("ok, fanout: history is written by waldelta "), "{ready}");
    assert!(ready.contains(&format!("pid {} ", capture.pid())), "{ready}");
    let said = status(&setting.service).await;
    assert_eq!(
        (&said["role"], &said["capture"], &said["slot"]),
        (&"fanout".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(said["sessions"].as_array().unwrap().len(), 2);
    let metrics = setting.service.get("/metrics").await.1;
    for line in [r#"waldelta_role{role="fanout"} 1"#, r#"waldelta_writer_state{state="writing"} 1"#] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("waldelta_capture_"), "it says nothing of what it does not do: {metrics}");

    let known = async || setting.service.get("/v1/clients").await.1.contains(r#""goes and comes""#);
    wait_until("the clients are noted", PATIENCE, known).await;

    away.close().await;
    let lease = "SELECT token, backend_pid IS NULL FROM waldelta.leases";
    let before = setting.history.query(lease).await;
    assert!(capture.stop().await.success());
    wait_writer(&setting.service, "absent").await;
    // What commits now waits at the source.
    setting.source.exec("INSERT INTO t VALUES (100, 'while nobody writes')").await;
    let (code, ready) = setting.service.get("/readyz?verbose").await;
    assert!(code == 200 && ready.starts_with("ok, fanout: WD-HISTORY-UNWRITTEN "), "{code} {ready}");
    assert!(ready.contains("fix Start a process that captures"), "{ready}");
    let (exit, answer, _) = waldelta(&["status".to_owned(), "--url".to_owned(), setting.service.http("")]);
    assert_eq!(exit, Some(0), "{answer}");
    for text in
        ["ready (serves clients, does not capture)", "WD-HISTORY-UNWRITTEN", "sessions  1", "goes and comes"]
    {
        assert!(answer.contains(text), "{text}: {answer}");
    }
    assert!(!answer.contains("lag "), "{answer}");
    assert!(setting.service.get("/metrics").await.1.contains(r#"waldelta_writer_state{state="absent"} 1"#));
    let mut back = setting.resume("goes and comes", &mut absent).await;
    setting.equals_history(&absent, &TABLES).await;
    assert_eq!(absent.rows("public.t").len(), 50);
    let after = setting.history.query(lease).await;
    assert_eq!((&after[0][0], after[0][1].as_deref()), (&before[0][0], Some("t")), "nobody took the lease");

    capture.start_again().await;
    wait_writer(&setting.service, "writing").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    setting.equal(&mut back, &mut absent, &TABLES).await;
    assert_eq!((replica.resets(), absent.resets()), (&[][..], &[][..]));
    let log = setting.service.log();
    assert_eq!(
        log.matches("nobody writes history, what is durable is served").count(),
        1,
        "told once: {log}"
    );
}

/// A request as a browser or a program sends it: status and answer.
async fn request(port: u16, path: &str, host: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_capture_process_serves_the_operator_and_no_clients() {
    let (capture, setting) = split("roles_capture").await;
    assert_eq!(capture.get("/readyz").await, (200, "ok, capture\n".to_owned()));
    for path in
        ["/v1/stream", "/v1/changes", "/v1/snapshot?table=public.t", "/v1/values/x/data/v", "/v1/clients"]
    {
        let (code, answer) = capture.get(path).await;
        let problem: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path}: {answer}"));
        assert_eq!((code, &problem["code"]), (404, &"WD-NOT-SERVED-HERE".into()), "{path}");
    }
    let said = status(&capture).await;
    assert_eq!(
        (&said["role"], &said["capture"]["state"], &said["writer"]),
        (&"capture".into(), &"streaming".into(), &Value::Null)
    );
    assert!(said["slot"]["retained_bytes"].is_u64(), "{said}");
    let metrics = capture.get("/metrics").await.1;
    for line in [r#"waldelta_role{role="capture"} 1"#, r#"waldelta_capture_state{state="streaming"} 1"#] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("waldelta_fanout_"), "{metrics}");
    let answer = waldelta_ok(&["status".to_owned(), "--url".to_owned(), capture.http("")]);
    assert!(
        answer.contains("ready (captures, serves no clients)") && !answer.contains("sessions"),
        "{answer}"
    );
    for path in ["/", "/v1/status", "/v1/changes"] {
        assert_eq!(request(capture.port(), path, "rebound.example.com").await.0, 403, "{path}");
    }
    // A second one stands by, as two of the role `all` do.
    let second = Service::start(in_role("capture", &setting.source, &setting.history)).await;
    let (_, ready) = second.get("/readyz").await;
    assert!(ready.starts_with("ok, capture, standby: history is written by "), "{ready}");
}

#[tokio::test]
async fn a_fanout_process_waits_for_history_to_begin() {
    let (source, history) =
        (TestDatabase::create("roles_early").await, TestDatabase::create("roles_early_h").await);
    source.exec(SCHEMA).await;
    let service = Service::spawn(in_role("fanout", &source, &history));
    wait_until("it answers", PATIENCE, async || service.is_listening().await).await;
    wait_writer(&service, "not_begun").await;
    let (code, ready) = service.get("/readyz").await;
    assert!(code == 503 && ready.starts_with("nothing to serve: WD-HISTORY-NOT-BEGUN "), "{code} {ready}");
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let _capture = Service::start(in_role("capture", &source, &history)).await;
    let mut setting = Setting { service, source, history };
    setting.service.wait_ready().await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting.source.exec("INSERT INTO t VALUES (1, 'x')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
}

#[tokio::test]
async fn a_fanout_process_needs_the_source_for_snapshots_only() {
    let (_capture, mut setting) = split("roles_sourceless").await;
    let (socket, mut replica) = setting.client("c").await;
    socket.close().await;
    let slot = setting.source.slot("slot");
    let nowhere = "postgresql://postgres@127.0.0.1:1/nowhere";
    let words = [
        "run",
        "--role",
        "fanout",
        "--database-url",
        nowhere,
        "--history-url",
        setting.history.url(),
        "--slot",
        &slot,
    ];
    setting.service = Service::start(ServiceOptions::new(words)).await;
    let mut socket = setting.resume("c", &mut replica).await;
    setting.source.exec("INSERT INTO t VALUES (1, 'x')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let mut newcomer = WsClient::connect(&setting.service.stream()).await;
    newcomer.send(&Replica::new().hello("new", &[all_tables()])).await;
    let (code, reason) = newcomer.closed(PATIENCE).await;
    assert!(code == 1013 && reason.contains("retry_ms"), "{code} {reason}");
}

/// Ends the connections by which a writer notifies and followers listen, again and again. How many of each it has ended.
async fn cut_notifications(history: &TestDatabase, cuts: &mut [u64; 2]) {
    let mut pace = interval(Duration::from_millis(100));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        for (kind, cut) in ["lease", "listen"].iter().zip(cuts.iter_mut()) {
            let sql = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'waldelta-history-{kind}'"
            );
            *cut += history.query_text(&sql).await.parse::<u64>().unwrap();
        }
    }
}

#[tokio::test]
async fn notifications_that_are_cut_doubled_or_wrong_cost_time_only() {
    let (_capture, setting) = split("roles_notify").await;
    let (mut socket, mut replica) = setting.client("c").await;
    let mut arrives = async |id: u64| {
        let begun = Instant::now();
        setting.source.exec(&format!("INSERT INTO t VALUES ({id}, 'x')")).await;
        let key = json!({"id": id});
        let has_it = |replica: &Replica| replica.row("public.t", &key).is_some();
        socket.follow(&mut replica, "the row is there", PATIENCE, has_it).await;
        begun.elapsed()
    };
    // Of what is not so, of what was long ago, and of nothing; each of them many times.
    for id in 1..=5 {
        let wrong = "SELECT pg_notify('waldelta_head', payload) FROM generate_series(1, 200) i,
            unnest(ARRAY['ffffffff-ffffffffffffffff-ffffffff', '00000001-0000000000000001-ffffffff', '', i::text]) payload";
        setting.history.exec(wrong).await;
        assert!(arrives(id).await < POLLED_WITHIN);
    }
    let mut cuts = [0, 0];
    let cutting = cut_notifications(&setting.history, &mut cuts);
    let arriving = async {
        for id in 6..=10 {
            let took = arrives(id).await;
            assert!(took < POLLED_WITHIN, "{took:?}");
        }
    };
    tokio::select! {
        () = cutting => {}
        () = arriving => {}
    }
    assert!(cuts.iter().all(|cut| *cut > 0), "both were cut: {cuts:?}");
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert!(replica.resets().is_empty());
}

/// The soft limit of a process, and the hard one.
fn open_files(service: &Service) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_told() {
    const LOW: &str = "WD-OPEN-FILES-LOW";
    let mut setting = Setting::new("roles_files", SCHEMA).await;
    setting.service.stop().await;
    let few = config_file("[server]\nsessions_max = 300\n");
    setting.service = Service::start(few.add_to(setting.run_options()).open_files(64, 1_000)).await;
    assert_eq!(open_files(&setting.service), ("1000".to_owned(), "1000".to_owned()));
    let log = setting.service.log();
    assert!(log.contains("open files: at most 1000") && !log.contains(LOW), "{log}");
    setting.service = Service::start(setting.run_options().open_files(64, 1_000)).await;
    assert!(setting.service.log().contains(LOW), "{}", setting.service.log());

    let doctor = |words: &[&str]| {
        let args =
            with_databases(&[&["doctor", "--json"], words].concat(), &setting.source, &setting.history);
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 1000 && exec \"$0\" \"$@\""])
            .arg(waldelta_testkit::program())
            .args(args)
            .output()
            .unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        checks.into_iter().find(|check| check["name"] == "open_files").unwrap()
    };
    let check = doctor(&[]);
    assert_eq!((&check["state"], &check["code"]), (&"warning".into(), &LOW.into()), "{check}");
    assert_eq!(doctor(&["--config", few.path()])["state"], "ok");
}
