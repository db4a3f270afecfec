//! What is known of a row before and after a change, for filters to look at: as much as [`crate::subscription::Route`] knows
//! when it decides what is told.

use waldelta_wal::{Change, Operation, Table};

use crate::filter::{IndexKey, Predicate, Row, Verdict};
use crate::rules::Permission;
use crate::wire::transaction::image_bytes;

/// The row before and after a change of it, each where there was one.
pub(super) struct Images<'a> {
    table: &'a Table,
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
    bytes: usize,
}

/// A value as an index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// It is null, which equals nothing.
    Null,
    /// It is this.
    Is(IndexKey),
    /// The image does not tell it.
    Unknown,
}

impl Key {
    /// The value, where it is one.
    pub(super) fn known(self) -> Option<IndexKey> {
        match self {
            Key::Is(key) => Some(key),
            Key::Null | Key::Unknown => None,
        }
    }
}

impl<'a> Images<'a> {
    pub(super) fn of(change: &'a Change, table: &'a Table) -> Self {
        let had = matches!(change.operation, Operation::Update | Operation::Delete);
        let has = change.operation != Operation::Delete;
        Images {
            table,
            before: had.then(|| Row::before(change, table)),
            after: has.then(|| Row::after(change, table)),
            bytes: image_bytes(change),
        }
    }

    /// How much there is to look at.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether either of them may be seen, and passes or may.
    pub(super) fn may_pass(&self, permission: &Permission, predicate: Option<&Predicate>) -> bool {
        let may = |row: &Row<'_>| predicate.is_none_or(|predicate| predicate.verdict(row) != Verdict::Fails);
        self.rows().any(|row| permission.passes(row) && may(row))
    }

    /// A column's value in one of them.
    pub(super) fn key(&self, row: &Row<'_>, column: u16) -> Key {
        match row.value(column) {
            None => Key::Unknown,
            Some(_) => row.index_key(self.table, column).map_or(Key::Null, Key::Is),
        }
    }

    /// Those that there are.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        [&self.before, &self.after].into_iter().flatten()
    }
}
