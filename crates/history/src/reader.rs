//! Reading history back, in order, in pages.
//!
//! A page is cut by rows and by bytes, both in the database, so that neither a transaction of a million rows nor a row of
//! a hundred megabytes makes a page unbounded. Images come back as jsonb prints them: the same values as in the feed,
//! with other spaces and another order of keys.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use waldelta_wal::{EndLsn, Epoch, Lsn, PgSnapshot, Position, Table, TableName};

use crate::answers::answer;
use crate::page::{ChangeRow, Page, PageBuilder, ReadLimit};
use crate::shapes::StoredTable;
use crate::sql_row::{SqlLsn, length_at, optional_lsn_at, u64_at};
use crate::{Error, History, metrics, pruned};

const READ_AFTER: &str = include_str!("../../../sql/queries/read_after.sql");
const XIDS_UNSEEN: &str = include_str!("../../../sql/queries/xids_unseen.sql");
const LATEST_TABLES: &str = include_str!("../../../sql/queries/latest_tables.sql");
const TABLES_OF_NAMES: &str = include_str!("../../../sql/queries/tables_of_names.sql");
const TABLE_VERSION: &str = include_str!("../../../sql/queries/table_version.sql");
const EPOCH_END: &str = include_str!("../../../sql/queries/epoch_end.sql");

/// Transactions that [`History::xids_unseen_by`] gives at most. Each is held up by a backend or a prepared transaction of
/// the source, so that there are never as many.
const XIDS_MAX: usize = 1_000_000;

/// The database cuts a page by the size that it stores, which is compressed. What comes out may be this much more; beyond
/// it the page ends early.
const INFLATION_MAX: usize = 4;

impl History {
    /// Changes of `after`'s epoch after `after` and at or before `upto`, in order. A page may end inside a transaction: then
    /// the last change's position is where to go on. A transaction that `upto` lies inside of is not read.
    ///
    /// Where `upto` lies in a later epoch, the rest of `after`'s epoch is read and no further: a page without more has come to
    /// its [last position](crate::Lineage::last_position), and whoever can go on does so at the [seam](crate::Lineage::seam).
    /// What did not survive the end of an epoch is never read. Of an epoch that history does not know there is nothing.
    ///
    /// # Errors
    /// [`Error::Pruned`] where something after `after` was pruned, also while it was read.
    pub async fn read_after(&self, after: Position, upto: Position, limit: ReadLimit) -> Result<Page, Error> {
        let mut builder = PageBuilder::default();
        if let Some(end) = self.readable_end(after.epoch, upto.epoch).await?
            && let Some(range) = Range::within(after, upto, end)
        {
            self.read_epoch(after, range, limit, &mut builder).await?;
        }
        metrics::page_read(builder.rows());
        Ok(builder.finish())
    }

    /// Where this epoch ends for a read up to another one, if it has ended; `None` when there is no such epoch. Almost always it
    /// is the current one, which costs nothing to know.
    async fn readable_end(&self, epoch: Epoch, upto: Epoch) -> Result<Option<Option<EndLsn>>, Error> {
        if epoch == upto && epoch == self.feed().head().epoch {
            return Ok(Some(None));
        }
        // Epochs are stored in a signed column; a cursor can carry any number.
        let Ok(stored) = i32::try_from(epoch.0) else { return Ok(None) };
        let failed = |source| Error::Read { what: "epochs", source };
        let row = sqlx::query(EPOCH_END).bind(stored).fetch_optional(self.pool()).await.map_err(failed)?;
        row.map(|row| Ok(optional_lsn_at(&row, 0)?.map(EndLsn))).transpose().map_err(failed)
    }

    async fn read_epoch(
        &self,
        after: Position,
        range: Range,
        limit: ReadLimit,
        builder: &mut PageBuilder,
    ) -> Result<(), Error> {
        // Most changes have the shape of the one before.
        let mut last: Option<Arc<Table>> = None;
        for row in self.rows_of_page(after, range, limit, builder).await? {
            let table = match (row.shape, last.take()) {
                (None, _) => None,
                (Some(shape), Some(table)) if (table.oid, table.version) == shape => Some(table),
                (Some((oid, version)), _) => Some(self.table(oid, version).await?),
            };
            last.clone_from(&table);
            builder.add(row, table);
        }
        Ok(())
    }

    /// The connection is given back before anything else is asked for: readers that each held one while waiting for
    /// another would wait for each other.
    async fn rows_of_page(
        &self,
        after: Position,
        range: Range,
        limit: ReadLimit,
        builder: &mut PageBuilder,
    ) -> Result<Vec<ChangeRow>, Error> {
        let failed = |source| Error::Read { what: "changes", source };
        let mut connection = self.pool().acquire().await.map_err(failed)?;
        let mut stream = sqlx::query(READ_AFTER)
            .bind(after.epoch.0.cast_signed())
            .bind(SqlLsn(range.from_lsn))
            .bind(range.from_seq)
            .bind(SqlLsn(range.to_lsn))
            .bind(i64::from(limit.changes_max.max(1)))
            .bind(i64::try_from(limit.bytes_max.max(1)).unwrap_or(i64::MAX))
            .fetch(&mut *connection);
        let (mut rows, mut bytes, mut overflows) = (Vec::new(), 0, false);
        while let Some(row) = answer(stream.try_next()).await.map_err(failed)? {
            for image in [8, 9, 10] {
                bytes += length_at(&row, image).map_err(failed)?;
            }
            rows.push(builder.take_apart(after.epoch, &row)?);
            overflows = bytes > limit.bytes_max.max(1).saturating_mul(INFLATION_MAX);
            if overflows {
                break;
            }
        }
        drop(stream);
        if overflows {
            // What else was asked for can be thousands of rows as large as this one. Kept, the connection would receive
            // all of it before it is used again.
            connection.close_on_drop();
            drop(connection);
            self.require_kept(after).await?;
        } else {
            pruned::require_kept(&mut *connection, after).await?;
        }
        Ok(rows)
    }

    /// Ids of the transactions that history holds at or below `upto`, of its epoch, and that this snapshot of the source
    /// does not show: those in progress in it, and those at or above its `xmax`, of which none is listed in it.
    ///
    /// Only the current epoch is asked about. What survived of one that has ended was there before the source took over, so that
    /// every snapshot of it shows that; and what did not survive may have its transaction ids from another numbering.
    ///
    /// # Errors
    /// [`Error::AheadOfSource`] when there are more than a source that history follows can have.
    pub async fn xids_unseen_by(&self, snapshot: &PgSnapshot, upto: Position) -> Result<Vec<u64>, Error> {
        let failed = |source| Error::Read { what: "transaction ids", source };
        let Some(to_lsn) = last_whole_lsn(upto) else { return Ok(Vec::new()) };
        if upto.epoch < self.feed().head().epoch {
            return Ok(Vec::new());
        }
        let stored = |xid: u64| i64::try_from(xid).unwrap_or(i64::MAX);
        let in_progress: Vec<i64> = snapshot.in_progress().iter().map(|xid| stored(*xid)).collect();
        let rows = sqlx::query(XIDS_UNSEEN)
            .bind(stored(snapshot.xmax()))
            .bind(in_progress)
            .bind(i32::try_from(upto.epoch.0).unwrap_or(i32::MAX))
            .bind(SqlLsn(to_lsn))
            .bind(XIDS_MAX as i64 + 1)
            .fetch_all(self.pool())
            .await
            .map_err(failed)?;
        if rows.len() > XIDS_MAX {
            return Err(Error::AheadOfSource { xmax: snapshot.xmax() });
        }
        rows.iter().filter_map(|row| u64_at(row, 0).transpose()).collect::<Result<_, _>>().map_err(failed)
    }

    /// The latest version of each captured table's shape.
    pub async fn tables(&self) -> Result<Vec<Arc<Table>>, Error> {
        let rows = sqlx::query(LATEST_TABLES)
            .fetch_all(self.pool())
            .await
            .map_err(|source| Error::Read { what: "tables", source })?;
        let tables = rows.iter().map(|row| stored_table(row)?.into_table().map(Arc::new));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        self.remember(tables.clone());
        Ok(tables)
    }

    /// All versions of the shapes of the tables that have these names, or had them.
    pub async fn tables_of_names(&self, names: &BTreeSet<TableName>) -> Result<Vec<Arc<Table>>, Error> {
        let schemas: Vec<&str> = names.iter().map(|name| &*name.schema).collect();
        let tables: Vec<&str> = names.iter().map(|name| &*name.name).collect();
        let rows = sqlx::query(TABLES_OF_NAMES)
            .bind(schemas)
            .bind(tables)
            .fetch_all(self.pool())
            .await
            .map_err(|source| Error::Read { what: "tables", source })?;
        rows.iter().map(|row| stored_table(row)?.into_table().map(Arc::new)).collect()
    }

    /// One version of a table's shape: each is read from the database once.
    pub async fn table(&self, oid: u32, version: u32) -> Result<Arc<Table>, Error> {
        if let Some(table) = self.known_table(oid, version) {
            return Ok(table);
        }
        let row = sqlx::query(TABLE_VERSION)
            .bind(Oid(oid))
            .bind(version.cast_signed())
            .fetch_optional(self.pool())
            .await
            .map_err(|source| Error::Read { what: "a table's shape", source })?;
        let missing =
            || Error::Corrupt { what: format!("version {version} of table {oid} is not in table_schemas") };
        let table = Arc::new(stored_table(&row.ok_or_else(missing)?)?.into_table()?);
        self.remember(vec![Arc::clone(&table)]);
        Ok(table)
    }
}

fn stored_table(row: &PgRow) -> Result<StoredTable, Error> {
    let stored = || {
        Ok(StoredTable {
            oid: row.try_get::<Oid, _>(0)?.0,
            version: row.try_get(1)?,
            schema: row.try_get(2)?,
            name: row.try_get(3)?,
            columns: row.try_get(4)?,
            key: row.try_get(5)?,
            identity: row.try_get(6)?,
        })
    };
    stored().map_err(|source| Error::Read { what: "a table's shape", source })
}

/// The rows of one epoch that a read is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// Rows of this commit LSN have a `seq` above `from_seq`.
    from_lsn: Lsn,
    from_seq: i32,
    /// The last commit LSN.
    to_lsn: Lsn,
}

impl Range {
    /// `None` when there is nothing of `after`'s epoch, which ends at `end`, between the two.
    fn within(after: Position, upto: Position, end: Option<EndLsn>) -> Option<Self> {
        let (from_lsn, from_seq) = match i32::try_from(after.index) {
            Ok(seq) => (after.commit_lsn, seq),
            // The whole transaction: going on at the next LSN spares the scan its rows.
            Err(_) => (Lsn(after.commit_lsn.0.checked_add(1)?), -1),
        };
        let bound = match upto.epoch.cmp(&after.epoch) {
            Ordering::Less => return None,
            Ordering::Equal => last_whole_lsn(upto)?,
            Ordering::Greater => Lsn(u64::MAX),
        };
        let to_lsn = match end {
            Some(end) => bound.min(last_whole_lsn(Position::before(after.epoch, end))?),
            None => bound,
        };
        (from_lsn <= to_lsn).then_some(Range { from_lsn, from_seq, to_lsn })
    }
}

/// Commit LSN of the last transaction that can lie wholly at or below `upto`.
fn last_whole_lsn(upto: Position) -> Option<Lsn> {
    if upto.is_whole() { Some(upto.commit_lsn) } else { upto.commit_lsn.0.checked_sub(1).map(Lsn) }
}

/// The statement of [`History::read_after`], for tests that look at its plan.
#[doc(hidden)]
pub const READ_AFTER_SQL: &str = READ_AFTER;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, lsn: u64, index: u32) -> Position {
        Position { epoch: Epoch(epoch), commit_lsn: Lsn(lsn), index }
    }

    #[test]
    fn a_range_is_after_one_position_and_holds_whole_transactions_up_to_the_other() {
        let whole = Position::WHOLE;
        let range = |from_lsn, from_seq, to_lsn| {
            Some(Range { from_lsn: Lsn(from_lsn), from_seq, to_lsn: Lsn(to_lsn) })
        };
        let end = |lsn| Some(EndLsn(Lsn(lsn)));
        for (after, upto, end, expected) in [
            (at(1, 10, whole), at(1, 20, whole), None, range(11, -1, 20)),
            (at(1, 10, 5), at(1, 20, whole), None, range(10, 5, 20)),
            (at(1, 10, 5), at(1, 20, 3), None, range(10, 5, 19)),
            (at(1, 10, whole), at(1, 10, whole), None, None),
            (at(1, 10, 5), at(1, 10, 7), None, None),
            (at(1, u64::MAX, whole), at(1, u64::MAX, whole), None, None),
            // What did not survive begins at the end.
            (at(1, 10, whole), at(1, 20, whole), end(20), range(11, -1, 19)),
            (at(1, 10, whole), at(1, 15, whole), end(20), range(11, -1, 15)),
            (at(1, 19, whole), at(1, 20, whole), end(20), None),
            (at(1, 19, 0), at(1, 20, whole), end(20), range(19, 0, 19)),
            (at(1, 25, whole), at(1, 30, whole), end(20), None),
            // The rest of the epoch, and nothing of the next.
            (at(1, 10, whole), at(3, 5, whole), end(20), range(11, -1, 19)),
            (at(1, 10, whole), at(3, 0, 0), None, range(11, -1, u64::MAX)),
            (at(3, 10, whole), at(1, 20, whole), None, None),
        ] {
            assert_eq!(Range::within(after, upto, end), expected, "{after} {upto} {end:?}");
        }
    }
}
