//! What the commands say and do, as a user sees it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use waldelta_testkit::{
    Service, ServiceOptions, TestDatabase, connect, program, test_binaries, test_program, wait_until,
};

use crate::setting::{PATIENCE, Setting, config_file, run_options, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/// A source with these tables and a history beside it, nothing set up.
async fn databases(hint: &str, schema_sql: &str) -> (TestDatabase, TestDatabase) {
    let source = TestDatabase::create(hint).await;
    source.exec(schema_sql).await;
    (source, TestDatabase::create(&format!("{hint}_h")).await)
}

/// What of ours a database holds: schemas, publications, functions, and slots of this database.
async fn ours(database: &TestDatabase) -> String {
    let sql = "SELECT concat_ws(',',
        (SELECT 'schema' FROM pg_namespace WHERE nspname = 'waldelta'),
        (SELECT 'publication' FROM pg_publication WHERE pubname = 'waldelta'),
        (SELECT 'function' FROM pg_proc WHERE proname = 'set_client'),
        (SELECT 'slot' FROM pg_replication_slots WHERE database = current_database()),
        (SELECT 'history' FROM pg_class WHERE relname = 'change_history'))";
    database.query_text(sql).await
}

/// Runs an SQL script as its reader would.
fn psql(url: &str, sql: &str) {
    let mut child = Command::new(test_program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), sql.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "psql:\n{sql}");
}

/// Runs a command that must fail, and checks that it says its code, why, and how to mend it.
#[track_caller]
fn refused(args: &[String], code: &str) -> String {
    let (exit, answer, log) = waldelta(args);
    assert_eq!(exit, Some(1), "{args:?}\n{answer}\n{log}");
    assert!(log.contains(&format!("error: {code}: ")), "{code}:\n{log}");
    for part in ["  what: ", "  why:  ", "  fix:  "] {
        assert!(log.lines().any(|line| line.starts_with(part) && line.len() > part.len()), "{part}:\n{log}");
    }
    log
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn init_prints_sql_that_prepares_everything_and_then_has_nothing_to_do() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (v text);
                  CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a REPLICA IDENTITY NOTHING";
    let (source, history) = databases("cli_init", schema).await;
    let init = with_databases(&["init"], &source, &history);
    let sql = waldelta_ok(&init);
    assert_eq!(ours(&source).await, "", "printing does nothing");
    assert!(sql.starts_with("-- NOTE: public.keyless has no primary key"), "{sql}");
    let at = |what: &str| sql.find(what).unwrap_or_else(|| panic!("no {what}:\n{sql}"));
    assert!(at("public.keyless") < at("public.a is left out"), "tables without key come first");
    assert!(at("-- ALTER TABLE public.a REPLICA IDENTITY DEFAULT") < at("CREATE PUBLICATION"));
    assert!(at("CREATE PUBLICATION") < at("pg_create_logical_replication_slot"));
    assert!(!sql.lines().any(|line| !line.starts_with("--") && line.contains("keyless")), "{sql}");

    psql(source.url(), &sql);
    assert_eq!(ours(&source).await, "schema,publication,function,slot");
    let again = waldelta_ok(&init);
    assert!(again.contains("-- Nothing to do."), "{again}");
    let apply = with_databases(&["init", "--apply"], &source, &history);
    assert!(waldelta_ok(&apply).contains("ready: waldelta run"));
    assert!(waldelta_ok(&apply).contains("history has begun before"));
    // What was printed and run by hand is what `run` needs.
    let service = Service::start(run_options(&source, &history)).await;
    let setting = Setting { service, source, history };
    setting.source.exec("INSERT INTO t VALUES (1)").await;
    setting.history_equals_source(&["public.t"]).await;
}

#[tokio::test]
async fn doctor_says_what_is_missing_until_nothing_is() {
    let (source, history) = databases("cli_doctor", SCHEMA).await;
    let (code, answer, _) = waldelta(&with_databases(&["doctor"], &source, &history));
    assert_eq!(code, Some(1), "{answer}");
    for text in ["FAILED   publication", "WD-PUBLICATION-MISSING", "ok       reachable", "checks failed"] {
        assert!(answer.contains(text), "{text}:\n{answer}");
    }
    let (code, answer, _) = waldelta(&with_databases(&["doctor", "--json"], &source, &history));
    assert_eq!(code, Some(1));
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    let state = |checks: &[Value], name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}: {checks:?}"))["state"].as_str().unwrap().to_owned()
    };
    for name in ["reachable", "version", "wal_level", "role"] {
        assert_eq!(state(&checks, name), "ok");
    }
    assert_eq!(state(&checks, "publication"), "failed");
    assert!(checks.iter().filter(|check| check["state"] == "failed").all(|check| check["fix"].is_string()));

    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    assert!(
        waldelta_ok(&with_databases(&["doctor"], &source, &history)).contains("nothing stands in the way")
    );
    let checks: Vec<Value> =
        serde_json::from_str(&waldelta_ok(&with_databases(&["doctor", "--json"], &source, &history)))
            .unwrap();
    for name in ["publication", "identities", "ddl", "slot", "canary"] {
        assert_eq!(state(&checks, name), "ok");
    }
}

/// A program whose lines are read as they come.
struct Reader {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Reader {
    fn start(args: &[String]) -> Self {
        let mut command = Command::new(program());
        let mut child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Reader { child, lines }
    }

    /// Lines up to and including the first that contains `text`.
    fn until(&mut self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        for line in &mut self.lines {
            seen.push(line.unwrap());
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
        panic!("it ended before {text:?}: {seen:#?}")
    }

    /// The lines that are left, after it has ended well.
    fn rest(mut self) -> Vec<String> {
        let rest = self.lines.map(Result::unwrap).collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

#[tokio::test]
async fn tail_and_status_show_a_running_service() {
    let setting = Setting::new("cli_tail", SCHEMA).await;
    let url = setting.service.http("");
    let tail = |more: &[&str]| Reader::start(&words(&[&["tail", "--url", &url], more].concat()));
    let (mut plain, mut json) =
        (tail(&["--limit", "2"]), tail(&["--limit", "1", "--json", "--table", "public.t"]));
    plain.until("-- live");
    json.until("\"type\":\"live\"");
    setting.source.exec("INSERT INTO t VALUES (1, 'shown')").await;
    setting.source.exec("UPDATE t SET v = 'changed' WHERE id = 1").await;
    let shown = plain.rest().join("\n");
    assert!(shown.contains(r#"insert public.t {"id":1,"v":"shown"}"#), "{shown}");
    assert!(shown.contains("update public.t") && shown.contains("changed"), "{shown}");
    let last: Value = serde_json::from_str(json.rest().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["changes"][0]["data"]["v"]), (&"tx".into(), &"shown".into()));
    let cursor = last["cursor"].as_str().unwrap();
    // From a cursor on, and with a snapshot.
    let after = tail(&["--limit", "1", "--after", cursor]).rest().join("\n");
    assert!(after.contains("update public.t") && !after.contains("insert"), "{after}");
    let mut snapshot = tail(&["--snapshot", "--limit", "1"]);
    let rows = snapshot.until("-- live").join("\n");
    assert!(rows.contains("row public.t") && rows.contains("changed"), "{rows}");

    let status = waldelta_ok(&words(&["status", "--url", &url]));
    let slot = setting.source.slot("slot");
    for text in ["ready", "capture   streaming", "lag ", &format!("slot      {slot} (active)"), "sessions  1"]
    {
        assert!(status.contains(text), "{text}:\n{status}");
    }
    let status: Value =
        serde_json::from_str(&waldelta_ok(&words(&["status", "--json", "--url", &url]))).unwrap();
    assert_eq!((&status["ready"], &status["slot"]["name"]), (&true.into(), &slot.as_str().into()));
    assert_eq!(status["sessions"].as_array().unwrap().len(), 1);
    assert!(status["history"]["head"].as_str().unwrap() >= cursor);
    setting.source.exec("DELETE FROM t").await;
    assert!(snapshot.rest().join("\n").contains("delete public.t"));
    let nobody = words(&["status", "--url", "http://127.0.0.1:1"]);
    refused(&nobody, "WD-SERVICE-UNREACHABLE");
    refused(&words(&["tail", "--url", "http://127.0.0.1:1"]), "WD-SERVICE-UNREACHABLE");
}

#[tokio::test]
async fn remove_shows_and_then_takes_away_what_is_ours_and_nothing_else() {
    let mut setting = Setting::new("cli_remove", SCHEMA).await;
    setting.source.exec("INSERT INTO t VALUES (1, 'stays')").await;
    setting.settled().await;
    let remove =
        |more: &[&str]| with_databases(&[&["remove"], more].concat(), &setting.source, &setting.history);
    let (shown, all, kept) = (remove(&[]), remove(&["--yes", "--history"]), remove(&["--yes"]));
    refused(&kept, "WD-SLOT-ACTIVE");
    setting.service.stop().await;
    let everything = "schema,publication,function,slot";
    let said = waldelta_ok(&shown);
    for text in ["pg_drop_replication_slot", "DROP PUBLICATION", "DROP FUNCTION", "nothing was done"] {
        assert!(said.contains(text), "{text}:\n{said}");
    }
    assert_eq!(ours(&setting.source).await, everything);
    assert!(waldelta_ok(&kept).contains("history is kept"));
    assert_eq!(
        (ours(&setting.source).await.as_str(), ours(&setting.history).await.as_str()),
        ("", "schema,history")
    );
    assert_eq!(setting.history.query_text("SELECT count(*) FROM waldelta.change_history").await, "1");
    waldelta_ok(&all);
    assert_eq!(ours(&setting.history).await, "");
    assert_eq!(setting.source.query_text("SELECT v FROM t").await, "stays");
    let owned = "SELECT count(*) FROM pg_class WHERE relname IN ('t', 't_pkey')";
    assert_eq!(setting.source.query_text(owned).await, "2");
    // Again: there is nothing left to do, and that is no failure.
    assert!(waldelta_ok(&kept).contains("Nothing to do"));
}

#[tokio::test]
async fn remove_leaves_no_trace_where_history_is_in_the_same_database() {
    let source = TestDatabase::create("cli_same").await;
    source.exec(SCHEMA).await;
    let slot = source.slot("slot");
    let command = |more: &[&str]| words(&[more, &["--database-url", source.url(), "--slot", &slot]].concat());
    waldelta_ok(&command(&["init", "--baseline"]));
    let mut service = Service::start(ServiceOptions::new(command(&["run"]))).await;
    source
        .exec("INSERT INTO t SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 20000) i")
        .await;
    let stored = "SELECT count(*) FROM waldelta.change_history";
    wait_until("it is stored", PATIENCE, async || source.query_text(stored).await == "1").await;
    // What that costs the slot is shown.
    let (_, checks, _) = waldelta(&command(&["doctor"]));
    let (of_wal, own) = checks.split_once(" MB of WAL, about ").unwrap_or_else(|| panic!("{checks}"));
    let number = |text: Option<&str>| text.unwrap().parse::<f64>().unwrap();
    let (wal, own) = (number(of_wal.rsplit(' ').next()), number(own.split(' ').next()));
    assert!(0.0 < own && own <= wal, "{own} of {wal} MB; {checks}");
    service.stop().await;
    waldelta_ok(&command(&["remove", "--yes"]));
    assert_eq!(ours(&source).await, "schema,history", "history is not dropped unasked");
    waldelta_ok(&command(&["remove", "--yes", "--history"]));
    assert_eq!(ours(&source).await, "");
    assert_eq!(source.query_text("SELECT count(*) FROM t").await, "1");
}

#[tokio::test]
async fn failures_say_what_why_and_how_to_mend_it() {
    let (source, history) = databases("cli_errors", SCHEMA).await;
    let init = |url: &str| words(&["init", "--database-url", url]);
    refused(&init("postgresql://postgres@127.0.0.1:1/x"), "WD-SOURCE-UNREACHABLE");
    let nobody = source.url().replace("postgres@", "nobody_of_this_name@");
    refused(&init(&nobody), "WD-AUTHENTICATION-FAILED");
    let nowhere = format!("{}_missing", source.url());
    refused(&init(&nowhere), "WD-DATABASE-MISSING");
    refused(&words(&["init", "--database-url", source.url(), "--table", "public.tt"]), "WD-TABLE-MISSING");

    let config = config_file("[capture]\nbatch_row_max = 5\n");
    let mut run = with_databases(&["run", "--config", config.path()], &source, &history);
    let log = refused(&run, "WD-CONFIG-INVALID");
    assert!(log.contains("did you mean `capture.batch_rows_max`?"), "{log}");
    run = with_databases(&["run", "--listen", "0.0.0.0:0"], &source, &history);
    refused(&run, "WD-LISTEN-UNPROTECTED");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    run = with_databases(&["run", "--listen", &taken], &source, &history);
    refused(&run, "WD-LISTEN-FAILED");
}

#[tokio::test]
async fn a_password_that_is_wrong_is_not_repeated() {
    let cluster = waldelta_testkit::TestCluster::own(&[("wal_level", "logical")]).await;
    let source = TestDatabase::create_on(&cluster, "cli_password").await;
    source.exec("CREATE ROLE locked LOGIN PASSWORD 'right' CONNECTION LIMIT 0").await;
    let url = source.url().replace("postgres@", "locked:planted-secret@");
    let (code, answer, log) = waldelta(&words(&["doctor", "--database-url", &url]));
    assert_eq!(code, Some(1));
    assert!(!answer.contains("planted-secret") && !log.contains("planted-secret"), "{answer}{log}");
    let log = refused(&words(&["init", "--database-url", &url]), "WD-CONNECTIONS-EXHAUSTED");
    assert!(!log.contains("planted-secret"), "{log}");
}

#[tokio::test]
async fn a_stopped_service_names_the_slot_that_goes_on_retaining_wal() {
    let mut setting = Setting::new("cli_stop", SCHEMA).await;
    assert_eq!(setting.service.stop().await.code(), Some(0));
    let log = setting.service.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains(&setting.source.slot("slot")) && last.contains("waldelta remove"), "{log}");
}

#[tokio::test]
async fn a_second_service_waits_as_standby_and_takes_over() {
    let mut setting = Setting::new("cli_second", SCHEMA).await;
    let mut second = Service::spawn(setting.run_options());
    wait_until("the second says that it waits", PATIENCE, async || {
        second.log().contains("WD-HISTORY-LEASE-HELD")
    })
    .await;
    let pid = setting.service.pid();
    assert!(second.log().contains(&format!("pid {pid}")), "it names the holder: {}", second.log());
    setting.source.exec("INSERT INTO t VALUES (1, 'by the first')").await;
    setting.settled().await;
    assert!(second.exited().is_none());
    assert_eq!(setting.service.stop().await.code(), Some(0));
    second.wait_ready().await;
    setting.source.exec("INSERT INTO t VALUES (2, 'by the second')").await;
    setting.history_equals_source(&["public.t"]).await;
    assert!(second.stop().await.success());
}

/// A folder with a short name, for sockets; gone with everything in it when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let path =
            PathBuf::from(format!("/tmp/wd{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        // The private PostgreSQL runs as another user when we are root.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Folder(path)
    }

    fn entries(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `dev` tells its user to do.
struct Hints {
    psql: String,
    url: String,
    tail: String,
    page: String,
    example: String,
}

impl Hints {
    fn read(log: &str) -> Option<Self> {
        let ready = log.rfind("Ready.")?;
        let lines: Vec<&str> = log[ready..].lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let psql = lines.iter().find(|line| line.starts_with("psql "))?;
        let url = psql.split('\'').nth(1)?;
        let tail = lines.iter().find(|line| line.contains(" tail --url "))?;
        let page = lines.iter().find(|line| line.starts_with("http://"))?;
        let example = lines.iter().find(|line| line.contains("/example/"))?.split_whitespace().next()?;
        let own = |line: &str| line.to_owned();
        Some(Hints {
            psql: own(psql),
            url: own(url),
            tail: own(tail),
            page: own(page),
            example: own(example),
        })
    }
}

/// Waits until `dev` has said that it is ready, in the lives after the first ones.
async fn ready(service: &mut Service, lives: usize) -> Hints {
    wait_until("dev is ready", 2 * PATIENCE, async || {
        assert!(service.exited().is_none(), "{}", service.log());
        service.log().matches("Ready.").count() == lives && Hints::read(&service.log()).is_some()
    })
    .await;
    Hints::read(&service.log()).unwrap()
}

/// Runs a line as its user would copy it.
fn shell(line: &str) {
    let path = format!("{}:{}", test_binaries().bindir.display(), "/usr/bin:/bin");
    let output = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// SIGINT, as Ctrl-C sends it.
fn interrupt(service: &Service) {
    shell(&format!("kill -INT {}", service.pid()));
}

/// Processes whose command line names this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        line.contains(folder).then_some(line)
    });
    lines.collect()
}

fn dev(folder: &Folder, more: &[&str]) -> ServiceOptions {
    let bindir = test_binaries().bindir;
    let bindir = bindir.to_str().unwrap();
    let args = [&["dev", "--offline", "--pg-bindir", bindir], more].concat();
    ServiceOptions::new(args).env("TMPDIR", &folder.0)
}

#[tokio::test]
async fn dev_works_by_its_lines_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut service = Service::spawn(dev(&folder, &["--ephemeral"]));
    let hints = ready(&mut service, 1).await;
    assert!(!processes_of(&folder.0).is_empty(), "PostgreSQL runs in the folder");
    let tail: Vec<String> = hints.tail.split_whitespace().skip(1).map(str::to_owned).collect();
    let mut tail = Reader::start(&[tail, words(&["--limit", "1"])].concat());
    tail.until("-- live");
    shell(&hints.psql);
    let shown = tail.rest().join("\n");
    assert!(shown.contains("update public.demo_todos") && shown.contains(r#""done":true"#), "{shown}");

    assert_eq!(hints.page, format!("{}/", service.http("")));
    assert_eq!(hints.example, service.http("/example/"));
    for (path, text) in [
        ("/", "<!doctype html>"),
        ("/page/changes.js", "WebSocket"),
        ("/page/page.css", "{"),
        ("/example/", "<!doctype html>"),
        ("/example/example.js", "demo_todos"),
    ] {
        let (status, body) = service.get(path).await;
        assert!(
            status == 200 && body.to_lowercase().contains(&text.to_lowercase()),
            "{path} {status} {body}"
        );
    }
    interrupt(&service);
    let status = service.wait_exit(PATIENCE).await;
    assert!(status.success(), "{status}: {}", service.log());
    assert_eq!(processes_of(&folder.0), Vec::<String>::new());
    assert_eq!(folder.entries(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn dev_goes_on_from_where_it_was() {
    let folder = Folder::new();
    let data = folder.0.join("data/pg");
    let mut service = Service::spawn(dev(&folder, &["--data", data.to_str().unwrap()]));
    let first = ready(&mut service, 1).await;
    shell(&first.psql);
    let head = |service: &Service| {
        let url = service.http("");
        let status: Value =
            serde_json::from_str(&waldelta_ok(&words(&["status", "--json", "--url", &url]))).unwrap();
        (status["history"]["epoch"].as_u64().unwrap(), status["history"]["head"].as_str().unwrap().to_owned())
    };
    let stored = "SELECT count(*) FROM waldelta.change_history WHERE operation = 'update'";
    let count = async |url: &str| connect(url).await.query_one(stored, &[]).await.unwrap().get::<_, i64>(0);
    wait_until("the change is stored", PATIENCE, async || count(&first.url).await == 1).await;
    let before = head(&service);
    interrupt(&service);
    assert!(service.wait_exit(PATIENCE).await.success(), "{}", service.log());
    assert_eq!(processes_of(&folder.0), Vec::<String>::new());

    // Killed this time: PostgreSQL must not outlive it.
    service.start_again().await;
    let second = ready(&mut service, 2).await;
    assert_eq!(second.url, first.url, "the line copied yesterday works today");
    let after = head(&service);
    assert!(after.0 == before.0 && after.1 >= before.1, "{before:?} {after:?}");
    assert_eq!(count(&second.url).await, 1);
    service.kill9().await;
    wait_until("PostgreSQL is gone", Duration::from_secs(30), async || processes_of(&folder.0).is_empty())
        .await;

    service.start_again().await;
    let third = ready(&mut service, 3).await;
    shell(&third.psql);
    wait_until("the next change is stored", PATIENCE, async || count(&third.url).await == 2).await;
    let todos = connect(&third.url).await.query_one("SELECT count(*) FROM demo_todos", &[]).await.unwrap();
    assert_eq!(todos.get::<_, i64>(0), 3, "the demo table is made once");
    assert!(service.stop().await.success(), "{}", service.log());
}
