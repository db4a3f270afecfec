//! What all sessions share, and the list of sessions that operators see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waldelta_history::{History, Lineage};
use waldelta_source::Source;
use waldelta_wal::Position;

use crate::SessionReading;
use crate::config::Config;
use crate::error::Error;
use crate::frontier::Frontier;
use crate::http::values::transfer::Places;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::session::state::{Seat, session_name};
use crate::start::Extent;

/// What all sessions share.
pub(crate) struct Inner {
    pub config: Config,
    pub history: History,
    pub source: Source,
    pub registry: Arc<Registry>,
    pub frontier: Frontier,
    pub metrics: Metrics,
    /// Snapshots that may run at the same time.
    pub snapshots: Semaphore,
    /// Reads of history for sessions that catch up.
    pub reads: Semaphore,
    /// Requests that may wait for changes.
    pub polls: Semaphore,
    /// Values that are fetched from history.
    pub values: Places,
    /// Sessions that may be admitted.
    pub slots: Arc<Semaphore>,
    /// Tasks of sockets, which the web server spawns by itself.
    pub tracker: TaskTracker,
    /// The service stops: sessions let their clients go.
    pub closing: CancellationToken,
    sessions_made: AtomicU64,
    sessions: Mutex<BTreeMap<u64, Standing>>,
}

/// Where a session is, as operators see it.
#[derive(Clone)]
pub(crate) struct Standing {
    pub client_id: Option<Arc<str>>,
    pub state: &'static str,
    pub cursor: Position,
    pub acked: Option<Position>,
    pub sent_bytes: u64,
}

impl Inner {
    pub(crate) fn new(config: Config, history: History, source: Source) -> Self {
        let head = history.feed().head().cursor();
        Inner {
            registry: Arc::new(Registry::new(head, config.scope_bytes_max)),
            frontier: Frontier::new(),
            metrics: Metrics::new(),
            snapshots: Semaphore::new(config.snapshots_max.max(1)),
            reads: Semaphore::new(config.catch_up_reads_max.max(1)),
            polls: Semaphore::new(config.sessions_max),
            values: Places::new(config.write_timeout),
            slots: Arc::new(Semaphore::new(config.sessions_max)),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            sessions_made: AtomicU64::new(0),
            sessions: Mutex::new(BTreeMap::new()),
            config,
            history,
            source,
        }
    }

    /// The next session's number.
    pub(crate) fn number(&self) -> u64 {
        self.sessions_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What can be resumed now by a client with this cursor. The head is read from the database: the feed of this process may
    /// lag behind what a client was told by another one.
    pub(crate) async fn extent(&self, cursor: Option<Position>) -> Result<Extent, Error> {
        let (_, head) = self.history.captured().await?.ok_or(Error::NothingCaptured)?;
        let floor = self.history.floor().await?;
        let head = head.cursor().max(self.history.feed().head().cursor());
        let lineage = match cursor {
            Some(cursor) if cursor.epoch != head.epoch => self.history.lineage().await?,
            _ => Lineage::default(),
        };
        Ok(Extent { floor, head, lineage })
    }

    /// The sessions there are, oldest first.
    pub(crate) fn readings(&self) -> Vec<SessionReading> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = |(number, standing): (&u64, &Standing)| SessionReading {
            session: session_name(*number),
            client_id: standing.client_id.as_deref().unwrap_or_default().to_owned(),
            state: standing.state,
            cursor: standing.cursor.to_string(),
            acked: standing.acked.map(|acked| acked.to_string()),
            sent_bytes: standing.sent_bytes,
        };
        sessions.iter().map(reading).collect()
    }
}

/// A session's entry in the list, and its admission; both end when it is dropped.
pub(crate) struct Listed {
    inner: Arc<Inner>,
    seat: Seat,
    _slot: OwnedSemaphorePermit,
}

impl Listed {
    pub(crate) fn new(inner: Arc<Inner>, number: u64, slot: OwnedSemaphorePermit) -> Self {
        let seat = Seat { number, wake: Arc::default(), replaced: CancellationToken::new() };
        Listed { inner, seat, _slot: slot }
    }

    pub(crate) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    pub(crate) fn note(&self, standing: Standing) {
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(self.seat.number, standing);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.seat.number);
    }
}
