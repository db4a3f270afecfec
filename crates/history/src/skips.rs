//! Orders of an operator to leave something out. They wait in history until capture comes to their place.
//!
//! An order changes nothing by itself: what is left out, and what stands in its place, is not decided here.

use sqlx::Row;
use sqlx::postgres::PgRow;
use waldelta_wal::{Lsn, Skip};

use crate::audit::{self, AuditEntry};
use crate::sql_row::{SqlLsn, lsn_at};
use crate::{CAPTURE_ID, Error, History};

const ORDER: &str = include_str!("../../../sql/queries/order_skip.sql");
const LIST: &str = include_str!("../../../sql/queries/list_skips.sql");
const FORGET: &str = include_str!("../../../sql/queries/forget_skip.sql");

/// Orders that wait at most: those that come first.
const LISTED_MAX: i64 = 10_000;
/// Bytes of who and why at most, each.
const TEXT_BYTES_MAX: usize = 10_000;

impl History {
    /// Orders that a change (`seq`), or a whole transaction, be left out. `lsn` is its commit LSN in the current epoch; it must
    /// not be durable yet. Ordering the same again replaces who and why.
    ///
    /// # Errors
    /// [`Error::SkipPassed`] when `lsn` lies below the durable end, [`Error::NotBegun`] when there is no history.
    pub async fn order_skip(&self, skip: &Skip) -> Result<(), Error> {
        if skip.by.len() > TEXT_BYTES_MAX || skip.why.len() > TEXT_BYTES_MAX {
            return Err(Error::Unusable { what: "more than 10,000 bytes of who skips and why" });
        }
        let mut transaction = self.pool().begin().await.map_err(Error::OrderSkip)?;
        let ordered = sqlx::query(ORDER)
            .bind(CAPTURE_ID)
            .bind(SqlLsn(skip.lsn))
            .bind(stored_seq(skip.seq)?)
            .bind(&skip.by)
            .bind(&skip.why)
            .execute(&mut *transaction)
            .await
            .map_err(Error::OrderSkip)?;
        if ordered.rows_affected() == 1 {
            let entry = AuditEntry::of_skip(skip);
            let entry = std::slice::from_ref(&entry);
            audit::write(&mut *transaction, entry).await.map_err(Error::OrderSkip)?;
            transaction.commit().await.map_err(Error::OrderSkip)?;
            entry.iter().for_each(AuditEntry::log);
            return Ok(());
        }
        drop(transaction);
        let (_, head) = self.captured().await?.ok_or(Error::NotBegun)?;
        Err(Error::SkipPassed { lsn: skip.lsn, durable_end: head.durable_end })
    }

    /// The orders that were not reached yet: those of the current epoch at or after the durable end, in the order of their
    /// places; at most 10,000.
    pub async fn skips(&self) -> Result<Vec<Skip>, Error> {
        let failed = |source| Error::Read { what: "what is to be skipped", source };
        let listed = sqlx::query(LIST).bind(CAPTURE_ID).bind(LISTED_MAX).fetch_all(self.pool()).await;
        listed.map_err(failed)?.iter().map(skip).collect::<Result<_, _>>().map_err(failed)
    }

    /// Takes an order back. False when there is none that waits.
    pub async fn forget_skip(&self, lsn: Lsn, seq: Option<u32>) -> Result<bool, Error> {
        let forgotten = sqlx::query(FORGET)
            .bind(CAPTURE_ID)
            .bind(SqlLsn(lsn))
            .bind(stored_seq(seq)?)
            .execute(self.pool())
            .await
            .map_err(Error::OrderSkip)?;
        Ok(forgotten.rows_affected() == 1)
    }
}

/// The column is a signed integer.
fn stored_seq(seq: Option<u32>) -> Result<Option<i32>, Error> {
    let too_many = |_| Error::Unusable { what: "a change whose number in its transaction is 2^31 or more" };
    seq.map(i32::try_from).transpose().map_err(too_many)
}

fn skip(row: &PgRow) -> Result<Skip, sqlx::Error> {
    Ok(Skip {
        lsn: lsn_at(row, 0)?,
        seq: row.try_get::<Option<i32>, _>(1)?.map(i32::cast_unsigned),
        by: row.try_get(2)?,
        why: row.try_get(3)?,
    })
}
