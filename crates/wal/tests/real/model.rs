//! Whatever a source writes, however it is cut into pieces and wherever the connection breaks: what is assembled is what was
//! written, each transaction once, by rules that fit on a page.
//!
//! The stream is made up here, because no capture has all orders of things in it. That the bytes are those of a real
//! walsender is for the other modules.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use waldelta_wal::{
    AssembleError, Assembler, Change, ColumnFacts, EndLsn, Kind, Lsn, Operation, Output, Piece, Relation,
    Table, TruncateOptions,
};

use self::written::{Act, Op, Sent, Written};
use crate::walsender::{NO_CUT, assembler};

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (table, id) = (|| 0usize..2, || 0u8..4);
    let op = prop_oneof![
        4 => (table(), id()).prop_map(|(table, id)| Op::Insert { table, id }),
        4 => (table(), id(), id(), any::<bool>(), any::<bool>()).prop_map(|(table, from, to, tells_old, sends_v)| {
            Op::Update { table, from, to, tells_old, sends_v }
        }),
        2 => (table(), id()).prop_map(|(table, id)| Op::Delete { table, id }),
        1 => (prop::sample::subsequence(vec![0, 1, 2], 1..=3), any::<bool>(), any::<bool>())
            .prop_map(|(tables, cascade, restart_identity)| Op::Truncate { tables, cascade, restart_identity }),
        2 => (0u8..3, 0u8..2).prop_map(|(client, more)| Op::Author { client, more }),
        1 => Just(Op::NoAuthor),
        1 => Just(Op::Message),
        1 => Just(Op::Fence),
        1 => Just(Op::Canary),
        1 => Just(Op::Ours),
        1 => table().prop_map(|table| Op::Reset { table }),
        1 => (table(), any::<bool>()).prop_map(|(table, repairs)| Op::Altered { table, repairs }),
        1 => table().prop_map(|table| Op::Reshaped { table }),
        1 => table().prop_map(|table| Op::ShapeAgain { table }),
    ];
    let gap = || prop_oneof![2 => Just(0u64), 1 => 1u64..3];
    let ops = prop::collection::vec(op, 0..8);
    let act = prop_oneof![
        6 => (gap(), 1u64..3, prop::bool::weighted(0.2), ops)
            .prop_map(|(gap, bytes, has_origin, ops)| Act::Transaction { gap, bytes, has_origin, ops }),
        1 => (gap(), any::<bool>()).prop_map(|(gap, fence)| Act::Alone { gap, fence }),
    ];
    prop::collection::vec(act, 1..12)
}

/// Where a connection breaks: after so many messages; so many of the transactions that had come are stored; the end that is
/// stored lies so much of the way to what commits next; and the next connection begins so many transactions earlier.
#[derive(Clone, Debug)]
struct Break {
    after: prop::sample::Index,
    stored: prop::sample::Index,
    beyond: prop::sample::Index,
    back: usize,
}

fn breaks() -> impl Strategy<Value = Vec<Break>> {
    let index = any::<prop::sample::Index>;
    let one = (index(), index(), index(), 0usize..4).prop_map(|(after, stored, beyond, back)| Break {
        after,
        stored,
        beyond,
        back,
    });
    prop::collection::vec(one, 0..4)
}

/// What history and the source's catalog know of tables.
#[derive(Default)]
struct Catalog {
    /// How often each was altered.
    altered: BTreeMap<u32, i16>,
    /// The shapes that were numbered, and those of them that are stored.
    numbered: BTreeMap<u32, Vec<Table>>,
    stored: BTreeMap<u32, usize>,
}

impl Catalog {
    fn define(&mut self, assembler: &mut Assembler, relation: &Relation) -> Result<(), AssembleError> {
        let altered = self.altered.get(&relation.oid).copied().unwrap_or(0);
        let mut table = relation.to_table(Some(&["id".to_owned()]), |column| {
            Some(ColumnFacts {
                number: if column.name == "id" { 1 } else { 2 + altered },
                type_name: "x".into(),
                kind: Kind::builtin(column.type_oid).unwrap(),
                nullable: true,
            })
        });
        let shapes = self.numbered.entry(table.oid).or_default();
        table.version = u32::try_from(shapes.len()).unwrap();
        let is_known = shapes.last() == Some(&table);
        let changed = !is_known && !shapes.is_empty();
        if !is_known {
            table.version += 1;
            shapes.push(table.clone());
        }
        assembler.define(Arc::new(table), changed)
    }
}

/// One connection, until it breaks: the transactions that came whole.
fn connection(catalog: &mut Catalog, assembler: &mut Assembler, sent: &[Sent]) -> Vec<Piece> {
    let mut whole: Vec<Piece> = Vec::new();
    let mut announced = BTreeSet::new();
    for sent in sent {
        let message = match sent {
            Sent::Altered(oid) => {
                *catalog.altered.entry(*oid).or_default() += 1;
                continue;
            }
            Sent::Message(message) => message,
        };
        let piece = loop {
            match assembler.push(message).unwrap() {
                Some(Output::Undefined(relation)) => catalog.define(assembler, &relation).unwrap(),
                Some(Output::Piece(piece)) => break Some(piece),
                None => break None,
            }
        };
        let Some(piece) = piece else { continue };
        announced.extend(piece.new_tables.iter().map(|table| (table.oid, table.version)));
        let tables = piece.changes.iter().filter_map(|change| change.table.as_ref());
        assert!(tables.clone().all(|table| announced.contains(&(table.oid, table.version))));
        match whole.last_mut().filter(|open| open.end.is_none()) {
            Some(open) => {
                assert!(!piece.first && piece.head == open.head);
                open.changes.extend(piece.changes);
                open.new_tables.extend(piece.new_tables);
                open.repairs.extend(piece.repairs);
                open.urgent |= piece.urgent;
                open.end = piece.end;
            }
            None => {
                assert!(piece.first);
                whole.push(piece);
            }
        }
    }
    whole.retain(|piece| piece.end.is_some());
    for piece in &mut whole {
        piece.repairs.sort();
        piece.repairs.dedup();
    }
    whole
}

fn describe(piece: &Piece) -> String {
    let (head, end) = (&piece.head, piece.end.unwrap().0.0);
    let mut text = format!("{}..{end} of {}", head.commit_lsn.0, head.xid);
    if piece.urgent {
        text += " urgent";
    }
    let repairs =
        piece.repairs.iter().map(|repair| format!("\n  {} {}", repair.table_oid, repair.reason.as_str()));
    text.extend(repairs);
    for (seq, change) in (0..).zip(&piece.changes) {
        assert_eq!(change.seq, seq, "counted from 0 without a gap");
        text += &format!("\n  {}", describe_change(change));
    }
    text
}

fn describe_change(change: &Change) -> String {
    let mut text = change.operation.as_str().to_owned();
    if let Some(table) = &change.table {
        text += &format!(" {}@{}", table.name.name, table.version);
    }
    let is_schema = change.operation == Operation::Schema;
    for (name, json) in [("key", &change.row_key), ("data", &change.data), ("old", &change.old_data)] {
        if let Some(json) = json.as_ref().filter(|_| !is_schema) {
            text += &format!(" {name} {}", std::str::from_utf8(json).unwrap());
        }
    }
    if !change.unchanged.is_empty() {
        text += &format!(" unchanged {:?}", change.unchanged);
    }
    if change.truncate != TruncateOptions::default() {
        text += &format!(" {} {}", change.truncate.cascade, change.truncate.restart_identity);
    }
    if let Some(origin) = &change.origin {
        text += &format!(" from {origin}");
    }
    if let Some(author) = &change.author {
        text += &format!(" by {} {}", author.client_id, author.metadata.as_deref().unwrap_or("-"));
    }
    text
}

/// Streams what was written over connections that break, and returns what is stored.
fn stored(written: &Written, breaks: &[Break], piece_bytes_max: usize) -> Vec<String> {
    let mut catalog = Catalog::default();
    let (mut stored, mut durable, mut back) = (Vec::new(), written.begin(), 0);
    for at in 0..=breaks.len() {
        let begin = written.at(durable).saturating_sub(back);
        catalog.altered = written.altered_before(begin);
        let sent = written.sent_from(begin);
        let mut assembler = assembler(EndLsn(Lsn(durable)), piece_bytes_max);
        let Some(broken) = breaks.get(at) else {
            stored.extend(connection(&mut catalog, &mut assembler, &sent).iter().map(describe));
            break;
        };
        let came = connection(&mut catalog, &mut assembler, &sent[..broken.after.index(sent.len() + 1)]);
        let count = broken.stored.index(came.len() + 1);
        for piece in &came[..count] {
            stored.push(describe(piece));
            for table in &piece.new_tables {
                let known = catalog.stored.entry(table.oid).or_default();
                *known = (*known).max(table.version as usize);
            }
            durable = piece.end.unwrap().0.0;
        }
        // A keepalive may have moved it, as far as to the very place where the next commit record begins.
        if count > 0 || at > 0 {
            let room = written.next_commit(durable) - durable;
            durable += broken.beyond.index(room as usize + 1) as u64;
        }
        for (oid, shapes) in &mut catalog.numbered {
            shapes.truncate(catalog.stored.get(oid).copied().unwrap_or(0));
        }
        back = broken.back;
    }
    stored
}

proptest! {
    #[test]
    fn what_is_assembled_is_what_was_written(
        acts in acts(),
        breaks in breaks(),
        piece_bytes_max in prop_oneof![Just(0usize), Just(400), Just(NO_CUT)],
    ) {
        let written = Written::new(&acts);
        prop_assert_eq!(stored(&written, &breaks, piece_bytes_max), written.expected());
    }
}
