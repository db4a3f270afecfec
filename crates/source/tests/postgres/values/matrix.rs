//! Types with values, each compared with what PostgreSQL says of it.

use std::collections::BTreeMap;

use waldelta_source::snapshot::SnapshotRow;
use waldelta_testkit::TestDatabase;
use waldelta_wal::Operation;

use super::world::{Found, World, number, row, text};

/// A type and texts of values of it.
pub(crate) struct Case<'a>(pub(crate) &'a str, pub(crate) &'a [&'a str]);

/// Each value of each type, alone and in arrays: inserted, read by a snapshot, updated to another and deleted; new and old
/// images as the stream has them.
pub(crate) async fn check(hint: &str, setup: &str, cases: &[Case<'_>]) {
    let database = TestDatabase::create(hint).await;
    database.exec(setup).await;
    check_in(World::new(database).await, cases).await;
}

pub(crate) async fn check_in(world: World, cases: &[Case<'_>]) {
    world.prepare().await;
    let mut tables = Vec::new();
    let mut inserts = String::new();
    for (index, Case(of, values)) in cases.iter().enumerate() {
        let table = format!("v{index}");
        create(&world, &table, of).await;
        inserts += &insert_values(&table, values);
        tables.push(table);
        if !of.ends_with(']') {
            let arrays = format!("a{index}");
            create(&world, &arrays, &format!("{of}[]")).await;
            inserts += &insert_arrays(&arrays, &format!("v{index}"), of);
            tables.push(arrays);
        }
    }
    world.publish().await;
    world.database.exec(&inserts).await;
    round(&world, &tables, "v").await;
}

/// Reads the rows that were just inserted into these tables, updates each to the next one, numbered by `n` from 0, deletes
/// them, and compares what the snapshot and the stream have of all that. `columns` are those besides `n`.
pub(crate) async fn round(world: &World, tables: &[String], columns: &str) {
    world.expect(tables, "insert").await;
    let snapshot = world.snapshot().await;
    let each = |sql: &str| tables.iter().map(|table| sql.replace('$', table)).collect::<String>();
    let next = format!(
        "UPDATE $ SET ({columns}) = (SELECT {columns} FROM $ other WHERE other.n = ($.n + 1) % (SELECT count(*) FROM $));"
    );
    world.database.exec(&each(&next)).await;
    world.expect(tables, "update").await;
    world.database.exec(&each("DELETE FROM $;")).await;

    let mut found = Vec::new();
    let mut inserted = BTreeMap::new();
    for change in world.stream().await.iter().flat_map(|piece| &piece.changes) {
        let row = |step, json| row(change, step, json);
        assert!(change.unchanged.is_empty() && change.flagged.is_empty(), "{change:?}");
        match change.operation {
            Operation::Insert => {
                let row = row("insert", &change.data);
                inserted.insert((row.table.clone(), row.number), row.json.clone());
                found.push(row);
            }
            Operation::Update => {
                found.extend([row("insert", &change.old_data), row("update", &change.data)]);
            }
            Operation::Delete => found.push(row("update", &change.old_data)),
            _ => panic!("{change:?}"),
        }
    }
    let streamed = found.len();
    for (table, rows) in &snapshot {
        for SnapshotRow { key, data, flagged } in rows {
            let (table, number, json) = (table.name.name.clone(), number(key.as_ref().unwrap()), text(data));
            assert_eq!(inserted.get(&(table.clone(), number)), Some(&json), "{table}: byte for byte");
            assert_eq!(flagged, &[] as &[String]);
            found.push(Found { table, step: "insert", number, json });
        }
    }
    let expected = world.compare(&found).await;
    assert!(expected >= 2 * tables.len(), "there were values");
    assert_eq!((inserted.len(), streamed, found.len()), (expected / 2, expected * 2, expected * 5 / 2));
}

async fn create(world: &World, table: &str, of: &str) {
    let sql = format!(
        "CREATE TABLE {table} (n int PRIMARY KEY, v {of}); ALTER TABLE {table} REPLICA IDENTITY FULL"
    );
    world.database.exec(&sql).await;
}

/// NULL and each value, numbered from 0, each read by the type's own input function.
fn insert_values(table: &str, values: &[&str]) -> String {
    let rows: String =
        (1..).zip(values).map(|(number, value)| format!(", ({number}, {})", quoted(value))).collect();
    format!("INSERT INTO {table} VALUES (0, NULL){rows};")
}

/// NULL, no elements, all values, several dimensions, own bounds.
fn insert_arrays(table: &str, values: &str, of: &str) -> String {
    format!(
        "INSERT INTO {table} VALUES (0, NULL), (1, '{{}}');
         INSERT INTO {table} SELECT 2, ARRAY(SELECT v FROM {values} ORDER BY n);
         INSERT INTO {table} SELECT 3, ARRAY[ARRAY[v, v], ARRAY[v, NULL::{of}]] FROM {values} WHERE n = 1;
         INSERT INTO {table} SELECT 4, ('[-3:' || cardinality(v) - 4 || ']=' || v::text)::{of}[] FROM {table} WHERE n = 2;
         INSERT INTO {table} SELECT 5, ('[0:1][5:6]=' || v::text)::{of}[] FROM {table} WHERE n = 3;"
    )
}

/// A text as SQL has it.
pub(crate) fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
