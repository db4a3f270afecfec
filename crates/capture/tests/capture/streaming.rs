//! What is committed arrives, once, in order, over restarts and in pieces.

use waldelta_testkit::wait_until;

use crate::world::{PATIENCE, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_changes_arrive_with_both_images() {
    let world = World::begun(
        "arrive",
        "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
    )
    .await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    world.source_db.exec("UPDATE t SET v = 'c' WHERE id = 2").await;
    world.source_db.exec("DELETE FROM t WHERE id = 1").await;
    world.source_db.exec("BEGIN; INSERT INTO t VALUES (9, 'never'); ROLLBACK").await;
    world.wait_stored("true", 4).await;
    let rows = world
        .history_db
        .query("SELECT operation, row_key, data::text, old_data::text, table_name FROM waldelta.change_history ORDER BY epoch, lsn, seq")
        .await;
    let text: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        text,
        [
            r#"insert [1] {"v": "a", "id": 1} - public.t"#,
            r#"insert [2] {"v": "b", "id": 2} - public.t"#,
            r#"update [2] {"v": "c", "id": 2} {"v": "b", "id": 2} public.t"#,
            r#"delete [1] - {"v": "a", "id": 1} public.t"#,
        ]
    );
    world.assert_gapless().await;
    // What is stored can be read a moment before it is counted.
    wait_until("all is counted", PATIENCE, async || {
        let reading = capture.status.read();
        (reading.transactions, reading.changes) == (3, 4)
    })
    .await;
    assert!(capture.status.read().last_commit_us.is_some());
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_reports_what_is_durable_and_a_start_goes_on_from_there() {
    let world = World::begun("resume", TABLE).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i").await;
    world.wait_stored("true", 100).await;
    capture.stop().await;
    assert_eq!(world.confirmed().await, world.durable().await, "the last report was taken in before the end");

    world.source_db.exec("INSERT INTO t SELECT i, 'b' FROM generate_series(101, 200) i").await;
    let capture = world.run();
    world.wait_stored("true", 200).await;
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_and_not_reported_is_not_stored_twice() {
    let world = World::begun("twice", TABLE).await;
    for round in 0..5 {
        let mut config = world.config();
        config.feedback_interval = PATIENCE;
        let capture = world.run_with(config);
        let sql = format!("INSERT INTO t SELECT {round} * 100 + i, 'x' FROM generate_series(1, 100) i");
        world.source_db.exec(&sql).await;
        world.wait_stored("true", (round + 1) * 100).await;
        capture.kill().await;
        assert!(world.confirmed().await <= world.durable().await);
    }
    world.assert_gapless().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_leaves_in_pieces_and_arrives_whole() {
    let world = World::begun("large", TABLE).await;
    let mut config = world.config();
    config.batch_rows_max = 500;
    config.batch_bytes_max = 128 << 10;
    let capture = world.run_with(config);
    capture.wait_streaming().await;
    world.source_db.exec("INSERT INTO t VALUES (0, 'before')").await;
    world.source_db.exec("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 60000) i").await;
    world.source_db.exec("INSERT INTO t VALUES (-1, 'after')").await;
    world.wait_stored("true", 60_002).await;
    world.assert_gapless().await;
    let transactions = world.stored("SELECT count(DISTINCT lsn) FROM waldelta.change_history").await;
    assert_eq!(transactions, "3");
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_keep_their_order() {
    let world = World::begun("writers", "CREATE TABLE t (id serial PRIMARY KEY, writer int, n int)").await;
    let mut config = world.config();
    config.batch_rows_max = 50;
    let capture = world.run_with(config);
    let mut writers = Vec::new();
    for writer in 0..4 {
        let client = world.source_db.client().await;
        writers.push(async move {
            for n in 0..200 {
                client.execute("INSERT INTO t (writer, n) VALUES ($1, $2)", &[&writer, &n]).await.unwrap();
            }
        });
    }
    let mut writers = writers.into_iter();
    let mut next = || writers.next().unwrap();
    tokio::join!(next(), next(), next(), next());
    world.wait_stored("true", 800).await;
    world.assert_gapless().await;
    let disorder = "SELECT count(*) FROM (SELECT data->>'n' AS n, lag(data->>'n') OVER (PARTITION BY data->>'writer' \
                    ORDER BY epoch, lsn, seq) AS before FROM waldelta.change_history) o WHERE n::int <> before::int + 1";
    assert_eq!(world.stored(disorder).await, "0");
    wait_until("the slot knows all of it", PATIENCE, async || {
        world.confirmed().await == world.durable().await
    })
    .await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_shape_gets_a_new_version() {
    let world = World::begun("shape", TABLE).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.source_db.exec("ALTER TABLE t ADD COLUMN w int").await;
    world.source_db.exec("INSERT INTO t VALUES (2, 'b', 7)").await;
    world.wait_told(2).await;
    assert_eq!(
        world.told("schema_version || ' ' || data").await,
        [r#"1 {"v": "a", "id": 1}"#, r#"2 {"v": "b", "w": 7, "id": 2}"#]
    );
    // The new shape is told right before the first row that has it.
    let columns = "seq || ' v' || schema_version || ' ' || jsonb_path_query_array(data, '$.columns[*].name')";
    assert_eq!(world.listed(columns, "operation = 'schema'").await, [r#"0 v2 ["id", "v", "w"]"#]);
    capture.stop().await;
    // Shapes are known again after a restart.
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (3, 'c', 8)").await;
    world.wait_told(3).await;
    assert_eq!(world.listed("schema_version::text", "operation <> 'schema'").await, ["1", "2", "2"]);
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_dropped_before_it_was_read_is_known_by_the_stream() {
    let world = World::begun(
        "dropped",
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)",
    )
    .await;
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.source_db.exec("DROP TABLE t").await;
    world.source_db.exec("INSERT INTO u VALUES (1)").await;
    let capture = world.run();
    world.wait_stored("true", 2).await;
    assert_eq!(
        world.stored("SELECT row_key FROM waldelta.change_history WHERE table_name = 'public.t'").await,
        "[1]"
    );
    capture.stop().await;
}
