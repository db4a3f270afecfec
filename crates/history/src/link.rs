//! The writer's connection: one SQL transaction at a time, made of one COPY and the guard; of few rows, one statement.
//!
//! A COPY costs two round trips: BEGIN and its start go out together, then rows, end of COPY, guard and COMMIT do.
//! That COMMIT is sent before the guard's answer is known is safe because a guard that hits no row is an error: after
//! an error COMMIT rolls back. Few rows cost one (`short`).

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fail::fail_point;
use futures_util::SinkExt;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{PgLsn, ToSql};
use tokio_postgres::{Client, CopyInSink, Statement};
use waldelta_pgconn::{ConnectionGuard, Target};
use waldelta_wal::{EndLsn, Epoch};

use crate::copy_buffer::CopyBuffer;
use crate::encode::COLUMNS;
use crate::partition::Partition;
use crate::short::{self, Arrays};
use crate::{CAPTURE_ID, Error};

const GUARD: &str = include_str!("../../../sql/queries/move_durable_end.sql");
const WHERE_IT_WAS: &str =
    "SELECT FROM waldelta.captures WHERE id = $1 AND token = $2 AND epoch = $3 AND durable_end = $4";

/// Read committed: the guard must see what another writer has committed meanwhile.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

const APPLICATION_NAME: &str = "waldelta-history-writer";

/// Durable means flushed, whatever the database or role says; no timeout of theirs may cut an append; and a peer that
/// vanished without a word is noticed within a minute, so that its lock goes.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("search_path", "waldelta,pg_catalog"),
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "60000"),
];

/// What is in the progress row before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) token: i64,
    pub(crate) epoch: Epoch,
    pub(crate) from: EndLsn,
    pub(crate) to: EndLsn,
}

/// Why a transaction was not committed, or may not have been.
#[derive(Debug)]
pub(crate) enum CommitFailure {
    /// The progress row was not where this writer left it. Rolled back.
    Fenced,
    /// The database refused the rows, or the COMMIT. Rolled back.
    Refused(tokio_postgres::Error),
    /// No answer came.
    Unknown(tokio_postgres::Error),
}

/// The connection. Dropping it ends the session: an open transaction is rolled back, the lock released.
pub(crate) struct Link {
    pub(crate) client: Client,
    move_durable_end: Statement,
    /// The partition written last, and its statements.
    prepared: Option<(Partition, Statements)>,
    open: Option<Copying>,
    /// Cuts the connection at once, whatever is still on its way.
    _guard: ConnectionGuard,
}

/// What is prepared of a partition.
#[derive(Clone)]
pub(crate) struct Statements {
    copy: Statement,
    append_short: Statement,
}

/// A COPY under way, within its SQL transaction.
struct Copying {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    rows: u64,
}

impl Link {
    /// Connects.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Error> {
        let (client, guard) =
            target.connect_guarded(APPLICATION_NAME, SETTINGS).await.map_err(Error::Connect)?;
        let move_durable_end = client.prepare(GUARD).await.map_err(Error::TakeLease)?;
        // Exists from PostgreSQL 17 on, so it cannot go into the startup packet.
        let settings = "SELECT current_setting('synchronous_commit'), (
            SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout')";
        let settings = client.query_one(settings, &[]).await.map_err(Error::TakeLease)?;
        if settings.get::<_, &str>(0) != "on" {
            return Err(Error::Unusable {
                what: "a connection that comes without synchronous_commit = on, though it was asked for: connect directly, \
                       not through a pooler",
            });
        }
        Ok(Link { client, move_durable_end, prepared: None, open: None, _guard: guard })
    }

    /// Whether a COPY is under way.
    pub(crate) fn is_copying(&self) -> bool {
        self.open.is_some()
    }

    /// Rows sent by the COPY under way.
    pub(crate) fn rows_sent(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.rows)
    }

    /// Makes sure that the partition exists, outside any transaction, and that its statements are prepared.
    pub(crate) async fn prepare_partition(&mut self, partition: Partition) -> Result<Statements, Error> {
        if let Some((_, statements)) = self.prepared.as_ref().filter(|(known, _)| *known == partition) {
            return Ok(statements.clone());
        }
        let name = partition.name();
        let failed = |source| Error::CreatePartition { name: name.clone(), source };
        let known = self
            .client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("waldelta.{name}")])
            .await
            .map_err(failed)?;
        if !known.get::<_, bool>(0) {
            fail_point!("history::before_partition");
            self.client.batch_execute(&partition.create_statements()).await.map_err(failed)?;
            fail_point!("history::after_partition");
        }
        let copy = format!("COPY waldelta.{name} ({COLUMNS}) FROM STDIN (FORMAT binary)");
        let append_short = short::statement(partition);
        let (copy, append_short) =
            tokio::try_join!(self.client.prepare(&copy), self.client.prepare(&append_short))
                .map_err(failed)?;
        let statements = Statements { copy, append_short };
        self.prepared = Some((partition, statements.clone()));
        Ok(statements)
    }

    /// Begins a SQL transaction without a COPY.
    pub(crate) async fn begin(&mut self) -> Result<(), Error> {
        self.client.batch_execute(BEGIN).await.map_err(Error::Append)
    }

    /// Begins a SQL transaction and in it a COPY.
    pub(crate) async fn begin_copy(&mut self, statements: &Statements) -> Result<(), Error> {
        let begin = self.client.batch_execute(BEGIN);
        let (begun, sink) = tokio::join!(biased; begin, self.client.copy_in(&statements.copy));
        begun.map_err(Error::Append)?;
        self.open = Some(Copying { sink: Box::pin(sink.map_err(Error::Append)?), rows: 0 });
        Ok(())
    }

    /// Sends what is in the buffer: `rows` rows. Returns when the connection has room for more; counts bytes in `accepted`
    /// as it takes them.
    pub(crate) async fn send(
        &mut self,
        buffer: &mut CopyBuffer,
        rows: u64,
        accepted: &AtomicU64,
    ) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Err(Error::WriterClosed) };
        open.rows += rows;
        while let Some(message) = buffer.take_message() {
            let bytes = message.len() as u64;
            open.sink.as_mut().feed(message).await.map_err(Error::Append)?;
            accepted.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the COPY, but not its SQL transaction. Needed only where more statements follow before the guard.
    pub(crate) async fn finish_copy(&mut self) -> Result<(), tokio_postgres::Error> {
        match self.open.take() {
            Some(mut open) => open.sink.as_mut().finish().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Ends the COPY if one is under way, moves the durable end and commits.
    pub(crate) async fn commit(&mut self, moved: Move) -> Result<(), CommitFailure> {
        fail_point!("history::before_commit");
        let copying = self.open.take();
        let (to, from) = (PgLsn::from(moved.to.0.0), PgLsn::from(moved.from.0.0));
        let epoch = moved.epoch.0.cast_signed();
        let finish = async {
            match copying {
                Some(mut copying) => copying.sink.as_mut().finish().await.map(|_| ()),
                None => Ok(()),
            }
        };
        let parameters: [&(dyn ToSql + Sync); 5] = [&to, &CAPTURE_ID, &moved.token, &epoch, &from];
        let guard = self.client.query_one(&self.move_durable_end, &parameters);
        let commit = self.client.batch_execute("COMMIT");
        let (finished, guarded, committed) = tokio::join!(biased; finish, guard, commit);
        fail_point!("history::after_commit");
        // The first failure is the cause of those after it.
        finished.map_err(|source| refused_or_unknown(&source)(source))?;
        guarded.map_err(guard_failure)?;
        committed.map_err(|source| refused_or_unknown(&source)(source))
    }

    /// Appends few rows, moves the durable end and commits, all in one statement. A division by zero is the guard's or that of a
    /// row that is refused: which one it was, a COPY tells.
    pub(crate) async fn append_short(
        &self,
        statements: &Statements,
        rows: &Arrays,
        moved: Move,
    ) -> Result<(), CommitFailure> {
        fail_point!("history::before_commit");
        let (to, from) = (PgLsn::from(moved.to.0.0), PgLsn::from(moved.from.0.0));
        let epoch = moved.epoch.0.cast_signed();
        let guard: [&(dyn ToSql + Sync); 5] = [&to, &CAPTURE_ID, &moved.token, &epoch, &from];
        let parameters: Vec<_> = guard.into_iter().chain(rows.parameters()).collect();
        let appended = self.client.execute(&statements.append_short, &parameters).await;
        fail_point!("history::after_commit");
        appended.map(drop).map_err(|source| refused_or_unknown(&source)(source))
    }

    /// Commits what was done since [`Self::begin`], where another statement than the usual was the guard.
    pub(crate) async fn commit_alone(&mut self) -> Result<(), CommitFailure> {
        let committed = self.client.batch_execute("COMMIT").await;
        committed.map_err(|source| refused_or_unknown(&source)(source))
    }

    /// After a refusal: whether the progress row is still where this writer left it.
    pub(crate) async fn is_where_it_was(&self, moved: Move) -> Result<bool, tokio_postgres::Error> {
        self.client.batch_execute("ROLLBACK").await?;
        let from = PgLsn::from(moved.from.0.0);
        let epoch = moved.epoch.0.cast_signed();
        let row = self.client.query_opt(WHERE_IT_WAS, &[&CAPTURE_ID, &moved.token, &epoch, &from]).await?;
        Ok(row.is_some())
    }

    /// Moves the durable end in a transaction of its own.
    pub(crate) async fn move_durable_end(&mut self, moved: Move) -> Result<(), CommitFailure> {
        let (to, from) = (PgLsn::from(moved.to.0.0), PgLsn::from(moved.from.0.0));
        let epoch = moved.epoch.0.cast_signed();
        let parameters: [&(dyn ToSql + Sync); 5] = [&to, &CAPTURE_ID, &moved.token, &epoch, &from];
        self.client.query_one(&self.move_durable_end, &parameters).await.map(|_| ()).map_err(guard_failure)
    }

    /// Gives up the transaction under way.
    pub(crate) async fn rollback(&mut self) -> Result<(), Error> {
        // Dropping the sink makes the COPY fail.
        if self.open.take().is_some() {
            self.client.batch_execute("ROLLBACK").await.map_err(Error::Append)?;
        }
        Ok(())
    }
}

/// A connection with the writer's settings.
pub(crate) async fn connect(target: &Target) -> Result<Client, Error> {
    target.connect(APPLICATION_NAME, SETTINGS).await.map_err(Error::Connect)
}

fn guard_failure(source: tokio_postgres::Error) -> CommitFailure {
    match source.code() {
        Some(&SqlState::DIVISION_BY_ZERO) => CommitFailure::Fenced,
        _ => refused_or_unknown(&source)(source),
    }
}

/// An answer of severity ERROR means a rollback. FATAL can come after the commit was written, and no answer says nothing.
fn refused_or_unknown(source: &tokio_postgres::Error) -> fn(tokio_postgres::Error) -> CommitFailure {
    match source.as_db_error().map(|error| error.parsed_severity()) {
        Some(Some(Severity::Error)) => CommitFailure::Refused,
        _ => CommitFailure::Unknown,
    }
}
