//! A page of history: its bounds, and making it of rows as they come from the database.
//!
//! A row is taken apart at once, so that of its images one copy is kept. Asking for rows and shapes is not done here.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use waldelta_wal::{Author, Change, Epoch, Lsn, Operation, Table, TransactionHead, TruncateOptions};

use crate::Error;
use crate::sql_row::{
    bytes_at, lsn_at, optional_lsn_at, optional_oid_at, optional_u32_at, text_at, time_us_at, u32_at, u64_at,
};

/// Bounds of one page; at least one change is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Changes at most.
    pub changes_max: u32,
    /// Bytes of images at most, about: as the database stores them, compressed; four times as much as text.
    pub bytes_max: usize,
}

/// Changes of one transaction within a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The transaction.
    pub head: TransactionHead,
    /// Changes in order; the first page of a transaction begins with `seq` 0.
    pub changes: Vec<Change>,
    /// Whether the transaction ends here.
    pub last: bool,
}

/// What a read gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Parts of transactions in commit order.
    pub parts: Vec<Part>,
    /// Whether there is more of the epoch before the position that bounded the read.
    pub has_more: bool,
}

/// A row of `change_history`.
pub(crate) struct ChangeRow {
    head: TransactionHead,
    /// Without its table.
    change: Change,
    /// Object id and version of its table.
    pub(crate) shape: Option<(u32, u32)>,
    /// Commit LSN of the row after it, in this epoch.
    next_lsn: Option<Lsn>,
}

impl ChangeRow {
    /// The transaction and the change, which is without its table.
    pub(crate) fn into_parts(self) -> (TransactionHead, Change) {
        (self.head, self.change)
    }
}

/// A page that is being read.
#[derive(Default)]
pub(crate) struct PageBuilder {
    parts: Vec<Part>,
    rows: usize,
    has_more: bool,
    /// Authors met in this page: all changes of a transaction have the same few.
    authors: Authors,
}

impl PageBuilder {
    /// Changes in it.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes a row of the database apart.
    pub(crate) fn take_apart(&mut self, epoch: Epoch, row: &PgRow) -> Result<ChangeRow, Error> {
        let failed = |source| Error::Read { what: "changes", source };
        let operation = text_at(row, 6).map_err(failed)?.unwrap_or_default();
        let operation = Operation::from_name(operation)
            .ok_or_else(|| Error::Corrupt { what: format!("unknown operation {operation:?}") })?;
        let metadata = match text_at(row, 10).map_err(failed)? {
            Some(text) => serde_json::from_str(text).map_err(|_| Error::Corrupt {
                what: "metadata of a change has an unknown form".to_owned(),
            })?,
            None => Metadata::default(),
        };
        let author = text_at(row, 11)
            .map_err(failed)?
            .map(|client_id| self.authors.named(client_id, metadata.author.map(RawValue::get)));
        let oid = optional_oid_at(row, 4).map_err(failed)?;
        let shape = match (oid, optional_u32_at(row, 5).map_err(failed)?) {
            (Some(oid), Some(version)) => Some((oid, version)),
            // A reset is of a table and shows no row of it: which table it is, `data` says.
            (None, _) => None,
            (Some(_), None) if operation == Operation::Reset => None,
            (Some(oid), None) => {
                return Err(Error::Corrupt {
                    what: format!("a change of table {oid} without a schema_version"),
                });
            }
        };
        let head = TransactionHead {
            epoch,
            commit_lsn: lsn_at(row, 0).map_err(failed)?,
            xid: u64_at(row, 2).map_err(failed)?.unwrap_or(0),
            committed_at_us: time_us_at(row, 3).map_err(failed)?,
        };
        let change = Change {
            seq: u32_at(row, 1).map_err(failed)?,
            operation,
            table: None,
            row_key: bytes_at(row, 7).map_err(failed)?,
            data: bytes_at(row, 8).map_err(failed)?,
            old_data: bytes_at(row, 9).map_err(failed)?,
            unchanged: metadata.unchanged,
            flagged: metadata.flagged,
            truncate: metadata.truncate,
            origin: metadata.origin,
            author,
        };
        let next_lsn = optional_lsn_at(row, 12).map_err(failed)?;
        Ok(ChangeRow { head, change, shape, next_lsn })
    }

    /// Adds a row, with its table.
    pub(crate) fn add(&mut self, row: ChangeRow, table: Option<Arc<Table>>) {
        let ChangeRow { head, change, next_lsn, .. } = row;
        let change = Change { table, ..change };
        self.rows += 1;
        self.has_more = next_lsn.is_some();
        let last = next_lsn != Some(head.commit_lsn);
        match self.parts.last_mut() {
            Some(part) if part.head.commit_lsn == head.commit_lsn => {
                part.changes.push(change);
                part.last = last;
            }
            _ => self.parts.push(Part { head, changes: vec![change], last }),
        }
    }

    /// The page.
    pub(crate) fn finish(self) -> Page {
        Page { parts: self.parts, has_more: self.has_more }
    }
}

/// `change_history.metadata`.
#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    author: Option<&'a RawValue>,
    #[serde(default)]
    unchanged: Vec<String>,
    #[serde(default)]
    flagged: Vec<String>,
    #[serde(default)]
    truncate: TruncateOptions,
    origin: Option<Arc<str>>,
}

/// Authors by client id and what they attached.
#[derive(Default)]
struct Authors(HashMap<(String, Option<String>), Arc<Author>>);

impl Authors {
    fn named(&mut self, client_id: &str, metadata: Option<&str>) -> Arc<Author> {
        let key = (client_id.to_owned(), metadata.map(str::to_owned));
        let author = self.0.entry(key).or_insert_with_key(|(client_id, metadata)| {
            Arc::new(Author { client_id: client_id.clone(), metadata: metadata.clone() })
        });
        Arc::clone(author)
    }
}
