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

use crate::answers::answer;
use crate::page::PageBuilder;
use crate::row_gaps::{GapStretch, RowGaps};
use crate::sql_row::{SqlLsn, length_at, lsn_at, text_at, u32_at};
use crate::{CAPTURE_ID, Error, History, Lineage};

const ROW_VERSIONS: &str = include_str!("../../../sql/queries/row_versions.sql");
const LAST_ROW_VERSION: &str = include_str!("../../../sql/queries/last_row_version.sql");
const TABLE_NAMED: &str = include_str!("../../../sql/queries/table_named.sql");
const HISTORY_FROM: &str = include_str!("../../../sql/queries/history_from.sql");

/// The rows of one table over time: its changes are read when they are asked for, its gaps and the epochs are known.
pub struct RowHistory<'h> {
    history: &'h History,
    table_oid: u32,
    lineage: Lineage,
    gaps: RowGaps,
    /// What is at or before it was pruned.
    pruned: Option<Position>,
}

/// Something that befell a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowEntry {
    /// A change: of the row, by which a row left this key, or of all rows of the table.
    Change(Box<RowChange>),
    /// Rows changed in a way that history has no changes of.
    Gap {
        /// From behind this position on.
        from: Position,
        /// Up to this one: what comes behind it tells rows as they are again. `None`: nothing does, as far as is known.
        until: Option<Position>,
    },
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
    /// Whether it lies in a gap: it tells the row as it was at this place, and not how it was before or how long it stayed so.
    pub in_gap: bool,
}

impl RowEntry {
    /// Where it stands.
    pub fn position(&self) -> Position {
        match self {
            RowEntry::Change(it) => Position { index: it.change.seq, ..it.head.position() },
            RowEntry::Gap { from, .. } => *from,
        }
    }
}

impl From<GapStretch> for RowEntry {
    fn from(GapStretch { from, until }: GapStretch) -> Self {
        RowEntry::Gap { from, until }
    }
}

/// Entries in order.
#[derive(Clone, Debug, PartialEq)]
pub struct RowPage {
    /// Oldest first.
    pub entries: Vec<RowEntry>,
    /// Everything up to here is in it.
    pub through: Position,
    /// Whether there may be more before the position that bounded the read.
    pub has_more: bool,
}

/// What befell a row last.
#[derive(Clone, Debug, PartialEq)]
pub enum Last {
    /// This.
    Entry(RowEntry),
    /// Nothing.
    Nothing,
    /// Nothing after this position; what was before was not looked at, because no reads were left.
    Unread(Position),
}

/// What may still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Queries, each by an index.
    pub queries: usize,
    /// Bytes of images, about: the last read may go beyond.
    pub bytes: usize,
}

impl Reads {
    /// Whether there was one left for a query.
    fn take_query(&mut self) -> bool {
        let is_left = self.queries > 0 && self.bytes > 0;
        self.queries = self.queries.saturating_sub(1);
        is_left
    }
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
        let query = sqlx::query(HISTORY_FROM).bind(Oid(table_oid)).bind(CAPTURE_ID);
        let Some(row) = query.fetch_optional(self.pool()).await.map_err(failed)? else { return Ok(None) };
        let since = || {
            let epoch = Epoch(row.try_get::<i32, _>(0)?.cast_unsigned());
            let after = Position::before(epoch, EndLsn(lsn_at(&row, 1)?));
            Ok(Since { after, baseline: row.try_get(2)? })
        };
        since().map(Some).map_err(failed)
    }

    /// The rows of a table, with the gaps that are known by now. Refused while indexes are being built.
    pub async fn rows(&self, table_oid: u32) -> Result<RowHistory<'_>, Error> {
        self.require_indexes().await?;
        let lineage = self.lineage().await?;
        let gaps = self.row_gaps(table_oid, &lineage).await?;
        let pruned = self.pruned().await?.map(|pruned| pruned.upto);
        Ok(RowHistory { history: self, table_oid, lineage, gaps, pruned })
    }
}

impl RowHistory<'_> {
    /// The last position of what was pruned: what befell rows up to there is not known any more.
    pub fn pruned(&self) -> Option<Position> {
        self.pruned
    }

    /// What befell the row of this key after `after`, or since there is history, and at or before `upto`, `entries_max` entries
    /// at most, which are 1 or more, and at least one where there is one within the reads.
    ///
    /// # Errors
    /// [`Error::Pruned`] where something after `after` was pruned, also while it was read.
    pub async fn versions(
        &self,
        key: &str,
        after: Option<Position>,
        upto: Position,
        entries_max: usize,
        reads: &mut Reads,
    ) -> Result<RowPage, Error> {
        let after = after.or(self.pruned);
        let mut page = RowPage { entries: Vec::new(), through: upto, has_more: false };
        let mut through = after.unwrap_or_default();
        for stretch in self.stretches(after, upto) {
            if page.entries.len() >= entries_max || !reads.take_query() {
                // There may be nothing more: the next page tells.
                (page.through, page.has_more) = (through, true);
                break;
            }
            let limit = (entries_max - page.entries.len()).saturating_add(1);
            let query = bound(ROW_VERSIONS, stretch.epoch, self.table_oid, key)
                .bind(SqlLsn(stretch.from.0))
                .bind(stretch.from.1)
                .bind(SqlLsn(stretch.to.0))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(stretch.to.1);
            if self.read_entries(query, stretch.epoch, entries_max, reads, &mut page.entries).await? {
                (page.through, page.has_more) =
                    (page.entries.last().map_or(through, RowEntry::position), true);
                break;
            }
            through = stretch.last();
        }
        self.require_kept(after).await?;
        self.add_gaps(&mut page, after, entries_max);
        Ok(page)
    }

    /// To be asked after reading what lies after a position.
    async fn require_kept(&self, after: Option<Position>) -> Result<(), Error> {
        // Where history had a beginning of its own, anything that was pruned was after it.
        self.history.require_kept(after.unwrap_or_default()).await
    }

    /// Puts the beginnings of gaps in their places.
    fn add_gaps(&self, page: &mut RowPage, after: Option<Position>, entries_max: usize) {
        let gaps = self.gaps.between(after, page.through);
        page.entries.extend(gaps.iter().take(entries_max).map(|gap| RowEntry::from(*gap)));
        page.entries.sort_by_key(RowEntry::position);
        if page.entries.len() > entries_max || gaps.len() > entries_max {
            page.entries.truncate(entries_max);
            page.has_more = true;
            page.through = page.entries.last().map_or(page.through, RowEntry::position);
        }
    }

    /// The last that befell the row of this key at or before `upto`, as far as it was not pruned. With `columns`: of updates, only
    /// one that tells one of these.
    ///
    /// # Errors
    /// [`Error::Pruned`] where `upto` lies in what was pruned, and where what was found, or what was looked through, was pruned
    /// meanwhile.
    pub async fn last_version(
        &self,
        key: &str,
        upto: Position,
        columns: &[String],
        reads: &mut Reads,
    ) -> Result<Last, Error> {
        let found = self.find_last_version(key, upto, columns, reads).await?;
        // What it rests on: what was found, and where nothing was, what would have been may have gone meanwhile.
        let rests_on = match &found {
            Last::Entry(entry @ RowEntry::Change(_)) => entry.position(),
            Last::Entry(RowEntry::Gap { until, .. }) => until.unwrap_or(upto),
            Last::Nothing => self.pruned.unwrap_or_default(),
            Last::Unread(at) => *at,
        };
        self.history.require_kept(rests_on.min(upto)).await?;
        Ok(found)
    }

    async fn find_last_version(
        &self,
        key: &str,
        upto: Position,
        columns: &[String],
        reads: &mut Reads,
    ) -> Result<Last, Error> {
        // What stands before the end of a gap says nothing of what is behind it.
        let mut gap = self.gaps.last(upto);
        let mut after = match gap {
            Some(GapStretch { until: Some(until), .. }) if until < upto => Some(until),
            Some(gap) => return Ok(Last::Entry(gap.into())),
            None => None,
        };
        // Of what lies before the place up to which was pruned, some rows are there and some are not.
        if after < self.pruned {
            (after, gap) = (self.pruned, None);
        }
        for stretch in self.stretches(after, upto).into_iter().rev() {
            if !reads.take_query() {
                return Ok(Last::Unread(stretch.last()));
            }
            let query = bound(LAST_ROW_VERSION, stretch.epoch, self.table_oid, key)
                .bind(SqlLsn(stretch.from.0))
                .bind(stretch.from.1)
                .bind(SqlLsn(stretch.to.0))
                .bind(stretch.to.1)
                .bind(columns);
            let mut entries = Vec::new();
            self.read_entries(query, stretch.epoch, 1, reads, &mut entries).await?;
            if let Some(entry) = entries.pop() {
                return Ok(Last::Entry(entry));
            }
        }
        Ok(gap.map_or(Last::Nothing, |gap| Last::Entry(gap.into())))
    }

    /// Adds entries up to the bounds; whether there are more.
    async fn read_entries(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        epoch: Epoch,
        entries_max: usize,
        reads: &mut Reads,
        entries: &mut Vec<RowEntry>,
    ) -> Result<bool, Error> {
        let failed = |source| Error::Read { what: "versions of a row", source };
        let mut read = Vec::new();
        let mut has_more = false;
        {
            let mut connection = self.history.pool().acquire().await.map_err(failed)?;
            let mut stream = query.fetch(&mut *connection);
            while let Some(row) = answer(stream.try_next()).await.map_err(failed)? {
                has_more = entries.len() + read.len() >= entries_max || reads.bytes == 0;
                if has_more {
                    break;
                }
                for image in [8, 9, 10] {
                    reads.bytes = reads.bytes.saturating_sub(length_at(&row, image).map_err(failed)?);
                }
                read.push(row);
            }
            drop(stream);
            if has_more && entries.len() + read.len() < entries_max {
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
        let moved_from = text_at(row, 13).map_err(failed)?.map(str::to_owned);
        let taken = PageBuilder::default().take_apart(epoch, row)?;
        let table = match taken.shape {
            Some((oid, version)) => Some(self.history.table(oid, version).await?),
            None => None,
        };
        let (head, change) = taken.into_parts();
        let in_gap = self.gaps.has(Position { index: change.seq, ..head.position() });
        let change = Change { table, ..change };
        Ok(RowEntry::Change(Box::new(RowChange { head, change, moved_from, in_gap })))
    }

    /// The stretches of epochs between two positions, oldest first, each without what did not survive.
    fn stretches(&self, after: Option<Position>, upto: Position) -> Vec<Stretch> {
        let spans =
            self.lineage.epochs().iter().filter(|span| {
                span.epoch <= upto.epoch && after.is_none_or(|after| after.epoch <= span.epoch)
            });
        spans
            .filter_map(|span| {
                let from = after.filter(|after| after.epoch == span.epoch);
                let bound = (upto.epoch == span.epoch).then_some(upto);
                Stretch::within(span.epoch, from, bound, span.end)
            })
            .collect()
    }
}

fn bound<'q>(
    sql: &'static str,
    epoch: Epoch,
    table_oid: u32,
    key: &'q str,
) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).bind(epoch.0.cast_signed()).bind(Oid(table_oid)).bind(key)
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

    /// The last position in it.
    fn last(&self) -> Position {
        let index = match self.to.1 {
            i32::MAX => Position::WHOLE,
            index => index.cast_unsigned(),
        };
        Position { epoch: self.epoch, commit_lsn: self.to.0, index }
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
            let found = Stretch::within(epoch, after, upto, ends);
            assert_eq!(found, expected, "{after:?} {upto:?} {ends:?}");
            if let (Some(found), Some(upto), None) = (found, upto, ends) {
                assert_eq!(found.last(), upto);
            }
        }
    }
}
