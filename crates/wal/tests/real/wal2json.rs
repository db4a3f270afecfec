//! What wal2json says of a WAL, translated, against what pgoutput says of the same WAL.

use std::collections::HashMap;

use waldelta_wal::{
    EndLsn, Message, Relation, RelationColumn, TableName, Translated, Translator, Wal2jsonError,
};

const STREAM: &str = include_str!("../../fixtures/wal2json/stream.hex");
const LINES: &str = include_str!("../../fixtures/wal2json/lines.txt");

/// What the catalog would answer: the shapes that pgoutput told of, one after the other.
struct Catalog {
    shapes: HashMap<TableName, Vec<Relation>>,
    asked: usize,
}

impl Catalog {
    fn new(messages: &[Vec<u8>]) -> Self {
        let mut shapes: HashMap<TableName, Vec<Relation>> = HashMap::new();
        for message in messages {
            if let Ok(Message::Relation(relation)) = Message::parse(message) {
                let versions = shapes.entry(relation.table_name()).or_default();
                if versions.last() != Some(&relation) {
                    versions.push(relation);
                }
            }
        }
        Catalog { shapes, asked: 0 }
    }

    /// Translates a line as a caller would, who tries the next shape when the last one does not fit any more.
    fn translate(&mut self, translator: &mut Translator, line: &str) -> Vec<Vec<u8>> {
        let table = match translator.translate(line.as_bytes()).unwrap() {
            Translated::Messages(messages) => return messages,
            Translated::Undefined(table) => table,
        };
        self.asked += 1;
        let versions = self.shapes.get_mut(&table).unwrap();
        loop {
            let (shape, unpublished) = whole(versions[0].clone());
            translator.define(shape, &unpublished).unwrap();
            match translator.translate(line.as_bytes()) {
                Ok(Translated::Messages(messages)) => return messages,
                Err(Wal2jsonError::Shape { .. }) if versions.len() > 1 => drop(versions.remove(0)),
                unexpected => panic!("{unexpected:?} {line}"),
            }
        }
    }
}

/// The shape with what pgoutput does not send of it.
fn whole(mut shape: Relation) -> (Relation, Vec<String>) {
    if shape.name != "generated" {
        return (shape, Vec::new());
    }
    let double = RelationColumn {
        identity: false,
        name: "double".into(),
        type_oid: 23,
        type_modifier: -1,
        type_name: None,
    };
    shape.columns.insert(1, double);
    (shape, vec!["double".into()])
}

pub(crate) fn stream() -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    STREAM.lines().map(|line| line.as_bytes().chunks(2).map(byte).collect()).collect()
}

/// Everything but shapes, and without transactions that are empty, which pgoutput leaves out.
fn changes(messages: &[Vec<u8>]) -> Vec<Message<'_>> {
    let mut changes: Vec<Message<'_>> = Vec::new();
    for message in messages {
        let message = Message::parse(message).unwrap();
        match (&message, changes.last()) {
            (Message::Relation(_) | Message::Type { .. }, _) => {}
            (Message::Commit { .. }, Some(Message::Begin { .. })) => drop(changes.pop()),
            _ => changes.push(message),
        }
    }
    changes
}

#[test]
fn the_same_wal_gives_the_same_messages() {
    let expected = stream();
    let mut catalog = Catalog::new(&expected);
    let mut translator = Translator::new(EndLsn::default());
    let found: Vec<Vec<u8>> =
        LINES.lines().flat_map(|line| catalog.translate(&mut translator, line)).collect();

    let (found_changes, expected_changes) = (changes(&found), changes(&expected));
    for (found, expected) in found_changes.iter().zip(&expected_changes) {
        assert_eq!(found, expected);
    }
    assert_eq!(found_changes.len(), expected_changes.len());
    assert!(expected_changes.len() > 80, "the stream was looked at");
}

#[test]
fn shapes_come_before_the_rows_that_have_them() {
    let expected = stream();
    let mut catalog = Catalog::new(&expected);
    let mut translator = Translator::new(EndLsn::default());
    let mut known: HashMap<u32, Relation> = HashMap::new();
    let mut announced = Vec::new();
    for line in LINES.lines() {
        for message in catalog.translate(&mut translator, line) {
            let oid = match Message::parse(&message).unwrap() {
                Message::Relation(relation) => {
                    announced.push(relation.table_name().to_string());
                    known.insert(relation.oid, relation);
                    continue;
                }
                Message::Insert { relation, new } => {
                    assert_eq!(new.len(), known[&relation].columns.len());
                    relation
                }
                Message::Update { relation, .. } | Message::Delete { relation, .. } => relation,
                _ => continue,
            };
            assert!(known.contains_key(&oid));
        }
    }
    let times = |name: &str| announced.iter().filter(|known| *known == name).count();
    assert_eq!(times("public.generated"), 1);
    assert_eq!(times("public.by_full"), 1, "the old row leaves no doubt about what is absent");
    assert_eq!(times("public.by_default"), 2, "once more when a column is absent for the first time");
    assert_eq!(times("public.changing"), 7, "a shape for each ALTER TABLE");
    assert!(catalog.asked < 30, "{} times", catalog.asked);
}

#[test]
fn a_transaction_that_history_has_is_passed_over_without_its_shapes() {
    let mut translator = Translator::new("FFFFFFFF/FFFFFFFF".parse().map(EndLsn).unwrap());
    for line in LINES.lines() {
        let Ok(Translated::Messages(messages)) = translator.translate(line.as_bytes()) else {
            panic!("{line}")
        };
        for message in messages {
            let message = Message::parse(&message).unwrap();
            assert!(
                matches!(message, Message::Begin { .. } | Message::Commit { .. } | Message::Logical { .. }),
                "{message:?}"
            );
        }
    }
}
