//! The durable ordered log: append, read after, follow.
//!
//! It owns the schema `waldelta` of the history database. There is no other log: the feed is a cache of this one's
//! tail. It speaks no replication protocol and knows no clients' sockets.

mod error;
mod feed;
mod reader;
mod writer;

mod answers;
mod audit;
mod baseline;
mod captures;
mod clients;
mod connections;
mod copy_buffer;
mod encode;
mod encoding;
mod epochs;
mod follow;
mod gap_notes;
mod gaps;
mod indexes;
mod large;
mod lease;
mod link;
mod long;
mod metrics;
mod moved;
mod page;
mod partition;
mod poison;
mod pool;
mod prune_orders;
mod pruned;
mod retention;
mod row_gaps;
mod row_versions;
mod schema;
mod seals;
mod sequence;
mod shapes;
mod short;
mod skips;
mod sql_row;
mod sweep;
mod tickets;
mod times;
mod tokens;
mod writing;

#[cfg(feature = "guard")]
#[doc(hidden)]
pub mod guard;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub use audit::{AuditAction, AuditEntry};
pub use baseline::{Baseline, BaselineRow};
pub use clients::{ClientNote, KnownClient};
pub use connections::{ConnectionListener, NewestConnection, NumberedClient};
pub use epochs::{EpochSpan, Lineage, NewEpoch};
pub use error::Error;
use fail::fail_point;
pub use feed::{Behind, Entry, Feed, Transaction};
pub use follow::FollowFailure;
pub use gaps::{Gap, NewGap};
pub use large::{Large, Touched};
pub use lease::LeaseKeeper;
pub use metrics::describe as describe_metrics;
pub use page::{Page, Part, ReadLimit};
pub use prune_orders::{PruneOrder, Pruner};
pub use pruned::Pruned;
#[doc(hidden)]
pub use reader::READ_AFTER_SQL;
pub use retention::{BadRetention, Retention};
pub use row_versions::{Last, Reads, RowChange, RowEntry, RowHistory, RowPage, Since};
pub use seals::{
    EpochSeals, Finding, Noted, ParseSealError, Problem, SealName, Sealed, Sealer, Unsealed, Verification,
};
pub use shapes::Numbered;
pub use sweep::{PrunePlan, Retained, Shown, Sweep, Sweeper};
pub use tickets::TakenTicket;
pub use tokens::{AccessList, NewStoredToken, Revocation, Revoked, StoredToken};
use waldelta_pgconn::Target;
use waldelta_wal::{EndLsn, Epoch, Position, Table};
pub use writer::Writer;
pub use writing::Writing;

use crate::answers::Pool;
use crate::lease::Backend;
use crate::link::Link;
use crate::retention::Retaining;
use crate::seals::Sealing;

/// The one row of `captures`.
const CAPTURE_ID: i32 = 1;
/// Channel on which writers tell that the head has moved. The payload, the head as a cursor, is for people.
const HEAD_CHANNEL: &str = "waldelta_head";

/// Where history is kept, and its bounds.
#[derive(Clone, Debug)]
pub struct Config {
    /// The history database.
    pub target: Target,
    /// Bytes of change images that the in-memory feed holds at most.
    pub feed_bytes_max: usize,
    /// Connections for reading at most.
    pub connections_max: u32,
    /// WAL bytes that one partition of `change_history` spans, fixed when an epoch starts.
    pub partition_bytes: u64,
}

/// What is durable: everything that committed strictly below `durable_end` in this epoch and all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// Current epoch.
    pub epoch: Epoch,
    /// D: the durable end.
    pub durable_end: EndLsn,
}

impl Head {
    /// The head as a cursor: the last position before the durable end.
    pub fn cursor(self) -> Position {
        Position::before(self.epoch, self.durable_end)
    }
}

/// The source as history knows it: compared with what the source says before every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// `system_identifier` of the source's cluster.
    pub system_id: u64,
    /// Timeline.
    pub timeline: u32,
    /// Object id of the source's database.
    pub database_oid: u32,
    /// Slot that feeds this history.
    pub slot: String,
    /// Publication that feeds this history.
    pub publication: String,
}

/// A history database, open for reading; cheap to clone.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    pool: Pool,
    feed: Arc<Feed>,
    /// Shapes met so far, by table and version: as many as there are versions in `table_schemas` at most.
    tables: Mutex<HashMap<(u32, u32), Arc<Table>>>,
    /// The writer that was made here last: whether it lives, and its backend.
    writer: Mutex<Option<(Weak<()>, Backend)>>,
    /// Whoever was writing when a writer was refused here last.
    refused_for: Mutex<Option<Backend>>,
    /// No partition lacks an index.
    has_indexes: AtomicBool,
    /// Why the history that another process writes cannot be followed now.
    follow_failure: Mutex<Option<FollowFailure>>,
    /// How much is kept, and what there is of it.
    retaining: Retaining,
    /// Whether what is stored is sealed.
    sealing: Sealing,
}

impl History {
    /// Connects and brings the schema up to date.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        Self::open_telling(config, |_| {}).await
    }

    /// The same; `tell` hears what is waited for, each time it is something else.
    pub async fn open_telling(
        config: &Config,
        tell: impl Fn(&'static str) + Send + Sync,
    ) -> Result<Self, Error> {
        if config.partition_bytes == 0 {
            return Err(Error::Unusable { what: "partitions of 0 bytes" });
        }
        pool::check(&config.target)?;
        schema::migrate(config, &tell).await?;
        Self::opened(config).await
    }

    /// Opens it as it is, for who only reads: nothing is made, and nothing brought up to date.
    ///
    /// # Errors
    /// [`Error::NotBegun`] where there is none, [`Error::SchemaOlder`] and [`Error::SchemaNewer`] where it is of another version.
    pub async fn open_as_it_is(config: &Config) -> Result<Self, Error> {
        Self::look(config).await?;
        Self::opened(config).await
    }

    /// Only whether there is one, and of which version.
    ///
    /// # Errors
    /// As [`open_as_it_is`](Self::open_as_it_is).
    pub async fn look(config: &Config) -> Result<(), Error> {
        pool::check(&config.target)?;
        schema::look(config).await
    }

    async fn opened(config: &Config) -> Result<Self, Error> {
        let history = Self::unopened(config, Head::default());
        if let Some((_, head)) = history.captured().await? {
            history.feed().restart_at(head);
        }
        Ok(history)
    }

    /// One whose database nobody has looked at: it connects when it is first asked. The feed begins after `head`. For simulations,
    /// in which others answer what a database would be asked.
    #[doc(hidden)]
    pub fn unopened(config: &Config, head: Head) -> Self {
        let inner = Inner {
            pool: pool::open(config),
            feed: Arc::new(Feed::new(head, config.feed_bytes_max)),
            tables: Mutex::default(),
            writer: Mutex::default(),
            has_indexes: AtomicBool::default(),
            follow_failure: Mutex::default(),
            retaining: Retaining::default(),
            sealing: Sealing::default(),
            refused_for: Mutex::default(),
            config: config.clone(),
        };
        History { inner: Arc::new(inner) }
    }

    /// The in-process cache of the tail.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.inner.feed
    }

    /// Becomes the one writer: takes the lease with a new fencing token. Refused while another writer lives.
    pub async fn writer(&self, holder: &str) -> Result<Writer, Error> {
        let link = Link::connect(&self.inner.config.target).await?;
        // A writer of this process that was dropped may still have a backend that does not know it yet.
        let leftover = match &*lock(&self.inner.writer) {
            Some((alive, backend)) if alive.strong_count() == 0 => Some(*backend),
            _ => None,
        };
        if let Some(other) = lease::lock(&link.client, leftover).await? {
            *lock(&self.inner.refused_for) = Some(other.backend);
            return Err(other.refusal());
        }
        self.writer_with_lock(link, holder).await
    }

    /// Becomes the one writer in place of another that does not answer. What the other has not committed by then is
    /// rolled back, and nothing that it does later can be committed. When to do so is the caller's decision: about the writer for
    /// which [`Self::writer`] was refused last, if it was. Where somebody else writes by now, that is [`Error::LeaseHeld`] again.
    pub async fn take_over(&self, holder: &str) -> Result<Writer, Error> {
        let link = Link::connect(&self.inner.config.target).await?;
        let known = *lock(&self.inner.refused_for);
        lease::take_over_lock(&link.client, known).await?;
        self.writer_with_lock(link, holder).await
    }

    async fn writer_with_lock(&self, link: Link, holder: &str) -> Result<Writer, Error> {
        let taken = lease::take(&link.client, holder).await?;
        fail_point!("history::lease_taken");
        let tables = self.tables().await?;
        // For its metric.
        self.open_gaps().await?;
        let alive = Arc::new(());
        *lock(&self.inner.writer) = Some((Arc::downgrade(&alive), taken.backend));
        *lock(&self.inner.refused_for) = None;
        // Who writes follows nobody.
        self.follows();
        let partitions = self.partitions_of(&link, &taken).await?;
        Ok(Writer::new(self.clone(), link, taken, tables, partitions, alive))
    }

    /// Drops history's own objects, and the schema if nothing else is in it. Refused while a writer lives.
    pub async fn drop_everything(&self) -> Result<(), Error> {
        schema::drop_everything(&self.inner.config).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn known_table(&self, oid: u32, version: u32) -> Option<Arc<Table>> {
        lock(&self.inner.tables).get(&(oid, version)).cloned()
    }

    /// Forgets all shapes: another history can stand in the same place.
    pub(crate) fn forget_tables(&self) {
        lock(&self.inner.tables).clear();
    }

    pub(crate) fn remember(&self, tables: Vec<Arc<Table>>) {
        if !tables.is_empty() {
            lock(&self.inner.tables)
                .extend(tables.into_iter().map(|table| ((table.oid, table.version), table)));
        }
    }
}

/// No holder of these locks panics or leaves them half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
