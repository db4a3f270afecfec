//! What is known of a row before and after a change, for filters to look at: as much as [`crate::subscription::Route`] knows
//! when it decides what is told.

use waldelta_wal::{Change, Operation, ReplicaIdentity, Table};

use crate::filter::{IndexKey, Predicate, Row, Verdict};
use crate::wire::json::write_string;

/// The row before a change where the source sent none, as far as it follows from the row after it.
pub(super) struct Unsent(Vec<u8>);

impl Unsent {
    /// The source would have sent a row of which the columns of its replica identity were others.
    pub(super) fn of(change: &Change, table: &Table) -> Self {
        let is_fixed = matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        let mut known = vec![b'{'];
        if let Some(data) = change.data.as_deref().filter(|_| is_fixed && change.old_data.is_none()) {
            let row = Row::new(table, data);
            for (index, column) in (0u16..).zip(&table.columns).filter(|(_, column)| column.identity) {
                let Some(value) = row.value(index) else { continue };
                if known.len() > 1 {
                    known.push(b',');
                }
                write_string(&mut known, &column.name);
                known.push(b':');
                known.extend_from_slice(value);
            }
        }
        known.push(b'}');
        Unsent(known)
    }
}

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
    pub(super) fn of(change: &'a Change, table: &'a Table, unsent: &'a Unsent) -> Self {
        let old = change.old_data.as_deref();
        let before = matches!(change.operation, Operation::Update | Operation::Delete)
            .then(|| Row::new(table, old.unwrap_or(&unsent.0)));
        let after = (change.operation != Operation::Delete).then(|| {
            let row = Row::new(table, change.data.as_deref().unwrap_or_default());
            match old.filter(|_| !change.unchanged.is_empty()) {
                Some(old) => row.or(table, old),
                None => row,
            }
        });
        Images { table, before, after }
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
