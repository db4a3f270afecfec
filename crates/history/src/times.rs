//! From a time to a position: the last one before which nothing committed at or after that time.
//!
//! Commit times are those of the source's clock. They do not rise with positions: a transaction may get its time before another
//! one and its place after it, and a clock can be set back. So what lies behind the position that is found may be older than the
//! time, and what lies before it is not younger.
//!
//! Refused while the index by time is being built, see `indexes`.

use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

use crate::answers::answer;
use crate::sql_row::{SqlLsn, SqlTime, lsn_at};
use crate::{Error, History, Pruned};

const CHANGE_SINCE: &str = include_str!("../../../sql/queries/change_since.sql");
/// The index by time bounds runs of pages, and rows are stored in the order of positions. What the planner would do instead
/// is to look through everything from the beginning, as it cannot know of that order.
const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; \
                        SET LOCAL max_parallel_workers_per_gather = 0";
/// An earlier change is looked for this often. Beyond that the epoch's beginning is given: nothing is missing then either.
const TRIES_MAX: usize = 100;

impl History {
    /// The last position from `floor` up to `head` that has nothing which committed at `time_us` (microseconds since 1970) or
    /// later; `head` where there is no such thing. What lies before `floor` plays no role.
    ///
    /// # Errors
    /// [`Error::Pruned`] where such a thing may have been pruned.
    pub async fn position_before_time(
        &self,
        time_us: i64,
        floor: Position,
        head: Position,
    ) -> Result<Position, Error> {
        let found = self.find_before_time(time_us, floor, head).await?;
        // After it was looked for.
        match self.pruned().await? {
            Some(Pruned { upto, committed_at_us: Some(at_us) }) if time_us <= at_us => {
                Err(Error::Pruned { floor: upto })
            }
            _ => Ok(found),
        }
    }

    async fn find_before_time(
        &self,
        time_us: i64,
        floor: Position,
        head: Position,
    ) -> Result<Position, Error> {
        self.require_indexes().await?;
        let lineage = self.lineage().await?;
        let spans = lineage.epochs().iter();
        for span in spans.filter(|span| floor.epoch <= span.epoch && span.epoch <= head.epoch) {
            let mut low = Lsn(0);
            if span.epoch == floor.epoch {
                low = Lsn(floor.commit_lsn.0.saturating_add(1));
            }
            let mut end = Lsn(u64::MAX);
            if span.epoch == head.epoch {
                end = Lsn(head.commit_lsn.0.saturating_add(1));
            }
            if let Some(EndLsn(epoch_end)) = span.end {
                end = end.min(epoch_end);
            }
            if let Some(first) = self.first_since(time_us, span.epoch, low, end).await? {
                return Ok(Position::before(span.epoch, EndLsn(first)).max(floor));
            }
        }
        Ok(head)
    }

    /// Commit LSN of the first change between two places of an epoch that committed at or after a time.
    async fn first_since(
        &self,
        time_us: i64,
        epoch: Epoch,
        low: Lsn,
        end: Lsn,
    ) -> Result<Option<Lsn>, Error> {
        let failed = |source| Error::Read { what: "changes by time", source };
        let mut transaction = self.pool().begin().await.map_err(failed)?;
        answer(sqlx::raw_sql(SETTINGS).execute(&mut *transaction)).await.map_err(failed)?;
        let (mut first, mut bound) = (None, end);
        for _ in 0..TRIES_MAX {
            let asked = sqlx::query(CHANGE_SINCE)
                .bind(epoch.0.cast_signed())
                .bind(SqlLsn(low))
                .bind(SqlLsn(bound))
                .bind(SqlTime(time_us))
                .fetch_optional(&mut *transaction);
            match answer(asked).await.map_err(failed)? {
                // Nearly always it is the first one; that there is none before it has to be asked.
                Some(row) => bound = lsn_at(&row, 0).map_err(failed)?,
                None => return Ok(first),
            }
            first = Some(bound);
        }
        Ok(Some(low))
    }
}
