//! Following a history that another process writes: the same feed, filled by reading the table.
//!
//! A notification only says "look now"; looking happens every second anyway, so that one lost, doubled or late costs
//! latency and nothing else.
//!
//! When history itself goes back (restored from a backup, dropped and begun anew), the feed's head goes back with it. Whoever
//! keeps positions of what came out of the feed, such as a fan-out, does not go back: a process that follows must end its
//! fan-out then and start another one. A new epoch is no going back: the feed begins anew at its head.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use waldelta_wal::Code;
use waldelta_wal::chain_text;

use crate::answers::answer;
use crate::large::Survey;
use crate::page::{Part, ReadLimit};
use crate::pool::connect_options;
use crate::{Entry, Error, HEAD_CHANNEL, Head, History, Transaction, lock};

/// Looked at least this often.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Bounds of one page of the tail.
const PAGE: ReadLimit = ReadLimit { changes_max: 10_000, bytes_max: 8 << 20 };

/// Why what another process writes does not come into the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowFailure {
    /// When it first failed.
    pub since: Instant,
    /// Code of the last failure.
    pub code: Code,
    /// What failed.
    pub message: String,
}

impl History {
    /// What keeps [`Self::follow`] from reading; `None` while it reads, and while it is not run.
    pub fn follow_failure(&self) -> Option<FollowFailure> {
        lock(&self.inner.follow_failure).clone()
    }

    /// It has read all there is, or is not needed.
    pub(crate) fn follows(&self) {
        *lock(&self.inner.follow_failure) = None;
    }

    fn cannot_follow(&self, error: &Error) {
        let mut failure = lock(&self.inner.follow_failure);
        let since = failure.as_ref().map_or_else(Instant::now, |known| known.since);
        *failure = Some(FollowFailure { since, code: error.code(), message: chain_text(error) });
    }

    /// Follows a history that another process writes: keeps the feed filled by LISTEN and poll until cancelled.
    ///
    /// While the database cannot be reached it keeps trying; only an error that does not pass ends it early.
    pub async fn follow(&self, stop: CancellationToken) -> Result<(), Error> {
        match stop.run_until_cancelled(Box::pin(self.follow_forever())).await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn follow_forever(&self) -> Error {
        let mut listener = None;
        loop {
            // Listening begins before looking, so that nothing falls between the two.
            if listener.is_none() {
                listener = self.listen().await;
            }
            let caught_up = self.catch_up().await;
            match &caught_up {
                Ok(()) => self.follows(),
                Err(error) => self.cannot_follow(error),
            }
            match caught_up {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(
                        error = chain_text(&error),
                        "the tail of history could not be read; trying again"
                    );
                    // It may be a connection to a host that is gone without a word.
                    listener = None;
                    tokio::time::sleep(POLL_EVERY).await;
                }
                Err(error) => return error,
            }
            match &mut listener {
                Some(listening) => {
                    // Whatever comes, an error too, it is time to look.
                    if let Ok(Err(_)) = tokio::time::timeout(POLL_EVERY, listening.recv()).await {
                        listener = None;
                    }
                }
                None => tokio::time::sleep(POLL_EVERY).await,
            }
        }
    }

    /// A connection that listens for new heads. Without it there is the poll.
    async fn listen(&self) -> Option<PgListener> {
        match self.listener("waldelta-history-listen", HEAD_CHANNEL).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::debug!(error = chain_text(&error), "cannot listen for new heads; polling");
                None
            }
        }
    }

    /// A connection that listens, apart from the readers' so that it takes none of theirs.
    pub(crate) async fn listener(
        &self,
        application_name: &str,
        channel: &str,
    ) -> Result<PgListener, sqlx::Error> {
        let options = connect_options(&self.config().target, application_name);
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(POLL_EVERY)
            .connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        answer(listener.listen(channel)).await?;
        Ok(listener)
    }

    /// Puts into the feed what became durable since its head.
    async fn catch_up(&self) -> Result<(), Error> {
        let known = self.feed().head();
        let Some((_, head)) = self.captured().await? else { return Ok(()) };
        if head < known {
            // Restored from a backup, or dropped and begun anew: what the feed holds may never have been.
            tracing::warn!(from = %known.cursor(), to = %head.cursor(), "history went back; a fan-out on it must be started anew");
            self.forget_tables();
            self.feed().restart_at(head);
        }
        if head > known {
            match self.tail(known, head).await? {
                Some(entries) => self.feed().publish(entries, head),
                None => self.feed().restart_at(head),
            }
        }
        Ok(())
    }

    /// What lies between two heads; `None` when that is more than the feed would keep.
    async fn tail(&self, known: Head, head: Head) -> Result<Option<Vec<Entry>>, Error> {
        if known.epoch != head.epoch {
            // A new incarnation of the source, or another history.
            self.forget_tables();
            return Ok(None);
        }
        let mut after = known.cursor();
        let mut assembler = EntryAssembler::default();
        loop {
            let page = match self.read_after(after, head.cursor(), PAGE).await {
                // Whoever follows from there has to begin anew, and learns of it where it reads.
                Err(Error::Pruned { .. }) => return Ok(None),
                page => page?,
            };
            for part in page.parts {
                if let Some(change) = part.changes.last() {
                    after = part.head.position();
                    if !part.last {
                        after.index = change.seq;
                    }
                }
                assembler.add(part);
            }
            if assembler.bytes > self.config().feed_bytes_max {
                return Ok(None);
            }
            if !page.has_more {
                return Ok(Some(assembler.entries));
            }
        }
    }
}

/// Makes entries of the parts of consecutive pages: a transaction that a page cut in two becomes a reference.
#[derive(Default)]
struct EntryAssembler {
    entries: Vec<Entry>,
    bytes: usize,
    /// The transaction that has begun and not ended.
    open: Option<Survey>,
}

impl EntryAssembler {
    fn add(&mut self, part: Part) {
        let head = part.head;
        if self.open.is_none() && part.last {
            self.bytes += part.changes.iter().map(crate::feed::change_bytes).sum::<usize>();
            self.entries.push(Entry::Whole(Arc::new(Transaction { head, changes: part.changes })));
            return;
        }
        let mut open = self.open.take().unwrap_or_default();
        open.note(&part.changes);
        if part.last {
            let large = open.finish(head);
            self.bytes += large.bytes();
            self.entries.push(Entry::Large(Arc::new(large)));
        } else {
            self.open = Some(open);
        }
    }
}
