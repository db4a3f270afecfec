//! What all sessions share, and a session's place among them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waldelta_access::{Access, Identity};
use waldelta_history::History;
use waldelta_source::Source;
use waldelta_wal::{Code, Position};

use crate::admission::Admission;
use crate::audit::Audit;
use crate::captured::Captured;
use crate::clients::Clients;
use crate::clock::{self, Clock};
use crate::closing::{self, Closing};
use crate::config::Config;
use crate::databases::{Clientele, Log, Origin};
use crate::error::Error;
use crate::frontier::Frontier;
use crate::http::values::transfer::Places;
use crate::leaving::Leaving;
use crate::limits::{Quotas, SessionShare};
use crate::metrics::Metrics;
use crate::pages::Pages;
use crate::policy::Policy;
use crate::registry::{Client, Registry};
use crate::rules::Grant;
use crate::session::state::Seat;
use crate::sessions::{Entry, Sessions, Standing};
use crate::snapshots::Library;
use crate::start::Extent;

/// Answers of many reads that go on at the same time: what they look through may be long, and helps nobody but who asked.
const LONG_ANSWERS_MAX: usize = 2;

/// What streaming asks.
pub(crate) struct Databases {
    pub log: Arc<dyn Log>,
    pub clientele: Arc<dyn Clientele>,
    pub origin: Arc<dyn Origin>,
}

/// What all sessions share.
pub(crate) struct Inner {
    pub config: Config,
    /// What can be changed while it runs.
    pub policy: watch::Sender<Arc<Policy>>,
    /// Who is let in.
    pub access: Access,
    /// What is told to the audit.
    pub audit: Audit,
    /// Who has taken how much of what the policy bounds.
    pub quotas: Quotas,
    /// What HTTP reads at length, the audit, and the feed.
    pub history: History,
    /// The same history, as far as streaming asks it.
    pub log: Arc<dyn Log>,
    pub clientele: Arc<dyn Clientele>,
    pub origin: Arc<dyn Origin>,
    pub clock: Clock,
    /// When it was made.
    pub began: Instant,
    pub registry: Arc<Registry>,
    pub frontier: Frontier,
    pub admission: Admission,
    pub metrics: Metrics,
    /// Which tables there are.
    pub captured: Captured,
    /// Pages of history, for sessions that catch up.
    pub pages: Pages,
    /// What is to be written of clients.
    pub clients: Clients,
    pub sessions: Sessions,
    /// Reads of history that may run at the same time.
    pub reads: Arc<Semaphore>,
    /// Answers of many reads that may go on at the same time.
    pub long_answers: Semaphore,
    /// Snapshots that may run at the same time.
    pub snapshots: Library,
    /// Sessions that may take a snapshot or wait for one.
    pub hydrations: Arc<Semaphore>,
    /// Requests that may wait for changes.
    pub polls: Semaphore,
    /// Values that are fetched from history.
    pub values: Places,
    /// Sessions that may be admitted.
    slots: Arc<Semaphore>,
    /// Sessions that may be on their way to where they begin.
    arrivals: Arc<Semaphore>,
    /// Connections that may be told that they are not admitted; as many as may arrive. More are not even upgraded.
    refusals: Arc<Semaphore>,
    /// Tasks of sockets, which the web server spawns by itself.
    pub tracker: TaskTracker,
    /// The service stops: requests that wait end.
    pub closing: CancellationToken,
    /// And sessions let their clients go, one after the other.
    pub leaving: Leaving,
    sessions_made: AtomicU64,
}

impl Inner {
    pub(crate) fn new(config: Config, history: History, source: Source, access: Access) -> Self {
        let databases = Databases {
            log: Arc::new(history.clone()),
            clientele: Arc::new(history.clone()),
            origin: Arc::new(source),
        };
        Self::over(config, databases, Clock::system(), history, access)
    }

    /// The same over any databases; the feed is that of `history`.
    pub(crate) fn over(
        config: Config,
        databases: Databases,
        clock: Clock,
        history: History,
        access: Access,
    ) -> Self {
        let Databases { log, clientele, origin } = databases;
        let head = history.feed().head().cursor();
        let metrics = Metrics::new();
        let closing = CancellationToken::new();
        let policy = watch::Sender::new(Arc::new(config.policy.clone()));
        let permits = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        let reads = permits(config.catch_up_reads_max);
        Inner {
            registry: Arc::new(Registry::new(head, config.scope_bytes_max, config.sessions_max)),
            frontier: Frontier::new(),
            captured: Captured::new(),
            admission: Admission::new(log.clone(), history.feed().clone(), metrics.extents.clone()),
            pages: Pages::new(
                config.catch_up_bytes_max,
                reads.clone(),
                metrics.catch_up_reads.clone(),
                metrics.catch_up_shared.clone(),
            ),
            clients: Clients::new(config.forget_clients_after),
            sessions: Sessions::default(),
            reads,
            long_answers: Semaphore::new(LONG_ANSWERS_MAX),
            snapshots: Library::new(&config, head),
            hydrations: permits(config.hydrations_max),
            polls: Semaphore::new(config.sessions_max),
            values: Places::new(config.write_timeout),
            slots: permits(config.sessions_max),
            arrivals: permits(config.arrivals_max),
            refusals: permits(config.arrivals_max),
            tracker: TaskTracker::new(),
            leaving: Leaving::new(closing.clone()),
            closing,
            metrics,
            sessions_made: AtomicU64::new(0),
            quotas: Quotas::new(policy.subscribe()),
            policy,
            audit: Audit::new(access.clone()),
            access,
            config,
            history,
            log,
            clientele,
            origin,
            clock,
            began: clock::now(),
        }
    }

    /// What an identity may see now; `None`: somebody without one.
    pub(crate) fn grant(&self, identity: Option<&Identity>) -> Grant {
        self.policy.borrow().rules.grant(identity)
    }

    /// The next session's number.
    pub(crate) fn number(&self) -> u64 {
        self.sessions_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What can be resumed now by a client with this cursor: see [`Admission::extent`].
    pub(crate) async fn extent(&self, cursor: Option<Position>) -> Result<Extent, Error> {
        self.admission.extent(cursor).await
    }

    /// A place among the sessions for somebody at this address, or why there is none.
    pub(crate) fn admit(
        &self,
        address: Option<IpAddr>,
        identity: Option<&Identity>,
    ) -> Result<Place, Closing> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| Closing::TooMany(Code::TooManySessions))?;
        let arrival = self.arrivals.clone().try_acquire_owned();
        let arrival = arrival.map_err(|_| Closing::TryLater(Code::TooManyArrivals))?;
        let share = self.quotas.session(address, identity)?;
        Ok(Place { _slot: slot, arrival: Some(arrival), share, address })
    }

    /// The right to tell a connection why it is not admitted; `None` when that too is asked for too often.
    pub(crate) fn refuse(&self) -> Option<OwnedSemaphorePermit> {
        self.refusals.clone().try_acquire_owned().ok()
    }

    /// Everything that sessions may take was given back, when all have gone; what was not, otherwise.
    #[cfg(test)]
    pub(crate) fn holds_nothing(&self) -> Result<(), String> {
        self.registry.holds_nothing()?;
        let config = &self.config;
        for (permits, max, what) in [
            (&self.slots, config.sessions_max, "sessions"),
            (&self.arrivals, config.arrivals_max, "arrivals"),
            (&self.hydrations, config.hydrations_max, "hydrations"),
            (&self.reads, config.catch_up_reads_max, "reads"),
        ] {
            let left = permits.available_permits();
            if left != max {
                return Err(format!("{left} of {max} {what} were given back"));
            }
        }
        match self.sessions.count() {
            0 => Ok(()),
            count => Err(format!("{count} sessions are listed")),
        }
    }

    /// When a client that is let go should come back, in milliseconds.
    pub(crate) fn retry_ms(&self, session: u64) -> u64 {
        closing::retry_ms(session, self.sessions.count().max(self.leaving.sessions()))
    }
}

/// The right to be a session.
pub(crate) struct Place {
    _slot: OwnedSemaphorePermit,
    /// Given back when it is known where the session begins.
    arrival: Option<OwnedSemaphorePermit>,
    /// Of its address, subject and tenant.
    share: SessionShare,
    address: Option<IpAddr>,
}

/// A session's entry in the list, and its admission; both end when it is dropped.
pub(crate) struct Listed {
    inner: Arc<Inner>,
    seat: Seat,
    entry: Arc<Entry>,
    place: Place,
    /// The key of the client whose session it is, once that is known.
    key: Option<Arc<str>>,
}

impl Listed {
    pub(crate) fn new(
        inner: Arc<Inner>,
        number: u64,
        place: Place,
        protocol: &'static str,
        user_agent: Option<Arc<str>>,
    ) -> Self {
        let seat = Seat { number, wake: Arc::default(), replaced: CancellationToken::new() };
        let entry = inner.sessions.add(number, protocol, user_agent, seat.replaced.clone());
        Listed { inner, seat, entry, place, key: None }
    }

    pub(crate) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// As others see it.
    pub(crate) fn entry(&self) -> Arc<Entry> {
        self.entry.clone()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Standing)) {
        self.entry.update(change);
    }

    /// Where the client connects from, where the listener tells.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.place.address
    }

    /// It is known who it is: of their sessions there may only be so many.
    pub(crate) fn identify(&mut self, identity: &Identity) -> Result<(), Closing> {
        self.place.share.identify(identity)
    }

    /// It is known where the session begins: others may arrive.
    pub(crate) fn arrived(&mut self) {
        self.place.arrival = None;
    }

    /// It is known whose session it is: of its connections, to whatever process, this is the newest. Told once; what is given
    /// back ends when that has a number.
    pub(crate) fn belongs_to(&mut self, client: &Client) -> Option<oneshot::Receiver<()>> {
        if self.key.is_some() {
            return None;
        }
        self.key = Some(client.key.clone());
        Some(self.inner.clients.connections.begins(client, &self.entry))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.inner.sessions.remove(self.seat.number);
        if let Some(key) = &self.key {
            self.inner.clients.connections.ends(key, self.seat.number);
        }
        if self.entry.is_due(clock::now())
            && let Some(visit) = self.entry.visit()
        {
            self.inner.clients.visited(visit);
        }
    }
}
