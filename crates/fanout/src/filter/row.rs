//! A row's values, found in its image once for all predicates: as much as is known of them before and after a change.

use waldelta_wal::{Change, ReplicaIdentity, Table};

use super::IndexKey;
use super::family::{Family, Read};
use crate::wire::json;

/// A row's values by column: an image looked through once, for all predicates.
pub(crate) struct Row<'a> {
    values: Vec<Option<&'a [u8]>>,
}

impl<'a> Row<'a> {
    /// The values of an image, each as its JSON text. What is no column of the table is left out.
    pub(crate) fn new(table: &Table, image: &'a [u8]) -> Self {
        Row { values: vec![None; table.columns.len()] }.or(table, image)
    }

    /// The same with what the image lacks taken from an older one: a value that was not sent is unchanged.
    pub(crate) fn or(mut self, table: &Table, older: &'a [u8]) -> Self {
        let mut next = 0;
        for (name, value) in json::members(older) {
            let Some(index) = json::string(name).and_then(|name| position(table, &name, next)) else {
                continue;
            };
            next = index + 1;
            if let Some(missing @ None) = self.values.get_mut(index) {
                *missing = Some(value);
            }
        }
        self
    }

    /// The row after a change of it. A value that was not sent is the one before.
    pub(crate) fn after(change: &'a Change, table: &Table) -> Self {
        let row = Self::new(table, change.data.as_deref().unwrap_or_default());
        match change.old_data.as_deref().filter(|_| !change.unchanged.is_empty()) {
            Some(old) => row.or(table, old),
            None => row,
        }
    }

    /// The row before a change of it. Where the source sent none, it would have sent one of which the columns of the replica
    /// identity were others: these are as after the change.
    pub(crate) fn before(change: &'a Change, table: &Table) -> Self {
        if let Some(old) = &change.old_data {
            return Self::new(table, old);
        }
        let mut row = Self::new(table, change.data.as_deref().unwrap_or_default());
        let is_told = matches!(table.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
        for (value, column) in row.values.iter_mut().zip(&table.columns) {
            value.take_if(|_| !(is_told && column.identity));
        }
        row
    }

    /// A value, where the image has it.
    pub(crate) fn value(&self, column: u16) -> Option<&'a [u8]> {
        self.values.get(usize::from(column)).copied().flatten()
    }

    /// The key of a column's value in an index; `None` where the image lacks it or it is null.
    pub(crate) fn index_key(&self, table: &Table, column: u16) -> Option<IndexKey> {
        let text = self.value(column).filter(|text| *text != b"null")?;
        match Family::of(table.columns.get(usize::from(column))?).read(text) {
            Read::Value(value) => Some(IndexKey::new(&value)),
            Read::Unreadable => Some(IndexKey::of_none(text)),
        }
    }
}

/// Where a column is: mostly the next, since images are written in the order of the columns.
fn position(table: &Table, name: &str, next: usize) -> Option<usize> {
    let columns = &table.columns;
    let is_it = |index: &usize| columns.get(*index).is_some_and(|column| column.name == name);
    (next..columns.len()).chain(0..next).find(is_it)
}
