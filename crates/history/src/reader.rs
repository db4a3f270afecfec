//! Reading history back, in order, in pages.
//!
//! A page is cut by rows and by bytes, both in the database, so that neither a transaction of a million rows nor a row of
//! a hundred megabytes makes a page unbounded. Images come back as jsonb prints them: the same values as in the feed,
//! with other spaces and another order of keys.

use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use waldelta_wal::{Epoch, Lsn, PgSnapshot, Position, Table};

use crate::page::{ChangeRow, Page, PageBuilder, ReadLimit};
use crate::shapes::StoredTable;
use crate::sql_row::{SqlLsn, length_at, u64_at};
use crate::{Error, History, metrics};

const READ_AFTER: &str = include_str!("../../../sql/queries/read_after.sql");
const XIDS_UNSEEN: &str = include_str!("../../../sql/queries/xids_unseen.sql");
const LATEST_TABLES: &str = include_str!("../../../sql/queries/latest_tables.sql");
const TABLE_VERSION: &str = include_str!("../../../sql/queries/table_version.sql");
const EPOCHS_BETWEEN: &str = "SELECT epoch FROM waldelta.epochs WHERE epoch BETWEEN $1 AND $2 ORDER BY epoch";

/// Transactions that [`History::xids_unseen_by`] gives at most. Each is held up by a backend or a prepared transaction of
/// the source, so that there are never as many.
const XIDS_MAX: usize = 1_000_000;

/// The database cuts a page by the size that it stores, which is compressed. What comes out may be this much more; beyond
/// it the page ends early.
const INFLATION_MAX: usize = 4;

impl History {
    /// Changes after `after` and at or before `upto`, in order. A page may end inside a transaction: then the last
    /// change's position is where to go on. A transaction that `upto` lies inside of is not read.
    pub async fn read_after(&self, after: Position, upto: Position, limit: ReadLimit) -> Result<Page, Error> {
        let mut builder = PageBuilder::default();
        let mut cut = false;
        for epoch in self.epochs_between(after.epoch, upto.epoch).await? {
            let Some(left) = builder.left(limit).filter(|_| !builder.has_more()) else {
                cut = true;
                break;
            };
            if let Some(range) = Range::within(epoch, after, upto) {
                self.read_epoch(epoch, range, left, &mut builder).await?;
            }
        }
        metrics::page_read(builder.rows());
        Ok(builder.finish(cut))
    }

    /// Almost always one: only a read across a new incarnation of the source asks.
    async fn epochs_between(&self, first: Epoch, last: Epoch) -> Result<Vec<Epoch>, Error> {
        if first >= last {
            return Ok(if first == last { vec![first] } else { Vec::new() });
        }
        // Epochs are stored in a signed column; a cursor can carry any number.
        let bound = |epoch: Epoch| i32::try_from(epoch.0).unwrap_or(i32::MAX);
        let epochs: Vec<i32> = sqlx::query_scalar(EPOCHS_BETWEEN)
            .bind(bound(first))
            .bind(bound(last))
            .fetch_all(self.pool())
            .await
            .map_err(|source| Error::Read { what: "epochs", source })?;
        Ok(epochs.into_iter().map(|epoch| Epoch(epoch.cast_unsigned())).collect())
    }

    async fn read_epoch(
        &self,
        epoch: Epoch,
        range: Range,
        limit: ReadLimit,
        builder: &mut PageBuilder,
    ) -> Result<(), Error> {
        // Most changes have the shape of the one before.
        let mut last: Option<Arc<Table>> = None;
        for row in self.rows_of_page(epoch, range, limit, builder).await? {
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
        epoch: Epoch,
        range: Range,
        limit: ReadLimit,
        builder: &mut PageBuilder,
    ) -> Result<Vec<ChangeRow>, Error> {
        let failed = |source| Error::Read { what: "changes", source };
        let mut connection = self.pool().acquire().await.map_err(failed)?;
        let mut stream = sqlx::query(READ_AFTER)
            .bind(epoch.0.cast_signed())
            .bind(SqlLsn(range.from_lsn))
            .bind(range.from_seq)
            .bind(SqlLsn(range.to_lsn))
            .bind(i64::from(limit.changes_max))
            .bind(i64::try_from(limit.bytes_max).unwrap_or(i64::MAX))
            .fetch(&mut *connection);
        let (mut rows, mut bytes, mut overflows) = (Vec::new(), 0, false);
        while let Some(row) = stream.try_next().await.map_err(failed)? {
            for image in [8, 9, 10] {
                bytes += length_at(&row, image).map_err(failed)?;
            }
            rows.push(builder.take_apart(epoch, &row)?);
            overflows = bytes > limit.bytes_max.saturating_mul(INFLATION_MAX);
            if overflows {
                break;
            }
        }
        drop(stream);
        if overflows {
            // What else was asked for can be thousands of rows as large as this one. Kept, the connection would receive
            // all of it before it is used again.
            connection.close_on_drop();
        }
        Ok(rows)
    }

    /// Ids of the transactions that history holds at or below `upto`, of its epoch, and that this snapshot of the source
    /// does not show: those in progress in it, and those at or above its `xmax`, of which none is listed in it.
    ///
    /// # Errors
    /// [`Error::AheadOfSource`] when there are more than a source that history follows can have.
    pub async fn xids_unseen_by(&self, snapshot: &PgSnapshot, upto: Position) -> Result<Vec<u64>, Error> {
        let failed = |source| Error::Read { what: "transaction ids", source };
        let Some(to_lsn) = last_whole_lsn(upto) else { return Ok(Vec::new()) };
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
    /// `None` when there is nothing of this epoch between the two.
    fn within(epoch: Epoch, after: Position, upto: Position) -> Option<Self> {
        let (from_lsn, from_seq) = match (after.epoch == epoch, i32::try_from(after.index)) {
            (false, _) => (Lsn(0), -1),
            (true, Ok(seq)) => (after.commit_lsn, seq),
            // The whole transaction: going on at the next LSN spares the scan its rows.
            (true, Err(_)) => (Lsn(after.commit_lsn.0.checked_add(1)?), -1),
        };
        let to_lsn = if upto.epoch == epoch { last_whole_lsn(upto)? } else { Lsn(u64::MAX) };
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
        for (epoch, after, upto, expected) in [
            (1, at(1, 10, whole), at(1, 20, whole), range(11, -1, 20)),
            (1, at(1, 10, 5), at(1, 20, whole), range(10, 5, 20)),
            (1, at(1, 10, 5), at(1, 20, 3), range(10, 5, 19)),
            (1, at(1, 10, whole), at(1, 10, whole), None),
            (1, at(1, 10, 5), at(1, 10, 7), None),
            (1, at(1, u64::MAX, whole), at(1, u64::MAX, whole), None),
            (1, at(1, 10, whole), at(3, 20, whole), range(11, -1, u64::MAX)),
            (2, at(1, 10, whole), at(3, 20, whole), range(0, -1, u64::MAX)),
            (3, at(1, 10, whole), at(3, 20, whole), range(0, -1, 20)),
            (3, at(1, 10, whole), at(3, 0, 0), None),
        ] {
            assert_eq!(Range::within(Epoch(epoch), after, upto), expected, "{epoch} {after} {upto}");
        }
    }
}
