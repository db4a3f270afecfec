//! Processes whose clocks are hours apart work together as if they were not: who writes, which connection of a client is the
//! newest, what is asked for by time, and who is forgotten, the clocks of the databases and counted numbers decide.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use waldelta_testkit::{Service, ServiceOptions, TestDatabase, wait_until};

use crate::replaced_elsewhere::{is_replaced, is_served, live};
use crate::roles::in_role;
use crate::setting::{PATIENCE, Setting, config_file, run_options, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'before')";
/// More than any time that is waited for, and than a test takes.
const OFF: [&str; 3] = ["+3h", "-3h", "+100d"];

/// What makes a program's wall clock wrong, and leaves the one that only runs forward as it is.
fn clock(off: &str) -> [(&'static str, String); 4] {
    let libraries = std::fs::read_dir("/usr/lib").unwrap();
    let candidates = libraries.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let library: PathBuf = candidates
        .into_iter()
        .find(|path| path.exists())
        .expect("scripts/install-test-deps installs faketime");
    [
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FAKETIME", off.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn off(by: &str, options: ServiceOptions) -> ServiceOptions {
    clock(by).into_iter().fold(options, |options, (name, value)| options.env(name, value))
}

/// A command whose clock is off.
fn waldelta_off(by: &str, args: &[String]) {
    let output = Command::new(waldelta_testkit::program()).args(args).envs(clock(by)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The source's clock, as a request names a time.
async fn time(source: &TestDatabase) -> String {
    let now = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    source.query_text(now).await
}

async fn json_of(service: &Service, path: &str) -> Value {
    let (status, body) = service.get(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The values of column `v` in the changes since a time.
async fn values_since(service: &Service, time: &str) -> Vec<String> {
    let page = json_of(service, &format!("/v1/changes?since={time}")).await;
    let changes =
        page["transactions"].as_array().unwrap().iter().flat_map(|it| it["changes"].as_array().unwrap());
    let values = changes.filter_map(|change| Some(change["data"]["v"].as_str()?.to_owned()));
    values.collect()
}

#[tokio::test]
async fn that_are_hours_apart_decide_nothing() {
    let (source, history) = (TestDatabase::create("clocks").await, TestDatabase::create("clocks_h").await);
    source.exec(SCHEMA).await;
    waldelta_off(OFF[0], &with_databases(&["init", "--baseline"], &source, &history));
    // What was there before history has a time as commits have it.
    let wrong = "SELECT count(*) FROM waldelta.change_history WHERE operation = 'baseline'
        AND \"timestamp\" NOT BETWEEN now() - interval '1 hour' AND now()";
    assert_eq!(history.query_text(wrong).await, "0");

    let quick = config_file("[server]\nheartbeat_ms = 500\n");
    let service = Service::start(quick.add_to(off(OFF[0], run_options(&source, &history)))).await;
    let behind = Service::start(quick.add_to(off(OFF[1], in_role("fanout", &source, &history)))).await;
    let setting = Setting { service, source, history };
    let lease = "SELECT token || ' ' || holder FROM waldelta.leases";
    let writer = setting.history.query_text(lease).await;

    // To a clock that is ahead the lease is old, and clients were away for long.
    let standby = Service::start(off(OFF[2], run_options(&setting.source, &setting.history))).await;
    let mut told = Vec::new();
    for service in [&setting.service, &behind] {
        let mut socket = live(service, "who tells the time").await;
        told.push(socket.next_of_type("heartbeat", PATIENCE).await["ts"].as_str().unwrap().to_owned());
    }
    let hours = format!(
        "SELECT extract(epoch FROM '{}'::timestamptz - '{}'::timestamptz)::int / 3600",
        told[0], told[1]
    );
    assert!(
        ["5", "6"].contains(&&*setting.source.query_text(&hours).await),
        "their clocks are off: {told:?}"
    );

    // The newest connection wins, though its process believes to be earlier than the other, or later.
    let mut socket = live(&setting.service, "web-7").await;
    for service in [&behind, &setting.service, &standby, &behind] {
        let mut newer = live(service, "web-7").await;
        is_replaced(&mut socket).await;
        is_served(&mut newer).await;
        socket = newer;
    }

    // A time is one of the source.
    let begun = time(&setting.source).await;
    setting.source.exec("UPDATE t SET v = 'one' WHERE id = 1").await;
    let between = time(&setting.source).await;
    setting.source.exec("UPDATE t SET v = 'two' WHERE id = 1").await;
    setting.settled().await;
    let last = setting.last_of(&["public.t"]).await;
    for service in [&setting.service, &behind, &standby] {
        wait_until("it has everything", PATIENCE, async || {
            let status = json_of(service, "/v1/status").await;
            status["history"]["head"].as_str().unwrap().parse().ok() >= last
        })
        .await;
        assert_eq!(values_since(service, &begun).await, ["one", "two"]);
        assert_eq!(values_since(service, &between).await, ["two"]);
        for (at, value) in [(&begun, "before"), (&between, "one")] {
            let row = json_of(service, &format!("/v1/rows/public.t/1?at={at}")).await;
            assert_eq!(row["data"], json!({"id": 1, "v": value}), "{at}");
        }
    }

    // Snapshots and what follows them, from whom the clock is wrong.
    let (mut socket, mut replica) = setting.client("with a snapshot").await;
    setting.source.exec("INSERT INTO t VALUES (2, 'new')").await;
    setting.equal(&mut socket, &mut replica, &["public.t"]).await;

    // Nobody was forgotten, and nobody took over.
    let known = json_of(&standby, "/v1/clients").await;
    for id in ["web-7", "who tells the time"] {
        assert!(
            known["clients"].as_array().unwrap().iter().any(|client| client["client_id"] == id),
            "{known}"
        );
    }
    let renewed = "SELECT renewed_at FROM waldelta.leases";
    let before = setting.history.query_text(renewed).await;
    wait_until("the lease is renewed", Duration::from_secs(30), async || {
        setting.history.query_text(renewed).await != before
    })
    .await;
    assert_eq!(setting.history.query_text(lease).await, writer);
    assert!(standby.get("/readyz").await.1.starts_with("ok, standby: "));
}
