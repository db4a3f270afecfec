//! Values and rows against PostgreSQL's own `to_jsonb` of them.

use std::collections::{BTreeMap, BTreeSet};

use waldelta_wal::{
    Column, CopyText, Kind, ReplicaIdentity, RowEncoder, RowNotes, Table, TableName, Value, ValuePolicy,
    type_name,
};

use crate::same_json::same_json;
use crate::walsender::{changes_of, data, transactions};

pub(crate) fn one_column(type_oid: u32, name: &str) -> RowEncoder {
    let column = Column {
        number: 1,
        name: "v".into(),
        type_oid,
        type_modifier: -1,
        type_name: name.into(),
        kind: Kind::builtin(type_oid).unwrap(),
        nullable: true,
        identity: true,
    };
    let table = Table {
        oid: 1,
        version: 1,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: vec![column],
        key: vec![0],
        identity: ReplicaIdentity::Default,
    };
    RowEncoder::new(&table, ValuePolicy::default())
}

fn text(value: Value<'_>) -> &str {
    match value {
        Value::Text(text) => std::str::from_utf8(text).unwrap(),
        Value::Null | Value::Unchanged => panic!("a text"),
    }
}

#[test]
fn each_value_is_what_to_jsonb_prints() {
    let mut copy = CopyText::default();
    let mut types = BTreeSet::new();
    for line in include_str!("../../fixtures/types.txt").lines() {
        let fields: Vec<Value<'_>> = copy.split(line.as_bytes(), 5).unwrap().collect();
        let [oid, name, value, expected] = [0, 1, 2, 3].map(|index| text(fields[index]));
        let oid: u32 = oid.parse().unwrap();
        assert_eq!(type_name(oid), Some(name), "{oid}");
        let mut out = Vec::new();
        let notes = one_column(oid, name).encode_key([Value::Text(value.as_bytes())], &mut out);
        assert_eq!(notes, Ok(true), "{name} {value}");
        let found = String::from_utf8(out).unwrap();
        assert!(same_json(&found, &format!("[{expected}]")), "{name} {value}: {found} for [{expected}]");
        types.insert(oid);
    }
    let all: BTreeSet<u32> = (0..10_000).filter(|oid| Kind::builtin(*oid).is_some()).collect();
    assert_eq!(types, all, "every built-in type has a value here");
}

/// The rows that PostgreSQL says are in the table in the end, and those that the stream says.
fn rows_are_what_to_jsonb_prints(name: &str, columns: usize) {
    let transactions = transactions();
    let changes = changes_of(&transactions, name);
    let table = changes[0].table.as_ref().unwrap();
    let of_table = |row: &&str| {
        row.matches(':').count() >= columns && row.contains(&format!("\"{}\":", table.columns[1].name))
    };
    let expected: Vec<&str> = include_str!("../../fixtures/rows.txt").lines().filter(of_table).collect();
    let rows: BTreeMap<&[u8], &str> =
        changes.iter().map(|change| (&change.row_key.as_ref().unwrap()[..], data(change))).collect();
    let encoder = RowEncoder::new(table, ValuePolicy::default());
    let mut copy = CopyText::default();
    let mut seen = 0;
    for line in include_str!("../../fixtures/copy.txt").lines() {
        let Ok(values) = copy.split(line.as_bytes(), columns) else { continue };
        let mut key = Vec::new();
        encoder.encode_key(values.clone(), &mut key).unwrap();
        let mut out = Vec::new();
        let notes = encoder.encode_object(values, &mut out).unwrap();
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            rows[&key[..]],
            "COPY and stream print the same bytes"
        );
        if let Some(expected) = expected.get(seen) {
            assert!(same_json(rows[&key[..]], expected), "{} for {expected}", rows[&key[..]]);
            assert_eq!(notes, RowNotes::default());
        } else {
            assert_eq!(notes.flagged, [3], "what to_jsonb refuses");
        }
        seen += 1;
    }
    assert_eq!((seen, rows.len()), (rows.len(), seen));
    assert!(seen >= expected.len() && expected.len() == 2);
}

#[test]
fn rows_of_built_in_types_are_what_to_jsonb_prints() {
    rows_are_what_to_jsonb_prints("every_type", 155);
}

#[test]
fn rows_of_other_types_are_what_to_jsonb_prints() {
    rows_are_what_to_jsonb_prints("nested", 17);
}
