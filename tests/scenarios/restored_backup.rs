//! A backup of the source, or of history, is restored behind the same address; or it leads to another server altogether.
//! Positions are used again, and never taken for those of before.

use waldelta_testkit::{Route, Service, Shutdown, TestCluster, TestDatabase, connect, wait_until};

use crate::setting::{PATIENCE, Setting};
use crate::stops::{epochs, inserted, is_reset, publish_again, recover, stopped, streaming};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];

async fn insert(setting: &Setting, id: u32) {
    setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'row {id}')")).await;
}

/// A source behind an address, with a row.
async fn captured(hint: &str) -> (TestCluster, Route, Setting) {
    let cluster = TestCluster::own(&[]).await;
    let route = Route::to(cluster.port());
    let source = TestDatabase::create_on(&cluster, hint).await.through(&route);
    let history = TestDatabase::create(&format!("{hint}_h")).await;
    let setting = Setting::over(source, history, SCHEMA).await;
    insert(&setting, 1).await;
    setting.settled().await;
    (cluster, route, setting)
}

/// Recovered as an archive is, so that it goes on in a timeline of its own. The slot is in the backup: what it can still tell
/// goes on, and clients that have nothing but what survived stay where they are.
#[tokio::test]
async fn of_the_source_in_a_new_timeline_with_its_slot() {
    let (cluster, route, setting) = captured("restored").await;
    let (socket, mut early) = setting.client("early").await;
    drop(socket);
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::recovered_copy_of(&cluster, &[]).await;
    cluster.up().await;
    streaming(&setting).await;
    insert(&setting, 2).await;
    let (mut here, mut replica) = setting.client("here").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;

    cluster.down(Shutdown::Fast).await;
    route.turn_to(restored.port());
    setting.source.exec("INSERT INTO item VALUES (2, 'another'), (3, 'new')").await;
    stopped(&setting, "diverged_timeline", "WD-DIVERGED-TIMELINE").await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 4).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    let mut back = setting.resume("early", &mut early).await;
    setting.equal(&mut back, &mut early, &TABLES).await;
    assert_eq!(early.resets(), [""; 0], "all that it has survived");
    // Both rows of the key are in history, each in its epoch.
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 2, 2, 3, 4], 2));
    setting.history_is_gapless().await;
}

/// A backup without slots, as base backups are.
#[tokio::test]
async fn of_the_source_in_a_new_timeline_without_its_slot() {
    let (cluster, route, setting) = captured("restored_bare").await;
    let (socket, mut early) = setting.client("early").await;
    drop(socket);
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::recovered_copy_of(&cluster, &[]).await;
    let slot = setting.source.slot("slot");
    setting
        .source
        .on(&restored)
        .query_text(&format!("SELECT pg_drop_replication_slot('{slot}')::text"))
        .await;
    route.turn_to(restored.port());
    insert(&setting, 2).await;
    let capture = stopped(&setting, "timeline_changed", "WD-TIMELINE-CHANGED").await;
    println!("{capture}");
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    let mut back = setting.resume("early", &mut early).await;
    setting.equal(&mut back, &mut early, &TABLES).await;
    assert_eq!(early.resets(), ["epoch_changed"]);
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3], 2));
}

/// A disk's snapshot that is started as it is: the same system and timeline, and WAL that ends before what history has.
#[tokio::test]
async fn of_the_sources_disk_in_the_same_timeline() {
    let (cluster, route, setting) = captured("restored_disk").await;
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::copy_of(&cluster, &[]).await;
    cluster.up().await;
    streaming(&setting).await;
    // Far enough ahead that the copy does not come there by itself.
    setting
        .source
        .exec("INSERT INTO item SELECT i, repeat('x', 1000) FROM generate_series(10, 3000) i")
        .await;
    let (mut here, mut replica) = setting.client("here").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    route.turn_to(restored.port());
    insert(&setting, 2).await;
    stopped(&setting, "source_behind", "WD-SOURCE-BEHIND").await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    is_reset(&mut here, &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.rows("public.item").len(), 3);
}

/// History loses its last commits, which the slot was told are durable: the source has given up their WAL.
#[tokio::test]
async fn of_history() {
    let cluster = TestCluster::own(&[]).await;
    let route = Route::to(cluster.port());
    let source = TestDatabase::create("restored_history").await;
    let history = TestDatabase::create_on(&cluster, "restored_history_h").await.through(&route);
    let mut setting = Setting::over(source, history, SCHEMA).await;
    insert(&setting, 1).await;
    setting.settled().await;
    let (socket, mut early) = setting.client("early").await;
    drop(socket);
    setting.service.stop().await;
    cluster.down(Shutdown::Fast).await;
    let restored = TestCluster::copy_of(&cluster, &[]).await;
    cluster.up().await;
    setting.service.start_again().await;
    insert(&setting, 2).await;
    let (mut here, mut replica) = setting.client("here").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    // The slot is told.
    let told = format!(
        "SELECT confirmed_flush_lsn > '{}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        setting.history.on(&restored).query_text("SELECT durable_end FROM waldelta.captures").await,
        setting.source.slot("slot")
    );
    wait_until("the slot is told", PATIENCE, async || setting.source.query_text(&told).await == "t").await;

    // What sessions have came from a history that is not there any more: a running service ends.
    route.turn_to(restored.port());
    insert(&setting, 3).await;
    let ended = setting.service.wait_exit(PATIENCE).await;
    assert!(!ended.success() && setting.service.log().contains("WD-HISTORY-WENT-BACK"), "{ended}");
    setting.service = Service::spawn(setting.run_options());
    wait_until("the service answers", PATIENCE, async || setting.service.is_listening().await).await;
    stopped(&setting, "slot_ahead", "WD-SLOT-AHEAD").await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 4).await;
    drop(here);
    let mut here = setting.resume("here", &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), ["epoch_changed"]);
    let mut back = setting.resume("early", &mut early).await;
    setting.equal(&mut back, &mut early, &TABLES).await;
    assert_eq!(early.resets(), ["epoch_changed"]);
    // What committed after the slot was told last is not lost.
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1, 3, 4], 2));
}

/// Another cluster behind the address, with the same tables: restored from a dump, upgraded, or a wrong name.
#[tokio::test]
async fn or_another_server() {
    let (cluster, route, mut setting) = captured("other_server").await;
    let (socket, mut away) = setting.client("away").await;
    drop(socket);
    let other = TestCluster::own(&[]).await;
    let name = setting.source.name().to_owned();
    connect(&other.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    route.turn_to(other.port());
    setting.source.exec(SCHEMA).await;
    insert(&setting, 2).await;
    stopped(&setting, "source_changed", "WD-SOURCE-CHANGED").await;
    // It could be a mistake: that never goes on by itself.
    setting.service.stop().await;
    let mut options = setting.run_options();
    options.args.extend(["--on-gap", "new_epoch"].map(Into::into));
    setting.service = Service::spawn(options);
    wait_until("the service answers", PATIENCE, async || setting.service.is_listening().await).await;
    stopped(&setting, "source_changed", "WD-SOURCE-CHANGED").await;
    assert_eq!(epochs(&setting).await, 1);
    // And where it was one, it is mended by mending it.
    route.turn_to(cluster.port());
    streaming(&setting).await;
    route.turn_to(other.port());
    stopped(&setting, "source_changed", "WD-SOURCE-CHANGED").await;

    publish_again(&setting).await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    let mut back = setting.resume("away", &mut away).await;
    setting.equal(&mut back, &mut away, &TABLES).await;
    assert_eq!(away.resets(), ["epoch_changed"]);
    assert_eq!(epochs(&setting).await, 2);
}
