//! What can fail when the source is asked something.

use tokio_postgres::error::SqlState;
use waldelta_wal::{Code, CopyTextError, EncodeError, TableName};

use crate::wal2json::Unfit;

/// A question to the source that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connect to the source")]
    Connect(#[source] waldelta_pgconn::Error),
    /// A statement failed.
    #[error("{what}")]
    Query {
        /// What was being done, as verb and object.
        what: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// An answer of the source has a form that it should not have.
    #[error("{what}: {column} has an unexpected form")]
    Unreadable {
        /// What was being done, as verb and object.
        what: &'static str,
        /// Which part of the answer.
        column: &'static str,
    },
    /// A statement of setting up or removing failed; those before it are done.
    #[error("run {statement}")]
    Statement {
        /// The statement.
        statement: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Nothing can be set up on a standby, and its snapshots do not say which transactions they miss.
    #[error("the source is a standby")]
    Standby,
    /// What is taken for the primary cannot be that.
    #[error("the server that snapshots are taken of is not the primary of what is captured: {why}")]
    NotThePrimary {
        /// Why not.
        why: &'static str,
    },
    /// There is no such publication.
    #[error("there is no publication {publication}")]
    PublicationMissing {
        /// Its name.
        publication: String,
    },
    /// Tables that were asked for by name do not exist.
    #[error("there is no table {}", list(tables))]
    TablesMissing {
        /// Their names.
        tables: Vec<TableName>,
    },
    /// The output plugin cannot tell all that is published.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// After setting up, the publication lacks tables nevertheless.
    #[error("publication {publication} lacks {}", list(tables))]
    NotPublished {
        /// The publication.
        publication: String,
        /// The tables.
        tables: Vec<TableName>,
    },
    /// Tables cannot be captured, or their owner's UPDATE and DELETE would fail once they are published.
    #[error("add to the publication: {}", refusals.join("; "))]
    NotCapturable {
        /// What it shows as.
        code: Code,
        /// Which, and why.
        refusals: Vec<String>,
        /// Statements that would help, for the tables' owner.
        mends: Vec<String>,
    },
    /// Tables are published because everything of theirs is.
    #[error("take out of the publication: {}", reasons.join("; "))]
    NotRemovable {
        /// Which, and what can be done.
        reasons: Vec<String>,
    },
    /// A slot of this name exists and is not ours.
    #[error("slot {slot} exists with plugin {plugin:?} for database {database:?}")]
    SlotForeign {
        /// Its name.
        slot: String,
        /// Its plugin; empty for a physical slot.
        plugin: String,
        /// Its database; empty for a physical slot.
        database: String,
    },
    /// The slot is read by somebody.
    #[error("slot {slot} is in use by the backend with pid {pid}")]
    SlotActive {
        /// Its name.
        slot: String,
        /// Who uses it.
        pid: i32,
    },
    /// A new slot has to wait until every open write transaction has ended, and waited too long.
    #[error("create slot {slot}: transactions stay open: {blockers}")]
    SlotBlocked {
        /// Its name.
        slot: String,
        /// The oldest of them.
        blockers: String,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A transaction did not become visible in time (for instance a synchronous standby does not answer).
    #[error("transaction {xid} is committed but was not visible within {waited_ms} ms")]
    NotVisibleYet {
        /// Its id.
        xid: u64,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// A table was dropped, truncated, rewritten or changed in shape since the snapshot: another snapshot is needed.
    #[error("read {table}: it changed since the snapshot was taken")]
    TableChanged {
        /// The table.
        table: TableName,
    },
    /// A table could not be read, for instance because row-level security would hide rows (42501).
    #[error("read {table}")]
    ReadTable {
        /// The table.
        table: TableName,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A line of COPY is not what COPY writes.
    #[error("read a row of {table}")]
    Line {
        /// The table.
        table: TableName,
        /// What is wrong.
        #[source]
        source: CopyTextError,
    },
    /// A row cannot become JSON.
    #[error("read a row of {table}")]
    Row {
        /// The table.
        table: TableName,
        /// What is wrong.
        #[source]
        source: EncodeError,
    },
}

impl Error {
    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Error::Connect(error) => match error.code() {
                Code::DatabaseUnreachable => Code::SourceUnreachable,
                code => code,
            },
            Error::Query { source, .. }
            | Error::Statement { source, .. }
            | Error::ReadTable { source, .. } => code_of(source),
            Error::Unreadable { .. } => Code::StatementFailed,
            Error::Standby | Error::NotThePrimary { .. } => Code::SourceStandby,
            Error::PublicationMissing { .. } => Code::PublicationMissing,
            Error::TablesMissing { .. } => Code::TableMissing,
            Error::NotPublished { .. } => Code::PublicationIncomplete,
            Error::NotCapturable { code, .. } => *code,
            Error::NotRemovable { .. } => Code::PublicationWhole,
            Error::Unfit(unfit) => unfit.code(),
            Error::SlotForeign { .. } => Code::SlotUnusable,
            Error::SlotActive { .. } => Code::SlotActive,
            Error::SlotBlocked { .. } => Code::StatementTimeout,
            Error::NotVisibleYet { .. } => Code::NotVisibleYet,
            Error::TableChanged { .. } => Code::TableChanged,
            Error::Line { .. } => Code::ValueUnreadable,
            Error::Row { source, .. } => source.code(),
        }
    }

    /// Whether trying again later, with nothing changed here, can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect(error) => error.is_retryable(),
            Error::Query { source, .. }
            | Error::Statement { source, .. }
            | Error::ReadTable { source, .. } => is_passing(source),
            Error::SlotActive { .. }
            | Error::SlotBlocked { .. }
            | Error::NotVisibleYet { .. }
            // Roles change.
            | Error::NotThePrimary { .. }
            | Error::TableChanged { .. } => true,
            Error::Unreadable { .. }
            | Error::Standby
            | Error::PublicationMissing { .. }
            | Error::TablesMissing { .. }
            | Error::NotPublished { .. }
            | Error::NotCapturable { .. }
            | Error::NotRemovable { .. }
            | Error::Unfit(_)
            | Error::SlotForeign { .. }
            | Error::Line { .. }
            | Error::Row { .. } => false,
        }
    }

    /// PostgreSQL's SQLSTATE, where it answered with one.
    pub fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Error::Query { source, .. }
            | Error::Statement { source, .. }
            | Error::SlotBlocked { source, .. }
            | Error::ReadTable { source, .. } => source.code(),
            _ => None,
        }
    }
}

/// The code of a failed statement, by SQLSTATE.
fn code_of(error: &tokio_postgres::Error) -> Code {
    let Some(state) = error.code() else { return Code::SourceUnreachable };
    match *state {
        SqlState::INSUFFICIENT_PRIVILEGE => Code::PrivilegeMissing,
        SqlState::LOCK_NOT_AVAILABLE => Code::LockTimeout,
        SqlState::QUERY_CANCELED => Code::StatementTimeout,
        SqlState::TOO_MANY_CONNECTIONS => Code::ConnectionsExhausted,
        SqlState::CONFIGURATION_LIMIT_EXCEEDED => Code::SlotsExhausted,
        SqlState::OBJECT_IN_USE => Code::SlotActive,
        SqlState::READ_ONLY_SQL_TRANSACTION => Code::SourceStandby,
        _ if state.code().starts_with("57P") || state.code().starts_with("08") => Code::SourceUnreachable,
        _ => Code::StatementFailed,
    }
}

/// Whether a failed statement may succeed later: connection gone, server stopping, short of resources, or in conflict.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    let Some(state) = error.code() else { return true };
    const CLASSES: [&str; 4] = ["08", "40", "53", "58"];
    CLASSES.iter().any(|class| state.code().starts_with(class))
        || state.code().starts_with("57")
        || *state == SqlState::LOCK_NOT_AVAILABLE
        || *state == SqlState::OBJECT_IN_USE
}

fn list(tables: &[TableName]) -> String {
    tables.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
}
