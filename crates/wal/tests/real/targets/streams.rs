//! What a walsender sends: single messages of pgoutput, streams of them, and lines of wal2json.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::value::RawValue;
use waldelta_wal::{
    Change, Column, EndLsn, Message, OldTuple, Output, Relation, ReplicaIdentity, TableName, TransactionHead,
    Translated, Translator, Tuple, Value,
};

use crate::walsender::{Catalog, NO_CUT, assembler, messages, recorded, recorded_by};

/// Microseconds that the protocol counts from later than everybody else.
const PROTOCOL_EPOCH_US: i64 = 946_684_800_000_000;

/// One message. What is read of it, written again, is the message; a part of it is none, nor is it with something behind it.
pub(crate) fn pgoutput(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    let again = printed(&message);
    // What is said in more than one way: the schema pg_catalog, and times at the end of all time.
    if again != data {
        assert_eq!(Message::parse(&again).as_ref(), Ok(&message));
    }
    let ends = (0..data.len().min(16)).map(|bytes| data.len() - 1 - bytes).chain([data.len() / 2]);
    for end in ends {
        assert!(Message::parse(&data[..end]).is_err(), "{message:?} ends at {end} too");
    }
    assert!(Message::parse(&[data, b"\0"].concat()).is_err(), "{message:?} may go on");
}

/// As a walsender writes it.
fn printed(message: &Message<'_>) -> Vec<u8> {
    let time = |us: i64| us.saturating_sub(PROTOCOL_EPOCH_US).to_be_bytes();
    match message {
        Message::Begin { commit_lsn, committed_at_us, xid } => {
            [b"B", &commit_lsn.0.to_be_bytes()[..], &time(*committed_at_us), &xid.to_be_bytes()].concat()
        }
        Message::Commit { commit_lsn, end, committed_at_us } => {
            [b"C\0", &commit_lsn.0.to_be_bytes()[..], &end.0.0.to_be_bytes(), &time(*committed_at_us)]
                .concat()
        }
        Message::Origin { commit_lsn, name } => {
            [b"O", &commit_lsn.0.to_be_bytes()[..], &name[..], b"\0"].concat()
        }
        Message::Relation(relation) => printed_relation(relation),
        Message::Type { oid, schema, name } => {
            [b"Y", &oid.to_be_bytes()[..], schema.as_bytes(), b"\0", name.as_bytes(), b"\0"].concat()
        }
        Message::Insert { relation, new } => [b"I", &relation.to_be_bytes()[..], &tuple(b'N', new)].concat(),
        Message::Update { relation, old, new } => {
            let old = old.as_ref().map(old_tuple).unwrap_or_default();
            [b"U", &relation.to_be_bytes()[..], &old, &tuple(b'N', new)].concat()
        }
        Message::Delete { relation, old } => [b"D", &relation.to_be_bytes()[..], &old_tuple(old)].concat(),
        Message::Truncate { relations, cascade, restart_identity } => {
            let count = u32::try_from(relations.len()).unwrap().to_be_bytes();
            let options = u8::from(*cascade) | u8::from(*restart_identity) << 1;
            let oids: Vec<u8> = relations.iter().flat_map(|oid| oid.to_be_bytes()).collect();
            [b"T", &count[..], &[options], &oids].concat()
        }
        Message::Logical { transactional, lsn, prefix, content } => {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            let (flags, lsn) = ([u8::from(*transactional)], lsn.0.to_be_bytes());
            [b"M", &flags[..], &lsn, &prefix[..], b"\0", &length, &content[..]].concat()
        }
    }
}

fn printed_relation(relation: &Relation) -> Vec<u8> {
    let identity = match relation.identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
        ReplicaIdentity::Mixed => panic!("no stream says it"),
    };
    let names = [relation.schema.as_bytes(), b"\0", relation.name.as_bytes(), b"\0"].concat();
    let count = u16::try_from(relation.columns.len()).unwrap().to_be_bytes();
    let mut bytes = [b"R", &relation.oid.to_be_bytes()[..], &names, &[identity], &count].concat();
    for column in &relation.columns {
        bytes.push(column.identity.into());
        bytes.extend([column.name.as_bytes(), b"\0", &column.type_oid.to_be_bytes()].concat());
        bytes.extend(column.type_modifier.to_be_bytes());
    }
    bytes
}

fn old_tuple(old: &OldTuple<'_>) -> Vec<u8> {
    match old {
        OldTuple::Key(key) => tuple(b'K', key),
        OldTuple::Full(row) => tuple(b'O', row),
    }
}

fn tuple(form: u8, tuple: &Tuple<'_>) -> Vec<u8> {
    let mut bytes = vec![form];
    bytes.extend(u16::try_from(tuple.len()).unwrap().to_be_bytes());
    for value in tuple.values() {
        match value {
            Value::Null => bytes.push(b'n'),
            Value::Unchanged => bytes.push(b'u'),
            Value::Text(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text);
            }
        }
    }
    bytes
}

/// A stream of messages, each behind its length. What is committed is the same in however many pieces it comes, and well-formed.
pub(crate) fn stream(data: &[u8]) {
    let messages = unframed(data);
    let (whole, cut) = (committed(&messages, NO_CUT), committed(&messages, 200));
    assert_eq!(whole, cut, "as a whole, and in pieces");
    for transaction in &whole {
        for (seq, change) in (0..).zip(&transaction.changes) {
            assert_eq!(change.seq, seq, "{change:?}");
            is_well_formed(change);
        }
    }
}

/// A transaction as its pieces come to together.
#[derive(Debug, PartialEq)]
struct Committed {
    head: TransactionHead,
    end: EndLsn,
    changes: Vec<Change>,
}

/// What a reader has who stops where something cannot be read.
fn committed(messages: &[&[u8]], piece_bytes_max: usize) -> Vec<Committed> {
    let (mut assembler, mut catalog) = (assembler(EndLsn::default(), piece_bytes_max), Catalog::default());
    let (mut all, mut changes) = (Vec::new(), Vec::new());
    for message in messages {
        let piece = loop {
            match assembler.push(message) {
                Ok(Some(Output::Undefined(relation))) => {
                    if catalog.define(&mut assembler, &relation).is_err() {
                        return all;
                    }
                }
                Ok(Some(Output::Piece(piece))) => break Some(piece),
                Ok(None) => break None,
                Err(_) => return all,
            }
        };
        let Some(piece) = piece else { continue };
        if piece.first {
            changes.clear();
        }
        changes.extend(piece.changes);
        if let Some(end) = piece.end {
            all.push(Committed { head: piece.head, end, changes: std::mem::take(&mut changes) });
        }
    }
    all
}

fn is_well_formed(change: &Change) {
    let is_json = |column: &Column| format!("{:?}", column.kind).contains("Json");
    if change.table.as_ref().is_some_and(|table| table.columns.iter().any(is_json)) {
        return; // What PostgreSQL has checked is taken over as it is.
    }
    for json in [&change.row_key, &change.data, &change.old_data].into_iter().flatten() {
        let read = serde_json::from_slice::<&RawValue>(json);
        assert!(read.is_ok(), "{:?} {}", change.operation, String::from_utf8_lossy(json));
    }
}

/// Lines of wal2json. What is said of them is messages of pgoutput, which pass as such do; spaces around a line mean nothing.
pub(crate) fn wal2json(data: &[u8]) {
    let [mut one, mut other] = [(); 2].map(|()| Translator::new(EndLsn::default()));
    let (mut assembler, mut catalog) = (assembler(EndLsn::default(), NO_CUT), Catalog::default());
    for line in data.split(|byte| *byte == b'\n') {
        let messages = translated(&mut one, line);
        let spaced = translated(&mut other, &[b" ", line, b"\t"].concat());
        assert_eq!(messages, spaced, "{}", String::from_utf8_lossy(line));
        for message in messages.unwrap_or_default() {
            assert!(Message::parse(&message).is_ok(), "{message:?} of {}", String::from_utf8_lossy(line));
            pgoutput(&message);
            // Reads on past what is refused, which nobody else does: so more is read than a real reader would.
            while let Ok(Some(Output::Undefined(relation))) = assembler.push(&message) {
                if catalog.define(&mut assembler, &relation).is_err() {
                    break;
                }
            }
        }
    }
}

/// The messages of a line; `None` where it is refused.
fn translated(translator: &mut Translator, line: &[u8]) -> Option<Vec<Vec<u8>>> {
    // One that asks for shapes without end would go round for ever.
    for _ in 0..3 {
        match translator.translate(line).ok()? {
            Translated::Messages(messages) => return Some(messages),
            Translated::Undefined(table) => translator.define(SHAPES.get(&table)?.clone(), &[]).ok()?,
        }
    }
    None
}

/// The shapes of the tables in the recorded lines, as the catalog had them in the end.
static SHAPES: LazyLock<HashMap<TableName, Relation>> = LazyLock::new(|| {
    let stream = recorded(include_str!("../../../fixtures/wal2json/stream.hex"));
    let relations = stream.iter().filter_map(|message| match Message::parse(message) {
        Ok(Message::Relation(relation)) => Some((relation.table_name(), relation)),
        _ => None,
    });
    relations.collect()
});

/// Messages one after the other, each behind its length.
pub(crate) fn framed<M: AsRef<[u8]>>(messages: &[M]) -> Vec<u8> {
    let frame = |message: &M| {
        let length = u16::try_from(message.as_ref().len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes()[..], &message.as_ref()[..length.into()]].concat()
    };
    messages.iter().flat_map(frame).collect()
}

/// The last one may be cut off.
fn unframed(mut data: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        messages.push(message);
        data = rest;
    }
    messages
}

/// What real servers sent: the large recording, and a small one of each version.
fn recordings() -> Vec<Vec<Vec<u8>>> {
    let mut all = vec![messages()];
    all.extend(recorded_by().map(|(_, messages)| messages));
    all
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = recordings().concat();
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Each transaction by itself, behind the shapes of its tables.
pub(crate) fn stream_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for messages in recordings() {
        let (mut shapes, mut transaction) = (BTreeMap::new(), Vec::new());
        for message in messages {
            match Message::parse(&message) {
                Ok(Message::Relation(relation)) => drop(shapes.insert(relation.oid, message.clone())),
                Ok(Message::Begin { .. }) => transaction.clear(),
                _ => {}
            }
            let is_last = message[0] == b'C';
            transaction.push(message);
            if is_last {
                let is_named = |oid: &u32| {
                    transaction
                        .iter()
                        .any(|message: &Vec<u8>| message.get(1..5) == Some(&oid.to_be_bytes()[..]))
                };
                let known = shapes.iter().filter(|(oid, _)| is_named(oid)).map(|(_, shape)| shape.clone());
                let all: Vec<Vec<u8>> = known.chain(transaction.iter().cloned()).collect();
                seeds.push(framed(&all));
                transaction.clear();
            }
        }
    }
    seeds
}

/// As many lines together as a transaction has.
pub(crate) fn line_seeds() -> Vec<Vec<u8>> {
    let lines = include_str!("../../../fixtures/wal2json/lines.txt");
    let begins = |line: &&str| line.contains(r#""action":"B""#);
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for line in lines.lines() {
        match seeds.last_mut().filter(|_| !begins(&line)) {
            Some(seed) => seed.extend([b"\n", line.as_bytes()].concat()),
            None => seeds.push(line.as_bytes().to_vec()),
        }
    }
    seeds
}
