//! Epochs: how one follows another, and which cursors can go on across the seam.
//!
//! When a new epoch begins, and where, is not decided here.

use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{EndLsn, Epoch, Lsn, Position, chain_text};

use crate::audit::{self, AuditAction, AuditEntry};
use crate::captures::NEW_EPOCH;
use crate::link::Link;
use crate::sql_row::{lsn_at, optional_lsn_at, time_us_at};
use crate::{CAPTURE_ID, Captured, Error, Head, History, Writer, gaps, lease, metrics};

const LINEAGE: &str = include_str!("../../../sql/queries/lineage.sql");
const END_EPOCH: &str = include_str!("../../../sql/queries/end_epoch.sql");
const BEGIN_NEXT: &str = include_str!("../../../sql/queries/begin_next_epoch.sql");
const LEAVE_BEHIND: &str = include_str!("../../../sql/queries/leave_behind.sql");
const GAP_BETWEEN: &str = include_str!("../../../sql/queries/gap_between_epochs.sql");
const REPLACE_CAPTURE: &str = include_str!("../../../sql/queries/replace_capture.sql");

/// Epochs that a lineage has at most, the newest: a cursor of an older one begins anew.
const EPOCHS_MAX: i64 = 10_000;

/// An epoch that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEpoch {
    /// The source as it is now.
    pub captured: Captured,
    /// Everything that committed at or after this place, in the source as it is now, will be stored.
    pub start: EndLsn,
    /// Where the source's timeline left the one before; `None` when it is no other timeline, or another source.
    pub fork: Option<Lsn>,
    /// Why, for people.
    pub reason: String,
    /// Whether nothing is missing between the epoch before and this one, which needs a fork: it then ends where this one begins,
    /// at or below its durable end and the fork. Otherwise it ends at its durable end, or at the fork where that is lower, and from there to
    /// `start` there is a gap of all tables.
    pub continues: bool,
    /// What state the tables are in, as of `start`: replaces what was known.
    pub fingerprints: Vec<(u32, String)>,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochSpan {
    /// Its number.
    pub epoch: Epoch,
    /// The one before; `None` for the first.
    pub previous: Option<Epoch>,
    /// Everything that committed at or after this place is in it.
    pub start: EndLsn,
    /// Where it ends; `None` for the current one. What it has at or after this place did not survive.
    pub end: Option<EndLsn>,
    /// Whether it goes on where the one before ends, without a gap.
    pub continues: bool,
    /// Where the source's timeline left that of the epoch before.
    pub fork: Option<Lsn>,
    /// Why it began.
    pub reason: String,
    /// When, in microseconds since 1970-01-01 UTC, by the history database's clock.
    pub started_at_us: i64,
}

/// All epochs, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    epochs: Vec<EpochSpan>,
}

impl Lineage {
    /// Of these epochs, oldest first.
    pub fn new(epochs: Vec<EpochSpan>) -> Self {
        Lineage { epochs }
    }

    /// The epochs, oldest first.
    pub fn epochs(&self) -> &[EpochSpan] {
        &self.epochs
    }

    /// The epoch that follows this one.
    pub fn next(&self, epoch: Epoch) -> Option<&EpochSpan> {
        self.epochs.iter().find(|span| span.previous == Some(epoch))
    }

    /// Whether a reader at this position can go on to the current epoch: nothing of what it has was lost, and nothing is
    /// missing on the way.
    pub fn can_continue(&self, position: Position) -> bool {
        let mut epoch = position.epoch;
        let Some(span) = self.epochs.iter().find(|span| span.epoch == epoch) else { return false };
        // At its end or beyond it is what did not survive.
        let survived = |end: EndLsn| position <= Position::before(position.epoch, end);
        if !span.end.is_none_or(survived) {
            return false;
        }
        while let Some(next) = self.next(epoch) {
            if !next.continues {
                return false;
            }
            epoch = next.epoch;
        }
        true
    }

    /// Where reading goes on when an epoch has been read to its end: the beginning of the next one.
    pub fn seam(&self, epoch: Epoch) -> Option<Position> {
        self.next(epoch).map(|next| Position::before(next.epoch, next.start))
    }

    /// The last position of an epoch that has ended.
    pub fn last_position(&self, epoch: Epoch) -> Option<Position> {
        let span = self.epochs.iter().find(|span| span.epoch == epoch)?;
        span.end.map(|end| Position::before(epoch, end))
    }
}

impl History {
    /// All epochs of this history; of more than 10,000 the newest.
    pub async fn lineage(&self) -> Result<Lineage, Error> {
        let failed = |source| Error::Read { what: "epochs", source };
        let rows = sqlx::query(LINEAGE).bind(EPOCHS_MAX).fetch_all(self.pool()).await.map_err(failed)?;
        rows.iter().rev().map(span).collect::<Result<_, _>>().map(Lineage::new).map_err(failed)
    }
}

fn span(row: &PgRow) -> Result<EpochSpan, sqlx::Error> {
    Ok(EpochSpan {
        epoch: Epoch(row.try_get::<i32, _>(0)?.cast_unsigned()),
        previous: row.try_get::<Option<i32>, _>(1)?.map(|previous| Epoch(previous.cast_unsigned())),
        start: EndLsn(lsn_at(row, 2)?),
        end: optional_lsn_at(row, 3)?.map(EndLsn),
        continues: row.try_get(4)?,
        fork: optional_lsn_at(row, 5)?,
        reason: row.try_get(6)?,
        started_at_us: time_us_at(row, 7)?,
    })
}

impl Writer {
    /// Ends the current epoch and begins a new one, in one SQL transaction: the epoch, the gap if there is one, the source as
    /// it is now, the floor. Open gaps of tables are closed where there is a gap of all, and stay open where there is none.
    /// The lease is given back: the next writer is one of the new epoch.
    ///
    /// # Errors
    /// [`Error::Unusable`] for a start that cannot be, [`Error::TransactionOpen`] while a large transaction is being appended,
    /// [`Error::Fenced`] when another writer has taken over, [`Error::CommitUnknown`] when nobody knows: then the stored epoch
    /// tells. After any error the lease is gone and has to be taken anew.
    pub async fn begin_epoch(mut self, new: NewEpoch) -> Result<Head, Error> {
        if self.open_sequence()?.is_open() {
            return Err(Error::TransactionOpen);
        }
        let end = self.end_before(&new)?;
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        link.begin().await?;
        let epoch = self.store_epoch(&link, &new, end).await.map_err(Error::BeginEpoch)?;
        gaps::replace_fingerprints(&link, &new.fingerprints).await?;
        let replaced = self.replace_capture(&link, epoch, &new).await.map_err(Error::BeginEpoch)?;
        if replaced != 1 {
            // Dropping the connection rolls back.
            return Err(Error::Fenced { expected: self.head.durable_end });
        }
        let recovered = AuditEntry::new(AuditAction::Recovered {
            epoch_before: self.head.epoch,
            durable_before: self.head.durable_end,
            epoch,
            start: new.start,
            continues: new.continues,
        });
        let recovered = [recovered.by(self.taken.holder.clone())];
        audit::write_over(&link.client, &recovered).await.map_err(Error::BeginEpoch)?;
        let moved = self.move_to(new.start);
        link.commit_alone().await.map_err(|failure| self.failed(moved, failure, None))?;
        recovered.iter().for_each(AuditEntry::log);
        let head = Head { epoch, durable_end: new.start };
        self.history.feed().restart_at(head);
        metrics::durable(head);
        if let Err(error) = lease::release(&link.client, self.taken.token).await {
            // It ends with the connection, which ends here.
            tracing::debug!(error = chain_text(&error), "the lease was not given back");
        }
        Ok(head)
    }

    /// Where the current epoch ends when the new one begins.
    fn end_before(&self, new: &NewEpoch) -> Result<EndLsn, Error> {
        let durable_end = self.head.durable_end;
        let survived = new.fork.map_or(durable_end, |fork| durable_end.min(EndLsn(fork)));
        let refused = |what| Err(Error::Unusable { what });
        match new.start {
            // A snapshot of the source shows all of the epoch before only where it was whole when the source took over.
            _ if new.continues && new.fork.is_none() => {
                refused("an epoch that continues the one before without a fork of their timelines")
            }
            EndLsn(Lsn(0)) => refused("a start at LSN 0/0, which is no place in the WAL"),
            start if new.continues && start > durable_end => {
                refused("an epoch that continues the one before and begins beyond its durable end")
            }
            start if new.continues && start > survived => refused(
                "an epoch that continues the one before and begins beyond the fork of their timelines",
            ),
            // Of that epoch nothing survived, and perhaps not all of the one before it.
            start if new.continues && start < self.taken.epoch_start => {
                refused("an epoch that continues the one before and begins before its start")
            }
            start if new.continues => Ok(start),
            _ => Ok(survived),
        }
    }

    async fn store_epoch(
        &self,
        link: &Link,
        new: &NewEpoch,
        end: EndLsn,
    ) -> Result<Epoch, tokio_postgres::Error> {
        let client = &link.client;
        let before = self.head.epoch.0.cast_signed();
        let epoch: i32 = client.query_one(NEW_EPOCH, &[]).await?.get(0);
        let (start, end) = (PgLsn::from(new.start.0.0), PgLsn::from(end.0.0));
        let fork = new.fork.map(|fork| PgLsn::from(fork.0));
        let partition_bytes = i64::try_from(self.history.config().partition_bytes).unwrap_or(i64::MAX);
        client.execute(END_EPOCH, &[&before, &end]).await?;
        client
            .execute(
                BEGIN_NEXT,
                &[&epoch, &before, &start, &fork, &partition_bytes, &new.reason, &new.continues],
            )
            .await?;
        if new.continues {
            client.execute(LEAVE_BEHIND, &[&before, &end, &epoch]).await?;
        } else {
            client.execute(GAP_BETWEEN, &[&before, &end, &epoch, &start, &new.reason]).await?;
        }
        Ok(Epoch(epoch.cast_unsigned()))
    }

    /// How many rows were written: none when another writer has taken over.
    async fn replace_capture(
        &self,
        link: &Link,
        epoch: Epoch,
        new: &NewEpoch,
    ) -> Result<u64, tokio_postgres::Error> {
        let Captured { system_id, timeline, database_oid, slot, publication } = &new.captured;
        link.client
            .execute(
                REPLACE_CAPTURE,
                &[
                    &CAPTURE_ID,
                    &self.taken.token,
                    &self.head.epoch.0.cast_signed(),
                    &PgLsn::from(self.head.durable_end.0.0),
                    &system_id.to_string(),
                    &i64::from(*timeline),
                    database_oid,
                    slot,
                    publication,
                    &epoch.0.cast_signed(),
                    &PgLsn::from(new.start.0.0),
                    &new.continues,
                ],
            )
            .await
    }
}
