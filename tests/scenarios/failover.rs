//! The source fails over to a standby, behind the same address. With the slot on the standby capture goes on by itself and
//! clients notice nothing; without it, or where history holds what the standby never had, it stops by name.

use waldelta_testkit::{Route, Shutdown, TestCluster, TestDatabase, test_binaries, wait_until};

use crate::load::{Load, SCHEMA as LOAD_SCHEMA, TABLES as LOAD_TABLES};
use crate::setting::{PATIENCE, Setting};
use crate::stops::{epochs, inserted, is_reset, recover, stays_over_a_restart, stopped, streaming};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];
/// From here on standbys can keep a primary's logical slots.
const MAJOR_WITH_SYNCED_SLOTS: u32 = 17;

async fn insert(setting: &Setting, id: u32) {
    setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'row {id}')")).await;
}

/// A primary behind an address, captured.
async fn captured(hint: &str, schema_sql: &str) -> (TestCluster, Route, Setting) {
    let primary = TestCluster::own(&[]).await;
    let route = Route::to(primary.port());
    let source = TestDatabase::create_on(&primary, hint).await.through(&route);
    let history = TestDatabase::create(&format!("{hint}_h")).await;
    let setting = Setting::over(source, history, schema_sql).await;
    (primary, route, setting)
}

/// The standby had everything, but no slot: nothing is known of what committed before a new slot is made.
#[tokio::test]
async fn to_a_standby_without_the_slot() {
    let (primary, route, mut setting) = captured("failover", SCHEMA).await;
    let standby = TestCluster::standby_of(&primary, &[]).await;
    let (socket, mut away) = setting.client("away").await;
    drop(socket);
    insert(&setting, 1).await;
    setting.settled().await;
    standby.has_caught_up_with(&primary).await;
    primary.down(Shutdown::Fast).await;
    standby.promote().await;
    route.turn_to(standby.port());
    insert(&setting, 2).await;
    stopped(&setting, "timeline_changed", "WD-TIMELINE-CHANGED").await;
    stays_over_a_restart(&mut setting, "timeline_changed", "WD-TIMELINE-CHANGED").await;
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1], 1));

    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    let mut back = setting.resume("away", &mut away).await;
    setting.equal(&mut back, &mut away, &TABLES).await;
    assert_eq!(away.resets(), ["epoch_changed"]);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3], 2));
    setting.history_is_gapless().await;
}

/// History holds commits that the standby never had: they are kept, and told apart.
#[tokio::test]
async fn to_a_standby_that_lagged() {
    let (primary, route, setting) = captured("failover_lag", SCHEMA).await;
    let standby = TestCluster::standby_of(&primary, &[]).await;
    let (mut here, mut replica) = setting.client("here").await;
    insert(&setting, 1).await;
    standby.has_caught_up_with(&primary).await;
    standby.cut_off().await;
    insert(&setting, 2).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    primary.kill9().await;
    standby.promote().await;
    // The same key, and another row; and positions that were used before.
    route.turn_to(standby.port());
    setting.source.exec("INSERT INTO item VALUES (2, 'another'), (3, 'new')").await;
    let capture = stopped(&setting, "diverged_timeline", "WD-DIVERGED-TIMELINE").await;
    println!("{capture}");
    assert_eq!(inserted(&setting).await, [1, 2]);

    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 4).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 2, 4], 2));

    // The old primary comes back behind the address: that is nobody's new epoch.
    primary.up().await;
    route.turn_to(primary.port());
    stopped(&setting, "diverged_timeline", "WD-DIVERGED-TIMELINE").await;
    route.turn_to(standby.port());
    streaming(&setting).await;
    insert(&setting, 5).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.resets().len(), 1);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 2, 4, 5], 2));
}

/// The standby keeps the slot, and nothing is sent to us that it does not have: a failover under load is an interruption.
#[tokio::test]
async fn to_a_standby_that_keeps_the_slot() {
    if test_binaries().version.major < MAJOR_WITH_SYNCED_SLOTS {
        return println!("skipped: standbys keep slots from {MAJOR_WITH_SYNCED_SLOTS} on");
    }
    let (primary, route, setting) = captured("failover_slot", LOAD_SCHEMA).await;
    setting.source.exec("SELECT pg_create_physical_replication_slot('standby', true)").await;
    let keeping =
        [("primary_slot_name", "standby"), ("hot_standby_feedback", "on"), ("sync_replication_slots", "on")];
    let standby = TestCluster::standby_of(&primary, &keeping).await;
    setting.source.exec("ALTER SYSTEM SET synchronized_standby_slots = 'standby'").await;
    setting.source.exec("SELECT pg_reload_conf()").await;
    let (socket, mut away) = setting.client("away").await;
    drop(socket);
    let (mut here, mut replica) = setting.client("here").await;
    let load = Load::start(setting.source.url(), 1, 1);
    let kept = format!(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{}' AND synced AND NOT temporary
         AND invalidation_reason IS NULL)",
        setting.source.slot("slot")
    );
    let on_standby = setting.source.on(&standby);
    wait_until("the standby keeps the slot", PATIENCE, async || on_standby.query_text(&kept).await == "t")
        .await;
    load.more(200).await;
    primary.kill9().await;
    standby.promote().await;
    route.turn_to(standby.port());
    load.more(200).await;
    load.stop().await;
    streaming(&setting).await;
    setting.equal(&mut here, &mut replica, &LOAD_TABLES).await;
    let mut back = setting.resume("away", &mut away).await;
    setting.equal(&mut back, &mut away, &LOAD_TABLES).await;
    assert!(
        replica.resets().is_empty() && away.resets().is_empty(),
        "{:?} {:?}",
        replica.resets(),
        away.resets()
    );
    setting.history_equals_source(&LOAD_TABLES).await;
    assert_eq!(epochs(&setting).await, 2);
}
