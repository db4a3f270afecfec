//! What befell one row: its versions in order, the changes by which it got another key, and what makes it uncertain.
//!
//! Putting versions together (columns that were not sent, the row as of a place) is not done here. Nothing is read of what did
//! not survive the end of an epoch.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Postgres;
use sqlx::Row;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use waldelta_wal::{Change, EndLsn, Epoch, Lsn, Position, Table, TableName, TransactionHead};

use crate::page::PageBuilder;
use crate::sql_row::{SqlLsn, length_at, lsn_at, text_at, u32_at};
use crate::{Error, History};

const ROW_VERSIONS: &str = include_str!("../../../sql/queries/row_versions.sql");
const LAST_ROW_VERSION: &str = include_str!("../../../sql/queries/last_row_version.sql");
const TABLE_NAMED: &str = include_str!("../../../sql/queries/table_named.sql");
const HISTORY_FROM: &str = include_str!("../../../sql/queries/history_from.sql");

/// The row that has a key in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowId {
    /// Object id of the table.
    pub table_oid: u32,
    /// Compact JSON array of the key's values, as [`Change::row_key`] has it.
    pub key: String,
}

/// Something that befell a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowEntry {
    /// A change: of the row, by which a row left this key, or of all rows of the table.
    Change(Box<RowChange>),
    /// From behind this position on rows changed in a way that history has no changes of.
    Gap(Position),
}

/// A change that concerns a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Its transaction.
    pub head: TransactionHead,
    /// The change. Its key is another one where the row left the key that was asked for.
    pub change: Change,
    /// The key that the row had before this change, where that is another one.
    pub moved_from: Option<String>,
}

impl RowEntry {
    /// Where it stands.
    pub fn position(&self) -> Position {
        match self {
            RowEntry::Change(it) => Position { index: it.change.seq, ..it.head.position() },
            RowEntry::Gap(position) => *position,
        }
    }
}

/// Entries in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowPage {
    /// Oldest first.
    pub entries: Vec<RowEntry>,
    /// Whether there is more before the position that bounded the read.
    pub has_more: bool,
}

/// Since when history has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// Everything of it that committed after this position is stored.
    pub after: Position,
    /// Whether the rows that existed then are stored too.
    pub baseline: bool,
}

impl History {
    /// The table that is called so now, else the one that was called so last, in its latest shape.
    pub async fn table_named(&self, name: &TableName) -> Result<Option<Arc<Table>>, Error> {
        let failed = |source| Error::Read { what: "a table by its name", source };
        let query = sqlx::query(TABLE_NAMED).bind(&name.schema).bind(&name.name);
        let Some(row) = query.fetch_optional(self.pool()).await.map_err(failed)? else { return Ok(None) };
        let oid = row.try_get::<Oid, _>(0).map_err(failed)?.0;
        self.table(oid, u32_at(&row, 1).map_err(failed)?).await.map(Some)
    }

    /// Since when history has a table; `None` when it has nothing of it.
    pub async fn history_from(&self, table_oid: u32) -> Result<Option<Since>, Error> {
        let failed = |source| Error::Read { what: "since when there is history", source };
        let query = sqlx::query(HISTORY_FROM).bind(Oid(table_oid));
        let Some(row) = query.fetch_optional(self.pool()).await.map_err(failed)? else { return Ok(None) };
        let since = || {
            let epoch = Epoch(row.try_get::<i32, _>(0)?.cast_unsigned());
            let after = Position::before(epoch, EndLsn(lsn_at(&row, 1)?));
            Ok(Since { after, baseline: row.try_get(2)? })
        };
        since().map(Some).map_err(failed)
    }

    /// What befell a row after `after` and at or before `upto`, `entries_max` entries and about `bytes_max` bytes of them at
    /// most, but one at least.
    pub async fn row_versions(
        &self,
        row: &RowId,
        after: Option<Position>,
        upto: Position,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<RowPage, Error> {
        let mut page = RowPage::default();
        let mut bytes = 0;
        for stretch in self.stretches(after, upto).await? {
            if page.entries.len() >= entries_max || bytes >= bytes_max {
                // There may be nothing more: the next page tells.
                page.has_more = true;
                return Ok(page);
            }
            let limit = (entries_max - page.entries.len()).saturating_add(1);
            let query = bound(ROW_VERSIONS, row, stretch.epoch)
                .bind(SqlLsn(stretch.from.0))
                .bind(stretch.from.1)
                .bind(SqlLsn(stretch.to.0))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(stretch.to.1);
            page.has_more = self
                .read_entries(query, stretch.epoch, entries_max, bytes_max, &mut bytes, &mut page.entries)
                .await?;
            if page.has_more {
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// The last that befell a row at or before `upto`. With `columns`: of updates, only one that tells one of these.
    pub async fn last_row_version(
        &self,
        row: &RowId,
        upto: Position,
        columns: &[String],
    ) -> Result<Option<RowEntry>, Error> {
        for stretch in self.stretches(None, upto).await?.into_iter().rev() {
            let query = bound(LAST_ROW_VERSION, row, stretch.epoch)
                .bind(SqlLsn(stretch.to.0))
                .bind(stretch.to.1)
                .bind(columns);
            let mut entries = Vec::new();
            self.read_entries(query, stretch.epoch, 1, usize::MAX, &mut 0, &mut entries).await?;
            if let Some(entry) = entries.pop() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Adds entries up to the bounds; whether there are more.
    async fn read_entries(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        epoch: Epoch,
        entries_max: usize,
        bytes_max: usize,
        bytes: &mut usize,
        entries: &mut Vec<RowEntry>,
    ) -> Result<bool, Error> {
        let failed = |source| Error::Read { what: "versions of a row", source };
        let mut read = Vec::new();
        let mut has_more = false;
        {
            let mut connection = self.pool().acquire().await.map_err(failed)?;
            let mut stream = query.fetch(&mut *connection);
            while let Some(row) = stream.try_next().await.map_err(failed)? {
                has_more = entries.len() + read.len() >= entries_max || *bytes >= bytes_max;
                if has_more {
                    break;
                }
                for image in [8, 9, 10] {
                    *bytes += length_at(&row, image).map_err(failed)?;
                }
                read.push(row);
            }
            drop(stream);
            if has_more && *bytes >= bytes_max {
                // Kept, the connection would receive all the rest before it is used again.
                connection.close_on_drop();
            }
        }
        for row in read {
            entries.push(self.entry(epoch, &row).await?);
        }
        Ok(has_more)
    }

    async fn entry(&self, epoch: Epoch, row: &PgRow) -> Result<RowEntry, Error> {
        let failed = |source| Error::Read { what: "versions of a row", source };
        if text_at(row, 6).map_err(failed)? == Some("gap") {
            return Ok(RowEntry::Gap(Position::whole(epoch, lsn_at(row, 0).map_err(failed)?)));
        }
        let moved_from = text_at(row, 13).map_err(failed)?.map(str::to_owned);
        let taken = PageBuilder::default().take_apart(epoch, row)?;
        let table = match taken.shape {
            Some((oid, version)) => Some(self.table(oid, version).await?),
            None => None,
        };
        let (head, change) = taken.into_parts();
        Ok(RowEntry::Change(Box::new(RowChange { head, change: Change { table, ..change }, moved_from })))
    }

    /// The stretches of epochs between two positions, oldest first, each without what did not survive.
    async fn stretches(&self, after: Option<Position>, upto: Position) -> Result<Vec<Stretch>, Error> {
        let lineage = self.lineage().await?;
        let spans = lineage
            .epochs()
            .iter()
            .filter(|span| span.epoch <= upto.epoch && after.is_none_or(|after| after.epoch <= span.epoch));
        Ok(spans
            .filter_map(|span| {
                let from = after.filter(|after| after.epoch == span.epoch);
                let bound = (upto.epoch == span.epoch).then_some(upto);
                Stretch::within(span.epoch, from, bound, span.end)
            })
            .collect())
    }
}

fn bound<'q>(sql: &'static str, row: &'q RowId, epoch: Epoch) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).bind(epoch.0.cast_signed()).bind(Oid(row.table_oid)).bind(&row.key)
}

/// Rows of one epoch: after `from` and up to `to`, each a commit LSN and a `seq` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    epoch: Epoch,
    from: (Lsn, i32),
    to: (Lsn, i32),
}

impl Stretch {
    /// `None` when nothing lies between.
    fn within(
        epoch: Epoch,
        after: Option<Position>,
        upto: Option<Position>,
        end: Option<EndLsn>,
    ) -> Option<Self> {
        let from = match after {
            None => (Lsn(0), -1),
            Some(after) => match i32::try_from(after.index) {
                Ok(seq) => (after.commit_lsn, seq),
                Err(_) => (Lsn(after.commit_lsn.0.checked_add(1)?), -1),
            },
        };
        let last =
            |position: Position| (position.commit_lsn, i32::try_from(position.index).unwrap_or(i32::MAX));
        let mut to = upto.map_or((Lsn(u64::MAX), i32::MAX), last);
        if let Some(end) = end {
            to = to.min(last(Position::before(epoch, end)));
        }
        (from < to).then_some(Stretch { epoch, from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_where_its_epoch_does() {
        let epoch = Epoch(1);
        let at = |lsn, index| Position { epoch, commit_lsn: Lsn(lsn), index };
        let stretch = |from: (u64, i32), to: (u64, i32)| {
            Some(Stretch { epoch, from: (Lsn(from.0), from.1), to: (Lsn(to.0), to.1) })
        };
        let (whole, end) = (Position::WHOLE, |lsn| Some(EndLsn(Lsn(lsn))));
        for (after, upto, ends, expected) in [
            (None, None, None, stretch((0, -1), (u64::MAX, i32::MAX))),
            (Some(at(10, whole)), Some(at(20, 3)), None, stretch((11, -1), (20, 3))),
            (Some(at(10, 4)), Some(at(10, 5)), None, stretch((10, 4), (10, 5))),
            (Some(at(10, 4)), Some(at(10, 4)), None, None),
            (Some(at(10, whole)), Some(at(10, whole)), None, None),
            (Some(at(10, whole)), None, end(20), stretch((11, -1), (19, i32::MAX))),
            (Some(at(10, whole)), Some(at(15, whole)), end(20), stretch((11, -1), (15, i32::MAX))),
            (Some(at(19, whole)), None, end(20), None),
            (Some(at(25, 0)), None, end(20), None),
        ] {
            assert_eq!(Stretch::within(epoch, after, upto, ends), expected, "{after:?} {upto:?} {ends:?}");
        }
    }
}
