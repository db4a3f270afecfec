//! Either database goes away and comes back.

use waldelta_testkit::{TestCluster, TestDatabase, wait_until};

use crate::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_source_is_followed_again() {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "kill9", "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t SELECT generate_series(1, 1000)").await;
    world.wait_stored("true", 1000).await;
    cluster.kill9().await;
    cluster.up().await;
    let client = world.source_db.client().await;
    client.batch_execute("INSERT INTO t SELECT generate_series(1001, 2000)").await.unwrap();
    world.wait_stored("true", 2000).await;
    world.assert_gapless().await;
    assert!(!capture.is_over());
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_of_every_kind_are_made_again() {
    let world = World::begun("cut", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let capture = world.run();
    capture.wait_streaming().await;
    for round in 0..6u64 {
        let (database, what) = if round % 2 == 0 {
            (&world.source_db, "backend_type = 'walsender'")
        } else {
            (&world.history_db, "application_name LIKE 'waldelta%'")
        };
        let client: &TestDatabase = database;
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND {what}"
        );
        wait_until("there is something to cut", PATIENCE, async || client.query_text(&sql).await != "0")
            .await;
        let sql = format!("INSERT INTO t SELECT {round} * 10 + i FROM generate_series(1, 10) i");
        world.source_db.exec(&sql).await;
        world.wait_stored("true", (round + 1) * 10).await;
    }
    world.assert_gapless().await;
    capture.stop().await;
}
