//! What can fail in history.

use waldelta_wal::{Code, EndLsn, Lsn, Position, Skip};

/// An operation on history that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connect to the history database")]
    Connect(#[source] waldelta_pgconn::Error),
    /// The pool for reading could not be opened.
    #[error("open the history database for reading")]
    Open(#[source] sqlx::Error),
    /// The server did not say what it is.
    #[error("ask the history database for its version")]
    Ask(#[source] tokio_postgres::Error),
    /// The server is older than 14.
    #[error("history needs PostgreSQL 14 or newer, the server is version {version}")]
    ServerTooOld {
        /// `server_version` as the server says it.
        version: String,
    },
    /// The schema could not be brought up to date.
    #[error("bring the schema waldelta up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A newer program has changed the schema.
    #[error(
        "the schema waldelta has migration {version} ({name}), which this version of Waldelta does not know"
    )]
    SchemaNewer {
        /// Number of the first migration that is not known here.
        version: i64,
        /// Its description.
        name: String,
    },
    /// The schema is that of an older version, and whoever opens it changes nothing.
    #[error(
        "the schema waldelta has migrations up to {version} only, and is not to be changed by who only reads"
    )]
    SchemaOlder {
        /// Number of the last migration.
        version: i64,
    },
    /// There are characters in the source that history's database has no place for.
    #[error(
        "history's database is encoded in {history}, which cannot hold the text of a source in {captured}"
    )]
    Encoding {
        /// `server_encoding` of the history database.
        history: String,
        /// `server_encoding` of the source.
        captured: String,
    },
    /// Capture is set up already.
    #[error("history already captures a source")]
    AlreadyBegun,
    /// Capture was never set up.
    #[error("history captures no source yet")]
    NotBegun,
    /// Capture could not be set up.
    #[error("set up capture in history")]
    Begin(#[source] sqlx::Error),
    /// A new epoch could not be begun: the one before goes on.
    #[error("begin a new epoch of history")]
    BeginEpoch(#[source] tokio_postgres::Error),
    /// An order to leave something out could not be stored or taken back.
    #[error("note in history what is to be skipped")]
    OrderSkip(#[source] sqlx::Error),
    /// What is to be left out is stored already.
    #[error("nothing at {lsn} can be skipped any more: history has everything before {durable_end}")]
    SkipPassed {
        /// Commit LSN of the transaction.
        lsn: Lsn,
        /// The durable end.
        durable_end: EndLsn,
    },
    /// A setting or argument that history cannot work with.
    #[error("history cannot work with {what}")]
    Unusable {
        /// What, and why.
        what: &'static str,
    },
    /// Another writer is alive.
    #[error("history is being written by {holder:?} (backend {backend_pid} of the history database)")]
    LeaseHeld {
        /// What the other writer calls itself.
        holder: String,
        /// Its backend's process id.
        backend_pid: i32,
        /// For how long it has not renewed its lease, in milliseconds.
        silent_ms: u64,
    },
    /// The lease could not be taken.
    #[error("take the writer's lease on history")]
    TakeLease(#[source] tokio_postgres::Error),
    /// The lease could not be given back; it ends with the connection anyway.
    #[error("release the writer's lease on history")]
    ReleaseLease(#[source] tokio_postgres::Error),
    /// The progress row was not where this writer left it: another writer has taken over.
    #[error("history has another writer now (expected the durable end {expected})")]
    Fenced {
        /// The durable end that this writer had stored last.
        expected: EndLsn,
    },
    /// A partition could not be made.
    #[error("create the partition {name} of change_history")]
    CreatePartition {
        /// Its name.
        name: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The shape of a table could not be stored.
    #[error("store the shape of {table}")]
    StoreTable {
        /// Its name.
        table: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// What was noticed of the source could not be stored.
    #[error("note in history which tables need repair")]
    NoteSource(#[source] tokio_postgres::Error),
    /// Changes could not be stored; nothing of this SQL transaction is.
    #[error("append to history")]
    Append(#[source] tokio_postgres::Error),
    /// The connection was lost while COMMIT was on its way. The stored durable end decides: take the writer again.
    #[error("learn whether the append up to {attempted} was committed (durable before: {expected})")]
    CommitUnknown {
        /// The durable end before the append.
        expected: EndLsn,
        /// The durable end if it was committed.
        attempted: EndLsn,
        /// What the database or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The database refuses a value, now and at every further try.
    #[error(
        "history cannot hold a value in {}: {reason} (SQLSTATE {sqlstate})",
        Skip::place(position.commit_lsn, position.index, table.as_deref(), row_key.as_deref())
    )]
    Poison {
        /// The change.
        position: Position,
        /// Its table, where known.
        table: Option<String>,
        /// Its key, where known.
        row_key: Option<String>,
        /// The database's code.
        sqlstate: String,
        /// The database's message, without details, which could hold data.
        reason: String,
    },
    /// A piece does not follow what was appended before.
    #[error("the transaction at {position} does not follow the durable end {durable_end}: {why}")]
    OutOfOrder {
        /// The transaction.
        position: Position,
        /// End of what was appended before.
        durable_end: EndLsn,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something else was asked of the writer in the middle of a large transaction.
    #[error("a large transaction is being appended")]
    TransactionOpen,
    /// The writer has failed before, or an append was cancelled; take a new one.
    #[error("this writer of history is no longer usable")]
    WriterClosed,
    /// The rows that existed before are stored already.
    #[error("history already has the rows of {table} that existed before")]
    BaselineExists {
        /// The table.
        table: String,
    },
    /// A read failed.
    #[error("read history ({what})")]
    Read {
        /// What was read.
        what: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// What is asked for would be looked for in whole partitions, as long as their indexes are not built.
    #[error("look a row or a time up in history, whose indexes are being built: {missing} are left")]
    IndexesMissing {
        /// How many are left to be built, over all partitions.
        missing: usize,
    },
    /// An index of a partition could not be built or attached.
    #[error("build the index {name}")]
    BuildIndex {
        /// Its name.
        name: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// What is stored cannot be understood.
    #[error("understand what history holds: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The source does not show what history has of it: it was restored, or it is another server.
    #[error(
        "history holds more than a million transactions that the source, at transaction {xmax}, does not show"
    )]
    AheadOfSource {
        /// The first transaction id that the source has not used up.
        xmax: u64,
    },
    /// A client's cursor could not be stored.
    #[error("record what a client has acknowledged")]
    RecordAck(#[source] sqlx::Error),
    /// Nobody could be told.
    #[error("notify those who listen")]
    Announce(#[source] sqlx::Error),
    /// What happened could not be stored.
    #[error("write what happened into the audit")]
    Audit(#[source] sqlx::Error),
    /// A token, a revocation or a ticket could not be stored or taken.
    #[error("change who is let in")]
    ChangeAccess(#[source] sqlx::Error),
    /// There are as many as may be.
    #[error("history keeps no more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// So many.
        max: i64,
    },
    /// That clients are here could not be stored.
    #[error("note which clients are here")]
    NoteClients(#[source] sqlx::Error),
    /// To which process the connections of clients came could not be stored.
    #[error("write which connections of clients are the newest")]
    TakeClients(#[source] sqlx::Error),
    /// Clients that were away for long could not be forgotten.
    #[error("forget clients that were away for long")]
    ForgetClients(#[source] sqlx::Error),
    /// What was asked for was pruned, or was about to be while it was read.
    #[error("read what was pruned: history goes back to {floor}")]
    Pruned {
        /// Nothing at or before this position is there any more.
        floor: Position,
    },
    /// History that is not to be kept any longer could not be removed.
    #[error("prune history")]
    Prune(#[source] tokio_postgres::Error),
    /// What is stored could not be sealed.
    #[error("seal history")]
    Seal(#[source] tokio_postgres::Error),
    /// What is stored could not be compared with its seals.
    #[error("compare history with its seals")]
    Verify(#[source] tokio_postgres::Error),
    /// An order to prune could not be stored or read.
    #[error("order history to be pruned")]
    OrderPrune(#[source] sqlx::Error),
    /// No connection that listens.
    #[error("listen to what other processes tell")]
    Listen(#[source] sqlx::Error),
    /// History could not be dropped.
    #[error("drop history")]
    Drop(#[source] tokio_postgres::Error),
}

impl Error {
    /// A read that was given up because no answer came in time.
    pub fn late(what: &'static str) -> Self {
        Error::Read { what, source: sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()) }
    }

    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Error::Connect(source) => match source.code() {
                Code::DatabaseUnreachable => Code::HistoryUnreachable,
                code => code,
            },
            Error::Open(_) => Code::HistoryUnreachable,
            Error::ServerTooOld { .. } => Code::HistoryServerTooOld,
            Error::Migrate(_) => Code::HistoryMigrationFailed,
            Error::SchemaNewer { .. } => Code::HistorySchemaNewer,
            Error::SchemaOlder { .. } => Code::HistorySchemaOlder,
            Error::Encoding { .. } => Code::HistoryEncoding,
            Error::AlreadyBegun => Code::HistoryAlreadyBegun,
            Error::NotBegun => Code::HistoryNotBegun,
            Error::LeaseHeld { .. } => Code::HistoryLeaseHeld,
            Error::Fenced { .. } => Code::HistoryFenced,
            Error::Poison { .. } => Code::PoisonRow,
            Error::BaselineExists { .. } => Code::BaselineExists,
            Error::Corrupt { .. } => Code::HistoryCorrupt,
            Error::IndexesMissing { .. } => Code::IndexesMissing,
            Error::AheadOfSource { .. } => Code::SourceBehind,
            Error::Pruned { .. } => Code::HistoryPruned,
            Error::Unusable { .. } | Error::TooMany { .. } => Code::ConfigInvalid,
            Error::SkipPassed { .. } => Code::SkipPassed,
            Error::CommitUnknown { .. } => Code::HistoryUnreachable,
            Error::OutOfOrder { .. } | Error::TransactionOpen | Error::WriterClosed => {
                Code::HistoryOutOfOrder
            }
            Error::Begin(source)
            | Error::Audit(source)
            | Error::ChangeAccess(source)
            | Error::RecordAck(source)
            | Error::Announce(source)
            | Error::NoteClients(source)
            | Error::TakeClients(source)
            | Error::ForgetClients(source)
            | Error::OrderPrune(source)
            | Error::OrderSkip(source) => unreachable_or(source_is_link(source), Code::HistoryWriteFailed),
            Error::Read { source, .. } | Error::Listen(source) => {
                unreachable_or(source_is_link(source), Code::HistoryReadFailed)
            }
            Error::Ask(source)
            | Error::TakeLease(source)
            | Error::ReleaseLease(source)
            | Error::CreatePartition { source, .. }
            | Error::BuildIndex { source, .. }
            | Error::StoreTable { source, .. }
            | Error::NoteSource(source)
            | Error::BeginEpoch(source)
            | Error::Append(source)
            | Error::Prune(source)
            | Error::Seal(source)
            | Error::Verify(source)
            | Error::Drop(source) => unreachable_or(source.as_db_error().is_none(), Code::HistoryWriteFailed),
        }
    }

    /// Whether trying again, with a new writer where a writer failed, can help without anyone mending anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect(source) => source.is_retryable(),
            Error::Open(source)
            | Error::Begin(source)
            | Error::Audit(source)
            | Error::ChangeAccess(source)
            | Error::RecordAck(source)
            | Error::Announce(source)
            | Error::NoteClients(source)
            | Error::TakeClients(source)
            | Error::ForgetClients(source)
            | Error::Listen(source)
            | Error::OrderPrune(source)
            | Error::OrderSkip(source) => pool_can_recover(source),
            Error::Read { source, .. } => pool_can_recover(source),
            Error::Migrate(source) => match source {
                sqlx::migrate::MigrateError::Execute(source) => pool_can_recover(source),
                _ => false,
            },
            Error::Ask(source)
            | Error::TakeLease(source)
            | Error::ReleaseLease(source)
            | Error::CreatePartition { source, .. }
            | Error::BuildIndex { source, .. }
            | Error::StoreTable { source, .. }
            | Error::NoteSource(source)
            | Error::BeginEpoch(source)
            | Error::Append(source)
            | Error::Prune(source)
            | Error::Seal(source)
            | Error::Verify(source)
            | Error::Drop(source) => driver_can_recover(source),
            // A writer that was replaced is a standby from now on, and tries for the lease as one.
            Error::CommitUnknown { .. }
            | Error::IndexesMissing { .. }
            | Error::LeaseHeld { .. }
            | Error::Fenced { .. }
            | Error::WriterClosed => true,
            Error::ServerTooOld { .. }
            | Error::SchemaNewer { .. }
            | Error::SchemaOlder { .. }
            | Error::Encoding { .. }
            | Error::AlreadyBegun
            | Error::NotBegun
            | Error::Unusable { .. }
            | Error::TooMany { .. }
            | Error::SkipPassed { .. }
            | Error::Poison { .. }
            | Error::OutOfOrder { .. }
            | Error::TransactionOpen
            | Error::BaselineExists { .. }
            | Error::AheadOfSource { .. }
            | Error::Pruned { .. }
            | Error::Corrupt { .. } => false,
        }
    }
}

fn unreachable_or(link_is_broken: bool, otherwise: Code) -> Code {
    if link_is_broken { Code::HistoryUnreachable } else { otherwise }
}

fn source_is_link(source: &sqlx::Error) -> bool {
    // A proxy that takes a connection and has nowhere to bring it to closes it in the middle of the protocol.
    matches!(
        source,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)
    )
}

fn pool_can_recover(source: &sqlx::Error) -> bool {
    match source {
        sqlx::Error::Database(source) => {
            source.code().is_some_and(|code| sqlstate_can_recover(&code)) || is_of_connecting(&**source)
        }
        other => source_is_link(other),
    }
}

/// Whether it is the server's own failure to begin a session, as `waldelta_pgconn` has it: the pool connects when it needs to.
fn is_of_connecting(source: &dyn sqlx::error::DatabaseError) -> bool {
    let source = source.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
    source.is_some_and(|source| {
        source.code().starts_with("XX") && matches!(source.severity(), sqlx::postgres::PgSeverity::Fatal)
    })
}

fn driver_can_recover(source: &tokio_postgres::Error) -> bool {
    // Without an answer of the server's it is the connection that failed.
    source.code().is_none_or(|code| sqlstate_can_recover(code.code()))
}

/// Whether the condition can pass by itself: connection, resources, operator intervention, serialization and locks, IO.
/// PostgreSQL documentation, appendix A.
fn sqlstate_can_recover(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "57" | "58")) || code == "55P03" || code == "25006"
}

/// Whether the server refuses the data itself, so that sending it again fails again: class 22 (data exception), and
/// jsonb's limits on sizes (54000).
pub(crate) fn sqlstate_is_poison(code: &str) -> bool {
    code.starts_with("22") || code == "54000"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_passes_and_a_refused_value_does_not() {
        assert!(sqlstate_can_recover("53100"));
        assert!(sqlstate_can_recover("57P01"));
        assert!(!sqlstate_can_recover("22P05"));
        assert!(!sqlstate_can_recover("42501"));
        assert!(sqlstate_is_poison("22P05"));
        assert!(!sqlstate_is_poison("23505"));
    }
}
