//! Making seals: by the one process that writes history, beside the writer and after it.
//!
//! What is below the durable end does not change any more, nor does an epoch that has ended, so a seal can be made at any time later,
//! and two processes that seal the same stretch would make the same seal. What existed before an epoch (the baseline) is written
//! whenever somebody wants it, below what is sealed by then: it has stretches of its own in the same chain.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Epoch, Lsn, chain_text};

use super::seal::{NONE, Place, Seal};
use super::stretch::{Reader, State};
use crate::{CAPTURE_ID, Error, History};

const UNTIL: &str = include_str!("../../../../sql/queries/sealed_until.sql");
const STORE: &str = include_str!("../../../../sql/queries/store_seal.sql");
const FORGET: &str = include_str!("../../../../sql/queries/forget_seals.sql");

/// How often what has become durable is sealed. What is altered before that is sealed as it is then.
const SEAL_EVERY: Duration = Duration::from_secs(60);
/// After a failure it is tried again sooner.
const SEAL_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Changes in one seal at most. A stretch is what an alteration is narrowed down to, and what is read again after a stop.
const CHANGES_MAX: u64 = 10_000;

/// What seals history; see the module.
pub struct Sealer {
    history: History,
    token: i64,
    changes_max: u64,
}

/// A stretch to be sealed next, not yet read.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    epoch: Epoch,
    from: Place,
    to: Place,
    /// The epoch has ended: its last stretch says that nothing follows.
    is_last: bool,
    /// More can come before `to`.
    is_open: bool,
}

impl Sealer {
    pub(crate) fn new(history: History, token: i64) -> Self {
        Sealer { history, token, changes_max: CHANGES_MAX }
    }

    /// The same with another bound on the changes of one seal; for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_changes_max(self, changes_max: u64) -> Self {
        Sealer { changes_max, ..self }
    }

    /// Seals once a minute until told to stop, where that is wanted. What fails is told in the log and tried again; only a lease that
    /// is another's now ends it early.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut is_failing = false;
        loop {
            let mut pause = SEAL_EVERY;
            if self.history.is_sealing() {
                match stop.run_until_cancelled(self.seal()).await {
                    None => return Ok(()),
                    Some(Err(error @ Error::Fenced { .. })) => return Err(error),
                    Some(Err(error)) => {
                        // Told once: while history is away, capture says so.
                        if !is_failing {
                            let error = chain_text(&error);
                            tracing::warn!(error, "history could not be sealed; trying again");
                        }
                        (is_failing, pause) = (true, SEAL_AGAIN_AFTER);
                    }
                    Some(Ok(_)) => is_failing = false,
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Seals what is durable and was not sealed yet; how many seals that took.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another writer has taken over: then this one has sealed nothing more.
    pub async fn seal(&self) -> Result<u64, Error> {
        let reader = Reader::connect(&self.history, Error::Seal).await?;
        let mut last = reader.newest().await.map_err(Error::Seal)?;
        let mut made = 0;
        loop {
            let state = self.state(&reader).await?;
            let Some(seal) = self.next(&reader, &state, last.as_ref()).await.map_err(Error::Seal)? else {
                break;
            };
            if !self.store(&reader, &seal).await.map_err(Error::Seal)? {
                // By a prune in the middle of it the next look begins behind that.
                self.state(&reader).await?;
                break;
            }
            (last, made) = (Some(seal), made + 1);
        }
        reader.client.execute(FORGET, &[&CAPTURE_ID, &self.token]).await.map_err(Error::Seal)?;
        if let Some(last) = &last {
            self.history.set_sealed(last);
        }
        Ok(made)
    }

    async fn state(&self, reader: &Reader) -> Result<State, Error> {
        let state = reader.state(Some(self.token)).await.map_err(Error::Seal)?;
        state.ok_or_else(|| Error::Fenced { expected: self.history.feed().head().durable_end })
    }

    /// The seal after this one, unless there is nothing to be sealed.
    async fn next(
        &self,
        reader: &Reader,
        state: &State,
        last: Option<&Seal>,
    ) -> Result<Option<Seal>, tokio_postgres::Error> {
        // Epochs are sealed one after the other: before the newest seal's nothing is left.
        let begin = last.map_or(Epoch(0), |last| last.epoch);
        for (epoch, start) in state.epochs.iter().filter(|(epoch, _)| *epoch >= begin) {
            for stretch in self.stretches(reader, state, *epoch, *start).await? {
                if let Some(seal) = self.read(reader, state, stretch, last).await? {
                    return Ok(Some(seal));
                }
            }
        }
        Ok(None)
    }

    /// What is not sealed of an epoch: of what existed before it, and of what was changed in it.
    async fn stretches(
        &self,
        reader: &Reader,
        state: &State,
        epoch: Epoch,
        start: Lsn,
    ) -> Result<Vec<Stretch>, tokio_postgres::Error> {
        let (has_ended, start, pruned) = (epoch < state.epoch, Place::at(start), state.pruned_in(epoch));
        let until = reader.client.query_one(UNTIL, &[&epoch.0.cast_signed(), &start.columns().0]).await?;
        let until = |at: usize| match until.try_get::<_, Option<i32>>(at + 1)? {
            Some(_) => Place::read(&until, at).map(Some),
            None => Ok::<_, tokio_postgres::Error>(None),
        };
        let before = until(0)?.unwrap_or(Place::BEGIN).max(pruned);
        let since = until(2)?.unwrap_or(start).max(pruned);
        let to = if has_ended { Place::END } else { Place::at(state.durable_end) };
        let both = [
            Stretch { epoch, from: before, to: start, is_last: has_ended, is_open: !has_ended },
            Stretch { epoch, from: since, to, is_last: has_ended, is_open: false },
        ];
        Ok(both.into_iter().filter(|stretch| stretch.from < stretch.to).collect())
    }

    /// Reads a stretch, as far as fits into one seal; `None` where there is nothing to be sealed in it.
    async fn read(
        &self,
        reader: &Reader,
        state: &State,
        stretch: Stretch,
        last: Option<&Seal>,
    ) -> Result<Option<Seal>, tokio_postgres::Error> {
        let Stretch { epoch, from, .. } = stretch;
        let changes = reader.changes(epoch, from, stretch.to, self.changes_max).await?;
        let to = match changes.last {
            Some(last) if changes.is_cut || stretch.is_open => last.next(),
            None if stretch.is_open => return Ok(None),
            _ => stretch.to,
        };
        let shapes = reader.shapes(epoch, from, to).await?;
        if (changes.sum.rows, shapes.rows) == (0, 0) && !stretch.is_last {
            return Ok(None);
        }
        let number = last.filter(|last| last.epoch == epoch).map_or(1, |last| last.number.saturating_add(1));
        let seal = Seal {
            epoch,
            number,
            from,
            to,
            changes: changes.sum,
            shapes,
            previous: last.map_or(NONE, |last| last.digest),
            digest: NONE,
            sealed_at_us: state.now_us,
        };
        Ok(Some(seal.closed()))
    }

    /// Stores a seal, unless another writer has taken over or something of its stretch was pruned while it was read.
    async fn store(&self, reader: &Reader, seal: &Seal) -> Result<bool, tokio_postgres::Error> {
        let ((from_lsn, from_seq), (to_lsn, to_seq)) = (seal.from.columns(), seal.to.columns());
        let values: [&(dyn ToSql + Sync); 15] = [
            &CAPTURE_ID,
            &self.token,
            &seal.epoch.0.cast_signed(),
            &seal.number.cast_signed(),
            &from_lsn,
            &from_seq,
            &to_lsn,
            &to_seq,
            &seal.changes.rows.cast_signed(),
            &&seal.changes.digest[..],
            &seal.shapes.rows.cast_signed(),
            &&seal.shapes.digest[..],
            &&seal.previous[..],
            &&seal.digest[..],
            &seal.sealed_at_us,
        ];
        Ok(reader.client.execute(STORE, &values).await? == 1)
    }
}
