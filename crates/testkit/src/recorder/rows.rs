//! Rows of tables by key, with a digest of each table that tells equal ones from others without looking at every row.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::note::{Change, Op};
use crate::canonical::{members, object};

/// Column values, each as canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    columns: BTreeMap<String, String>,
    digest: u64,
}

impl Row {
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::of(members(text)?))
    }

    fn of(columns: BTreeMap<String, String>) -> Self {
        let digest = digest_of(&columns);
        Row { columns, digest }
    }

    /// Its key, as a canonical JSON object of these columns.
    pub(super) fn key(&self, columns: &[String]) -> Option<String> {
        let value = |column: &String| Some((column.clone(), self.columns.get(column)?.clone()));
        Some(object(&columns.iter().map(value).collect::<Option<_>>()?))
    }

    /// The value of a column.
    pub(super) fn column(&self, name: &str) -> Option<&str> {
        self.columns.get(name).map(String::as_str)
    }

    /// The row without other columns.
    pub(super) fn only(&self, is_kept: impl Fn(&str) -> bool) -> Self {
        let kept = self.columns.iter().filter(|(name, _)| is_kept(name));
        Self::of(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The row with the columns that were not sent taken from the row before.
    fn filled(&self, before: Option<&Row>, unchanged: &[String]) -> Self {
        let kept = |column: &String| Some((column.clone(), before?.columns.get(column)?.clone()));
        let mut columns = self.columns.clone();
        columns.extend(unchanged.iter().filter_map(kept));
        Self::of(columns)
    }
}

/// The rows of some tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    tables: HashMap<String, Table>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    rows: HashMap<String, Row>,
    /// Sum of the digests of its rows: the order in which they came does not matter.
    digest: u64,
}

impl Table {
    fn put(&mut self, key: String, row: Row) {
        self.take(&key);
        self.digest = self.digest.wrapping_add(digest_of(&(&key, row.digest)));
        self.rows.insert(key, row);
    }

    fn take(&mut self, key: &str) -> Option<Row> {
        let row = self.rows.remove(key)?;
        self.digest = self.digest.wrapping_sub(digest_of(&(key, row.digest)));
        Some(row)
    }
}

impl Rows {
    /// What stands for all rows of a table. 0: there are none.
    pub(super) fn digest(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |table| table.digest)
    }

    /// The row of a table with this key.
    pub(super) fn row(&self, table: &str, key: &str) -> Option<&Row> {
        self.tables.get(table)?.rows.get(key)
    }

    pub(super) fn put(&mut self, table: &str, key: String, row: Row) {
        self.table(table).put(key, row);
    }

    /// All rows of a table come from elsewhere.
    pub(super) fn replace(&mut self, table: &str, by: &Rows) {
        *self.table(table) = by.tables.get(table).cloned().unwrap_or_default();
    }

    pub(super) fn clear(&mut self, table: &str) {
        *self.table(table) = Table::default();
    }

    /// Applies the changes of one transaction as one.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        let mut deleted = None;
        for change in changes {
            let Change { table, key, data, unchanged, .. } = change;
            let before = std::mem::take(&mut deleted);
            match (change.op, key, data) {
                (Op::Truncate, ..) => self.clear(table),
                (Op::Delete, Some(key), _) => deleted = self.table(table).take(key),
                (Op::Insert | Op::Update, Some(key), Some(data)) => {
                    let table = self.table(table);
                    let before = before.filter(|_| change.moved_from.is_some());
                    let before = before.or_else(|| table.take(key));
                    let row = match unchanged.is_empty() {
                        true => data.clone(),
                        false => data.filled(before.as_ref(), unchanged),
                    };
                    table.put(key.clone(), row);
                }
                _ => {}
            }
        }
    }

    /// A row of a table that the two do not have alike, in words.
    pub(super) fn difference(&self, wanted: &Rows, table: &str) -> String {
        let empty = Table::default();
        let [ours, theirs] = [self, wanted].map(|rows| rows.tables.get(table).unwrap_or(&empty));
        let mut keys: Vec<&String> = ours.rows.keys().chain(theirs.rows.keys()).collect();
        keys.sort_unstable();
        let other = keys.into_iter().find(|key| ours.rows.get(*key) != theirs.rows.get(*key));
        let row = |table: &Table, key: &String| {
            table.rows.get(key).map_or_else(|| "no row".to_owned(), |row| object(&row.columns))
        };
        let (has, should) = (ours.rows.len(), theirs.rows.len());
        match other {
            Some(key) => format!(
                "{table} has {has} rows of {should}; {key} is {}, in history {}",
                row(ours, key),
                row(theirs, key)
            ),
            None => format!("{table} has {has} rows of {should}"),
        }
    }

    fn table(&mut self, name: &str) -> &mut Table {
        if !self.tables.contains_key(name) {
            self.tables.insert(name.to_owned(), Table::default());
        }
        self.tables.get_mut(name).unwrap()
    }
}

fn digest_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
