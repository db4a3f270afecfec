//! What history is known not to have: tables that need repair, because rows of them changed in a way that no change tells;
//! and the fingerprints of the source's tables, by which that is noticed between two looks at the catalog.
//!
//! What is a reason to repair, and the repair itself, is not decided here.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{EndLsn, Epoch, Lsn, TableName};

use crate::gap_notes::GapNotes;
use crate::link::Link;
use crate::sql_row::{lsn_at, optional_oid_at, time_us_at};
use crate::{Error, History, Writer, metrics};

const OPEN_GAPS: &str = include_str!("../../../sql/queries/open_gaps.sql");
const WIDEN_GAPS: &str = include_str!("../../../sql/queries/widen_gaps.sql");
const CLOSE_GAPS: &str = include_str!("../../../sql/queries/close_gaps.sql");
const LIST_OPEN_GAPS: &str = include_str!("../../../sql/queries/list_open_gaps.sql");
const NOTE_FINGERPRINTS: &str = include_str!("../../../sql/queries/note_fingerprints.sql");
const FORGET_FINGERPRINTS: &str = "DELETE FROM waldelta.source_fingerprints";
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

/// A new gap with where it was noticed.
#[derive(Clone, Debug)]
pub(crate) struct FoundGap {
    pub(crate) gap: NewGap,
    /// What happened, happened to rows before this place.
    pub(crate) found: EndLsn,
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

impl Gap {
    /// The reason of a gap that ends by itself: its table was published while transactions were open, and joins when they have
    /// ended. Such a table needs no repair.
    pub const JOINING: &str = "added";

    /// Whether it stays until somebody repairs the table.
    pub fn needs_repair(&self) -> bool {
        self.reason != Self::JOINING
    }
}

impl History {
    /// The gaps that are open, those first that have been so longest; at most 10,000.
    pub async fn open_gaps(&self) -> Result<Vec<Gap>, Error> {
        let failed = |source| Error::Read { what: "gaps", source };
        let rows =
            sqlx::query(LIST_OPEN_GAPS).bind(LISTED_MAX).fetch_all(self.pool()).await.map_err(failed)?;
        let gaps = rows.iter().map(open_gap).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        metrics::open_gaps(gaps.iter().filter(|gap| gap.needs_repair()).count());
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
    /// has an open one gets no second one. What a look has shown happened before the durable end; also where it shows a table
    /// whose gap is open to be another one than before.
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
        let (epoch, found) = (self.head.epoch, self.head.durable_end);
        let gaps: Vec<_> = gaps.into_iter().map(|gap| FoundGap { gap, found }).collect();
        let opened = open(&link, epoch, &gaps).await?;
        widen(&link, epoch, &fingerprints, found).await?;
        note_fingerprints(&link, &fingerprints).await?;
        let moved = self.move_to(self.head.durable_end);
        link.commit(moved).await.map_err(|failure| self.failed(moved, failure, None))?;
        self.link = Some(link);
        metrics::gaps_changed(count_repairs(opened.iter().map(|gap| &*gap.reason)));
        Ok(opened)
    }
}

/// Opens and closes gaps within the SQL transaction under way, as the transactions in it do. Returns by how many the tables
/// that need repair have become more.
pub(crate) async fn store(link: &Link, epoch: Epoch, notes: &GapNotes) -> Result<i64, Error> {
    let mut needing_repair = 0;
    for step in notes.steps() {
        let opened: Vec<_> = step.opened.values().cloned().collect();
        let opened = open(link, epoch, &opened).await?;
        needing_repair += count_repairs(opened.iter().map(|gap| &*gap.reason));
        let closed = close(link, epoch, &step.closed).await?;
        needing_repair -= count_repairs(closed.iter().map(|reason| &**reason));
    }
    Ok(needing_repair)
}

fn count_repairs<'a>(reasons: impl Iterator<Item = &'a str>) -> i64 {
    i64::try_from(reasons.filter(|reason| *reason != Gap::JOINING).count()).unwrap_or(i64::MAX)
}

/// Ends open gaps of these tables; why those were there that there were.
async fn close(link: &Link, epoch: Epoch, tables: &HashMap<u32, Lsn>) -> Result<Vec<String>, Error> {
    let tables: Vec<_> = tables.iter().collect();
    let mut closed = Vec::new();
    for tables in tables.chunks(ROWS_MAX) {
        let oids: Vec<_> = tables.iter().map(|(table_oid, _)| **table_oid).collect();
        let to: Vec<_> = tables.iter().map(|(_, to)| PgLsn::from(to.0)).collect();
        let rows = link
            .client
            .query(CLOSE_GAPS, &[&epoch.0.cast_signed(), &oids, &to])
            .await
            .map_err(Error::NoteSource)?;
        closed.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(closed)
}

/// Gaps that are open reach up to `found`, of the tables that were other than they had been.
async fn widen(
    link: &Link,
    epoch: Epoch,
    fingerprints: &[(u32, String)],
    found: EndLsn,
) -> Result<(), Error> {
    for tables in fingerprints.chunks(ROWS_MAX) {
        let tables: Vec<_> = tables.iter().map(|(table_oid, _)| *table_oid).collect();
        let found = PgLsn::from(found.0.0);
        link.client
            .execute(WIDEN_GAPS, &[&epoch.0.cast_signed(), &tables, &found])
            .await
            .map_err(Error::NoteSource)?;
    }
    Ok(())
}

async fn open(link: &Link, epoch: Epoch, gaps: &[FoundGap]) -> Result<Vec<NewGap>, Error> {
    let mut opened = Vec::new();
    for gaps in gaps.chunks(ROWS_MAX) {
        let tables: Vec<_> = gaps.iter().map(|it| it.gap.table_oid).collect();
        let from: Vec<_> = gaps.iter().map(|it| PgLsn::from(it.gap.from.0)).collect();
        let reasons: Vec<_> = gaps.iter().map(|it| it.gap.reason.as_str()).collect();
        let found: Vec<_> = gaps.iter().map(|it| PgLsn::from(it.found.0.0)).collect();
        let rows = link
            .client
            .query(OPEN_GAPS, &[&epoch.0.cast_signed(), &tables, &from, &reasons, &found])
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

/// Forgets what was noted of the source's tables, and notes this.
pub(crate) async fn replace_fingerprints(link: &Link, fingerprints: &[(u32, String)]) -> Result<(), Error> {
    link.client.execute(FORGET_FINGERPRINTS, &[]).await.map_err(Error::NoteSource)?;
    note_fingerprints(link, fingerprints).await
}

async fn note_fingerprints(link: &Link, fingerprints: &[(u32, String)]) -> Result<(), Error> {
    for fingerprints in fingerprints.chunks(ROWS_MAX) {
        let tables: Vec<_> = fingerprints.iter().map(|(table_oid, _)| *table_oid).collect();
        let texts: Vec<_> = fingerprints.iter().map(|(_, text)| text.as_str()).collect();
        link.client.execute(NOTE_FINGERPRINTS, &[&tables, &texts]).await.map_err(Error::NoteSource)?;
    }
    Ok(())
}
