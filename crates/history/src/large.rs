//! What the feed keeps of a transaction that it does not hold: enough to tell whom it concerns.
//!
//! Its changes are read from history by those it concerns; nothing of them is kept here.

use std::collections::HashSet;
use std::sync::Arc;

use waldelta_wal::{Author, Change, Reset, Table, TableName, TransactionHead};

/// Tables, and authors, that are noted of one transaction at most.
const NAMES_MAX: usize = 1_000;
/// Bytes of their names and of what the authors attached that are noted of one transaction at most.
const BYTES_MAX: usize = 256 * 1024;

/// A transaction too large to be kept in memory: a reference to history.
#[derive(Clone, Debug, PartialEq)]
pub struct Large {
    /// Commit LSN, id and time.
    pub head: TransactionHead,
    /// Whom it concerns; `None` when that is too much to be kept: it may concern anybody.
    pub touched: Option<Touched>,
}

/// The tables and authors of a transaction, each once, in no order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touched {
    /// Every name that a changed or reset table had in it.
    pub tables: Vec<TableName>,
    /// Those who made changes; the same client twice where it attached different things.
    pub authors: Vec<Arc<Author>>,
}

impl Large {
    /// Memory that its names hold, about.
    pub(crate) fn bytes(&self) -> usize {
        let names = |touched: &Touched| {
            touched.tables.iter().map(table_bytes).sum::<usize>()
                + touched.authors.iter().map(|author| author_bytes(author)).sum::<usize>()
        };
        self.touched.as_ref().map_or(0, names)
    }
}

fn table_bytes(name: &TableName) -> usize {
    size_of::<TableName>() + name.schema.len() + name.name.len()
}

fn author_bytes(author: &Author) -> usize {
    size_of::<Author>() + author.client_id.len() + author.metadata.as_ref().map_or(0, String::len)
}

/// Notes whom a transaction concerns while its changes pass by, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    changes: u64,
    tables: HashSet<TableName>,
    authors: HashSet<Arc<Author>>,
    bytes: usize,
    too_much: bool,
    /// Of the change before: mostly the next one has the same.
    last_table: Option<Arc<Table>>,
    last_author: Option<Arc<Author>>,
}

impl Survey {
    /// Notes the next changes of the transaction.
    pub(crate) fn note(&mut self, changes: &[Change]) {
        self.changes += changes.len() as u64;
        for change in changes {
            if self.too_much {
                return;
            }
            match &change.table {
                Some(table) => self.note_table(table),
                None => self.note_reset(change),
            }
            if let Some(author) = &change.author {
                self.note_author(author);
            }
        }
    }

    /// Whether the transaction has no changes so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// The transaction has ended.
    pub(crate) fn finish(self, head: TransactionHead) -> Large {
        let touched = (!self.too_much).then(|| Touched {
            tables: self.tables.into_iter().collect(),
            authors: self.authors.into_iter().collect(),
        });
        Large { head, touched }
    }

    fn note_table(&mut self, table: &Arc<Table>) {
        if self.last_table.as_ref().is_some_and(|last| Arc::ptr_eq(last, table)) {
            return;
        }
        self.last_table = Some(Arc::clone(table));
        self.note_name(&table.name);
    }

    fn note_reset(&mut self, change: &Change) {
        if let Some(name) = Reset::of(change).and_then(|reset| reset.table_name()) {
            self.note_name(&name);
        }
    }

    fn note_name(&mut self, name: &TableName) {
        if !self.tables.contains(name) {
            self.tables.insert(name.clone());
            self.bound(self.tables.len(), table_bytes(name));
        }
    }

    fn note_author(&mut self, author: &Arc<Author>) {
        if self.last_author.as_ref().is_some_and(|last| Arc::ptr_eq(last, author)) {
            return;
        }
        self.last_author = Some(Arc::clone(author));
        if self.authors.insert(Arc::clone(author)) {
            self.bound(self.authors.len(), author_bytes(author));
        }
    }

    fn bound(&mut self, count: usize, more_bytes: usize) {
        self.bytes += more_bytes;
        if count > NAMES_MAX || self.bytes > BYTES_MAX {
            *self = Survey { changes: self.changes, too_much: true, ..Survey::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{Epoch, Lsn, Operation, ReplicaIdentity, TruncateOptions};

    use super::*;

    const HEAD: TransactionHead =
        TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(7), xid: 7, committed_at_us: 0 };

    fn change(table: &str, author: Option<Author>) -> Change {
        let table = Table {
            oid: 1,
            version: 1,
            name: TableName { schema: "public".into(), name: table.into() },
            columns: Vec::new(),
            key: Vec::new(),
            identity: ReplicaIdentity::Default,
        };
        Change {
            seq: 0,
            operation: Operation::Truncate,
            table: Some(Arc::new(table)),
            row_key: None,
            data: None,
            old_data: None,
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: author.map(Arc::new),
        }
    }

    fn author(client_id: impl Into<String>) -> Option<Author> {
        Some(Author { client_id: client_id.into(), metadata: None })
    }

    #[test]
    fn names_are_noted_once_however_the_changes_come() {
        let mut survey = Survey::default();
        assert!(survey.is_empty());
        survey.note(&[change("a", author("x")), change("b", None), change("a", author("y"))]);
        survey.note(&[change("b", author("x"))]);
        assert!(!survey.is_empty());
        let mut touched = survey.finish(HEAD).touched.unwrap();
        touched.tables.sort();
        touched.authors.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        assert_eq!(touched.tables.iter().map(|name| name.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let authors: Vec<_> = touched.authors.iter().map(|author| author.client_id.as_str()).collect();
        assert_eq!(authors, ["x", "y"]);
    }

    #[test]
    fn a_reset_names_its_table() {
        let mut reset = change("a", None);
        (reset.operation, reset.table) = (Operation::Reset, None);
        reset.data = Some(br#"{"oid":1,"name":"public.\"B\"","reason":"added"}"#.as_slice().into());
        let mut survey = Survey::default();
        survey.note(&[reset]);
        let touched = survey.finish(HEAD).touched.unwrap();
        assert_eq!(touched.tables, [TableName { schema: "public".into(), name: "B".into() }]);
    }

    #[test]
    fn more_than_is_kept_concerns_anybody() {
        let tables = |count: usize| (0..count).map(|n| change(&format!("t{n}"), None)).collect::<Vec<_>>();
        let authors =
            |count: usize| (0..count).map(|n| change("t", author(n.to_string()))).collect::<Vec<_>>();
        let long = vec![change("t", author("x".repeat(BYTES_MAX)))];
        for (changes, known) in [
            (tables(NAMES_MAX), true),
            (tables(NAMES_MAX + 1), false),
            (authors(NAMES_MAX), true),
            (authors(NAMES_MAX + 1), false),
            (long, false),
        ] {
            let mut survey = Survey::default();
            survey.note(&changes);
            // What comes after it does not make it known again.
            survey.note(&changes[..1]);
            let large = survey.finish(HEAD);
            assert_eq!(large.touched.is_some(), known, "{} changes", changes.len());
            assert!(large.bytes() <= BYTES_MAX);
        }
    }
}
