//! Messages of pgoutput as a walsender would write them, for what no capture shows.

use waldelta_wal::{EndLsn, Lsn};

/// A value of a tuple.
#[derive(Clone, Copy)]
pub(crate) enum Cell<'a> {
    Null,
    Unchanged,
    Text(&'a str),
}

/// Columns of a shape: whether it is part of the replica identity, name, type.
pub(crate) type Columns<'a> = &'a [(bool, &'a str, u32)];

pub(crate) fn begin(commit_lsn: u64) -> Vec<u8> {
    [b"B", &commit_lsn.to_be_bytes()[..], &[0; 8], &7u32.to_be_bytes()].concat()
}

/// The commit record takes eight bytes here.
pub(crate) fn commit(commit_lsn: u64) -> Vec<u8> {
    [b"C\0", &commit_lsn.to_be_bytes()[..], &(commit_lsn + 8).to_be_bytes(), &[0; 8]].concat()
}

/// Where the transaction of [`commit`] ends.
pub(crate) fn end(commit_lsn: u64) -> EndLsn {
    EndLsn(Lsn(commit_lsn + 8))
}

pub(crate) fn origin(name: &[u8]) -> Vec<u8> {
    [b"O", &[0; 8][..], name, b"\0"].concat()
}

pub(crate) fn relation(oid: u32, name: &str, identity: u8, columns: Columns<'_>) -> Vec<u8> {
    let mut message = [b"R", &oid.to_be_bytes()[..], b"public\0", name.as_bytes(), &[0, identity]].concat();
    message.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for (identity, name, type_oid) in columns {
        message.push((*identity).into());
        message.extend([name.as_bytes(), &[0], &type_oid.to_be_bytes()[..], &(-1i32).to_be_bytes()].concat());
    }
    message
}

pub(crate) fn insert(oid: u32, new: &[Cell<'_>]) -> Vec<u8> {
    [b"I", &oid.to_be_bytes()[..], &tuple(b'N', new)].concat()
}

/// With an old row of form `K` or `O`.
pub(crate) fn update(oid: u32, form: u8, old: &[Cell<'_>], new: &[Cell<'_>]) -> Vec<u8> {
    [b"U", &oid.to_be_bytes()[..], &tuple(form, old), &tuple(b'N', new)].concat()
}

pub(crate) fn delete(oid: u32, form: u8, old: &[Cell<'_>]) -> Vec<u8> {
    [b"D", &oid.to_be_bytes()[..], &tuple(form, old)].concat()
}

pub(crate) fn truncate(oids: &[u32], options: u8) -> Vec<u8> {
    let mut message = [b"T", &u32::try_from(oids.len()).unwrap().to_be_bytes()[..], &[options]].concat();
    message.extend(oids.iter().flat_map(|oid| oid.to_be_bytes()));
    message
}

pub(crate) fn message(transactional: bool, lsn: u64, prefix: &str, content: &[u8]) -> Vec<u8> {
    let mut message =
        [b"M", &[transactional.into()][..], &lsn.to_be_bytes(), prefix.as_bytes(), &[0]].concat();
    message.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
    message.extend(content);
    message
}

fn tuple(form: u8, cells: &[Cell<'_>]) -> Vec<u8> {
    let mut bytes = vec![form];
    bytes.extend(u16::try_from(cells.len()).unwrap().to_be_bytes());
    for cell in cells {
        match cell {
            Cell::Null => bytes.push(b'n'),
            Cell::Unchanged => bytes.push(b'u'),
            Cell::Text(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend(text.as_bytes());
            }
        }
    }
    bytes
}
