//! Types that change while tables have columns of them, of which the stream says nothing.

use crate::world::World;

const TABLES: &str = "CREATE TYPE pair AS (a int, b text); CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE t (id int PRIMARY KEY, p pair, ps pair[])";
const ROW: &str = "schema_version || ' ' || data";

const ONE: &str = "INSERT INTO t VALUES (1, '(1,x)', '{\"(2,y)\"}')";
const ONE_TOLD: &str = r#"1 {"p": {"a": 1, "b": "x"}, "id": 1, "ps": [{"a": 2, "b": "y"}]}"#;
const TWO: &str = "INSERT INTO t VALUES (2, '(1,x)', NULL)";
const TWO_TOLD: &str = r#"1 {"p": {"a": 1, "b": "x"}, "id": 2, "ps": null}"#;
const ALTER: &str = "ALTER TYPE pair ADD ATTRIBUTE c int; ALTER TYPE pair RENAME ATTRIBUTE b TO d";
const THREE: &str = "INSERT INTO t VALUES (3, '(1,x,5)', '{\"(2,y,6)\"}')";
const THREE_TOLD: &str =
    r#"2 {"p": {"a": 1, "c": 5, "d": "x"}, "id": 3, "ps": [{"a": 2, "c": 6, "d": "y"}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_altered_while_capture_runs() {
    let world = World::begun("compruns", TABLES).await;
    let capture = world.run_looking();
    world.source_db.exec(ONE).await;
    world.wait_told(1).await;
    for sql in [TWO, ALTER, THREE] {
        world.source_db.exec(sql).await;
    }
    world.wait_told(3).await;
    assert_eq!(world.told(ROW).await, [ONE_TOLD, TWO_TOLD, THREE_TOLD]);
    let fields = "schema_version || ' ' || jsonb_path_query_array(data, '$.columns[*].fields[*].name')";
    assert_eq!(world.listed(fields, "operation = 'schema'").await, [r#"2 ["a", "d", "c", "a", "d", "c"]"#]);
    capture.stop().await;
}

/// The event trigger's message says where: neither row before it nor row behind it is read with the other definition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_altered_while_nobody_captures() {
    let world = World::begun("compdown", TABLES).await;
    let capture = world.run_looking();
    world.source_db.exec(ONE).await;
    world.wait_told(1).await;
    capture.stop().await;
    // That the table itself is altered says nothing of the type.
    let column = "ALTER TABLE t ADD COLUMN n int";
    let row = "INSERT INTO t VALUES (4, '(1,x)', NULL, 4)";
    world.source_db.exec(&format!("BEGIN; {TWO}; {column}; {row}; {ALTER}; {THREE}; COMMIT")).await;
    let capture = world.run_looking();
    world.wait_told(4).await;
    let row_told = r#"2 {"n": 4, "p": {"a": 1, "b": "x"}, "id": 4, "ps": null}"#;
    let three_told = THREE_TOLD.replace("2 {", r#"3 {"n": null, "#);
    assert_eq!(world.told(ROW).await, [ONE_TOLD, TWO_TOLD, row_told, &three_told]);
    capture.stop().await;
}

/// Without the event trigger the catalog shows it, and older rows are still read as history knows the type.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_altered_without_a_word() {
    let world = World::begun("compsilent", TABLES).await;
    world.drop_triggers().await;
    let capture = world.run_looking();
    world.source_db.exec(ONE).await;
    world.wait_told(1).await;
    capture.stop().await;
    world.source_db.exec(TWO).await;
    world.source_db.exec(ALTER).await;
    let capture = world.run_looking();
    world.wait_told(2).await;
    world.wait_looked("other", "looked").await;
    world.source_db.exec(THREE).await;
    world.wait_told(3).await;
    assert_eq!(world.told(ROW).await, [ONE_TOLD, TWO_TOLD, THREE_TOLD]);
    assert_eq!(world.stored("SELECT reason FROM waldelta.gaps").await, "type_changed");
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_an_enum_that_are_added_and_renamed() {
    let world = World::begun(
        "enum",
        "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN moods AS mood[] NOT NULL; \
         CREATE TABLE t (id int PRIMARY KEY, m mood, ms moods)",
    )
    .await;
    let capture = world.run_looking();
    for sql in [
        "INSERT INTO t VALUES (1, 'sad', '{sad}')",
        "ALTER TYPE mood ADD VALUE 'so, so' BEFORE 'sad'",
        "INSERT INTO t VALUES (2, 'so, so', '{\"so, so\",NULL}')",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "INSERT INTO t VALUES (3, 'blue', '{blue}')",
    ] {
        world.source_db.exec(sql).await;
    }
    world.wait_told(3).await;
    assert_eq!(
        world.listed(ROW, "true").await,
        [
            r#"1 {"m": "sad", "id": 1, "ms": ["sad"]}"#,
            r#"1 {"m": "so, so", "id": 2, "ms": ["so, so", null]}"#,
            r#"1 {"m": "blue", "id": 3, "ms": ["blue"]}"#,
        ]
    );
    capture.stop().await;
}
