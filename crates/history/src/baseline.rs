//! Rows that existed before history begins, written once per table as operation `baseline`.
//!
//! They stand at the last position before the epoch's start: below the floor, so that no resuming client meets them,
//! and before every change, so that a fold over a table's history starts from them. Reading the rows, in a snapshot
//! that fits the start, is not done here.

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{Change, Lsn, Operation, Table, TransactionHead, TruncateOptions};

use crate::link::{CommitFailure, Link};
use crate::{Error, Writer};

const STORE_BASELINE: &str = include_str!("../../../sql/queries/store_baseline.sql");
const KNOWN: &str = "SELECT baseline FROM waldelta.history_from WHERE table_oid = $1";
const NEXT_SEQ: &str =
    "SELECT coalesce(max(seq) + 1, 0) FROM waldelta.change_history WHERE epoch = $1 AND lsn = $2";

/// A row that existed before.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineRow {
    /// Compact JSON array of the key's values; `None` where the table has no key.
    pub row_key: Option<Bytes>,
    /// The row as a JSON object.
    pub data: Bytes,
    /// As in [`Change::flagged`].
    pub flagged: Vec<String>,
}

/// The rows of one table on their way into history, in one SQL transaction. Dropping it rolls back and closes the
/// writer.
pub struct Baseline<'a> {
    writer: &'a mut Writer,
    link: Link,
    table: Arc<Table>,
    head: TransactionHead,
    next_seq: u32,
    rows: u64,
}

impl Writer {
    /// Begins to write the rows that a table had when history began. `taken_at_us` is the time of the snapshot that
    /// they are read in, in microseconds since 1970. A second time for the same table is refused.
    pub async fn baseline(&mut self, table: &Arc<Table>, taken_at_us: i64) -> Result<Baseline<'_>, Error> {
        if self.open_sequence()?.is_open() {
            return Err(Error::TransactionOpen);
        }
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        let known = link.client.query_opt(KNOWN, &[&table.oid]).await.map_err(Error::Append)?;
        if known.is_some_and(|row| row.get(0)) {
            self.link = Some(link);
            return Err(Error::BaselineExists { table: table.name.to_string() });
        }
        let epoch = self.head.epoch;
        // `begin` refuses a start of 0.
        let commit_lsn = Lsn(self.taken.epoch_start.0.0.saturating_sub(1));
        let next_seq = link
            .client
            .query_one(NEXT_SEQ, &[&epoch.0.cast_signed(), &PgLsn::from(commit_lsn.0)])
            .await
            .map_err(Error::Append)?
            .get::<_, i32>(0)
            .cast_unsigned();
        let statements = link.prepare_partition(self.partitions.of(commit_lsn)).await?;
        link.begin_copy(&statements).await?;
        self.encoder.begin(&mut self.buffer);
        self.shapes.appears(table, commit_lsn, next_seq);
        let head = TransactionHead { epoch, commit_lsn, xid: 0, committed_at_us: taken_at_us };
        Ok(Baseline { writer: self, link, table: Arc::clone(table), head, next_seq, rows: 0 })
    }
}

impl Baseline<'_> {
    /// Writes more rows. They are not visible before [`Self::commit`].
    pub async fn rows(&mut self, rows: Vec<BaselineRow>) -> Result<(), Error> {
        let count = rows.len() as u64;
        for BaselineRow { row_key, data, flagged } in rows {
            if i32::try_from(self.next_seq).is_err() {
                return Err(Error::Unusable { what: "more than 2^31 rows that existed before" });
            }
            let change = Change {
                seq: self.next_seq,
                operation: Operation::Baseline,
                table: Some(Arc::clone(&self.table)),
                row_key,
                data: Some(data),
                old_data: None,
                unchanged: Vec::new(),
                flagged,
                truncate: TruncateOptions::default(),
                origin: None,
                author: None,
            };
            let written = self.writer.encoder.row(&mut self.writer.buffer, &self.head, None, &change);
            written.map_err(|_| Error::Unusable { what: "a value larger than 1 GiB" })?;
            self.next_seq += 1;
        }
        self.rows += count;
        self.writer.send(&mut self.link, count).await
    }

    /// Makes them durable, all or none. Returns how many there are.
    pub async fn commit(mut self) -> Result<u64, Error> {
        let writer = self.writer;
        let moved = writer.move_to(writer.head.durable_end);
        writer.encoder.end(&mut writer.buffer);
        writer.send(&mut self.link, 0).await?;
        let finished = self.link.finish_copy().await;
        finished.map_err(|source| writer.failed(moved, CommitFailure::Refused(source), None))?;
        for appearance in writer.shapes.waiting() {
            writer.store_shape(&self.link, appearance).await?;
        }
        let epoch = self.head.epoch.0.cast_signed();
        let start = PgLsn::from(writer.taken.epoch_start.0.0);
        let stored = self.link.client.execute(STORE_BASELINE, &[&self.table.oid, &epoch, &start]).await;
        if stored.map_err(Error::Append)? != 1 {
            return Err(Error::BaselineExists { table: self.table.name.to_string() });
        }
        let committed = self.link.commit(moved).await;
        committed.map_err(|failure| writer.failed(moved, failure, None))?;
        let stored = writer.shapes.committed();
        writer.history.remember(stored);
        writer.link = Some(self.link);
        Ok(self.rows)
    }
}
