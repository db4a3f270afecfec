//! Two instances on one source: one writes history, the other stands by, serves what the first writes, and takes over when the
//! first ends, however it ends. Nothing is lost, nothing comes twice, whoever wakes up later.

use std::time::Duration;

use serde_json::Value;
use waldelta_testkit::{Replica, Service, WsClient, wait_until};

use crate::load::{Load, SCHEMA, TABLES};
use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting, all_tables, config_file};

/// The writer renews its lease every 5 seconds. To the others a lease of this age is one whose holder was paused long ago.
const SILENCE: &str =
    "UPDATE waldelta.leases SET renewed_at = renewed_at - interval '10 min' WHERE backend_pid IS NOT NULL";
const TABLE: &str = "public.item";
const ROWS: u64 = 8_000;

/// An instance beside the one of the setting.
async fn beside(setting: &Setting) -> Service {
    let second = Service::start(setting.run_options()).await;
    let pid = setting.service.pid();
    let (code, text) = second.get("/readyz?verbose").await;
    assert!(
        code == 200 && text.starts_with("ok, standby: ") && text.contains(&format!("pid {pid} ")),
        "{text}"
    );
    second
}

async fn connect(service: &Service, client_id: &str, replica: &mut Replica) -> WsClient {
    replica.disconnected();
    let mut socket = WsClient::connect(&service.stream()).await;
    socket.send(&replica.hello(client_id, &[all_tables()])).await;
    let live = |replica: &Replica| replica.is_live() && replica.is_consistent();
    socket.follow(replica, "it is live", PATIENCE, live).await;
    socket
}

async fn status(service: &Service) -> Value {
    serde_json::from_str(&service.get("/v1/status").await.1).unwrap()
}

async fn wait_state(service: &Service, state: &str) {
    wait_until(&format!("an instance is {state}"), PATIENCE, async || {
        status(service).await["capture"]["state"] == state
    })
    .await;
}

/// How many backends of history's server write, and how many walsenders send: what an instance leaves behind.
async fn at_work(setting: &Setting) -> (String, String) {
    let writers = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'waldelta-history-writer'";
    let senders = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'walsender'";
    (setting.history.query_text(writers).await, setting.source.query_text(senders).await)
}

#[tokio::test]
async fn takes_over_from_one_that_was_killed() {
    let mut setting = Setting::new("standby_killed", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let second = beside(&setting).await;
    let (mut first_socket, mut first_replica) = setting.client("of the first").await;
    let mut replica = Replica::new();
    let mut socket = connect(&second, "of the second", &mut replica).await;
    let load = Load::start(setting.source.url(), 4, 1);
    load.more(60).await;
    let seen = replica.transactions() + 20;
    let has_more = |replica: &Replica| replica.transactions() >= seen;
    socket.follow(&mut replica, "the standby's client gets what the first writes", PATIENCE, has_more).await;

    setting.service.kill9().await;
    wait_state(&second, "streaming").await;
    oracle.check("taken over").await;
    load.more(60).await;
    load.stop().await;
    drop(first_socket);
    let killed = std::mem::replace(&mut setting.service, second);
    drop(killed);
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    first_socket = setting.resume("of the first", &mut first_replica).await;
    setting.equal(&mut first_socket, &mut first_replica, &TABLES).await;
    assert_eq!((replica.resets(), first_replica.resets()), (&[][..], &[][..]));
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
    assert!(setting.service.log().contains("history is written by"), "{}", setting.service.log());
}

#[tokio::test]
async fn takes_over_from_one_that_is_paused_which_then_stands_by() {
    let mut setting = Setting::new("standby_paused", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let second = beside(&setting).await;
    let (mut first_socket, mut first_replica) = setting.client("of the first").await;
    let mut replica = Replica::new();
    let mut socket = connect(&second, "of the second", &mut replica).await;
    // Who takes over waits a while for the walsender of the other: not too much may gather meanwhile.
    let load = Load::start(setting.source.url(), 1, 2);
    load.more(40).await;

    setting.service.freeze();
    setting.history.exec(SILENCE).await;
    wait_state(&second, "streaming").await;
    assert_eq!(at_work(&setting).await, ("1".to_owned(), "1".to_owned()), "the paused one has lost both");
    oracle.check("taken over").await;
    load.more(40).await;

    setting.service.thaw();
    wait_state(&setting.service, "standby").await;
    setting.service.wait_ready().await;
    load.more(40).await;
    load.stop().await;
    // Both serve everything, the first what the second writes.
    setting.equal(&mut first_socket, &mut first_replica, &TABLES).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!((replica.resets(), first_replica.resets()), (&[][..], &[][..]));
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
    let log = setting.service.log();
    assert!(!log.contains("capture has stopped"), "to be taken over is no reason to stop:\n{log}");

    // And back: it is a standby like any other.
    let mut second = second;
    assert!(second.stop().await.success());
    wait_state(&setting.service, "streaming").await;
    setting.source.exec("INSERT INTO item (owner, value) VALUES (9, 'by the first again')").await;
    setting.equal(&mut first_socket, &mut first_replica, &TABLES).await;
}

/// A backend that waits inside COPY ends by no timeout, and holds the keys of the rows that it was sent.
#[tokio::test]
async fn takes_over_from_one_that_is_paused_inside_a_large_transaction() {
    let mut setting = Setting::new("standby_copy", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    setting.service.stop().await;
    // Pieces are small, and each takes a while: the transaction is under way for seconds.
    let config = config_file("[capture]\nbatch_bytes_max = 131072\n");
    let slow = config.add_to(setting.run_options()).failpoints("history::after_copy=sleep(100)");
    setting.service.start_again_with(slow).await;
    let second = beside(&setting).await;
    let (mut first_socket, mut first_replica) = setting.client("of the first").await;
    let mut replica = Replica::new();
    let mut socket = connect(&second, "of the second", &mut replica).await;
    let fill =
        format!("INSERT INTO item (owner, value) SELECT 1, repeat('x', 200) FROM generate_series(1, {ROWS})");
    setting.source.exec(&fill).await;
    let copied = "SELECT coalesce(max(tuples_processed), 0) > 0 FROM pg_stat_progress_copy
        WHERE datname = current_database()";
    wait_until("rows of it are sent", PATIENCE, async || setting.history.query_text(copied).await == "t")
        .await;
    setting.service.freeze();
    let none = "SELECT count(*) FROM waldelta.change_history WHERE operation = 'insert'";
    assert_eq!(setting.history.query_text(none).await, "0", "it is in the middle of it");

    setting.history.exec(SILENCE).await;
    wait_until("it is whole, by the other", PATIENCE, async || {
        setting.history.query_text(none).await == ROWS.to_string()
    })
    .await;
    assert_eq!(at_work(&setting).await, ("1".to_owned(), "1".to_owned()));
    setting.service.thaw();
    wait_state(&setting.service, "standby").await;
    setting.source.exec("INSERT INTO item (owner, value) VALUES (2, 'after it')").await;
    setting.equal(&mut first_socket, &mut first_replica, &[TABLE]).await;
    setting.equal(&mut socket, &mut replica, &[TABLE]).await;
    assert_eq!((replica.resets(), first_replica.resets()), (&[][..], &[][..]));
    setting.history_equals_source(&[TABLE]).await;
    oracle.check_all().await;
}

/// Unlike a kill, a panic is unwound: nothing of it may stay behind that keeps the next from starting.
#[tokio::test]
async fn takes_over_from_one_whose_capture_panicked() {
    let mut setting = Setting::new("standby_panic", SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    setting.service.stop().await;
    let falls = setting.run_options().failpoints("history::before_commit=5*off->panic(on purpose)");
    setting.service.start_again_with(falls).await;
    let second = beside(&setting).await;
    let load = Load::start(setting.source.url(), 4, 3);
    let ended = setting.service.wait_exit(PATIENCE).await;
    assert_eq!(ended.code(), Some(1), "{ended}: {}", setting.service.log());
    wait_state(&second, "streaming").await;
    assert_eq!(at_work(&setting).await, ("1".to_owned(), "1".to_owned()));
    load.more(40).await;
    load.stop().await;
    setting.service = second;
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

/// A writer that is well is left alone for longer than it takes to be thought dead.
#[tokio::test]
async fn leaves_a_writer_alone_that_renews_its_lease() {
    let setting = Setting::new("standby_calm", SCHEMA).await;
    let config = config_file("[capture]\ntakeover_after_ms = 10000\n");
    let second = Service::start(config.add_to(setting.run_options())).await;
    let token = async || setting.history.query_text("SELECT token FROM waldelta.leases").await;
    let renewed = async || {
        let sql = "SELECT extract(epoch FROM renewed_at - taken_at) > 12 FROM waldelta.leases";
        setting.history.query_text(sql).await == "t"
    };
    let before = token().await;
    wait_until("the lease was renewed some times", Duration::from_secs(40), renewed).await;
    assert_eq!(token().await, before);
    assert_eq!(status(&second).await["capture"]["state"], "standby");
    assert_eq!(status(&second).await["ready"], true);
    assert!(status(&second).await["slot"]["retained_bytes"].is_u64(), "it knows the slot's room too");
}
