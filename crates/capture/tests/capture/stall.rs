//! A history that takes nothing in: the source must not suffer.

use std::time::Duration;

use waldelta_capture::State;
use waldelta_testkit::{TestCluster, wait_until};
use waldelta_wal::Code;

use crate::world::{PATIENCE, World};

/// Somebody locks our progress row; every append waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_goes_on_the_socket_is_closed_and_capture_recovers_by_itself() {
    let cluster = TestCluster::own(&[("wal_sender_timeout", "2s")]).await;
    let world = World::bare_on(&cluster, "stall", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.publish().await;
    world.begin().await;
    let mut config = world.config();
    // Longer than wal_sender_timeout: without feedback the walsender would give up first.
    config.stall_timeout = Duration::from_secs(5);
    let capture = world.run_with(config);
    world.source_db.exec("INSERT INTO t VALUES (1)").await;
    world.wait_stored("true", 1).await;

    let mut locker = world.history_db.client().await;
    let lock = locker.transaction().await.unwrap();
    lock.execute("SELECT FROM waldelta.captures FOR UPDATE", &[]).await.unwrap();
    let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'waldelta'";
    let before = world.source_db.query_text(walsender).await;
    world.source_db.exec("INSERT INTO t VALUES (2)").await;

    // More than wal_sender_timeout after the append stood still, it is the same walsender, and it hears from us.
    let alive = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'waldelta' \
                 AND reply_time > now() - interval '1.5 s' AND pid = ";
    let begun = tokio::time::Instant::now();
    wait_until("three seconds of feedback", PATIENCE, async || {
        assert_eq!(world.source_db.query_text(&format!("{alive}{before}")).await, "1");
        begun.elapsed() > Duration::from_secs(3)
    })
    .await;

    // Then it is let go, and nobody sits on an unread socket.
    capture
        .wait_state("history is found stalled", |state| {
            matches!(state, State::Reconnecting { code: Code::HistoryStalled, .. })
        })
        .await;
    wait_until("the walsender is gone", PATIENCE, async || world.source_db.query(walsender).await.is_empty())
        .await;
    world.source_db.exec("INSERT INTO t VALUES (3)").await;
    world.source_db.exec("CHECKPOINT").await;

    lock.rollback().await.unwrap();
    capture.wait_streaming().await;
    world.wait_stored("true", 3).await;
    world.assert_gapless().await;
    assert!(capture.status.read().reconnects >= 1);
    capture.stop().await;
}

/// Much waits behind the standstill: memory and the channel fill, the socket stays unread, still it is closed in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_behind_a_standstill_is_left_at_the_source() {
    let world = World::begun("flood", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let mut config = world.config();
    config.stall_timeout = Duration::from_secs(2);
    config.batch_rows_max = 100;
    let capture = world.run_with(config);
    capture.wait_streaming().await;
    let mut locker = world.history_db.client().await;
    let lock = locker.transaction().await.unwrap();
    lock.execute("SELECT FROM waldelta.captures FOR UPDATE", &[]).await.unwrap();
    for round in 0..20 {
        let sql = format!(
            "INSERT INTO t SELECT {round} * 1000 + i, repeat('x', 1000) FROM generate_series(1, 1000) i"
        );
        world.source_db.exec(&sql).await;
    }
    capture
        .wait_state("history is found stalled", |state| {
            matches!(state, State::Reconnecting { code: Code::HistoryStalled, .. })
        })
        .await;
    lock.rollback().await.unwrap();
    world.wait_stored("true", 20_000).await;
    world.assert_gapless().await;
    capture.stop().await;
}
