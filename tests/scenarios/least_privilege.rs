//! The service runs as a role that may hardly anything: an administrator has run the script that `init` prints, and from
//! then on no superuser and no owner of a table is needed.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use waldelta_testkit::{Service, ServiceOptions, TestCluster, TestDatabase, test_program, wait_until};

use crate::setting::{PATIENCE, Setting, waldelta, waldelta_ok};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'before');
    CREATE SCHEMA app; CREATE TABLE app.parted (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE app.leaf PARTITION OF app.parted FOR VALUES IN (1);
    CREATE TABLE secret (id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY";
/// As long as the cluster.
const ROLE: &str = "runs";

fn as_role(database: &TestDatabase) -> String {
    database.url().replace("postgres@", &format!("{ROLE}@"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs a script as an administrator would.
fn psql(url: &str, sql: &str) {
    let mut child = Command::new(test_program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "psql:\n{sql}");
}

fn doctor(args: &[String]) -> Vec<Value> {
    let (_, answer, log) = waldelta(args);
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}{log}"))
}

/// Those that are not well.
fn unwell(checks: &[Value]) -> Vec<String> {
    let unwell = checks.iter().filter(|check| check["state"] != "ok");
    unwell
        .map(|check| format!("{} {} {}", check["name"], check["state"], check["found"]).replace('"', ""))
        .collect()
}

#[tokio::test]
async fn a_role_with_no_rights_but_those_of_the_script_runs_everything() {
    let cluster = TestCluster::own(&[("wal_level", "logical")]).await;
    let source = TestDatabase::create_on(&cluster, "least").await;
    let history = TestDatabase::create_on(&cluster, "least_h").await;
    source.exec(SCHEMA).await;
    let slot = source.slot("slot");
    let script = [
        &["init", "--mode", "manual", "--role", ROLE, "--database-url", source.url()][..],
        &["--history-url", history.url(), "--slot", &slot],
    ]
    .concat();
    let sql = waldelta_ok(&words(&script));
    psql(source.url(), &sql);
    // What it says is to be done in the database of history.
    let there = format!("CREATE SCHEMA waldelta AUTHORIZATION {ROLE}");
    assert!(sql.contains(&format!("-- {there};")), "{sql}");
    history.exec(&there).await;
    let attributes = format!(
        "SELECT concat_ws(' ', rolsuper, rolreplication, rolcreaterole, rolcreatedb, rolbypassrls,
            (SELECT count(*) FROM pg_class c WHERE c.relowner = r.oid)) FROM pg_roles r WHERE rolname = '{ROLE}'"
    );
    assert_eq!(
        source.query_text(&attributes).await,
        "f t f f t 0",
        "it replicates, and sees the rows of secret"
    );

    let (source_url, history_url) = (as_role(&source), as_role(&history));
    let command = |command: &[&str]| {
        words(
            &[command, &["--database-url", &source_url, "--history-url", &history_url, "--slot", &slot]]
                .concat(),
        )
    };
    let checks = doctor(&command(&["doctor", "--json"]));
    let failed: Vec<_> = checks.iter().filter(|check| check["state"] == "failed").collect();
    assert!(failed.len() == 1 && failed[0]["name"] == "slot", "{failed:?}");
    let begun = waldelta_ok(&command(&["init", "--apply", "--baseline"]));
    assert!(begun.contains("history begins at") && begun.contains("ready: waldelta run"), "{begun}");
    let checks = doctor(&command(&["doctor", "--json"]));
    assert_eq!(
        unwell(&checks),
        ["transactions unknown since when transactions of other roles are open may not be seen"]
    );

    let service = Service::start(ServiceOptions::new(command(&["run"]))).await;
    let mut setting = Setting { service, source, history };
    let source = &setting.source;
    source.exec("INSERT INTO t VALUES (1, 'live'); INSERT INTO app.parted VALUES (1, 1)").await;
    source.exec("INSERT INTO secret VALUES (1)").await;
    // Snapshots of all three, and what comes after.
    let (mut socket, mut replica) = setting.client("reader").await;
    source.exec("UPDATE t SET v = 'changed'; DELETE FROM app.parted").await;
    let tables = ["public.t", "app.parted", "public.secret"];
    setting.equal(&mut socket, &mut replica, &tables).await;
    setting.history_equals_source(&tables).await;
    let url = setting.service.http("");
    let status: Value =
        serde_json::from_str(&waldelta_ok(&words(&["status", "--json", "--url", &url]))).unwrap();
    assert_eq!((&status["ready"], &status["capture"]["state"]), (&true.into(), &"streaming".into()));
    let beats = "SELECT beat > 0 FROM waldelta.canary";
    wait_until("the canary beats", PATIENCE, async || source.query_text(beats).await == "t").await;
    assert!(setting.service.stop().await.success());
}

#[tokio::test]
async fn history_in_the_same_database_needs_a_schema_to_create_in_and_nothing_else() {
    let cluster = TestCluster::own(&[("wal_level", "logical")]).await;
    let source = TestDatabase::create_on(&cluster, "least_same").await;
    source.exec(&format!("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE {ROLE} LOGIN")).await;
    let (url, slot) = (as_role(&source), source.slot("slot"));
    let command = |command: &[&str]| words(&[command, &["--database-url", &url, "--slot", &slot]].concat());
    // It asks for itself, and what it prints is for another.
    let sql = waldelta_ok(&command(&["init"]));
    let (code, answer, log) = waldelta(&command(&["init", "--apply"]));
    assert_eq!(code, Some(1), "{answer}{log}");
    assert!(answer.contains("left to an administrator") && log.contains("error: WD-"), "{answer}{log}");
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta'";
    assert_eq!(source.query_text(made).await, "0");

    psql(source.url(), &sql);
    assert!(waldelta_ok(&command(&["init", "--apply"])).contains("ready: waldelta run"));
    let checks = doctor(&command(&["doctor", "--json"]));
    assert!(checks.iter().all(|check| check["state"] != "failed"), "{:?}", unwell(&checks));
    let mut service = Service::start(ServiceOptions::new(command(&["run"]))).await;
    source.exec("INSERT INTO t VALUES (1)").await;
    let stored = "SELECT count(*) FROM waldelta.change_history WHERE operation = 'insert'";
    wait_until("it is stored", PATIENCE, async || source.query_text(stored).await == "1").await;
    assert!(service.stop().await.success());
}
