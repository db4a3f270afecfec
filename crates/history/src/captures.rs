//! What is captured, since when and how far: the progress row and epochs.
//!
//! When a new epoch begins is not decided here.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

use crate::sql_row::{SqlLsn, lsn_at};
use crate::{CAPTURE_ID, Captured, Error, Head, History};

const CAPTURED: &str = include_str!("../../../sql/queries/captured.sql");
const BEGIN_CAPTURE: &str = include_str!("../../../sql/queries/begin_capture.sql");
/// A number for the next epoch.
pub(crate) const NEW_EPOCH: &str = include_str!("../../../sql/queries/new_epoch.sql");
const BEGIN_EPOCH: &str = include_str!("../../../sql/queries/begin_epoch.sql");
const FLOOR: &str = "SELECT floor_epoch, floor_lsn FROM waldelta.captures WHERE id = $1";
const EPOCHS_WITH_LSN: &str = include_str!("../../../sql/queries/epochs_with_lsn.sql");
const BASELINES: &str = "SELECT table_oid FROM waldelta.history_from WHERE baseline";

/// The first epoch where nobody chooses another.
const FIRST_EPOCH: Epoch = Epoch(1);

impl History {
    /// The source that is captured and the head, if capture was ever set up.
    pub async fn captured(&self) -> Result<Option<(Captured, Head)>, Error> {
        let failed = |source| Error::Read { what: "what is captured", source };
        let row = sqlx::query(CAPTURED).bind(CAPTURE_ID).fetch_optional(self.pool()).await.map_err(failed)?;
        row.map(|row| captured_of_row(&row).map_err(failed)?).transpose()
    }

    /// Sets up capture of a source, with epoch 1 as its first: see [`Self::begin_in`].
    pub async fn begin(&self, captured: &Captured, start: EndLsn, reason: &str) -> Result<Head, Error> {
        self.begin_in(FIRST_EPOCH, captured, start, reason).await
    }

    /// Sets up capture of a source with a first epoch that no history has had which began in another second, so that
    /// clients' cursors of a history that was dropped are not taken for cursors of this one.
    pub async fn begin_anew(&self, captured: &Captured, start: EndLsn, reason: &str) -> Result<Head, Error> {
        let epoch: i32 = sqlx::query_scalar(NEW_EPOCH).fetch_one(self.pool()).await.map_err(Error::Begin)?;
        self.begin_in(Epoch(epoch.cast_unsigned()), captured, start, reason).await
    }

    /// Sets up capture of a source: first epoch, progress row. Every position before `start` is unknown to history.
    pub async fn begin_in(
        &self,
        first: Epoch,
        captured: &Captured,
        start: EndLsn,
        reason: &str,
    ) -> Result<Head, Error> {
        if start.0 == Lsn(0) {
            return Err(Error::Unusable { what: "a start at LSN 0/0, which is no place in the WAL" });
        }
        let Some(epoch) = i32::try_from(first.0).ok().filter(|epoch| *epoch > 0) else {
            return Err(Error::Unusable { what: "an epoch of 0, or of 2^31 or more" });
        };
        let partition_bytes = i64::try_from(self.config().partition_bytes).unwrap_or(i64::MAX);
        let mut transaction = self.pool().begin().await.map_err(Error::Begin)?;
        let begun = sqlx::query(BEGIN_CAPTURE)
            .bind(CAPTURE_ID)
            .bind(captured.system_id.to_string())
            .bind(i64::from(captured.timeline))
            .bind(Oid(captured.database_oid))
            .bind(&captured.slot)
            .bind(&captured.publication)
            .bind(epoch)
            .bind(SqlLsn(start.0))
            .execute(&mut *transaction)
            .await
            .map_err(Error::Begin)?;
        if begun.rows_affected() == 0 {
            return Err(Error::AlreadyBegun);
        }
        sqlx::query(BEGIN_EPOCH)
            .bind(epoch)
            .bind(SqlLsn(start.0))
            .bind(partition_bytes)
            .bind(reason)
            .execute(&mut *transaction)
            .await
            .map_err(Error::Begin)?;
        transaction.commit().await.map_err(Error::Begin)?;
        let head = Head { epoch: first, durable_end: start };
        self.forget_tables();
        self.feed().restart_at(head);
        Ok(head)
    }

    /// The oldest cursor that can be resumed.
    pub async fn floor(&self) -> Result<Position, Error> {
        let failed = |source| Error::Read { what: "the oldest cursor", source };
        let row = sqlx::query(FLOOR).bind(CAPTURE_ID).fetch_optional(self.pool()).await.map_err(failed)?;
        let row = row.ok_or(Error::NotBegun)?;
        let epoch = Epoch(row.try_get::<i32, _>(0).map_err(failed)?.cast_unsigned());
        Ok(Position::before(epoch, EndLsn(lsn_at(&row, 1).map_err(failed)?)))
    }

    /// Object ids of the tables whose rows that existed when history began are stored.
    pub async fn baselines(&self) -> Result<HashSet<u32>, Error> {
        let tables: Vec<Oid> = sqlx::query_scalar(BASELINES)
            .fetch_all(self.pool())
            .await
            .map_err(|source| Error::Read { what: "which tables have a baseline", source })?;
        Ok(tables.into_iter().map(|oid| oid.0).collect())
    }

    /// Resolves a bare LSN K to the cursor that has everything committed strictly before it, if it lies in exactly
    /// one epoch's known range.
    pub async fn cursor_of_lsn(&self, lsn: Lsn) -> Result<Option<Position>, Error> {
        let epochs: Vec<i32> = sqlx::query_scalar(EPOCHS_WITH_LSN)
            .bind(CAPTURE_ID)
            .bind(SqlLsn(lsn))
            .fetch_all(self.pool())
            .await
            .map_err(|source| Error::Read { what: "epochs", source })?;
        Ok(match epochs[..] {
            [epoch] => Some(Position::before(Epoch(epoch.cast_unsigned()), EndLsn(lsn))),
            _ => None,
        })
    }
}

fn captured_of_row(row: &PgRow) -> Result<Result<(Captured, Head), Error>, sqlx::Error> {
    let system_id: String = row.try_get(0)?;
    let timeline: i64 = row.try_get(1)?;
    let (Ok(system_id), Ok(timeline)) = (system_id.parse(), u32::try_from(timeline)) else {
        return Ok(Err(Error::Corrupt { what: "identity of the source in captures".to_owned() }));
    };
    let captured = Captured {
        system_id,
        timeline,
        database_oid: row.try_get::<Oid, _>(2)?.0,
        slot: row.try_get(3)?,
        publication: row.try_get(4)?,
    };
    let epoch = Epoch(row.try_get::<i32, _>(5)?.cast_unsigned());
    Ok(Ok((captured, Head { epoch, durable_end: EndLsn(lsn_at(row, 6)?) })))
}
