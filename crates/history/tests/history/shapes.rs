//! Schema over time: every row comes back with the shape that was valid at its place, whatever became of the table.

use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::{History, Writer};
use waldelta_testkit::TestDatabase;
use waldelta_wal::{
    ArrayKind, Change, Column, CompositeKind, Field, Kind, Operation, ReplicaIdentity, RowEncoder, Scalar,
    Table, TableName, Value, ValuePolicy, schema_json,
};

use crate::support::*;

/// Rows whose version is not the one that was valid at their place.
const MISPLACED: &str = "SELECT count(*) FROM waldelta.change_history AS change WHERE schema_version IS DISTINCT FROM (
    SELECT max(version) FROM waldelta.table_schemas AS shape
    WHERE shape.table_oid = change.table_oid AND (shape.epoch, shape.lsn, shape.seq) <= (change.epoch, change.lsn, change.seq))";

/// What the assembler puts before the first change of a shape that is new.
fn schema(table: &Arc<Table>, seq: u32) -> Change {
    let mut data = Vec::new();
    schema_json(table, &mut data);
    Change {
        operation: Operation::Schema,
        row_key: None,
        data: Some(Bytes::from(data)),
        ..insert(table, seq, 0)
    }
}

/// A row as the encoder writes it.
fn row(table: &Arc<Table>, seq: u32, values: &[&str]) -> Change {
    let encoder = RowEncoder::new(table, ValuePolicy::default());
    let values = || values.iter().map(|text| Value::Text(text.as_bytes()));
    let (mut data, mut key) = (Vec::new(), Vec::new());
    encoder.encode_object(values(), &mut data).unwrap();
    let row_key = encoder.encode_key(values(), &mut key).unwrap().then(|| Bytes::from(key));
    Change { data: Some(Bytes::from(data)), row_key, ..insert(table, seq, 0) }
}

fn composite(fields: &[(i16, &str, u32, &str)]) -> Kind {
    let field = |(number, name, type_oid, type_name): &(i16, &str, u32, &str)| Field {
        number: *number,
        name: (*name).into(),
        type_name: (*type_name).into(),
        kind: Kind::builtin(*type_oid).unwrap(),
    };
    Kind::Composite(Arc::new(CompositeKind { type_oid: 90_001, fields: fields.iter().map(field).collect() }))
}

fn of_kind(column: Column, type_oid: u32, type_name: &str, kind: Kind) -> Column {
    Column { type_oid, type_name: type_name.into(), kind, ..column }
}

/// The versions of a table's life, each with the values of a row.
fn life() -> Vec<(Table, Vec<&'static str>)> {
    let place = |fields| of_kind(column(3, "place", 25, "text"), 90_001, "point_of_sale", composite(fields));
    let short: &[(i16, &str, u32, &str)] = &[(1, "x", 23, "integer"), (2, "Ort \"a\"", 25, "text")];
    let with = |columns: Vec<Column>| {
        let mut shape = table(7, "orders");
        shape.columns.truncate(1);
        shape.columns.extend(columns);
        shape
    };
    let note = || column(2, "note", 25, "text");
    let boxes = Kind::Array(Arc::new(ArrayKind { element: composite(short), delimiter: b';' }));
    let renamed = |mut shape: Table| {
        shape.name = TableName { schema: "Shop \"1\"".into(), name: "sales.all".into() };
        shape
    };
    vec![
        (with(vec![note()]), vec!["1", "first"]),
        // Added, of a composite type.
        (with(vec![note(), place(short)]), vec!["2", "second", "(7,\"a b\")"]),
        // The type was altered, in another table's DDL.
        (
            with(vec![note(), place(&[(2, "name", 25, "text"), (3, "open", 16, "boolean")])]),
            vec!["3", "third", "(x,t)"],
        ),
        // A column renamed; one dropped, and another added of the same name.
        (with(vec![Column { name: "remark".into(), ..note() }, place(short)]), vec!["4", "fourth", "(,)"]),
        (with(vec![column(4, "remark", 1700, "numeric")]), vec!["5", "5.50"]),
        // Table and schema renamed, types that only the catalog knows, a key of two columns, another identity.
        (
            Table {
                identity: ReplicaIdentity::Mixed,
                key: vec![0, 1],
                ..renamed(with(vec![
                    of_kind(column(5, "mood", 25, "text"), 90_005, "\"Mood\"", Kind::TEXT),
                    of_kind(column(6, "tags", 25, "text"), 90_006, "hstore", Kind::Hstore),
                    of_kind(column(7, "places", 25, "text"), 90_007, "point_of_sale[]", boxes),
                    of_kind(column(8, "day", 25, "text"), 90_008, "day", Kind::Scalar(Scalar::Date)),
                ]))
            },
            vec!["6", "glad", "\"a\"=>\"1\"", "{\"(1,b)\";NULL}", "2026-02-03"],
        ),
    ]
}

fn shape_of(change: &Change) -> &Table {
    change.table.as_deref().unwrap()
}

fn names(data: &Bytes) -> Vec<String> {
    let row: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(data).unwrap();
    let mut names: Vec<_> = row.keys().cloned().collect();
    names.sort();
    names
}

#[tokio::test]
async fn rows_come_back_with_the_shape_of_their_place() {
    let database = TestDatabase::create("history_life").await;
    let (_history, mut writer) = written(&database).await;
    let (mut pieces, mut shapes) = (Vec::new(), Vec::new());
    // Each version in the middle of a transaction that still begins with the one before.
    let mut before: Option<(Arc<Table>, Vec<&str>)> = None;
    for (lsn, (shape, values)) in (START..).step_by(0x4000).zip(life()) {
        let numbered = writer.number(shape);
        assert_eq!(numbered.changed, before.is_some(), "{numbered:?}");
        let table = numbered.table;
        let mut changes = Vec::new();
        if let Some((earlier, values)) = &before {
            changes = vec![row(earlier, 0, values), schema(&table, 1), row(&table, 2, &values_of(&table))];
        }
        changes.push(row(&table, u32::try_from(changes.len()).unwrap(), &values));
        let mut whole = transaction(lsn, changes);
        whole.new_tables = vec![Arc::clone(&table)];
        pieces.push(whole);
        shapes.push(Arc::clone(&table));
        before = Some((table, values));
    }
    let appended = pieces.clone();
    writer.append(pieces).await.unwrap();

    // Somebody who knows nothing yet.
    let reader = History::open(&config(&database)).await.unwrap();
    let page = read_all(&reader, whole(START - 1)).await;
    assert_eq!(page.parts.len(), shapes.len());
    for (part, piece) in page.parts.iter().zip(&appended) {
        for (read, written) in part.changes.iter().zip(&piece.changes) {
            assert_eq!(read.table, written.table, "with kinds, numbers, names, key and identity");
            assert_eq!(read.operation, written.operation);
            let json = |data: &Bytes| serde_json::from_slice::<serde_json::Value>(data).unwrap();
            let data = read.data.as_ref().unwrap();
            assert_eq!(json(data), json(written.data.as_ref().unwrap()));
            if read.operation != Operation::Schema {
                let mut columns: Vec<_> = shape_of(read).columns.iter().map(|c| c.name.clone()).collect();
                columns.sort();
                assert_eq!(names(data), columns);
            }
        }
    }
    for (version, shape) in (1..).zip(&shapes) {
        assert_eq!(shape.version, version);
        assert_eq!(reader.table(7, version).await.unwrap(), *shape);
    }
    assert_eq!(reader.tables().await.unwrap(), [Arc::clone(shapes.last().unwrap())]);
    assert_eq!(database.query_text(MISPLACED).await, "0");
    // A version takes effect with the change that tells it.
    let told = "SELECT count(*) FROM waldelta.change_history AS change JOIN waldelta.table_schemas AS shape
            ON (shape.table_oid, shape.version) = (change.table_oid, change.schema_version)
        WHERE operation = 'schema' AND (change.epoch, change.lsn, change.seq) = (shape.epoch, shape.lsn, shape.seq)
            AND row_key IS NULL AND old_data IS NULL AND (data->>'version')::int = version
            AND jsonb_array_length(data->'columns') = jsonb_array_length(shape.columns)";
    assert_eq!(database.query_text(told).await, (shapes.len() - 1).to_string());
    let fields = "SELECT data #>> '{columns,2,fields}' FROM waldelta.change_history WHERE operation = 'schema' AND schema_version = 2";
    assert_eq!(
        database.query_text(fields).await,
        r#"[{"name": "x", "type": "integer"}, {"name": "Ort \"a\"", "type": "text"}]"#
    );
    // The identity that only the catalog tells is one that the schema takes.
    assert_eq!(
        database.query_text("SELECT identity FROM waldelta.table_schemas WHERE version = 6").await,
        "mixed"
    );
}

/// A row of nothing but what every type reads.
fn values_of(table: &Arc<Table>) -> Vec<&'static str> {
    let value = |column: &Column| match &column.kind {
        Kind::Scalar(Scalar::Text) => "t",
        Kind::Scalar(Scalar::Number) => "0",
        Kind::Scalar(Scalar::Date) => "2026-01-01",
        Kind::Composite(_) => "(,)",
        Kind::Array(_) => "{}",
        Kind::Hstore => "",
        other => panic!("{other:?}"),
    };
    table.columns.iter().map(value).collect()
}

fn wider(oid: u32, name: &str, more: &str) -> Table {
    let mut shape = table(oid, name);
    shape.columns.push(column(3, more, 25, "text"));
    shape
}

/// Numbers a shape and appends a transaction of one row of it, with the change that tells it where it is new.
async fn append_row(writer: &mut Writer, lsn: u64, shape: Table) -> (u32, bool) {
    let numbered = writer.number(shape);
    let table = numbered.table;
    let changes = match numbered.changed {
        true => vec![schema(&table, 0), insert(&table, 1, lsn)],
        false => vec![insert(&table, 0, lsn)],
    };
    writer.append(vec![transaction(lsn, changes)]).await.unwrap();
    (table.version, numbered.changed)
}

#[tokio::test]
async fn there_and_back_is_two_more_versions_also_across_a_restart() {
    let database = TestDatabase::create("history_aba").await;
    let (history, mut writer) = written(&database).await;
    let (a, b) = (|| table(7, "t"), || wider(7, "t", "b"));
    assert_eq!(append_row(&mut writer, START, a()).await, (1, false));
    assert_eq!(append_row(&mut writer, START + 1, a()).await, (1, false));
    assert_eq!(append_row(&mut writer, START + 2, b()).await, (2, true));
    // Asked for again, it is not told again.
    assert_eq!(append_row(&mut writer, START + 3, b()).await, (2, false));
    assert_eq!(append_row(&mut writer, START + 4, a()).await, (3, true));
    drop(writer);
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(append_row(&mut writer, START + 5, a()).await, (3, false));
    assert_eq!(append_row(&mut writer, START + 6, b()).await, (4, true));
    assert_eq!(database.query_text(MISPLACED).await, "0");
    let told = "SELECT string_agg(schema_version::text, ' ' ORDER BY lsn) FROM waldelta.change_history WHERE operation = 'schema'";
    assert_eq!(database.query_text(told).await, "2 3 4");
}

#[tokio::test]
async fn a_table_that_is_created_and_altered_in_one_transaction_tells_its_second_shape() {
    let database = TestDatabase::create("history_born").await;
    let (history, mut writer) = written(&database).await;
    let first = writer.number(table(7, "t"));
    assert!(!first.changed);
    // Before anything is stored.
    let second = writer.number(wider(7, "t", "b"));
    assert!(second.changed);
    assert!(!writer.number(wider(7, "t", "b")).changed, "once");
    let changes = vec![insert(&first.table, 0, 1), schema(&second.table, 1), insert(&second.table, 2, 2)];
    writer.append(vec![transaction(START, changes)]).await.unwrap();
    assert_eq!(history.tables().await.unwrap(), [second.table]);
    assert_eq!(database.query_text(MISPLACED).await, "0");
}

#[tokio::test]
async fn a_version_that_was_given_up_is_given_out_again() {
    let database = TestDatabase::create("history_given_up").await;
    let (history, mut writer) = written(&database).await;
    let (a, b) = (|| table(7, "t"), || wider(7, "t", "b"));
    assert_eq!(append_row(&mut writer, START, a()).await, (1, false));
    // A transaction begins with the old shape and goes on with a new one; twice it is given up, at another place each.
    for cut in [1, 3] {
        let old = writer.number(a());
        assert_eq!((old.table.version, old.changed), (1, false), "cut {cut}");
        let new = writer.number(b());
        assert_eq!((new.table.version, new.changed), (2, true), "cut {cut}");
        let mut changes = vec![insert(&old.table, 0, 2), schema(&new.table, 1), insert(&new.table, 2, 3)];
        changes.truncate(cut);
        writer.append(vec![piece(START + 10, changes, None)]).await.unwrap();
        writer.abandon().await.unwrap();
    }
    // Then another shape comes than was seen before (nobody says that the catalog gives the same twice), and under a
    // name that is another too: the row's name is not that of what was given up.
    let other = writer.number(wider(7, "renamed", "c"));
    assert_eq!((other.table.version, other.changed), (2, true));
    let changes = vec![schema(&other.table, 0), insert(&other.table, 1, 2)];
    writer.append(vec![transaction(START + 10, changes)]).await.unwrap();
    assert_eq!(history.table(7, 2).await.unwrap(), other.table);
    let stored = "SELECT string_agg(schema_version || ' ' || table_name, ', ' ORDER BY lsn, seq) FROM waldelta.change_history";
    assert_eq!(database.query_text(stored).await, "1 public.t, 2 public.renamed, 2 public.renamed");
    assert_eq!(database.query_text(MISPLACED).await, "0");
    // The same after a writer that vanished in the middle of one.
    let new = writer.number(wider(7, "renamed", "d"));
    assert_eq!((new.table.version, new.changed), (3, true));
    writer.append(vec![piece(START + 20, vec![schema(&new.table, 0)], None)]).await.unwrap();
    drop(writer);
    let mut writer = history.writer("again").await.unwrap();
    assert_eq!(append_row(&mut writer, START + 20, wider(7, "renamed", "e")).await, (3, true));
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.table_schemas").await, "3");
}

#[tokio::test]
async fn another_table_with_the_same_object_id_is_the_next_version() {
    let database = TestDatabase::create("history_oid_reuse").await;
    let (history, mut writer) = written(&database).await;
    assert_eq!(append_row(&mut writer, START, table(7, "orders")).await, (1, false));
    let mut stranger = table(7, "stranger");
    stranger.columns = vec![column(1, "uuid", 2950, "uuid")];
    stranger.key = Vec::new();
    stranger.identity = ReplicaIdentity::Full;
    let numbered = writer.number(stranger);
    assert_eq!((numbered.table.version, numbered.changed), (2, true));
    let data = Bytes::from_static(b"{\"uuid\": \"6b1d55a8-90c7-4f0e-8d0a-5d4f2a617c93\"}");
    let its_row = Change { data: Some(data), row_key: None, ..insert(&numbered.table, 1, 0) };
    let changes = vec![schema(&numbered.table, 0), its_row];
    writer.append(vec![transaction(START + 5, changes)]).await.unwrap();
    let reader = History::open(&config(&database)).await.unwrap();
    let page = read_all(&reader, whole(START - 1)).await;
    let names: Vec<_> = page
        .parts
        .iter()
        .flat_map(|part| &part.changes)
        .map(|change| shape_of(change).name.to_string())
        .collect();
    assert_eq!(names, ["public.orders", "public.stranger", "public.stranger"]);
    assert_eq!(reader.tables().await.unwrap(), [numbered.table]);
    assert_eq!(database.query_text(MISPLACED).await, "0");
    drop(history);
}

#[tokio::test]
async fn history_of_a_table_begins_where_it_first_appears() {
    let database = TestDatabase::create("history_from").await;
    let (_, mut writer) = written(&database).await;
    assert_eq!(append_row(&mut writer, START + 5, table(7, "early")).await, (1, false));
    // Nobody knows when this one was published: all between the durable end and its first change may be missing.
    assert_eq!(append_row(&mut writer, START + 500, table(8, "late")).await, (1, false));
    assert_eq!(append_row(&mut writer, START + 600, wider(8, "late", "b")).await, (2, true));
    let from = database.query("SELECT table_oid, lsn FROM waldelta.history_from ORDER BY table_oid").await;
    let at = |oid: &str, lsn: u64| [Some(oid.to_owned()), Some(format!("0/{lsn:X}"))];
    assert_eq!(from, [at("7", START + 5), at("8", START + 500)]);
}
