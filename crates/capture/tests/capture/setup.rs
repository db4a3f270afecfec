//! Beginning a history.

use std::time::Duration;

use waldelta_capture::setup::{begin, begin_telling};
use waldelta_testkit::wait_until;
use waldelta_wal::Code;

use crate::world::{PATIENCE, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

async fn slots(world: &World) -> String {
    let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", world.source.slot);
    world.source_db.query_text(&sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginning_twice_is_beginning_once() {
    let world = World::bare("again", TABLE).await;
    world.publish().await;
    let head = world.begin().await;
    assert_eq!(world.begin().await, head);
    assert_eq!(world.confirmed().await, head.durable_end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_made_by_hand_and_never_used_is_taken_into_use() {
    let world = World::bare("byhand", TABLE).await;
    world.publish().await;
    let create = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", world.source.slot);
    world.source_db.exec(&create).await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    let head = world.begin().await;
    assert_eq!(head.durable_end, world.confirmed().await);
    let capture = world.run();
    world.wait_stored("true", 1).await;
    capture.stop().await;
}

/// Two instances that start for the first time together: neither takes away the slot that the other's history begins at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginning_at_once_from_two_sides_leaves_one_history_and_its_slot() {
    let world = World::bare("both", TABLE).await;
    world.publish().await;
    let create = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", world.source.slot);
    world.source_db.exec(&create).await;
    let (one, other) = tokio::join!(
        begin(&world.source, &world.history, false),
        begin(&world.source, &world.history, false)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(slots(&world).await, "1");
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    let capture = world.run();
    world.wait_stored("true", 1).await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_slot_without_history_belongs_to_somebody() {
    let world = World::begun("used", TABLE).await;
    let slot = &world.source.slot;
    let use_it = format!(
        "INSERT INTO t SELECT count(*) FROM t; SELECT count(*) FROM pg_logical_slot_get_binary_changes('{slot}', \
         NULL, NULL, 'proto_version', '1', 'publication_names', 'waldelta')"
    );
    let used = format!("SELECT total_txns FROM pg_stat_replication_slots WHERE slot_name = '{slot}'");
    wait_until("the server's statistics know of its use", PATIENCE, async || {
        world.source_db.exec(&use_it).await;
        world.source_db.query_text(&used).await != "0"
    })
    .await;
    let other = World::bare("used2", "").await;
    let error = begin(&world.source, &other.history, false).await.unwrap_err();
    assert_eq!(error.code(), Code::SlotWithoutHistory);
    assert!(other.history.captured().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_without_its_slot_is_not_given_a_new_one() {
    let world = World::begun("noslot", TABLE).await;
    world.source_db.exec(&format!("SELECT pg_drop_replication_slot('{}')", world.source.slot)).await;
    let error = begin(&world.source, &world.history, false).await.unwrap_err();
    assert_eq!(error.code(), Code::SlotMissing);
    assert_eq!(slots(&world).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_slot_without_a_publication() {
    let world = World::bare("nopubl", TABLE).await;
    let error = begin(&world.source, &world.history, false).await.unwrap_err();
    assert_eq!(error.code(), Code::PublicationMissing);
    assert_eq!(slots(&world).await, "0");
    assert!(world.history.captured().await.unwrap().is_none());
}

/// The slot waits for a transaction that stays open: it is given up, and who is in the way is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_cannot_be_created_leaves_nothing_behind() {
    let world = World::bare("blocked", TABLE).await;
    world.publish().await;
    let mut writer = world.source_db.client().await;
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let open = writer.transaction().await.unwrap();
    open.execute("INSERT INTO t VALUES (1)", &[]).await.unwrap();
    let limit = Duration::from_secs(1);
    let error = begin_telling(&world.source, &world.history, false, limit, &|_| {}).await.unwrap_err();
    assert_eq!(error.code(), Code::SlotBlocked);
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    assert_eq!(slots(&world).await, "0");
    assert!(world.history.captured().await.unwrap().is_none());
    open.commit().await.unwrap();
    world.begin().await;
}
