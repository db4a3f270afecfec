//! Values and rows against PostgreSQL's own `to_jsonb` of them.

use waldelta_wal::{
    Column, CopyText, ReplicaIdentity, RowEncoder, RowNotes, Table, TableName, Value, supported, type_name,
};

use crate::same_json::same_json;
use crate::walsender::{data, transactions};

fn one_column(type_oid: u32, name: &str) -> RowEncoder {
    let column = Column {
        name: "v".into(),
        type_oid,
        type_modifier: -1,
        type_name: name.into(),
        nullable: true,
        identity: true,
    };
    RowEncoder::new(&Table {
        oid: 1,
        version: 1,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: vec![column],
        key: vec![0],
        identity: ReplicaIdentity::Default,
    })
    .unwrap()
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
    let mut types = std::collections::BTreeSet::new();
    for line in include_str!("../../fixtures/types.txt").lines() {
        let fields: Vec<Value<'_>> = copy.split(line.as_bytes(), 4).unwrap().collect();
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
    let all: std::collections::BTreeSet<u32> = (0..10_000).filter(|oid| supported(*oid).is_some()).collect();
    assert_eq!(types, all, "every type that is supported has a value here");
}

#[test]
fn rows_of_the_stream_and_of_copy_are_what_to_jsonb_prints() {
    let expected: Vec<&str> = include_str!("../../fixtures/rows.txt").lines().collect();
    let transactions = transactions();
    let changes: Vec<_> = transactions
        .iter()
        .flat_map(|piece| &piece.changes)
        .filter(|change| change.table.as_ref().is_some_and(|table| table.name.name == "every_type"))
        .collect();
    assert_eq!(changes.len(), expected.len());
    let encoder = RowEncoder::new(changes[0].table.as_ref().unwrap()).unwrap();
    let columns = changes[0].table.as_ref().unwrap().columns.len();
    let mut copy = CopyText::default();
    let lines = include_str!("../../fixtures/copy.txt").lines();
    for ((change, line), expected) in changes.iter().zip(lines).zip(expected) {
        assert!(same_json(data(change), expected), "{} for {expected}", data(change));
        let mut out = Vec::new();
        let values = copy.split(line.as_bytes(), columns).unwrap();
        assert_eq!(encoder.encode_object(values.clone(), &mut out), Ok(RowNotes::default()));
        assert_eq!(std::str::from_utf8(&out).unwrap(), data(change), "COPY and stream print the same bytes");
        out.clear();
        encoder.encode_key(values, &mut out).unwrap();
        assert_eq!(&out, change.row_key.as_ref().unwrap());
    }
}
