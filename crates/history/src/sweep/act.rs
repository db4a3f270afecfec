//! The steps of a sweep: each an SQL transaction, whose last statement makes sure that this writer is still the one.

use std::time::Duration;

use fail::fail_point;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{PgLsn, ToSql};

use super::holdings::{columns, last_time, place};
use super::plan::Place;
use super::{ROUNDS_MAX, ROWS_MAX};
use crate::audit::{self, AuditAction, AuditEntry};
use crate::partition::Partition;
use crate::{CAPTURE_ID, Error, History};

const IN_THE_WAY: &str = include_str!("../../../../sql/queries/in_the_way.sql");
const MOVE_HISTORY_FROM: &str = include_str!("../../../../sql/queries/move_history_from.sql");
const MOVE_FLOOR: &str = include_str!("../../../../sql/queries/move_floor.sql");
const REMOVE: &str = include_str!("../../../../sql/queries/remove_pruned.sql");
const PRUNED: &str = "SELECT pruned_epoch, pruned_lsn FROM waldelta.captures WHERE id = $1 AND token = $2 AND pruned_epoch IS NOT NULL";

/// Whoever reads or appends is waited for so long, and so does everybody who comes after. Nor does COMMIT wait, with all that is locked,
/// for a standby that may be away: a step is in the WAL as a whole, and what a standby does not have of it when it takes over it has
/// kept.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SET LOCAL lock_timeout = '100ms'; SET LOCAL synchronous_commit = local";
const TRIES_MAX: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Between two rounds of removing rows.
const ROUND_PAUSE: Duration = Duration::from_millis(10);

/// What a step needs.
pub(super) struct Step<'a> {
    pub(super) client: &'a Client,
    pub(super) history: &'a History,
    pub(super) token: i64,
}

impl Step<'_> {
    /// Drops a partition and moves the floor behind it, to where it tells; `None` where somebody is in the way.
    pub(super) async fn drop_partition(&self, part: Partition, end: Place) -> Result<Option<Place>, Error> {
        let name = format!("waldelta.{}", part.name());
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let blocked = self.client.query_one(IN_THE_WAY, &[&name]).await.map_err(Error::Prune)?;
            if blocked.get(0) {
                return Ok(None);
            }
            // Before anything is locked: nothing comes to a partition that has ended.
            let (low, high) = (part.begin(), part.end());
            let last_us = last_time(self.client, part, low, high).await.map_err(Error::Prune)?;
            if let Some(floor) = self.attempt(self.drop_in_transaction(&name, end, last_us)).await? {
                return Ok(Some(floor));
            }
        }
        Ok(None)
    }

    async fn drop_in_transaction(
        &self,
        name: &str,
        end: Place,
        last_us: Option<i64>,
    ) -> Result<Place, Error> {
        let drop = format!(
            "LOCK TABLE ONLY waldelta.change_history IN ACCESS EXCLUSIVE MODE; LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE;
             ALTER TABLE waldelta.change_history DETACH PARTITION {name}; DROP TABLE {name}"
        );
        self.client.batch_execute(&drop).await.map_err(Error::Prune)?;
        self.commit(end, last_us, 1).await
    }

    /// Moves the floor into a partition that stays: what lies before it there is removed after that. `None` where somebody is in the
    /// way.
    pub(super) async fn move_floor(&self, part: Partition, to: Place) -> Result<Option<Place>, Error> {
        let last_us = last_time(self.client, part, part.begin(), to).await.map_err(Error::Prune)?;
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            if let Some(floor) = self.attempt(self.commit(to, last_us, 0)).await? {
                return Ok(Some(floor));
            }
        }
        Ok(None)
    }

    /// One step, in a transaction that it ends; `None` where somebody had what it needs.
    async fn attempt(
        &self,
        step: impl Future<Output = Result<Place, Error>>,
    ) -> Result<Option<Place>, Error> {
        self.client.batch_execute(BEGIN).await.map_err(Error::Prune)?;
        match step.await {
            Ok(floor) => Ok(Some(floor)),
            Err(error) => {
                // Where the connection is gone, the transaction is too.
                let _ = self.client.batch_execute("ROLLBACK").await;
                if is_about_locks(&error) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Moves the floor, unless another writer has taken over, and commits.
    async fn commit(&self, to: Place, last_us: Option<i64>, partitions: u64) -> Result<Place, Error> {
        let (epoch, lsn) = columns(to);
        self.client.execute(MOVE_HISTORY_FROM, &[&epoch, &lsn]).await.map_err(Error::Prune)?;
        let entry = [AuditEntry::new(AuditAction::HistoryPruned { floor: to.cursor(), partitions })];
        audit::write_over(self.client, &entry).await.map_err(Error::Prune)?;
        fail_point!("history::before_prune_guard");
        let moved =
            self.client.query_opt(MOVE_FLOOR, &[&CAPTURE_ID, &self.token, &epoch, &lsn, &last_us]).await;
        let Some(moved) = moved.map_err(Error::Prune)? else {
            return Err(Error::Fenced { expected: self.history.feed().head().durable_end });
        };
        let floor = place(&moved, 0, 1);
        fail_point!("history::before_prune_commit");
        self.client.batch_execute("COMMIT").await.map_err(Error::Prune)?;
        fail_point!("history::after_prune_commit");
        entry.iter().for_each(AuditEntry::log);
        Ok(floor)
    }

    /// Removes rows that lie before the place up to which was pruned, of the partition that reaches beyond it; also what a sweep
    /// before this one has left. How many.
    pub(super) async fn remove_rows(&self, parts: &[(Partition, u64)]) -> Result<u64, Error> {
        let pruned =
            self.client.query_opt(PRUNED, &[&CAPTURE_ID, &self.token]).await.map_err(Error::Prune)?;
        let Some(upto) = pruned.map(|row| place(&row, 0, 1)) else { return Ok(0) };
        let reaches_beyond =
            |part: &Partition| part.epoch == upto.epoch && part.low < upto.lsn && upto.lsn < part.high;
        let Some(part) = parts.iter().map(|(part, _)| part).find(|part| reaches_beyond(part)) else {
            return Ok(0);
        };
        let remove = REMOVE.replace("{name}", &part.name());
        let remove = self.client.prepare(&remove).await.map_err(Error::Prune)?;
        let (epoch, lsn) = columns(upto);
        let (mut removed, mut after) = (0, (PgLsn::from(0), -1_i32));
        for _ in 0..ROUNDS_MAX {
            let round: [&(dyn ToSql + Sync); 7] =
                [&epoch, &lsn, &ROWS_MAX, &CAPTURE_ID, &self.token, &after.0, &after.1];
            let Some(row) = self.client.query_opt(&remove, &round).await.map_err(Error::Prune)? else {
                break;
            };
            let rows: i64 = row.get(0);
            removed += rows.unsigned_abs();
            after = (row.get(1), row.get(2));
            if rows < ROWS_MAX {
                break;
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        Ok(removed)
    }
}

/// Somebody had what is to go, or went for it from the other side.
fn is_about_locks(error: &Error) -> bool {
    let Error::Prune(source) = error else { return false };
    matches!(source.code(), Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED)
}
