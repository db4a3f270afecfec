//! Names and shapes of every kind that PostgreSQL allows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use waldelta_source::catalog;
use waldelta_testkit::{TestDatabase, canonical, source_rows};
use waldelta_wal::{Kind, Operation, TableName};

use super::world::{World, text};

/// Runs the statements on captured tables; then the rows that were inserted, by table, are what a snapshot has and what
/// the source says of `columns` of it, where they are not all.
async fn insert_and_compare(world: &World, inserts: &str, columns: &BTreeMap<TableName, &str>) -> usize {
    world.database.exec(inserts).await;
    let mut streamed: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
    for change in world.stream().await.iter().flat_map(|piece| &piece.changes) {
        assert_eq!(change.operation, Operation::Insert);
        let rows = streamed.entry(change.table.as_ref().unwrap().name.clone()).or_default();
        rows.push(canonical(&text(change.data.as_ref().unwrap())).unwrap());
    }
    for (table, rows) in world.snapshot().await {
        let mut read: Vec<String> = rows.iter().map(|row| canonical(&text(&row.data)).unwrap()).collect();
        read.sort();
        let sql = match columns.get(&table.name) {
            Some(columns) => format!("(SELECT {columns} FROM {})", table.name),
            None => table.name.to_string(),
        };
        assert_eq!(read, source_rows(&world.client, &sql).await, "{}: snapshot", table.name);
        let mut inserted = streamed.remove(&table.name).unwrap_or_default();
        inserted.sort();
        assert_eq!(inserted, read, "{}: stream", table.name);
    }
    assert!(streamed.is_empty(), "{streamed:?}");
    world.snapshot().await.len()
}

#[tokio::test]
async fn names_of_any_kind() {
    const NAMES: &[&str] = &[
        "plain",
        "Plain",
        "PLAIN",
        "a.b",
        "a.b.c",
        "Say \"hi\"",
        "\"",
        "; DROP TABLE plain; --",
        "'",
        "back\\slash",
        "new\nline\ttab",
        " ",
        "select",
        "1st",
        "$1",
        "%s {} $",
        "*",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{6f22}\u{1F600}",
        "an_identifier_of_exactly_sixty_three_bytes_as_long_as_it_may_be",
        "an_identifier_of_exactly_sixty_three_bytes_as_long_as_it_may_b\u{2e}",
        "\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}",
    ];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let database = TestDatabase::create("names").await;
    let (mut setup, mut inserts) = (String::from("CREATE SCHEMA types;"), String::new());
    for name in NAMES {
        let name = quote(name);
        let columns: Vec<String> = NAMES.iter().map(|column| format!("{} int", quote(column))).collect();
        write!(
            setup,
            "CREATE SCHEMA {name}; CREATE TYPE types.{name} AS ({name} int); CREATE TYPE {name}.mood AS ENUM ('x');
             CREATE TABLE {name}.{name} ({}, held types.{name}, mood {name}.mood, PRIMARY KEY ({name}));
             ALTER TABLE {name}.{name} REPLICA IDENTITY FULL;",
            columns.join(", ")
        )
        .unwrap();
        let values: Vec<String> = (0..NAMES.len()).map(|value| value.to_string()).collect();
        write!(inserts, "INSERT INTO {name}.{name} VALUES ({}, ROW(7), 'x');", values.join(", ")).unwrap();
    }
    database.exec(&setup).await;
    let world = World::new(database).await;
    world.publish().await;
    let tables = insert_and_compare(&world, &inserts, &BTreeMap::new()).await;
    assert_eq!(tables, NAMES.len());
    for name in NAMES {
        let name = TableName { schema: (*name).into(), name: (*name).into() };
        let found = catalog::table_by_name(&world.client, &world.source, &name).await.unwrap().unwrap();
        assert_eq!((&found.table.name, found.table.key.len()), (&name, 1), "{name}");
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}

#[tokio::test]
async fn as_many_columns_as_there_can_be() {
    let database = TestDatabase::create("columns").await;
    let types = ["int", "bool", "\"char\"", "mood", "smallint", "date"];
    let values = ["-7", "true", "'x'", "'fine'", "NULL", "'2024-02-29'"];
    let columns: Vec<String> = (0..1_600).map(|n| format!("c{n} {}", types[n % types.len()])).collect();
    let row: Vec<&str> = (0..1_600).map(|n| values[n % values.len()]).collect();
    database
        .exec(&format!(
            "CREATE TYPE mood AS ENUM ('fine');
             CREATE TABLE wide ({}, PRIMARY KEY (c0)); ALTER TABLE wide REPLICA IDENTITY FULL;
             CREATE TABLE holds (n int PRIMARY KEY, row_ wide)",
            columns.join(", ")
        ))
        .await;
    let world = World::new(database).await;
    world.publish().await;
    let row = row.join(", ");
    let inserts = format!("INSERT INTO wide VALUES ({row}); INSERT INTO holds SELECT 1, wide FROM wide");
    insert_and_compare(&world, &inserts, &BTreeMap::new()).await;
    world.database.exec("UPDATE wide SET c1596 = 2; DELETE FROM wide").await;
    let pieces = world.stream().await;
    let changes: Vec<_> = pieces.iter().flat_map(|piece| &piece.changes).collect();
    assert_eq!(changes.len(), 2);
    let old: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(changes[1].old_data.as_ref().unwrap()).unwrap();
    assert_eq!((old.len(), &old["c1596"], &old["c5"]), (1_600, &2.into(), &"2024-02-29".into()));
}

#[tokio::test]
async fn many_tables_of_many_types() {
    let database = TestDatabase::create("many").await;
    database
        .exec(
            "DO $$ BEGIN FOR n IN 1..300 LOOP
                 EXECUTE format('CREATE TYPE c%s AS (a int, b text[]); CREATE TABLE t%s (id int PRIMARY KEY, held c%s[])', n, n, n);
             END LOOP; END $$",
        )
        .await;
    let world = World::new(database).await;
    world.publish().await;
    let tables = catalog::published_tables(&world.client, &world.source).await.unwrap();
    assert_eq!(tables.len(), 300);
    for published in tables {
        let Kind::Array(array) = &published.table.columns[1].kind else { panic!("{published:?}") };
        assert!(matches!(&array.element, Kind::Composite(composite) if composite.fields.len() == 2));
    }
}

#[tokio::test]
async fn tables_without_columns() {
    let database = TestDatabase::create("bare").await;
    database
        .exec(
            "CREATE TABLE bare (); ALTER TABLE bare REPLICA IDENTITY FULL;
             CREATE TABLE emptied (a int); ALTER TABLE emptied DROP COLUMN a;
             CREATE TABLE made (a int GENERATED ALWAYS AS (7) STORED, b text GENERATED ALWAYS AS ('x') STORED)",
        )
        .await;
    let world = World::new(database).await;
    world.publish().await;
    let none = BTreeMap::from([(TableName { schema: "public".into(), name: "made".into() }, "")]);
    let inserts = "INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT VALUES; INSERT INTO emptied DEFAULT VALUES;
                   INSERT INTO made DEFAULT VALUES";
    assert_eq!(insert_and_compare(&world, inserts, &none).await, 3);
    world.database.exec("DELETE FROM bare").await;
    let pieces = world.stream().await;
    let deleted: Vec<_> = pieces.iter().flat_map(|piece| &piece.changes).collect();
    assert_eq!(deleted.len(), 2);
    assert!(deleted.iter().all(|change| change.operation == Operation::Delete && change.row_key.is_none()));
}

const GENERATED: &str = "CREATE TYPE pair AS (a int, b text);
    CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, v text,
        held pair GENERATED ALWAYS AS (ROW(id, v)::pair) STORED);
    ALTER TABLE t REPLICA IDENTITY FULL";

#[tokio::test]
async fn generated_columns_are_absent() {
    let database = TestDatabase::create("generated").await;
    database.exec(GENERATED).await;
    let world = World::new(database).await;
    world.publish().await;
    let given = BTreeMap::from([(TableName { schema: "public".into(), name: "t".into() }, "id, v")]);
    insert_and_compare(&world, "INSERT INTO t (id, v) VALUES (1, 'x')", &given).await;
}

#[tokio::test]
async fn generated_columns_are_present_where_they_are_published() {
    let database = TestDatabase::create("generated_too").await;
    let version: i32 = database.query_text("SHOW server_version_num").await.parse().unwrap();
    if version < 180_000 {
        return;
    }
    database.exec(GENERATED).await;
    database.exec("ALTER TABLE t ADD unstored int GENERATED ALWAYS AS (id + 1) VIRTUAL").await;
    let world = World::new(database).await;
    world
        .database
        .exec("CREATE PUBLICATION waldelta FOR ALL TABLES WITH (publish_generated_columns = stored)")
        .await;
    world.create_slot().await;
    let stored =
        BTreeMap::from([(TableName { schema: "public".into(), name: "t".into() }, "id, twice, v, held")]);
    insert_and_compare(&world, "INSERT INTO t (id, v) VALUES (1, 'x')", &stored).await;
}
