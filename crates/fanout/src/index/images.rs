//! What is known of a row before and after a change, for filters to look at: as much as [`crate::subscription::Route`] knows
//! when it decides what is told.

use waldelta_wal::{Change, Operation, Table};

use crate::filter::{IndexKey, Predicate, Row, Verdict};

/// The row before and after a change of it, each where there was one.
pub(super) struct Images<'a> {
    table: &'a Table,
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
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

impl<'a> Images<'a> {
    pub(super) fn of(change: &'a Change, table: &'a Table) -> Self {
        let had = matches!(change.operation, Operation::Update | Operation::Delete);
        let has = change.operation != Operation::Delete;
        Images {
            table,
            before: had.then(|| Row::before(change, table)),
            after: has.then(|| Row::after(change, table)),
        }
    }

    /// Whether either of them passes, or may.
    pub(super) fn may_pass(&self, predicate: &Predicate) -> bool {
        self.rows().any(|row| predicate.verdict(row) != Verdict::Fails)
    }

    /// A column's value in each of them.
    pub(super) fn keys(&self, column: u16) -> impl Iterator<Item = Key> {
        self.rows().map(move |row| match row.value(column) {
            None => Key::Unknown,
            Some(_) => row.index_key(self.table, column).map_or(Key::Null, Key::Is),
        })
    }

    fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        [&self.before, &self.after].into_iter().flatten()
    }
}
