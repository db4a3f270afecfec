//! Gives each client its changes in order from wherever it left off: WebSocket and plain HTTP.
//!
//! It reads history and snapshots of the source; it knows nothing of capture or of the replication protocol.
//!
//! The only log is history. A session is a cursor: it reads the shared tail of its scope when it can, the feed or history
//! when it cannot. So live, catch-up, resume, slow client and restart are one path, and a wake-up carries nothing that
//! correctness needs.

mod accept;
mod admission;
mod audit;
mod captured;
mod clients;
mod clock;
mod closing;
mod config;
mod databases;
mod describe;
mod error;
mod filter;
mod fingerprint;
mod frontier;
mod http;
mod hub;
mod index;
mod inner;
mod leaving;
mod limits;
mod lock;
mod metrics;
mod pace;
mod pages;
mod parts;
mod peer;
mod policy;
mod question;
mod registry;
mod rules;
mod scope;
mod session;
mod sessions;
mod shapes;
mod snapshots;
mod spread;
mod start;
mod stretch;
mod subscription;
mod wire;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "guard")]
#[doc(hidden)]
pub mod guard;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use accept::prepare;
pub use config::Config;
pub use describe::openapi_text;
pub use error::Error;
pub use fingerprint::fingerprint;
pub use http::{guarded, operators_only};
pub use metrics::describe as describe_metrics;
pub use parts::Part;
pub use peer::Peer;
pub use policy::{Limits, LivePolicy, Policy};
pub use rules::{Finding, Rule, RuleError, Rules};
use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_history::{History, KnownClient};
use waldelta_source::Source;

pub use crate::wire::timestamp::Timestamp;

/// The client side of the service; cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    inner: Arc<inner::Inner>,
}

/// What a session looks like to an operator.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SessionReading {
    /// Session id.
    pub session: String,
    /// Client id; empty before hello.
    pub client_id: String,
    /// Whose client it is, where clients authenticate.
    pub subject: Option<String>,
    /// connecting, hydrating, catching_up, live, closing.
    pub state: &'static str,
    /// Cursor up to which everything was handed over.
    pub cursor: String,
    /// Cursor that the client has acknowledged.
    pub acked: Option<String>,
    /// Bytes of frames sent.
    pub sent_bytes: u64,
}

/// What some sessions follow, and share.
#[derive(Clone, Debug)]
pub struct ScopeReading {
    /// The tables, each with its filter.
    pub follows: String,
    /// Sessions that follow it.
    pub sessions: usize,
    /// Bytes of frames that are kept ready.
    pub held_bytes: usize,
}

/// What is kept of a client, also while it is away. Times are ISO 8601 in UTC.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ClientReading {
    /// Client id.
    pub client_id: String,
    /// Whose client it is, where clients authenticate.
    pub subject: Option<String>,
    /// Whether it has a session in this process.
    pub connected: bool,
    /// The last cursor that it acknowledged.
    pub acked: Option<String>,
    /// When it last acknowledged one.
    pub acked_at: Option<String>,
    /// When it was last here, to the minute or so.
    pub seen_at: String,
    /// When it was here for the first time.
    pub first_seen_at: String,
    /// What it spoke last: a subprotocol of the WebSocket, or `http`, `sse` or `ndjson` where it asked for changes over HTTP.
    pub protocol: Option<String>,
    /// What its program called itself last.
    pub user_agent: Option<String>,
}

impl Fanout {
    /// Prepares the client side; nothing runs before [`Fanout::run`].
    pub fn new(config: Config, history: History, source: Source, access: Access) -> Self {
        Fanout { inner: Arc::new(inner::Inner::new(config, history, source, access)) }
    }

    /// Takes another policy from now on, for live sessions too.
    pub fn apply(&self, policy: Policy) {
        self.policy().apply(policy);
    }

    /// What is in force, for other listeners to go by too.
    pub fn policy(&self) -> LivePolicy {
        LivePolicy(self.inner.policy.clone())
    }

    /// Routes `/v1/stream`, `/v1/changes` and `/v1/values`.
    pub fn router(&self) -> axum::Router {
        self.router_with(axum::Router::new())
    }

    /// The same together with other routes of the listener, all behind one check of Host and Origin: what web pages must
    /// not read of one they must not read of the others.
    pub fn router_with(&self, others: axum::Router) -> axum::Router {
        http::router(self.inner.clone(), others)
    }

    /// `/v1/stream` alone, for a listener of operators, who look at changes as well: they are clients there, with a token where clients
    /// need one. To be put behind [`guarded`] with the listener's other routes.
    pub fn stream(&self) -> axum::Router {
        http::stream(self.inner.clone())
    }

    /// Serves the sessions until `stop` is cancelled. From then on nobody is admitted, requests that wait end, and the sessions
    /// are let go (`goaway`, 1012) one after the other within [`Config::drain`]: who has not had its turn is served as before.
    /// Returns when the last has gone and what is kept of clients is written. It is run once.
    ///
    /// All of it is one task: a transaction that takes long to route takes turns with whoever else has work here. Where there is
    /// more than one worker, [`Fanout::parts`] are better.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        futures_util::future::join_all(self.parts(stop).map(|part| part.run)).await;
        Ok(())
    }

    /// The same in parts, to be run at the same time, each on a task of its own. The one named `fanout` ends last: with it,
    /// [`Fanout::run`] would have returned. They are run once.
    pub fn parts(&self, stop: CancellationToken) -> [Part; 7] {
        parts::of(&self.inner, stop)
    }

    /// Puts what grows and shrinks by itself into the metrics.
    pub fn record(&self) {
        let registry = &self.inner.registry;
        metrics::held(registry.held_bytes(), registry.scopes());
    }

    /// Lets a session go, by its name: it is told to come back, as on a stop. False where there is none of this name.
    pub fn dismiss(&self, session: &str) -> bool {
        self.inner.sessions.dismiss(session)
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.inner.sessions.count()
    }

    /// What is followed, each with how many follow it.
    pub fn scopes(&self) -> Vec<ScopeReading> {
        self.inner.registry.readings()
    }

    /// The sessions there are, oldest first.
    pub fn sessions(&self) -> Vec<SessionReading> {
        self.inner.sessions.readings()
    }

    /// What is kept of clients, also of those that are away; those that were here last first, `limit` at most.
    pub async fn clients(&self, limit: u32) -> Result<Vec<ClientReading>, Error> {
        let known = self.inner.history.clients(limit).await?;
        let here = self.inner.sessions.keys();
        let reading = |known: KnownClient, (subject, client_id)| ClientReading {
            connected: here.contains(&*known.client_id),
            client_id,
            subject,
            acked: known.acked.map(|acked| acked.to_string()),
            acked_at: known.acked_at_us.map(|at| Timestamp(at).to_string()),
            seen_at: Timestamp(known.seen_at_us).to_string(),
            first_seen_at: Timestamp(known.first_seen_at_us).to_string(),
            protocol: known.protocol,
            user_agent: known.user_agent,
        };
        let reading_of = |known: KnownClient| {
            let client = clients::client_of(&known.client_id);
            reading(known, client)
        };
        Ok(known.into_iter().map(reading_of).collect())
    }
}
