//! What streaming asks of the two databases: [`Log`] and [`Clientele`] of history, [`Origin`] of the source.
//!
//! Everything above is written against these, and what each answer may be relied on for is said here. The databases are the
//! real ones, but for the simulation, in which lists with the same contracts answer. The feed is in no database and is the same
//! for both. What HTTP reads at length (values, the past of rows) and the audit are no part of this.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use waldelta_history::{
    Captured, ClientNote, ConnectionListener, Gap, Head, History, Lineage, NewestConnection, NumberedClient,
    Page, ReadLimit,
};
use waldelta_source::catalog::{self, PublishedTable};
use waldelta_source::snapshot::{self, Rows, Snapshot};
use waldelta_source::{Error as SourceError, Source};
use waldelta_wal::{Lsn, PgSnapshot, Position, Table, TableName};

type Answer<'a, T> = BoxFuture<'a, Result<T, waldelta_history::Error>>;
type SourceAnswer<'a, T> = BoxFuture<'a, Result<T, SourceError>>;

/// The durable log behind the feed. Whatever was published by the feed is here, and stays until it is pruned.
pub(crate) trait Log: Send + Sync {
    /// See [`History::read_after`]: in commit order, whole transactions or runs of one, and `Pruned` rather than a gap.
    fn read_after(&self, after: Position, upto: Position, limit: ReadLimit) -> Answer<'_, Page>;
    /// What is captured, and the durable head, which is never before one that anybody was told.
    fn captured(&self) -> Answer<'_, Option<(Captured, Head)>>;
    /// The oldest cursor that can be resumed. It only rises.
    fn floor(&self) -> Answer<'_, Position>;
    /// How epochs follow each other.
    fn lineage(&self) -> Answer<'_, Lineage>;
    /// The cursor that a bare LSN stands for.
    fn cursor_of_lsn(&self, lsn: Lsn) -> Answer<'_, Option<Position>>;
    /// Where rows changed in a way that no change tells.
    fn open_gaps(&self) -> Answer<'_, Vec<Gap>>;
    /// Transactions at or below `upto` that this snapshot of the source does not show.
    fn xids_unseen_by<'a>(&'a self, snapshot: &'a PgSnapshot, upto: Position) -> Answer<'a, Vec<u64>>;
    /// The latest shape of each table.
    fn tables(&self) -> Answer<'_, Vec<Arc<Table>>>;
    /// All shapes of tables that have or had these names.
    fn tables_of_names<'a>(&'a self, names: &'a BTreeSet<TableName>) -> Answer<'a, Vec<Arc<Table>>>;
    /// One shape.
    fn table(&self, oid: u32, version: u32) -> Answer<'_, Arc<Table>>;
}

/// What is kept of clients. Where an acknowledgement is recorded it is durable.
pub(crate) trait Clientele: Send + Sync {
    /// Records one acknowledgement.
    fn record_ack<'a>(&'a self, client_id: &'a str, cursor: Position) -> Answer<'a, ()>;
    /// Records many, or none of them.
    fn record_acks<'a>(&'a self, acks: &'a [(&'a str, Position)]) -> Answer<'a, ()>;
    /// Notes that clients are here.
    fn note_clients<'a>(&'a self, clients: &'a [ClientNote<'a>]) -> Answer<'a, ()>;
    /// Forgets those that were away for so long; `None` where another process does.
    fn forget_clients(&self, unseen_for: Duration) -> Answer<'_, Option<u64>>;
    /// Numbers go on above those in use.
    fn raise_connections(&self) -> Answer<'_, ()>;
    /// Rising numbers, each above all that any process has drawn before.
    fn draw_connections(&self, count: usize) -> Answer<'_, Vec<i64>>;
    /// Those of these clients whose newest connection this is.
    fn take_clients<'a>(&'a self, process: i64, clients: &'a [NumberedClient<'a>])
    -> Answer<'a, Vec<String>>;
    /// Those of these clients whose newest connection is to another process.
    fn taken_elsewhere<'a>(
        &'a self,
        process: i64,
        client_ids: &'a [&'a str],
    ) -> Answer<'a, Vec<NewestConnection>>;
    /// Hears of connections to other processes; one that is lost is made up for by asking.
    fn listen_for_connections(&self) -> Answer<'_, ConnectionListener>;
}

/// The source, on its primary.
pub(crate) trait Origin: Send + Sync {
    /// A connection that counts transaction ids.
    fn counting(&self) -> SourceAnswer<'_, Box<dyn Counting>>;
    /// The tables that are published now.
    fn published_tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>>;
    /// What a snapshot taken now would show. A transaction may be in the log and not be among that yet, also with an id at or
    /// above its `xmax`.
    fn visible_now(&self) -> SourceAnswer<'_, PgSnapshot>;
    /// Waits until all of these are visible; what is stays so.
    fn wait_visible<'a>(&'a self, xids: &'a [u64], timeout: Duration) -> SourceAnswer<'a, ()>;
    /// Opens a snapshot, and then emits a fence.
    fn open_snapshot(&self) -> SourceAnswer<'_, Box<dyn OpenSnapshot>>;
}

/// Counts transaction ids.
pub(crate) trait Counting: Send {
    /// An id at or below that of every transaction that has none yet, and above that of every one that has; [`SourceError::Standby`]
    /// where it cannot be known.
    fn next_xid(&mut self) -> SourceAnswer<'_, u64>;
}

/// One moment of the source: see [`Snapshot`], which says what each of these is.
pub(crate) trait OpenSnapshot: Send + Sync {
    fn check_timeline(&self, followed: u32) -> Result<(), SourceError>;
    fn visibility(&self) -> &PgSnapshot;
    fn fence(&self) -> Lsn;
    fn tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>>;
    fn rows_where<'a>(
        &'a self,
        table: Arc<Table>,
        condition: Option<&'a str>,
        batch_bytes: usize,
    ) -> SourceAnswer<'a, Rows<'a>>;
}

impl Log for History {
    fn read_after(&self, after: Position, upto: Position, limit: ReadLimit) -> Answer<'_, Page> {
        self.read_after(after, upto, limit).boxed()
    }

    fn captured(&self) -> Answer<'_, Option<(Captured, Head)>> {
        self.captured().boxed()
    }

    fn floor(&self) -> Answer<'_, Position> {
        self.floor().boxed()
    }

    fn lineage(&self) -> Answer<'_, Lineage> {
        self.lineage().boxed()
    }

    fn cursor_of_lsn(&self, lsn: Lsn) -> Answer<'_, Option<Position>> {
        self.cursor_of_lsn(lsn).boxed()
    }

    fn open_gaps(&self) -> Answer<'_, Vec<Gap>> {
        self.open_gaps().boxed()
    }

    fn xids_unseen_by<'a>(&'a self, snapshot: &'a PgSnapshot, upto: Position) -> Answer<'a, Vec<u64>> {
        self.xids_unseen_by(snapshot, upto).boxed()
    }

    fn tables(&self) -> Answer<'_, Vec<Arc<Table>>> {
        self.tables().boxed()
    }

    fn tables_of_names<'a>(&'a self, names: &'a BTreeSet<TableName>) -> Answer<'a, Vec<Arc<Table>>> {
        self.tables_of_names(names).boxed()
    }

    fn table(&self, oid: u32, version: u32) -> Answer<'_, Arc<Table>> {
        self.table(oid, version).boxed()
    }
}

impl Clientele for History {
    fn record_ack<'a>(&'a self, client_id: &'a str, cursor: Position) -> Answer<'a, ()> {
        self.record_ack(client_id, cursor).boxed()
    }

    fn record_acks<'a>(&'a self, acks: &'a [(&'a str, Position)]) -> Answer<'a, ()> {
        self.record_acks(acks).boxed()
    }

    fn note_clients<'a>(&'a self, clients: &'a [ClientNote<'a>]) -> Answer<'a, ()> {
        self.note_clients(clients).boxed()
    }

    fn forget_clients(&self, unseen_for: Duration) -> Answer<'_, Option<u64>> {
        self.forget_clients(unseen_for).boxed()
    }

    fn raise_connections(&self) -> Answer<'_, ()> {
        self.raise_connections().boxed()
    }

    fn draw_connections(&self, count: usize) -> Answer<'_, Vec<i64>> {
        self.draw_connections(count).boxed()
    }

    fn take_clients<'a>(
        &'a self,
        process: i64,
        clients: &'a [NumberedClient<'a>],
    ) -> Answer<'a, Vec<String>> {
        self.take_clients(process, clients).boxed()
    }

    fn taken_elsewhere<'a>(
        &'a self,
        process: i64,
        client_ids: &'a [&'a str],
    ) -> Answer<'a, Vec<NewestConnection>> {
        self.taken_elsewhere(process, client_ids).boxed()
    }

    fn listen_for_connections(&self) -> Answer<'_, ConnectionListener> {
        self.listen_for_connections().boxed()
    }
}

impl Origin for Source {
    fn counting(&self) -> SourceAnswer<'_, Box<dyn Counting>> {
        async { Ok(Box::new(self.connect_primary().await?) as Box<dyn Counting>) }.boxed()
    }

    fn published_tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>> {
        async { catalog::published_tables(&self.connect().await?, self).await }.boxed()
    }

    fn visible_now(&self) -> SourceAnswer<'_, PgSnapshot> {
        snapshot::visible_now(self).boxed()
    }

    fn wait_visible<'a>(&'a self, xids: &'a [u64], timeout: Duration) -> SourceAnswer<'a, ()> {
        snapshot::wait_visible(self, xids, timeout).boxed()
    }

    fn open_snapshot(&self) -> SourceAnswer<'_, Box<dyn OpenSnapshot>> {
        async { Ok(Box::new(Snapshot::open(self).await?) as Box<dyn OpenSnapshot>) }.boxed()
    }
}

impl Counting for tokio_postgres::Client {
    fn next_xid(&mut self) -> SourceAnswer<'_, u64> {
        snapshot::next_xid(self).boxed()
    }
}

impl OpenSnapshot for Snapshot {
    fn check_timeline(&self, followed: u32) -> Result<(), SourceError> {
        self.check_timeline(followed)
    }

    fn visibility(&self) -> &PgSnapshot {
        self.visibility()
    }

    fn fence(&self) -> Lsn {
        self.fence()
    }

    fn tables(&self) -> SourceAnswer<'_, Vec<PublishedTable>> {
        self.tables().boxed()
    }

    fn rows_where<'a>(
        &'a self,
        table: Arc<Table>,
        condition: Option<&'a str>,
        batch_bytes: usize,
    ) -> SourceAnswer<'a, Rows<'a>> {
        self.rows_where(table, condition, batch_bytes).boxed()
    }
}
