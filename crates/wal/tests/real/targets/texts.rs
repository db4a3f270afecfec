//! What is short: cursors, LSNs, snapshots, names of tables, lines of COPY, and the envelopes of a replication connection.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use waldelta_wal::{
    CopyText, EndLsn, Envelope, Epoch, Lsn, PgSnapshot, Position, StatusUpdate, TableName, Value,
};

use crate::walsender::{messages, recorded_by};

/// Microseconds that the protocol counts from later than everybody else.
const PROTOCOL_EPOCH_US: i64 = 946_684_800_000_000;

/// What is taken for a cursor prints as it came; what is taken for an LSN, a snapshot or the name of a table reads back.
pub(crate) fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
    }
    reads_back::<Lsn>(text);
    reads_back::<PgSnapshot>(text);
    reads_back::<TableName>(text);
}

fn reads_back<T: FromStr<Err: Debug + PartialEq> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string().parse(), Ok(read), "{text:?}");
    }
}

/// Cursors and LSNs of the transactions recorded, and names as SQL writes them.
pub(crate) fn name_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<String> = [
        "public.t",
        "t",
        "\"Odd \"\"Näme\"\".x\".\"a.b\"",
        "s.\"select\"",
        "_x.$",
        "10:20:10,14,15",
        "3:3:",
        "FFFFFFFF/FFFFFFFF",
        "0/0",
    ]
    .map(str::to_owned)
    .into();
    for message in messages() {
        if let Ok(waldelta_wal::Message::Begin { commit_lsn, .. }) = waldelta_wal::Message::parse(&message) {
            seeds.extend([commit_lsn.to_string(), Position::whole(Epoch(1), commit_lsn).to_string()]);
        }
    }
    seeds.into_iter().map(String::into_bytes).collect()
}

/// How many columns, then a line. Its values, written again, are its values.
pub(crate) fn copy(data: &[u8]) {
    let Some((columns, line)) = data.split_first() else { return };
    let (mut one, mut other) = (CopyText::default(), CopyText::default());
    let Ok(values) = one.split(line, usize::from(*columns)) else { return };
    let values: Vec<Value<'_>> = values.collect();
    assert_eq!(values.len(), usize::from(*columns));
    let again: Vec<Vec<u8>> = values.iter().map(escaped).collect();
    let again = again.join(&b'\t');
    let read: Vec<Value<'_>> = other.split(&again, values.len()).unwrap().collect();
    assert_eq!(read, values);
}

fn escaped(value: &Value<'_>) -> Vec<u8> {
    let Value::Text(text) = value else { return b"\\N".to_vec() };
    let escape = |byte: &u8| match byte {
        0x08 => b"\\b".to_vec(),
        0x0b => b"\\v".to_vec(),
        0x0c => b"\\f".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b'\t' => b"\\t".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        byte => vec![*byte],
    };
    text.iter().flat_map(escape).collect()
}

pub(crate) fn copy_seeds() -> Vec<Vec<u8>> {
    let lines = include_str!("../../../fixtures/copy.txt").lines().chain(["", "\\N\t"]);
    let seed = |line: &str| {
        let columns = u8::try_from(line.split('\t').count()).unwrap();
        [&[columns], line.as_bytes()].concat()
    };
    lines.map(seed).collect()
}

/// One CopyData payload. What is read of it, written again, is the payload; a status update keeps what it says.
pub(crate) fn envelope(data: &[u8]) {
    let us = |sent_at_us: i64| sent_at_us.saturating_sub(PROTOCOL_EPOCH_US);
    match Envelope::parse(data) {
        Ok(Envelope::XLogData { start, end, sent_at_us, data: message }) => {
            let head = [start.0.to_be_bytes(), end.0.to_be_bytes(), us(sent_at_us).to_be_bytes()].concat();
            let again = [b"w", &head[..], message].concat();
            assert!(again == data || sent_at_us == i64::MAX, "{data:?}");
        }
        Ok(Envelope::Keepalive { end, sent_at_us, reply_requested }) => {
            let head = [end.0.0.to_be_bytes(), us(sent_at_us).to_be_bytes()].concat();
            let again = [b"k", &head[..], &[u8::from(reply_requested)]].concat();
            assert!(again == data || sent_at_us == i64::MAX, "{data:?}");
            let [written, flushed, applied] = [end, EndLsn::default(), EndLsn(Lsn(!end.0.0))];
            let update = StatusUpdate { written, flushed, applied, at_us: sent_at_us, reply_requested };
            let lsns = [written, flushed, applied].map(|end| end.0.0.to_be_bytes()).concat();
            let expected =
                [b"r", &lsns[..], &us(sent_at_us).to_be_bytes(), &[u8::from(reply_requested)]].concat();
            assert_eq!(update.encode()[..], expected);
        }
        Err(_) => {}
    }
}

/// Messages as a walsender sends them, and keepalives.
pub(crate) fn envelope_seeds() -> Vec<Vec<u8>> {
    let data = |message: Vec<u8>| [b"w", &[0u8, 0, 0, 0, 1, 2, 3, 4].repeat(3)[..], &message[..]].concat();
    let mut seeds: Vec<Vec<u8>> = recorded_by().flat_map(|(_, messages)| messages).map(data).collect();
    seeds.extend([0u8, 1].map(|reply| [b"k", &[0u8, 0, 0, 0, 1, 2, 3, 4].repeat(2)[..], &[reply]].concat()));
    seeds
}
