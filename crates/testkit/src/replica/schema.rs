//! The shape of a table as the service tells it, and what becomes of the rows that are there when it changes.

use std::collections::BTreeSet;

use super::frame::Object;
use super::{Row, Table, Violation};
use crate::canonical::object;

/// A table's columns and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// Counted up with each change of the shape; 0 in a snapshot that is ahead of history.
    version: u64,
    columns: Vec<Column>,
    /// Names of the key's columns; empty: no key.
    key: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    /// Its identity through renames; `None` where the service does not know it.
    number: Option<u64>,
}

impl Schema {
    /// Reads a `schema` frame.
    pub(super) fn of_frame(frame: &Object) -> Result<Self, Violation> {
        let mut schema = Schema { version: frame.number("version")?, ..Schema::default() };
        for column in frame.objects("columns")? {
            let name = column.string("name")?;
            column.string("type")?;
            column.boolean("nullable")?;
            if column.boolean("key")? {
                schema.key.push(name.clone());
            }
            ensure!(schema.columns.iter().all(|known| known.name != name), "schema with column {name} twice");
            schema.columns.push(Column { name, number: column.optional_number("number")? });
        }
        Ok(schema)
    }

    /// Checks that a row has exactly the columns of its table, and gives its key.
    pub(super) fn check(
        &self,
        table: &str,
        data: &Row,
        unchanged: &[String],
    ) -> Result<Option<String>, Violation> {
        let columns: BTreeSet<_> = self.columns.iter().map(|column| column.name.clone()).collect();
        let sent: BTreeSet<String> = data.keys().chain(unchanged).cloned().collect();
        ensure!(sent == columns, "{table} has columns {columns:?}, a row has {sent:?}");
        ensure!(sent.len() == data.len() + unchanged.len(), "a column of {table} is both sent and unchanged");
        self.key_of(table, data)
    }

    /// Whether this is older than the shape that the rows have: after a reconnect, what a snapshot is ahead of comes again.
    pub(super) fn is_before(&self, shape: &Schema) -> bool {
        self.version != 0 && self.version < shape.version
    }

    /// A row of another shape in this one: a column that was renamed keeps its value, one that is new is null, one that is
    /// gone takes its value along.
    pub(super) fn row_from(&self, other: &Schema, row: &Row) -> Row {
        let value = |column: &Column| other.value(row, column).unwrap_or_else(|| "null".to_owned());
        self.columns.iter().map(|column| (column.name.clone(), value(column))).collect()
    }

    /// Gives the rows of a table this shape.
    pub(super) fn reshape(&self, name: &str, before: &Schema, table: &mut Table) -> Result<(), Violation> {
        table.from_snapshot.iter_mut().for_each(|row| *row = self.row_from(before, row));
        table.inserted.values_mut().for_each(|row| *row = self.row_from(before, row));
        for row in std::mem::take(&mut table.keyed).into_values() {
            let row = self.row_from(before, &row);
            match self.key_of(name, &row)? {
                Some(key) => {
                    let other = table.keyed.insert(key.clone(), row);
                    ensure!(other.is_none(), "{name} has {key} twice under its new key");
                }
                None => table.from_snapshot.push(row),
            }
        }
        Ok(())
    }

    /// The value that a row of this shape has in a column of the next one.
    fn value(&self, row: &Row, next: &Column) -> Option<String> {
        let same = |column: &&Column| match (column.number, next.number) {
            (Some(number), Some(next)) => number == next,
            _ => column.name == next.name,
        };
        row.get(&self.columns.iter().find(same)?.name).cloned()
    }

    fn key_of(&self, table: &str, row: &Row) -> Result<Option<String>, Violation> {
        if self.key.is_empty() {
            return Ok(None);
        }
        let mut key = Row::new();
        for name in &self.key {
            let value = row
                .get(name)
                .ok_or_else(|| Violation(format!("key column {name} of {table} is not sent")))?;
            key.insert(name.clone(), value.clone());
        }
        Ok(Some(object(&key)))
    }
}
