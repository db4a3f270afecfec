//! The messages of pgoutput, protocol version 1, written: the other direction of [`pgoutput`](crate::pgoutput).

use std::borrow::Cow;

use crate::lsn::{EndLsn, Lsn};
use crate::relation::{Relation, RelationColumn};
use crate::table::{ReplicaIdentity, TableName};

/// A value of a tuple.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Unchanged,
    Text(Cow<'a, str>),
}

/// What is known of the old row.
#[derive(Debug)]
pub(super) enum OldCells<'a> {
    Key(Vec<Cell<'a>>),
    Full(Vec<Cell<'a>>),
}

pub(super) fn begin(commit_lsn: Lsn, committed_at_us: i64, xid: u32) -> Vec<u8> {
    let mut message = vec![b'B'];
    message.extend(commit_lsn.0.to_be_bytes());
    message.extend(committed_at_us.to_be_bytes());
    message.extend(xid.to_be_bytes());
    message
}

pub(super) fn commit(commit_lsn: Lsn, end: EndLsn, committed_at_us: i64) -> Vec<u8> {
    let mut message = vec![b'C', 0];
    message.extend(commit_lsn.0.to_be_bytes());
    message.extend(end.0.0.to_be_bytes());
    message.extend(committed_at_us.to_be_bytes());
    message
}

/// The Type message that names a column's type, where its name is known.
pub(super) fn type_name(column: &RelationColumn) -> Option<Vec<u8>> {
    let name: TableName = column.type_name.as_ref()?.parse().ok()?;
    let mut message = vec![b'Y'];
    message.extend(column.type_oid.to_be_bytes());
    terminated(&name.schema, &mut message);
    terminated(&name.name, &mut message);
    Some(message)
}

/// The Relation message of these columns of a table. The caller knows that they are not more than a row can have.
pub(super) fn relation(relation: &Relation, columns: &[&RelationColumn]) -> Vec<u8> {
    let mut message = vec![b'R'];
    message.extend(relation.oid.to_be_bytes());
    // pgoutput has its own way to say pg_catalog.
    terminated(if relation.schema == "pg_catalog" { "" } else { &relation.schema }, &mut message);
    terminated(&relation.name, &mut message);
    message.push(match relation.identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full | ReplicaIdentity::Mixed => b'f',
        ReplicaIdentity::Index => b'i',
    });
    count(columns.len(), &mut message);
    for column in columns {
        message.push(column.identity.into());
        terminated(&column.name, &mut message);
        message.extend(column.type_oid.to_be_bytes());
        message.extend(column.type_modifier.to_be_bytes());
    }
    message
}

pub(super) fn insert(oid: u32, new: &[Cell<'_>]) -> Vec<u8> {
    let mut message = row(b'I', oid);
    tuple(b'N', new, &mut message);
    message
}

pub(super) fn update(oid: u32, old: Option<&OldCells<'_>>, new: &[Cell<'_>]) -> Vec<u8> {
    let mut message = row(b'U', oid);
    if let Some(old) = old {
        old_tuple(old, &mut message);
    }
    tuple(b'N', new, &mut message);
    message
}

pub(super) fn delete(oid: u32, old: &OldCells<'_>) -> Vec<u8> {
    let mut message = row(b'D', oid);
    old_tuple(old, &mut message);
    message
}

/// A truncate of one table, without options.
pub(super) fn truncate(oid: u32) -> Vec<u8> {
    let mut message = b"T\0\0\0\x01\0".to_vec();
    message.extend(oid.to_be_bytes());
    message
}

/// The caller knows that no zero byte is in the prefix.
pub(super) fn logical(transactional: bool, lsn: Lsn, prefix: &[u8], content: &[u8]) -> Vec<u8> {
    let mut message = vec![b'M', transactional.into()];
    message.extend(lsn.0.to_be_bytes());
    message.extend(prefix);
    message.push(0);
    length(content.len(), &mut message);
    message.extend(content);
    message
}

fn row(kind: u8, oid: u32) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(oid.to_be_bytes());
    message
}

fn old_tuple(old: &OldCells<'_>, message: &mut Vec<u8>) {
    match old {
        OldCells::Key(cells) => tuple(b'K', cells, message),
        OldCells::Full(cells) => tuple(b'O', cells, message),
    }
}

fn tuple(form: u8, cells: &[Cell<'_>], message: &mut Vec<u8>) {
    message.push(form);
    count(cells.len(), message);
    for cell in cells {
        match cell {
            Cell::Null => message.push(b'n'),
            Cell::Unchanged => message.push(b'u'),
            Cell::Text(text) => {
                message.push(b't');
                length(text.len(), message);
                message.extend(text.as_bytes());
            }
        }
    }
}

/// A count of columns: the shapes are known to have no more than fit.
fn count(count: usize, message: &mut Vec<u8>) {
    message.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

/// A length: of something that lies inside a line, whose length is limited.
fn length(length: usize, message: &mut Vec<u8>) {
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn terminated(text: &str, message: &mut Vec<u8>) {
    message.extend(text.as_bytes());
    message.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput::{Message, OldTuple};
    use crate::row::Value;

    #[test]
    fn what_is_written_reads_back() {
        let text = |text: &'static str| Cell::Text(text.into());
        let (new, old) =
            ([text("1"), Cell::Null, Cell::Unchanged], OldCells::Key(vec![text("é"), Cell::Null]));
        let values = [Value::Text(b"1"), Value::Null, Value::Unchanged];
        let old_values = [Value::Text("é".as_bytes()), Value::Null];

        let bytes = update(7, Some(&old), &new);
        let Ok(Message::Update { relation: 7, old: Some(OldTuple::Key(key)), new: row }) =
            Message::parse(&bytes)
        else {
            panic!("an update")
        };
        assert!(row.values().eq(values) && key.values().eq(old_values));

        let bytes = update(7, None, &new);
        assert!(matches!(Message::parse(&bytes), Ok(Message::Update { old: None, .. })));

        let bytes = delete(7, &OldCells::Full(vec![Cell::Null]));
        assert!(matches!(
            Message::parse(&bytes),
            Ok(Message::Delete { relation: 7, old: OldTuple::Full(_) })
        ));

        let bytes = truncate(7);
        let expected = Message::Truncate { relations: vec![7], cascade: false, restart_identity: false };
        assert_eq!(Message::parse(&bytes), Ok(expected));

        let bytes = logical(true, Lsn(9), b"p", b"\0\xff");
        let expected =
            Message::Logical { transactional: true, lsn: Lsn(9), prefix: b"p", content: b"\0\xff" };
        assert_eq!(Message::parse(&bytes), Ok(expected));
    }

    #[test]
    fn shapes_read_back() {
        for identity in [
            ReplicaIdentity::Default,
            ReplicaIdentity::Nothing,
            ReplicaIdentity::Full,
            ReplicaIdentity::Index,
        ] {
            let column = RelationColumn {
                identity: true,
                name: "a \"b\"".into(),
                type_oid: 3_000_000_001,
                type_modifier: -1,
                type_name: None,
            };
            let shape = Relation {
                oid: 7,
                schema: "pg_catalog".into(),
                name: "ünï".into(),
                identity,
                columns: vec![column.clone()],
            };
            assert_eq!(Message::parse(&relation(&shape, &[&column])), Ok(Message::Relation(shape)));
        }
    }

    #[test]
    fn names_of_types_are_taken_apart() {
        let named = |name: &str| RelationColumn {
            identity: false,
            name: "a".into(),
            type_oid: 16_390,
            type_modifier: -1,
            type_name: Some(name.into()),
        };
        let bytes = type_name(&named("\"My App\".\"Mo\"\"od\"")).unwrap();
        let expected = Message::Type { oid: 16_390, schema: "My App", name: "Mo\"od" };
        assert_eq!(Message::parse(&bytes), Ok(expected));
        assert_eq!(type_name(&named("no name.")), None);
    }
}
