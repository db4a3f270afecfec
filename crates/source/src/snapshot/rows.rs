//! The rows of one table, by COPY in text format: the same text that the stream has, through the same encoder.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{StreamExt, stream};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, CopyOutStream};
use waldelta_wal::{CopyText, RowEncoder, Table, TableName, quote_ident};

use super::Rows;
use crate::ask::ask;
use crate::{Error, Source};

/// A row of a snapshot. The rows of a batch share their memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Compact JSON array of the key's values, as in a change; `None` where the table has no key.
    pub key: Option<Bytes>,
    /// The row as a JSON object.
    pub data: Bytes,
    /// Names of the columns whose value in `data` is not what `to_jsonb` gives, because jsonb cannot hold that.
    pub flagged: Vec<String>,
}

/// A row whose bytes still lie in the buffer of its batch.
struct Draft {
    key: Option<Range<usize>>,
    data: Range<usize>,
    flagged: Vec<String>,
}

pub(super) async fn read<'a>(
    client: &'a Client,
    table: Arc<Table>,
    condition: Option<&str>,
    source: &Source,
    batch_bytes: usize,
) -> Result<Rows<'a>, Error> {
    let encoder = RowEncoder::new(&table, source.values);
    let Place { name, row_filter } = locate(client, &source.publication, &table).await?;
    let columns: Vec<_> = table.columns.iter().map(|column| quote_ident(&column.name)).collect();
    let conditions: Vec<_> = row_filter
        .as_deref()
        .into_iter()
        .chain(condition)
        .map(|condition| format!("({condition})"))
        .collect();
    let filter = if conditions.is_empty() { "" } else { " WHERE " };
    let sql = format!(
        "COPY (SELECT {} FROM {name}{filter}{}) TO STDOUT",
        columns.join(", "),
        conditions.join(" AND ")
    );
    let copy = client.copy_out(&sql).await.map_err(|source| failed(&table.name, source))?;
    let reading = Reading {
        // Asked again after its end it would take the statement's completion for a row.
        copy: Box::pin(copy.fuse()),
        encoder,
        lines: CopyText::default(),
        table,
        batch_bytes,
    };
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.batch().await?.map(|batch| (batch, reading)))
    })))
}

/// Where a table's rows are.
struct Place {
    /// What stands behind FROM.
    name: String,
    /// Which of its rows the publication lets into the stream.
    row_filter: Option<String>,
}

/// Holds the table still and makes sure that it is the one that the snapshot knows.
///
/// TRUNCATE and rewriting ALTERs take effect for open snapshots too: to them the table is empty. The lock is the one that
/// reading takes anyway.
async fn locate(client: &Client, publication: &str, table: &Table) -> Result<Place, Error> {
    const WHAT: &str = "look whether a table is unchanged";
    let sql = include_str!("../../../../sql/source/snapshot_table.sql");
    let changed = || Error::TableChanged { table: table.name.clone() };
    let look = async || ask(client, WHAT, sql, &[&table.oid, &publication]).await;
    let name = match look().await?.first() {
        Some(row) => {
            let name = TableName { schema: row.read("schema")?, name: row.read("name")? };
            let only = if row.read("is_partitioned")? { "" } else { "ONLY " };
            format!("{only}{name}")
        }
        None => return Err(changed()),
    };
    let lock = format!("LOCK TABLE {name} IN ACCESS SHARE MODE");
    client.batch_execute(&lock).await.map_err(|source| failed(&table.name, source))?;
    match look().await?.first() {
        Some(row) if row.read("is_unchanged")? => {
            let row_filter = row.read::<Option<String>>("row_filter")?;
            Ok(Place { name, row_filter })
        }
        _ => Err(changed()),
    }
}

/// What went wrong with reading a table: that it is not what it was, or something else.
fn failed(table: &TableName, source: tokio_postgres::Error) -> Error {
    let gone = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME];
    match source.code() {
        Some(state) if gone.contains(state) => Error::TableChanged { table: table.clone() },
        _ => Error::ReadTable { table: table.clone(), source },
    }
}

struct Reading {
    copy: Pin<Box<Fuse<CopyOutStream>>>,
    encoder: RowEncoder,
    lines: CopyText,
    table: Arc<Table>,
    batch_bytes: usize,
}

impl Reading {
    /// The next rows; `None` after the last.
    async fn batch(&mut self) -> Result<Option<Vec<SnapshotRow>>, Error> {
        let mut buffer = Vec::new();
        let mut rows: Vec<Draft> = Vec::new();
        while let Some(line) = self.copy.next().await {
            let line = line.map_err(|source| failed(&self.table.name, source))?;
            rows.push(self.row(&line, &mut buffer)?);
            if buffer.len() >= self.batch_bytes {
                break;
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let buffer = Bytes::from(buffer);
        let slice = |range: Range<usize>| buffer.slice(range);
        let row =
            |Draft { key, data, flagged }| SnapshotRow { key: key.map(slice), data: slice(data), flagged };
        Ok(Some(rows.into_iter().map(row).collect()))
    }

    /// Appends key and row to the buffer. Each CopyData of the server is one line.
    fn row(&mut self, line: &[u8], buffer: &mut Vec<u8>) -> Result<Draft, Error> {
        let name = &self.table.name;
        let broken = |source| Error::Row { table: name.clone(), source };
        let values = self
            .lines
            .split(line, self.table.columns.len())
            .map_err(|source| Error::Line { table: name.clone(), source })?;
        let start = buffer.len();
        let has_key = self.encoder.encode_key(values.clone(), buffer).map_err(broken)?;
        let middle = buffer.len();
        let notes = self.encoder.encode_object(values, buffer).map_err(broken)?;
        let column = |index: u16| self.table.columns[usize::from(index)].name.clone();
        let flagged = notes.flagged.into_iter().map(column).collect();
        Ok(Draft { key: has_key.then_some(start..middle), data: middle..buffer.len(), flagged })
    }
}
