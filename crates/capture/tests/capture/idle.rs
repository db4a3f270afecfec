//! A source in which nothing captured happens.

use std::time::Duration;

use waldelta_capture::Canary;
use waldelta_testkit::{Shutdown, TestCluster, wait_until};

use crate::world::{PATIENCE, World};

/// Others write, the captured tables rest: the slot must move on, or the disk fills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_writes_move_the_slot_and_never_past_what_is_stored() {
    let world = World::begun("idle", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.source_db.exec("CREATE TABLE foreign_to_us (v text)").await;
    let capture = world.run();
    capture.wait_streaming().await;
    let before = world.confirmed().await;
    let write = "INSERT INTO foreign_to_us SELECT repeat(md5(i::text), 30) FROM generate_series(1, 2000) i";
    wait_until("the slot has moved by a megabyte", PATIENCE, async || {
        world.source_db.exec(write).await;
        // The slot first: what it was told must already be stored.
        let (reported, durable) = (world.confirmed().await, world.durable().await);
        assert!(reported <= durable, "{reported} reported, {durable} stored");
        reported.0.0 > before.0.0 + (1 << 20)
    })
    .await;
    assert_eq!(world.stored_count("true").await, 0);
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_gives_a_sign_of_life_and_leaves_no_row() {
    let world = World::begun("canary", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut config = world.config();
    config.canary_interval = Duration::from_millis(100);
    let capture = world.run_with(config);
    wait_until("the canary arrived", PATIENCE, async || capture.status.read().canary == Canary::Alive).await;
    let first = capture.status.read().last_commit_us.unwrap();
    wait_until("it arrives again", PATIENCE, async || capture.status.read().last_commit_us.unwrap() > first)
        .await;
    assert_eq!(world.stored_count("true").await, 0);
    assert_eq!(capture.status.read().transactions, 0);
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_may_not_be_updated_is_said_and_stops_nothing() {
    let world = World::begun("nocanary", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.source_db.exec("ALTER PUBLICATION waldelta DROP TABLE waldelta.canary").await;
    let mut config = world.config();
    config.canary_interval = Duration::from_millis(100);
    let capture = world.run_with(config);
    wait_until("it is said", PATIENCE, async || matches!(capture.status.read().canary, Canary::Refused(_)))
        .await;
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_stored("true", 1).await;
    capture.stop().await;
}

/// A server that is told to stop waits until its walsenders have confirmed everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_shuts_down_is_not_held_up_and_capture_goes_on_when_it_is_back() {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "shutdown", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_stored("true", 1).await;
    let begun = tokio::time::Instant::now();
    cluster.down(Shutdown::Fast).await;
    assert!(begun.elapsed() < Duration::from_secs(45), "it took {:?}", begun.elapsed());
    cluster.up().await;
    let client = world.source_db.client().await;
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    world.wait_stored("true", 2).await;
    world.assert_gapless().await;
    capture.stop().await;
}

/// Nothing commits: messages that belong to no transaction are all there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_outside_of_transactions_move_the_slot_and_arrive_once() {
    let world = World::begun("messages", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let capture = world.run();
    capture.wait_streaming().await;
    let emit = "SELECT pg_logical_emit_message(false, 'app', 'no ' || i) FROM generate_series(1, 3) i";
    world.source_db.exec(emit).await;
    // As a transaction's messages they arrive with the end of it.
    world.source_db.exec("SELECT pg_logical_emit_message(true, 'app', 'within')").await;
    world.wait_stored("true", 4).await;
    wait_until("the slot knows all of it", PATIENCE, async || {
        world.confirmed().await == world.durable().await
    })
    .await;
    capture.stop().await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_stored("operation = 'insert'", 1).await;
    let told = "seq || ' ' || (transaction_id IS NULL) || ' ' || coalesce(data->>'content', '') || coalesce(' ' || metadata::text, '')";
    assert_eq!(
        world.listed(told, "true").await,
        [
            r#"0 true no 1 {"transactional": false}"#,
            r#"0 true no 2 {"transactional": false}"#,
            r#"0 true no 3 {"transactional": false}"#,
            "0 false within",
            "0 false ",
        ]
    );
    world.assert_gapless().await;
    capture.stop().await;
}
