//! History's server stands still, or is gone, for a while: the source does not suffer, memory stays bounded, and capture
//! goes on by itself afterwards with nothing lost and nothing twice.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use waldelta_testkit::{HttpStream, Service, Shutdown, TestCluster, TestDatabase, wait_until};

use crate::load::{Load, SCHEMA, TABLES};
use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting, config_file, run_options, waldelta_ok, with_databases};

const STALL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// From the standstill until the replication connection is closed: the stall is noticed, and the walsender ends.
const LET_GO_MAX: Duration = Duration::from_secs(30);
/// A checkpoint of a small server; one that waits for a walsender waits for ever.
const CHECKPOINT_MAX: Duration = Duration::from_secs(20);
/// What the service may take beyond what it has before, while more than that waits at the source.
const GROWTH_BYTES_MAX: u64 = 60 << 20;
const BACKLOG_ROWS: u32 = 30_000;

/// History in a cluster of its own.
async fn setting(hint: &str) -> (TestCluster, Setting) {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create(hint).await;
    let history = TestDatabase::create_on(&cluster, &format!("{hint}_h")).await;
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = format!(
        "[capture]\nstall_timeout_ms = {}\n[history]\nfeed_bytes_max = 8000000",
        STALL_TIMEOUT.as_millis()
    );
    let config = config_file(&config);
    let service = Service::start(config.add_to(run_options(&source, &history))).await;
    (cluster, Setting { service, source, history })
}

/// What the service says of capture.
async fn capture(setting: &Setting) -> Value {
    let (code, answer) = setting.service.get("/v1/status").await;
    assert_eq!(code, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["capture"].take()
}

async fn slot_is_in_use(setting: &Setting) -> bool {
    let slot = setting.source.slot("slot");
    let sql = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    setting.source.query_text(&sql).await == "t"
}

#[tokio::test]
async fn that_stands_still_holds_up_nobody() {
    let (cluster, setting) = setting("still").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (socket, mut replica) = setting.client("here").await;
    let load = Load::start(setting.source.url(), 4, 1);
    load.more(100).await;
    let before = setting.service.rss_peak_bytes();

    cluster.freeze().await;
    let begun = Instant::now();
    wait_until("the source is let go", PATIENCE, async || !slot_is_in_use(&setting).await).await;
    println!("let go after {:?}", begun.elapsed());
    assert!(begun.elapsed() < LET_GO_MAX, "let go after {:?}", begun.elapsed());
    load.more(200).await;
    let backlog = format!(
        "INSERT INTO item (owner, value) SELECT -1, repeat(md5(i::text), 80) FROM generate_series(1, {BACKLOG_ROWS}) i"
    );
    setting.source.exec(&backlog).await;
    timeout(CHECKPOINT_MAX, setting.source.exec("CHECKPOINT")).await.expect("the source's checkpoint hangs");
    let state = capture(&setting).await;
    assert_eq!(state["state"], "reconnecting", "{state}");
    assert!(state["code"].as_str().unwrap().contains("HISTORY"), "{state}");
    assert!(!state["fix"].as_str().unwrap().is_empty(), "{state}");
    // It stays so: whoever comes back to a server that stands still does not sit on the source's socket meanwhile.
    load.more(200).await;
    assert!(!slot_is_in_use(&setting).await);

    cluster.thaw().await;
    load.more(50).await;
    load.stop().await;
    setting.settled().await;
    let growth = setting.service.rss_peak_bytes().saturating_sub(before);
    println!("grew by {} MiB", growth >> 20);
    assert!(growth < GROWTH_BYTES_MAX, "the service grew by {growth} bytes");
    oracle.check_all().await;
    // Who did not read meanwhile may have been let go; with its cursor it has everything.
    drop(socket);
    let mut socket = setting.resume("here", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
}

#[tokio::test]
async fn that_is_gone_is_waited_for() {
    let (cluster, setting) = setting("gone").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    let load = Load::start(setting.source.url(), 4, 1);
    for how in [Shutdown::Immediate, Shutdown::Kill] {
        load.more(50).await;
        cluster.down(how).await;
        load.more(300).await;
        let state = capture(&setting).await;
        assert_eq!(state["state"], "reconnecting", "{state}");
        assert!(!state["fix"].as_str().unwrap().is_empty(), "{state}");
        timeout(CHECKPOINT_MAX, setting.source.exec("CHECKPOINT")).await.expect("the checkpoint hangs");
        cluster.up().await;
        let goal = replica.transactions() + 300;
        let arrived = |replica: &waldelta_testkit::Replica| replica.transactions() >= goal;
        socket.follow(&mut replica, "what was missing arrives", PATIENCE, arrived).await;
        oracle.check("after the outage").await;
    }
    load.stop().await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

/// More of them than there are connections: each is told in time, and all goes on afterwards.
#[tokio::test]
async fn readers_are_answered_while_it_stands_still() {
    const READERS: usize = 24;
    let (cluster, mut setting) = setting("still_read").await;
    let (socket, mut replica) = setting.client("away").await;
    socket.close().await;
    setting.service.stop().await;
    let hasty = setting.run_options().env("PGCONNECT_TIMEOUT", "2");
    setting.service.start_again_with(hasty).await;
    setting.source.exec("INSERT INTO item (owner, value) SELECT i, 'v' FROM generate_series(1, 100) i").await;
    setting.settled().await;
    let changes = format!("/v1/changes?after={}", replica.position().unwrap());
    assert_eq!(setting.service.get(&changes).await.0, 200);

    cluster.freeze().await;
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (address, changes) = (format!("127.0.0.1:{}", setting.service.port()), changes.clone());
        readers.spawn(async move {
            let answer = HttpStream::get(&address, &changes, "").await;
            (answer.status(), answer.body(PATIENCE).await)
        });
    }
    let answers = timeout(PATIENCE, readers.join_all()).await.expect("a reader waits for ever");
    for (code, problem) in answers {
        let problem: Value = serde_json::from_str(&problem).unwrap();
        assert_eq!((code, &problem["code"]), (503, &"WD-HISTORY-UNREACHABLE".into()), "{problem}");
    }
    cluster.thaw().await;
    let served = async || setting.service.get(&changes).await.0 == 200;
    wait_until("readers are served again", PATIENCE, served).await;
    let mut socket = setting.resume("away", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0]);
}
