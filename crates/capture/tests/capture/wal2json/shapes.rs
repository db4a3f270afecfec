//! Lines have no shape: it comes from history and from the catalog, and where neither fits, capture stops.

use waldelta_capture::State;
use waldelta_testkit::wait_until;
use waldelta_wal::{Code, Skip};

use crate::world::{PATIENCE, World};

const WHAT: &str = "concat_ws(' ', operation, row_key, data, metadata)";

/// Rows older than a change of their table have the shape that history knows, the younger ones that of the catalog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_around_one_change_that_are_read_late() {
    let Some(world) =
        World::begun_with_wal2json("w2j_ddl1", "CREATE TABLE t (id int PRIMARY KEY, a text)").await
    else {
        return;
    };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    capture.stop().await;

    world.source_db.exec("INSERT INTO t VALUES (2, 'b')").await;
    world.source_db.exec("ALTER TABLE t ADD COLUMN n int DEFAULT 7").await;
    world.source_db.exec("UPDATE t SET a = 'c' WHERE id = 2").await;
    let capture = world.run();
    world.wait_told(3).await;
    assert_eq!(
        world.told(WHAT).await,
        [
            r#"insert [1] {"a": "a", "id": 1}"#,
            r#"insert [2] {"a": "b", "id": 2}"#,
            r#"update [2] {"a": "c", "n": 7, "id": 2}"#,
        ]
    );
    assert_eq!(world.stored_count("operation = 'schema'").await, 1);
    capture.stop().await;
}

/// A column that is absent from an update may be one that is too large and did not change, or one that was dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_dropped_meanwhile_is_not_taken_for_one_that_did_not_change() {
    let Some(world) = World::begun_with_wal2json(
        "w2j_ghost",
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text); ALTER TABLE t ALTER COLUMN b SET STORAGE EXTERNAL",
    )
    .await
    else {
        return;
    };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a', repeat('b', 3000))").await;
    world.source_db.exec("UPDATE t SET id = 2").await;
    world.wait_told(2).await;
    capture.stop().await;

    world.source_db.exec("ALTER TABLE t DROP COLUMN a").await;
    world.source_db.exec("UPDATE t SET id = 3").await;
    let capture = world.run();
    world.wait_told(3).await;
    let moved = r#"update [3] {"id": 3} {"unchanged": ["b"], "moved_from": "[2]"}"#;
    assert_eq!(world.told(WHAT).await[2], moved);
    capture.stop().await;
}

/// The rows between two changes had a shape that nobody knows any more. Capture goes on without their transaction when that is
/// ordered; wal2json does not say which tables it is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_between_two_changes_that_are_read_late_stop_capture_until_they_are_left_out() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, a text); CREATE TABLE u (id int PRIMARY KEY)";
    let Some(world) = World::begun_with_wal2json("w2j_ddl2", sql).await else { return };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    capture.stop().await;

    world.source_db.exec("INSERT INTO t VALUES (2, 'b')").await;
    world.source_db.exec("ALTER TABLE t ADD COLUMN n int").await;
    world.source_db.exec("INSERT INTO t VALUES (3, 'c', 3)").await;
    world.source_db.exec("ALTER TABLE t DROP COLUMN n").await;
    world.source_db.exec("INSERT INTO t VALUES (4, 'd')").await;
    let capture = world.run();
    let is_it = |state: &State| matches!(state, State::Stopped { code: Code::Wal2jsonShape, .. });
    capture.wait_state("capture stops at the row", is_it).await;
    let State::Stopped { message, .. } = capture.status.read().state else { unreachable!() };
    assert!(message.contains("public.t"), "{message}");
    assert!(world.stored_count("row_key = '[3]'").await == 0);
    let (_, lsn) = message.split_once("understand transaction ").unwrap();
    let lsn = lsn.split_once(' ').unwrap().0.parse().unwrap();
    let skip = Skip { lsn, seq: None, by: "anna".into(), why: "lost".into() };
    world.history.order_skip(&skip).await.unwrap();
    world.wait_told(4).await;
    let told = world.told("concat_ws(' ', operation, row_key)").await;
    assert_eq!(told, ["insert [1]", "insert [2]", "skip", "insert [4]"]);
    wait_until("both tables need repair", PATIENCE, async || capture.status.read().needs_repair.len() == 2)
        .await;
    capture.stop().await;
}

/// What the event trigger says of DDL that changes no column does not make older outlines useless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_ddl_makes_it_ask_and_nothing_is_lost_by_that() {
    let Some(world) =
        World::begun_with_wal2json("w2j_forget", "CREATE TABLE t (id int PRIMARY KEY, a text)").await
    else {
        return;
    };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    capture.stop().await;

    let emit = "SELECT pg_logical_emit_message(true, 'waldelta.ddl', format('{\"forget\":[%s]}', 't'::regclass::oid))";
    world.source_db.exec(emit).await;
    world.source_db.exec("INSERT INTO t VALUES (2, 'b')").await;
    world.source_db.exec("ALTER TABLE t ADD COLUMN n int DEFAULT 7").await;
    world.source_db.exec("INSERT INTO t VALUES (3, 'c')").await;
    let capture = world.run();
    world.wait_told(3).await;
    assert_eq!(
        world.told(WHAT).await[1..],
        [r#"insert [2] {"a": "b", "id": 2}"#, r#"insert [3] {"a": "c", "n": 7, "id": 3}"#]
    );
    capture.stop().await;
}

/// NaN and infinities are nulls where wal2json prints numbers as numbers, and as it is told from 2.6 on they are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_json_does_not_have() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, f float8, n numeric, a float8[])";
    let Some(world) = World::begun_with_wal2json("w2j_nan", sql).await else { return };
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'NaN', '-Infinity', '{NaN,Infinity}')").await;
    world.source_db.exec("INSERT INTO t VALUES (2, 1e300, repeat('7', 1000)::numeric / 7, '{}')").await;
    world.wait_told(2).await;
    let rows = world.told("data - 'a'").await;
    let lost = r#"{"f": null, "n": null, "id": 1}"#;
    assert!([lost, r#"{"f": "NaN", "n": "-Infinity", "id": 1}"#].contains(&&*rows[0]), "{}", rows[0]);
    assert_eq!(world.told("data -> 'a'").await, [r#"["NaN", "Infinity"]"#, "[]"]);
    let exact = world.source_db.query_text("SELECT to_jsonb(n)::text FROM t WHERE id = 2").await;
    assert_eq!(world.told("data -> 'n'").await[1], exact, "however long");
    capture.stop().await;
}
