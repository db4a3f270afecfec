//! The rows that existed before history begins, written into it.
//!
//! They are read in the snapshot that was exported with the slot: it shows exactly what committed before the slot's
//! consistent point, and the stream begins with what committed after. Memory is bounded by one batch of rows.

use std::sync::Arc;

use futures_util::StreamExt;
use waldelta_history::{BaselineRow, History, Writer};
use waldelta_source::Source;
use waldelta_source::catalog::PublishedTable;
use waldelta_source::snapshot::Snapshot;
use waldelta_wal::TableName;

use crate::Error;

/// Rows are read and written in batches of about this size.
const BATCH_BYTES: usize = 1 << 20;
/// Who holds the writer's lease meanwhile, for people.
const HOLDER: &str = "waldelta baseline";

/// How far it is.
#[derive(Clone, Debug)]
pub struct Baselining {
    /// The table that is written.
    pub table: TableName,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub tables: usize,
    /// Rows of it that are written, not yet for good.
    pub rows: u64,
    /// The planner's estimate of how many there are; `None` where it has none.
    pub rows_expected: Option<u64>,
}

/// Who is told how far it is, after each batch.
pub(crate) type Tell<'a> = &'a (dyn Fn(&Baselining) + Send + Sync);

/// Writes the rows of every published table as the exported snapshot shows them. Each table is written whole or not at
/// all.
pub(crate) async fn write(
    source: &Source,
    history: &History,
    exported: &str,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let snapshot = Snapshot::import(source, exported).await?;
    // They have no commit time. Changes of the source have one by its clock, and times that clients ask for are compared with both.
    let taken_at_us = snapshot.opened_at_us().await?;
    let mut writer = history.writer(HOLDER).await?;
    let tables = snapshot.tables().await?;
    let of = tables.len();
    for (number, published) in (1..).zip(tables) {
        let at = Baselining {
            table: published.table.name.clone(),
            number,
            tables: of,
            rows: 0,
            rows_expected: u64::try_from(published.rows_estimate).ok().filter(|rows| *rows > 0),
        };
        write_table(&snapshot, &mut writer, published, taken_at_us, at, tell).await?;
    }
    Ok(writer.release().await?)
}

async fn write_table(
    snapshot: &Snapshot,
    writer: &mut Writer,
    published: PublishedTable,
    taken_at_us: i64,
    mut at: Baselining,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let table = writer.number(published.table).table;
    let mut batches = snapshot.rows(Arc::clone(&table), BATCH_BYTES).await?;
    let mut baseline = writer.baseline(&table, taken_at_us).await?;
    tell(&at);
    while let Some(batch) = batches.next().await {
        let rows: Vec<_> = batch?
            .into_iter()
            .map(|row| BaselineRow { row_key: row.key, data: row.data, flagged: row.flagged })
            .collect();
        at.rows += rows.len() as u64;
        baseline.rows(rows).await?;
        tell(&at);
    }
    let rows = baseline.commit().await?;
    tracing::info!(table = %table.name, rows, "the rows that existed before are in history");
    Ok(())
}
