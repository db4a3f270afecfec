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

use crate::Error;

/// Rows are read and written in batches of about this size.
const BATCH_BYTES: usize = 1 << 20;
/// Who holds the writer's lease meanwhile, for people.
const HOLDER: &str = "waldelta baseline";

/// Writes the rows of every published table as the exported snapshot shows them. Each table is written whole or not at
/// all.
pub(crate) async fn write(source: &Source, history: &History, exported: &str) -> Result<(), Error> {
    let snapshot = Snapshot::import(source, exported).await?;
    // They have no commit time. Changes of the source have one by its clock, and times that clients ask for are compared with both.
    let taken_at_us = snapshot.opened_at_us().await?;
    let mut writer = history.writer(HOLDER).await?;
    for published in snapshot.tables().await? {
        write_table(&snapshot, &mut writer, published, taken_at_us).await?;
    }
    Ok(writer.release().await?)
}

async fn write_table(
    snapshot: &Snapshot,
    writer: &mut Writer,
    published: PublishedTable,
    taken_at_us: i64,
) -> Result<(), Error> {
    let table = writer.number(published.table).table;
    let mut batches = snapshot.rows(Arc::clone(&table), BATCH_BYTES).await?;
    let mut baseline = writer.baseline(&table, taken_at_us).await?;
    while let Some(batch) = batches.next().await {
        let rows = batch?
            .into_iter()
            .map(|row| BaselineRow { row_key: row.key, data: row.data, flagged: row.flagged })
            .collect();
        baseline.rows(rows).await?;
    }
    let rows = baseline.commit().await?;
    tracing::info!(table = %table.name, rows, "the rows that existed before are in history");
    Ok(())
}
