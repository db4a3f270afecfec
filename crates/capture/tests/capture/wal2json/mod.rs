//! The same through wal2json, where the tested server has it; else these tests say so and pass.

mod differential;
mod refusals;
mod shapes;
mod tables;

use waldelta_capture::State;
use waldelta_source::Plugin;
use waldelta_testkit::{TestDatabase, wait_until};

use crate::world::{PATIENCE, World};

impl World {
    /// A world whose slot is wal2json's, with nothing set up; `None` where the server has no wal2json.
    async fn of_wal2json(hint: &str, sql: &str) -> Option<Self> {
        let mut world = World::bare(hint, sql).await;
        world.source.plugin = Plugin::Wal2json;
        has_wal2json(&world.source_db).await.then_some(world)
    }

    /// All set up and history begun.
    async fn begun_with_wal2json(hint: &str, sql: &str) -> Option<Self> {
        let world = World::of_wal2json(hint, sql).await?;
        world.publish().await;
        world.begin().await;
        Some(world)
    }
}

/// Whether the tested server lets wal2json be used.
async fn has_wal2json(database: &TestDatabase) -> bool {
    let slot = database.slot("probe");
    let sql = format!("SELECT FROM pg_create_logical_replication_slot('{slot}', 'wal2json', true)");
    match database.client().await.batch_execute(&sql).await {
        Ok(()) => true,
        Err(error) => {
            let error =
                error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            say_skipped(&format!("this server does not let wal2json be used: {error}"));
            false
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that shows nothing must say so")]
fn say_skipped(why: &str) {
    eprintln!("skipped: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_changes_arrive_and_a_start_goes_on_from_there() {
    let Some(world) = World::begun_with_wal2json(
        "w2j_arrive",
        "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
    )
    .await
    else {
        return;
    };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    world.source_db.exec("UPDATE t SET v = 'c' WHERE id = 2").await;
    world.wait_told(3).await;
    capture.stop().await;
    assert_eq!(world.confirmed().await, world.durable().await, "the last report was taken in before the end");

    world.source_db.exec("DELETE FROM t WHERE id = 1").await;
    world.source_db.exec("BEGIN; INSERT INTO t VALUES (9, 'never'); ROLLBACK").await;
    let capture = world.run();
    world.wait_told(4).await;
    let what = "concat_ws(' ', operation, row_key, data, old_data, table_name)";
    assert_eq!(
        world.told(what).await,
        [
            r#"insert [1] {"v": "a", "id": 1} public.t"#,
            r#"insert [2] {"v": "b", "id": 2} public.t"#,
            r#"update [2] {"v": "c", "id": 2} {"v": "b", "id": 2} public.t"#,
            r#"delete [1] {"v": "a", "id": 1} public.t"#,
        ]
    );
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_arrives_whole() {
    let Some(world) =
        World::begun_with_wal2json("w2j_large", "CREATE TABLE t (id int PRIMARY KEY, v text)").await
    else {
        return;
    };
    let mut config = world.config();
    config.batch_bytes_max = 128 << 10;
    let capture = world.run_with(config);
    let sql = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i";
    world.source_db.exec(sql).await;
    world.wait_told(20_000).await;
    world.assert_gapless().await;
    assert_eq!(world.stored("SELECT count(DISTINCT lsn) FROM waldelta.change_history").await, "1");
    capture.stop().await;
}

/// The canary's row is no change, and arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_gives_a_sign_of_life() {
    let Some(world) = World::begun_with_wal2json("w2j_canary", "CREATE TABLE t (id int PRIMARY KEY)").await
    else {
        return;
    };
    let mut config = world.config();
    config.canary_interval = std::time::Duration::from_millis(50);
    let capture = world.run_with(config);
    let alive = async || capture.status.read().canary == waldelta_capture::Canary::Alive;
    wait_until("the canary arrives", PATIENCE, alive).await;
    assert_eq!(capture.status.read().state, State::Streaming);
    assert_eq!(world.stored_count("true").await, 0);
    capture.stop().await;
}

/// Every transaction of the database is sent, also those of tables that are not published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_captured_leaves_nothing_but_progress() {
    let Some(world) = World::begun_with_wal2json("w2j_nothing", "CREATE TABLE t (id int PRIMARY KEY)").await
    else {
        return;
    };
    let capture = world.run();
    capture.wait_streaming().await;
    world.source_db.exec("CREATE TABLE other (v text)").await;
    let before = world.durable().await;
    let write = "INSERT INTO other SELECT repeat(md5(i::text), 30) FROM generate_series(1, 2000) i";
    wait_until("history goes on by a megabyte", PATIENCE, async || {
        world.source_db.exec(write).await;
        world.durable().await.0.0 > before.0.0 + (1 << 20)
    })
    .await;
    assert_eq!(world.stored_count("true").await, 0);
    capture.stop().await;
}
