//! All SQL that is spoken to the captured database: catalog, checks, publication and slot statements, snapshot reads.
//!
//! It never speaks the replication protocol and knows nothing of history or of clients.

mod ask;
mod error;

mod plugin;

pub mod catalog;

pub mod setup;

mod canary;
mod primary;

pub mod snapshot;

pub mod wal2json;

pub mod checks;

pub use canary::beat_canary;
pub use error::Error;
pub use plugin::{ParsePluginError, Plugin};
use waldelta_pgconn::Target;
use waldelta_wal::ValuePolicy;

/// Name under which connections show in `pg_stat_activity`, unless the connection string has another.
const APPLICATION_NAME: &str = "waldelta";

/// Beside the settings that fix the text form of values: names mean the catalog's, literals what they say, and a commit
/// waits for no standby (what is committed here matters to nobody but us, and a snapshot must not hang with them).
const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("synchronous_commit", "local"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    // The planner cannot know how little the catalog's functions return, and would compile for a second.
    ("jit", "off"),
    // What is only noticed (an object that was not there to be dropped) is nobody's business here.
    ("client_min_messages", "warning"),
];

/// Bounds of statements that ask or set up: they wait for nobody for long, and hold nobody up.
const STATEMENT_BOUNDS: &[(&str, &str)] =
    &[("lock_timeout", "5s"), ("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "60s")];

/// The captured database, and what of it is captured.
#[derive(Clone, Debug)]
pub struct Source {
    /// How to reach it.
    pub target: Target,
    /// The publication's name.
    pub publication: String,
    /// The slot's name.
    pub slot: String,
    /// The slot's output plugin.
    pub plugin: Plugin,
    /// What is written where jsonb cannot hold a value: in the stream and in snapshots alike.
    pub values: ValuePolicy,
    /// The primary, where `target` is a standby: what writes, and what needs a trustworthy snapshot, goes there.
    pub primary: Option<Target>,
}

impl Source {
    /// A plain SQL connection with the settings that fix the text form of values, `search_path` and timeouts.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(&self) -> Result<tokio_postgres::Client, Error> {
        self.target.connect(APPLICATION_NAME, &settings(STATEMENT_BOUNDS)).await.map_err(Error::Connect)
    }

    /// The same to the primary, which is the same server unless `target` is a standby.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`Error::NotThePrimary`] where what is named as primary is not that of the standby.
    pub async fn connect_primary(&self) -> Result<tokio_postgres::Client, Error> {
        // Kept small: it is part of many a future.
        let primary = Box::pin(primary::of(self)).await?;
        let settings = settings(STATEMENT_BOUNDS);
        let client = primary.target.connect(APPLICATION_NAME, &settings).await.map_err(Error::Connect)?;
        primary.check(&client).await?;
        Ok(client)
    }
}

fn settings(bounds: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [waldelta_pgconn::PINNED_SETTINGS, SESSION_SETTINGS, bounds].concat()
}
