//! Up to where history was pruned, and the rule by which no reader misses that.
//!
//! What is removed and the place up to which it is move in one SQL transaction, the place never after what is removed. So whoever has
//! read asks for that place afterwards, in a statement of its own: where it lies at or before the place from which was read,
//! nothing that was read about had been removed when the reading began. The same statement cannot tell both. Its snapshot may be
//! from before a removal that it then had to wait for, and would show the place from before it beside rows that are gone.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row};
use waldelta_wal::{EndLsn, Epoch, Position};

use crate::answers::answer;
use crate::lease::Taken;
use crate::link::Link;
use crate::partition::Partitions;
use crate::sql_row::{optional_lsn_at, optional_time_us_at};
use crate::{CAPTURE_ID, Error, History};

const PRUNED: &str = "SELECT pruned_epoch, pruned_lsn, pruned_time FROM waldelta.captures WHERE id = $1";
const EPOCH_PARTITIONS: &str = include_str!("../../../sql/queries/epoch_partitions.sql");

/// What is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Nothing at or before this position is.
    pub upto: Position,
    /// What committed at this time or before it may be among that: microseconds since 1970, by the source's clock.
    pub committed_at_us: Option<i64>,
}

impl History {
    /// What was pruned; `None`: nothing ever was.
    pub async fn pruned(&self) -> Result<Option<Pruned>, Error> {
        pruned(self.pool()).await
    }

    /// Fails where something after this position was pruned by now: after it was read.
    pub(crate) async fn require_kept(&self, after: Position) -> Result<(), Error> {
        require_kept(self.pool(), after).await
    }

    /// The partitions of a writer's epoch.
    pub(crate) async fn partitions_of(&self, link: &Link, taken: &Taken) -> Result<Partitions, Error> {
        let epoch = taken.epoch.0.cast_signed();
        let rows = link.client.query(EPOCH_PARTITIONS, &[&epoch]).await.map_err(Error::TakeLease)?;
        let lsn = |row: &tokio_postgres::Row, at| {
            waldelta_wal::Lsn(row.get::<_, tokio_postgres::types::PgLsn>(at).into())
        };
        let known: Vec<_> = rows.iter().map(|row| (lsn(row, 0), lsn(row, 1))).collect();
        Ok(Partitions::new(taken.epoch, taken.partition_bytes, self.partition_width(), known))
    }
}

/// The same over a connection that has just read.
pub(crate) async fn require_kept(executor: impl PgExecutor<'_>, after: Position) -> Result<(), Error> {
    match pruned(executor).await? {
        Some(pruned) if after < pruned.upto => Err(Error::Pruned { floor: pruned.upto }),
        _ => Ok(()),
    }
}

async fn pruned(executor: impl PgExecutor<'_>) -> Result<Option<Pruned>, Error> {
    let failed = |source| Error::Read { what: "what was pruned", source };
    let row = answer(sqlx::query(PRUNED).bind(CAPTURE_ID).fetch_optional(executor)).await.map_err(failed)?;
    row.as_ref().map_or(Ok(None), of_row).map_err(failed)
}

fn of_row(row: &PgRow) -> Result<Option<Pruned>, sqlx::Error> {
    let (Some(epoch), Some(lsn)) = (row.try_get::<Option<i32>, _>(0)?, optional_lsn_at(row, 1)?) else {
        return Ok(None);
    };
    let upto = Position::before(Epoch(epoch.cast_unsigned()), EndLsn(lsn));
    Ok(Some(Pruned { upto, committed_at_us: optional_time_us_at(row, 2)? }))
}
