//! The slot is gone, was made again, or lost its WAL: capture never goes on over the gap by itself, unless it was told to;
//! it says what is the case and what helps, and after `waldelta recover` everybody has the source's rows again.

use std::time::Duration;

use tokio::time::timeout;
use waldelta_testkit::{Frame, Replica, Service, TestCluster, TestDatabase, WsClient, connect, wait_until};

use crate::setting::{PATIENCE, Setting, all_tables, config_file, run_options, waldelta_ok, with_databases};
use crate::stops::{
    epochs, inserted, is_reset, nothing_to_recover, recover, status, stays_over_a_restart, stopped, streaming,
};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];
/// A checkpoint that waits for a walsender waits for ever.
const CHECKPOINT_MAX: Duration = Duration::from_secs(20);
/// A slot on this server is soon lost.
const SHORT_OF_WAL: [(&str, &str); 3] =
    [("max_slot_wal_keep_size", "16MB"), ("max_wal_size", "32MB"), ("min_wal_size", "32MB")];

async fn insert(setting: &Setting, id: u32) {
    setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'row {id}')")).await;
}

/// Drops the slot, although the service comes back to it at once, and does this besides.
async fn drop_slot(setting: &Setting, besides: &str) {
    let slot = setting.source.slot("slot");
    let client = setting.source.client().await;
    let end = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    );
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')::text{}", besides.replace("{slot}", &slot));
    wait_until("the slot is dropped", PATIENCE, async || {
        client.batch_execute(&end).await.unwrap();
        client.batch_execute(&drop).await.is_ok()
    })
    .await;
}

/// Writes and checks points until the slot, which nobody reads, has lost its WAL.
async fn outrun(setting: &Setting) {
    let slot = setting.source.slot("slot");
    let state = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{slot}'");
    wait_until("the slot is lost", PATIENCE, async || {
        setting.source.exec("SELECT pg_logical_emit_message(true, '', ''), pg_switch_wal()").await;
        timeout(CHECKPOINT_MAX, setting.source.exec("CHECKPOINT")).await.expect("the checkpoint hangs");
        setting.source.query_text(&state).await == "lost"
    })
    .await;
}

#[tokio::test]
async fn dropped_while_it_streams() {
    let mut setting = Setting::new("slot_dropped", SCHEMA).await;
    let (socket, mut away) = setting.client("away").await;
    drop(socket);
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;

    drop_slot(&setting, "").await;
    insert(&setting, 2).await;
    stopped(&setting, "slot_missing", "WD-SLOT-MISSING").await;
    // Whoever comes meanwhile is served with what is durable.
    let slots = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        setting.source.slot("slot")
    );
    assert_eq!(setting.source.query_text(&slots).await, "0", "no slot is made by itself");
    stays_over_a_restart(&mut setting, "slot_missing", "WD-SLOT-MISSING").await;
    drop(here);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1], 1));

    let mut here = WsClient::connect(&setting.service.stream()).await;
    replica.disconnected();
    here.send(&replica.hello("here", &[all_tables()])).await;
    println!("{}", recover(&setting));
    streaming(&setting).await;
    insert(&setting, 3).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    let mut back = setting.resume("away", &mut away).await;
    setting.equal(&mut back, &mut away, &TABLES).await;
    assert_eq!(
        (away.resets(), replica.resets()),
        (&["epoch_changed".to_owned()][..], &["epoch_changed".to_owned()][..])
    );
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3], 2));
    setting.history_is_gapless().await;
    // There is nothing left to do.
    nothing_to_recover(&setting);
    assert_eq!(epochs(&setting).await, 2);
}

#[tokio::test]
async fn made_again_under_its_name() {
    let setting = Setting::new("slot_again", SCHEMA).await;
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    drop_slot(
        &setting,
        ", pg_logical_emit_message(false, '', 'passed over'), pg_create_logical_replication_slot('{slot}', 'pgoutput')::text",
    )
    .await;
    insert(&setting, 2).await;
    stopped(&setting, "slot_ahead", "WD-SLOT-AHEAD").await;
    assert_eq!(inserted(&setting).await, [1]);
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    // What committed after the slot was made is not lost.
    assert_eq!(inserted(&setting).await, [1, 2, 3]);
}

#[tokio::test]
async fn outrun_while_history_stands_still() {
    let (cluster, elsewhere) = (TestCluster::own(&SHORT_OF_WAL).await, TestCluster::own(&[]).await);
    let source = TestDatabase::create_on(&cluster, "outrun").await;
    let history = TestDatabase::create_on(&elsewhere, "outrun_h").await;
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file("[capture]\nstall_timeout_ms = 1000");
    let service = Service::start(config.add_to(run_options(&source, &history))).await;
    let setting = Setting { service, source, history };
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;

    elsewhere.freeze().await;
    insert(&setting, 2).await;
    let active = format!(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '{}'",
        setting.source.slot("slot")
    );
    wait_until("the source is let go", PATIENCE, async || setting.source.query_text(&active).await == "f")
        .await;
    outrun(&setting).await;
    wait_until("it is said while history still stands", PATIENCE, async || {
        status(&setting).await["slot"]["verdict"] == "lost"
    })
    .await;
    elsewhere.thaw().await;
    stopped(&setting, "slot_lost", "WD-SLOT-LOST").await;
    // The second may have been on its way to history when that stood still.
    let before = inserted(&setting).await;
    assert!(before == [1] || before == [1, 2], "{before:?}");
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(inserted(&setting).await, [before, vec![3]].concat());
}

/// From PostgreSQL 18 on a slot that nobody reads can be given up by the server, WAL or not.
#[tokio::test]
async fn left_idle_for_too_long() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "idle").await;
    if source.server_major().await < 18 {
        return;
    }
    let history = TestDatabase::create("idle_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    drop(here);
    setting.service.stop().await;
    insert(&setting, 2).await;
    setting.source.exec("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'").await;
    setting.source.exec("SELECT pg_reload_conf()").await;
    let reason = format!(
        "SELECT coalesce(invalidation_reason, '') FROM pg_replication_slots WHERE slot_name = '{}'",
        setting.source.slot("slot")
    );
    wait_until("the slot is given up", PATIENCE, async || {
        timeout(CHECKPOINT_MAX, setting.source.exec("CHECKPOINT")).await.expect("the checkpoint hangs");
        setting.source.query_text(&reason).await == "idle_timeout"
    })
    .await;
    setting.source.exec("ALTER SYSTEM RESET idle_replication_slot_timeout").await;
    setting.source.exec("SELECT pg_reload_conf()").await;
    setting.service = Service::spawn(setting.run_options());
    wait_until("the service answers", PATIENCE, async || setting.service.is_listening().await).await;
    let told = stopped(&setting, "slot_lost", "WD-SLOT-LOST").await;
    assert!(told.to_string().contains("idle_replication_slot_timeout"), "{told}");
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    let mut here = setting.resume("here", &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), ["epoch_changed"]);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3], 2));
}

/// With `capture.on_gap = "new_epoch"` nobody has to come.
#[tokio::test]
async fn goes_on_by_itself_where_it_was_told_to() {
    let cluster = TestCluster::own(&SHORT_OF_WAL).await;
    let source = TestDatabase::create_on(&cluster, "by_itself").await;
    let history = TestDatabase::create("by_itself_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    setting.service.stop().await;
    let mut options = setting.run_options();
    options.args.extend(["--on-gap", "new_epoch"].map(Into::into));
    setting.service.start_again_with(options).await;
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;

    // Dropped while it streams…
    drop_slot(&setting, "").await;
    insert(&setting, 2).await;
    is_reset(&mut here, &mut replica).await;
    streaming(&setting).await;
    insert(&setting, 3).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    drop(here);
    // …and lost while the service is away.
    setting.service.kill9().await;
    insert(&setting, 4).await;
    outrun(&setting).await;
    setting.service.start_again().await;
    insert(&setting, 5).await;
    let mut here = setting.resume("here", &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), ["epoch_changed", "epoch_changed"]);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3, 5], 3));
    assert!(
        setting.service.log().contains("WD-SLOT-MISSING") && setting.service.log().contains("WD-SLOT-LOST")
    );
}

/// A client whose snapshot is on its way when the slot goes has the source's rows in the end.
#[tokio::test]
async fn dropped_during_a_snapshot() {
    let rows = "INSERT INTO item SELECT i, repeat(i || ' ', 10000) FROM generate_series(100, 400) i";
    let setting = Setting::new("slot_snapshot", &format!("{SCHEMA}; {rows}")).await;
    let mut replica = Replica::new();
    // Its snapshot is taken, and its rows cannot be read yet.
    let lock = setting.source.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello("slow", &[all_tables()])).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'waldelta'
                 AND wait_event_type = 'Lock'";
    wait_until("the reading waits", PATIENCE, async || setting.source.query_text(waits).await != "0").await;
    drop_slot(&setting, "").await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    insert(&setting, 1).await;
    stopped(&setting, "slot_missing", "WD-SLOT-MISSING").await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 2).await;
    // It is let go or reset; in either case it comes to an end that it may trust.
    let wanted = connect(setting.source.url()).await;
    let wanted = waldelta_testkit::source_rows(&wanted, "item").await.len();
    let done = |replica: &Replica| {
        replica.is_live() && replica.is_consistent() && replica.rows("public.item").len() == wanted
    };
    while !done(&replica) {
        match socket.next_frame(PATIENCE).await {
            Frame::Text(text) => replica.apply(&text).unwrap_or_else(|violation| panic!("{}", violation.0)),
            Frame::Closed { code, reason } => {
                println!("closed with {code}: {reason}");
                replica.disconnected();
                socket = WsClient::connect(&setting.service.stream()).await;
                socket.send(&replica.hello("slow", &[all_tables()])).await;
            }
        }
    }
    setting.equal(&mut socket, &mut replica, &TABLES).await;
}
