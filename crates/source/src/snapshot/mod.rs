//! A consistent snapshot of tables without a slot: read at one moment that is named by the transactions it shows.

mod rows;
mod visibility;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
pub use rows::SnapshotRow;
use tokio_postgres::Client;
pub use visibility::{next_xid, visible_now, wait_visible};
use waldelta_pgconn::{ConnectionGuard, Target};
use waldelta_wal::{FENCE_PREFIX, Lsn, PgSnapshot, Table};

use crate::ask::{ask_one, literal};
use crate::catalog::{self, Identity, PublishedTable, published_tables};
use crate::{APPLICATION_NAME, Error, Source, primary};

/// A snapshot may be read for hours, and row-level security is to raise an error instead of hiding rows.
const SNAPSHOT_BOUNDS: &[(&str, &str)] = &[
    ("lock_timeout", "10s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("row_security", "off"),
];

/// These came with PostgreSQL 14 and 17; a server that does not know a setting would refuse the connection.
const LIFT_NEWER_BOUNDS: &str = "SELECT set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('idle_session_timeout', 'transaction_timeout')";
/// A database without an encoding cannot be converted: text comes as it is stored, as it does in the stream. Asked for UTF-8
/// its server would check every text instead, and fail at the first that is not.
const TAKE_TEXT_AS_IT_IS: &str = "SELECT set_config('client_encoding', 'SQL_ASCII', false)
    WHERE current_setting('server_encoding') = 'SQL_ASCII'";
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// The first question of the transaction: what it shows is fixed by it.
const LOOK: &str = "SELECT pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS is_standby";
/// The time at which the transaction began.
const OPENED_AT: &str = "SELECT (extract(epoch FROM now()) * 1000000)::int8 AS us";

const WHAT_OPENS: &str = "open a snapshot";

/// A stream of batches of rows.
pub type Rows<'a> = Pin<Box<dyn Stream<Item = Result<Vec<SnapshotRow>, Error>> + Send + 'a>>;

/// An open snapshot: one REPEATABLE READ transaction on a connection of its own, ended when dropped, even in the middle
/// of a table.
#[derive(Debug)]
pub struct Snapshot {
    client: Client,
    _guard: ConnectionGuard,
    source: Source,
    snapshot: PgSnapshot,
    fence: Lsn,
    timeline: u32,
}

impl Snapshot {
    /// Opens the snapshot on the primary, then emits a fence after it.
    ///
    /// # Errors
    /// [`Error::Standby`]: a standby's snapshot has no list of the transactions in progress. Or when it cannot be opened.
    pub async fn open(source: &Source) -> Result<Self, Error> {
        let primary = Box::pin(primary::of(source)).await?;
        let (client, guard) = connect(primary.target).await?;
        primary.check(&client).await?;
        begin(&client, BEGIN).await?;
        let snapshot = look(&client, WHAT_OPENS).await?;
        let fence = emit_fence(source, &snapshot).await?;
        let timeline = catalog::identity(&client).await?.timeline;
        Ok(Snapshot { client, _guard: guard, source: source.clone(), snapshot, fence, timeline })
    }

    /// Opens a snapshot that another connection to the target has exported, such as the one that created a slot; it has to
    /// keep it exported until this returns. No fence is emitted: [`Self::fence`] is where the WAL ends now. One that a slot has
    /// exported is whole on a standby too: it was made from the WAL.
    ///
    /// # Errors
    /// When there is no such exported snapshot any more, or it cannot be opened.
    pub async fn import(source: &Source, exported: &str) -> Result<Self, Error> {
        let (client, guard) = connect(&source.target).await?;
        begin(&client, &format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", literal(exported))).await?;
        let snapshot = ask_one(&client, WHAT_OPENS, LOOK, &[]).await?.parse("snapshot")?;
        let Identity { wal_end: fence, timeline, .. } = catalog::identity(&client).await?;
        Ok(Snapshot { client, _guard: guard, source: source.clone(), snapshot, fence, timeline })
    }

    /// Whether this snapshot shows what the transaction did, if it committed.
    pub fn shows(&self, xid: u64) -> bool {
        self.snapshot.visible(xid)
    }

    /// The snapshot as PostgreSQL describes it.
    pub fn visibility(&self) -> &PgSnapshot {
        &self.snapshot
    }

    /// WAL position of the fence: everything the snapshot shows committed strictly below it. It is stored at once, so
    /// that a quiet source keeps no snapshot waiting.
    pub fn fence(&self) -> Lsn {
        self.fence
    }

    /// When it was opened, in microseconds since 1970-01-01 UTC, by its server's clock: comparable with commit times, as no clock
    /// of ours is.
    ///
    /// # Errors
    /// When the question fails.
    pub async fn opened_at_us(&self) -> Result<i64, Error> {
        ask_one(&self.client, "ask when a snapshot was opened", OPENED_AT, &[]).await?.read("us")
    }

    /// Whether its server is on this timeline or on one that came after it. An old primary that still runs is not: what it
    /// shows is no part of the history that the stream goes on with.
    ///
    /// # Errors
    /// [`Error::NotThePrimary`].
    pub fn check_timeline(&self, followed: u32) -> Result<(), Error> {
        match self.timeline < followed {
            true => Err(Error::NotThePrimary { why: "it is on a timeline that history has left" }),
            false => Ok(()),
        }
    }

    /// The published tables as this snapshot has them.
    ///
    /// # Errors
    /// When the question fails.
    pub async fn tables(&self) -> Result<Vec<PublishedTable>, Error> {
        published_tables(&self.client, &self.source).await
    }

    /// Reads a table's rows, each as the stream has it, in batches of at most about `batch_bytes`, and never less than a
    /// row. One table at a time: a second call waits until the first stream is read to its end or dropped.
    ///
    /// Columns that the table lacks here are not asked for: who wants some of them passes a shape that has only those.
    ///
    /// # Errors
    /// [`Error::TableChanged`] where the snapshot may lack rows because the table was truncated, rewritten, dropped or
    /// repartitioned since; [`Error::ReadTable`], with SQLSTATE 42501 where row-level security
    /// would hide rows. After an error a new snapshot is needed: PostgreSQL takes no more questions in this transaction.
    pub async fn rows(&self, table: Arc<Table>, batch_bytes: usize) -> Result<Rows<'_>, Error> {
        self.rows_where(table, None, batch_bytes).await
    }

    /// The same, of those rows for which this SQL condition over the table's quoted column names is true. It becomes part of the
    /// statement as it stands: its literals have to be quoted.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub async fn rows_where(
        &self,
        table: Arc<Table>,
        condition: Option<&str>,
        batch_bytes: usize,
    ) -> Result<Rows<'_>, Error> {
        rows::read(&self.client, table, condition, &self.source, batch_bytes).await
    }
}

async fn connect(target: &Target) -> Result<(Client, ConnectionGuard), Error> {
    target.connect_guarded(APPLICATION_NAME, &crate::settings(SNAPSHOT_BOUNDS)).await.map_err(Error::Connect)
}

/// Begins the transaction. What it shows is fixed by the first look.
async fn begin(client: &Client, sql: &str) -> Result<(), Error> {
    for sql in [LIFT_NEWER_BOUNDS, TAKE_TEXT_AS_IT_IS, sql] {
        client.batch_execute(sql).await.map_err(|source| Error::Query { what: WHAT_OPENS, source })?;
    }
    Ok(())
}

/// What the transaction under way shows, or what a new one would.
async fn look(client: &Client, what: &'static str) -> Result<PgSnapshot, Error> {
    let answer = ask_one(client, what, LOOK, &[]).await?;
    if answer.read("is_standby")? {
        return Err(Error::Standby);
    }
    answer.parse("snapshot")
}

/// Emits the fence on another connection, in a transaction of its own: the snapshot's is read-only and stays open.
async fn emit_fence(source: &Source, snapshot: &PgSnapshot) -> Result<Lsn, Error> {
    let client = source.connect_primary().await?;
    let sql = "SELECT pg_logical_emit_message(true, $1, $2)::text AS lsn";
    ask_one(&client, "emit a fence", sql, &[&FENCE_PREFIX, &snapshot.to_string()]).await?.parse("lsn")
}
