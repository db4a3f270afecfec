//! Gives each client its changes in order from wherever it left off: WebSocket and plain HTTP.
//!
//! It reads history and snapshots of the source; it knows nothing of capture or of the replication protocol.
//!
//! The only log is history. A session is a cursor: it reads the shared tail of its scope when it can, the feed or history
//! when it cannot. So live, catch-up, resume, slow client and restart are one path, and a wake-up carries nothing that
//! correctness needs.

mod closing;
mod config;
mod error;
mod frontier;
mod http;
mod hub;
mod inner;
mod metrics;
mod registry;
mod scope;
mod session;
mod start;
mod stretch;
mod subscription;
mod wire;

#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use config::Config;
pub use error::Error;
use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_source::Source;

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
    /// connecting, hydrating, catching_up, live, closing.
    pub state: &'static str,
    /// Cursor up to which everything was handed over.
    pub cursor: String,
    /// Cursor that the client has acknowledged.
    pub acked: Option<String>,
    /// Bytes of frames sent.
    pub sent_bytes: u64,
}

impl Fanout {
    /// Prepares the client side; nothing runs before [`Fanout::run`].
    pub fn new(config: Config, history: History, source: Source) -> Self {
        Fanout { inner: Arc::new(inner::Inner::new(config, history, source)) }
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

    /// Feeds the scopes until `stop` is cancelled; then lets every session go with 1012 and waits for them. After an
    /// error it may be run again; after a stop it admits nobody any more.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        let inner = &self.inner;
        tokio::join!(
            hub::run(inner.history.feed(), &inner.registry, &inner.metrics, &stop),
            inner.frontier.run(&inner.source, &stop),
        );
        inner.closing.cancel();
        inner.tracker.close();
        inner.tracker.wait().await;
        Ok(())
    }

    /// The sessions there are, oldest first.
    pub fn sessions(&self) -> Vec<SessionReading> {
        self.inner.readings()
    }
}
