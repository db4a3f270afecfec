//! What history is known not to have: tables that need repair, because rows of them changed in a way that no change tells;
//! and the fingerprints of the source's tables, by which that is noticed between two looks at the catalog.
//!
//! What is a reason to repair, and the repair itself, is not decided here.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{Epoch, Lsn, Piece, TableName};

use crate::link::Link;
use crate::sql_row::{lsn_at, optional_oid_at, time_us_at};
use crate::{Error, History, Writer, metrics};

const OPEN_GAPS: &str = include_str!("../../../sql/queries/open_gaps.sql");
const LIST_OPEN_GAPS: &str = include_str!("../../../sql/queries/list_open_gaps.sql");
const NOTE_FINGERPRINTS: &str = include_str!("../../../sql/queries/note_fingerprints.sql");
const FINGERPRINTS: &str = "SELECT table_oid, fingerprint FROM waldelta.source_fingerprints";

/// Open gaps that are listed at most: as many as there are tables, but for messages that name tables which do not exist.
const LISTED_MAX: i64 = 10_000;
/// Rows of one statement.
const ROWS_MAX: usize = 10_000;

/// A table that needs repair from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGap {
    /// Object id of the table.
    pub table_oid: u32,
    /// The first commit of the current epoch from which on its changes do not add up to its rows.
    pub from: Lsn,
    /// What has happened to it, for people: stored and shown as it is.
    pub reason: String,
}

/// A stretch in which rows changed that history has no changes of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Incarnation of the source that its LSNs belong to.
    pub epoch: Epoch,
    /// Object id of the table; `None`: all tables.
    pub table_oid: Option<u32>,
    /// The latest name that history knows the table by; `None` where it has no change of it.
    pub table: Option<TableName>,
    /// What committed before it, and not at it, is told whole.
    pub from: Lsn,
    /// Where it ends; `None`: it is open, the table needs repair.
    pub to: Option<Lsn>,
    /// What has happened.
    pub reason: String,
    /// When it was noticed, in microseconds since 1970-01-01 UTC, by the history database's clock.
    pub found_at_us: i64,
}

impl History {
    /// The tables that need repair, those first that have needed it longest; at most 10,000.
    pub async fn open_gaps(&self) -> Result<Vec<Gap>, Error> {
        let failed = |source| Error::Read { what: "gaps", source };
        let rows =
            sqlx::query(LIST_OPEN_GAPS).bind(LISTED_MAX).fetch_all(self.pool()).await.map_err(failed)?;
        let gaps = rows.iter().map(open_gap).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        metrics::open_gaps(gaps.len());
        Ok(gaps)
    }

    /// What was last noted of each of the source's tables, by object id.
    pub async fn fingerprints(&self) -> Result<HashMap<u32, String>, Error> {
        let failed = |source| Error::Read { what: "fingerprints of the source's tables", source };
        let rows = sqlx::query(FINGERPRINTS).fetch_all(self.pool()).await.map_err(failed)?;
        let noted = |row: &PgRow| Ok((row.try_get::<Oid, _>(0)?.0, row.try_get(1)?));
        rows.iter().map(noted).collect::<Result<_, _>>().map_err(failed)
    }
}

fn open_gap(row: &PgRow) -> Result<Gap, sqlx::Error> {
    let table = match (row.try_get(2)?, row.try_get(3)?) {
        (Some(schema), Some(name)) => Some(TableName { schema, name }),
        _ => None,
    };
    Ok(Gap {
        epoch: Epoch(row.try_get::<i32, _>(0)?.cast_unsigned()),
        table_oid: optional_oid_at(row, 1)?,
        table,
        from: lsn_at(row, 4)?,
        to: None,
        reason: row.try_get(5)?,
        found_at_us: time_us_at(row, 6)?,
    })
}

impl Writer {
    /// Stores what a look at the source's catalog has shown: tables that need repair from now on, and what to compare the
    /// next look with. Both or neither, and only while this is the writer. Returns the gaps that were opened: a table that
    /// has an open one gets no second one.
    ///
    /// # Errors
    /// [`Error::TransactionOpen`] while a large transaction is being appended, which changes nothing. After any other the
    /// writer is closed.
    pub async fn note_source(
        &mut self,
        gaps: Vec<NewGap>,
        fingerprints: Vec<(u32, String)>,
    ) -> Result<Vec<NewGap>, Error> {
        if self.open_sequence()?.is_open() {
            return Err(Error::TransactionOpen);
        }
        if gaps.is_empty() && fingerprints.is_empty() {
            return Ok(Vec::new());
        }
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        link.begin().await?;
        let opened = open(&link, self.head.epoch, &gaps).await?;
        note_fingerprints(&link, &fingerprints).await?;
        let moved = self.move_to(self.head.durable_end);
        link.commit(moved).await.map_err(|failure| self.failed(moved, failure, None))?;
        self.link = Some(link);
        metrics::gaps_opened(opened.len());
        Ok(opened)
    }
}

/// Gaps that the transactions under way open when they are committed: one per table.
#[derive(Debug, Default)]
pub(crate) struct WaitingGaps {
    by_table: HashMap<u32, NewGap>,
}

impl WaitingGaps {
    /// Notes the tables that need repair by this piece. Pieces come in order, so the first of a table is the earliest.
    pub(crate) fn note(&mut self, piece: &Piece) {
        for repair in &piece.repairs {
            self.by_table.entry(repair.table_oid).or_insert_with(|| NewGap {
                table_oid: repair.table_oid,
                from: piece.head.commit_lsn,
                reason: repair.reason.as_str().to_owned(),
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_table.is_empty()
    }

    /// Opens them within the SQL transaction under way; how many were opened.
    pub(crate) async fn store(&self, link: &Link, epoch: Epoch) -> Result<usize, Error> {
        let gaps: Vec<_> = self.by_table.values().cloned().collect();
        Ok(open(link, epoch, &gaps).await?.len())
    }

    /// They are stored, or the transactions were given up.
    pub(crate) fn clear(&mut self) {
        self.by_table.clear();
    }
}

async fn open(link: &Link, epoch: Epoch, gaps: &[NewGap]) -> Result<Vec<NewGap>, Error> {
    let mut opened = Vec::new();
    for gaps in gaps.chunks(ROWS_MAX) {
        let tables: Vec<_> = gaps.iter().map(|gap| gap.table_oid).collect();
        let from: Vec<_> = gaps.iter().map(|gap| PgLsn::from(gap.from.0)).collect();
        let reasons: Vec<_> = gaps.iter().map(|gap| gap.reason.as_str()).collect();
        let rows = link
            .client
            .query(OPEN_GAPS, &[&epoch.0.cast_signed(), &tables, &from, &reasons])
            .await
            .map_err(Error::NoteSource)?;
        opened.extend(rows.iter().map(|row| NewGap {
            table_oid: row.get(0),
            from: Lsn(row.get::<_, PgLsn>(1).into()),
            reason: row.get(2),
        }));
    }
    Ok(opened)
}

async fn note_fingerprints(link: &Link, fingerprints: &[(u32, String)]) -> Result<(), Error> {
    for fingerprints in fingerprints.chunks(ROWS_MAX) {
        let tables: Vec<_> = fingerprints.iter().map(|(table_oid, _)| *table_oid).collect();
        let texts: Vec<_> = fingerprints.iter().map(|(_, text)| text.as_str()).collect();
        link.client.execute(NOTE_FINGERPRINTS, &[&tables, &texts]).await.map_err(Error::NoteSource)?;
    }
    Ok(())
}
