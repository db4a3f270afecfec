//! Why capture cannot go on.

use waldelta_source::catalog::ListedTable;
use waldelta_wal::{AssembleError, Code, EndLsn, Lsn, Misfit, TableName, Wal2jsonError};

use crate::walsender;

/// A failure of capture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no history to store into yet.
    #[error("no history has been begun")]
    NotBegun,
    /// History belongs to another slot or publication than the configuration names.
    #[error("history is fed by {what} {stored}, the configuration names {configured}")]
    OtherFeed {
        /// `slot` or `publication`.
        what: &'static str,
        /// What history was begun with.
        stored: String,
        /// What the configuration says.
        configured: String,
    },
    /// The server, or the database, is another one than history was begun with.
    #[error("the source's {what} is {found}, but history was begun with {stored}")]
    SourceChanged {
        /// `system identifier` or `database`.
        what: &'static str,
        /// What history was begun with.
        stored: u64,
        /// What the source says now.
        found: u64,
    },
    /// The source was promoted or restored: LSNs are used again.
    #[error("the source is on timeline {found}, but history was begun on timeline {stored}")]
    TimelineChanged {
        /// What history was begun with.
        stored: u32,
        /// What the source says now.
        found: u32,
    },
    /// There is no slot of this name.
    #[error("there is no replication slot {slot:?}")]
    SlotMissing {
        /// Its name.
        slot: String,
    },
    /// The server has thrown away WAL that the slot would need.
    #[error("replication slot {slot:?} was invalidated: WAL that it needs is gone")]
    SlotLost {
        /// Its name.
        slot: String,
    },
    /// The slot is of another plugin or database.
    #[error("replication slot {slot:?} has {what} {found:?} instead of {expected:?}")]
    SlotForeign {
        /// Its name.
        slot: String,
        /// `plugin` or `database`.
        what: &'static str,
        /// What it has.
        found: String,
        /// What it must have.
        expected: String,
    },
    /// Another connection uses the slot.
    #[error("replication slot {slot:?} is in use by process {pid} of the server")]
    SlotActive {
        /// Its name.
        slot: String,
        /// Process id of the walsender.
        pid: i32,
    },
    /// The slot has been told more than history holds: what lies between is lost to this slot.
    #[error("the slot is confirmed up to {confirmed}, but history holds only up to {durable}")]
    SlotAhead {
        /// `confirmed_flush_lsn`.
        confirmed: EndLsn,
        /// D.
        durable: EndLsn,
    },
    /// A slot was used before, but there is no history that tells what came out of it.
    #[error("replication slot {slot:?} was used before, but there is no history")]
    SlotWithoutHistory {
        /// Its name.
        slot: String,
    },
    /// A baseline was asked for, but history began without the rows of these tables.
    #[error("history has begun without the rows that existed before in {tables}")]
    BaselineMissing {
        /// Names of the tables, the first few of them.
        tables: String,
    },
    /// The slot could not be created in time, because transactions that are open have to end first.
    #[error("replication slot {slot:?} could not be created within {waited_ms} ms; waiting for {blockers}")]
    SlotBlocked {
        /// Its name.
        slot: String,
        /// How long it was waited for.
        waited_ms: u64,
        /// Process ids and what they run.
        blockers: String,
    },
    /// History holds more than the source has: the source was restored, or it is another server.
    #[error("history holds up to {durable}, but the source's WAL ends at {wal_end}")]
    SourceBehind {
        /// D.
        durable: EndLsn,
        /// The end of the source's WAL.
        wal_end: Lsn,
    },
    /// The publication does not exist.
    #[error("there is no publication {publication:?}")]
    PublicationMissing {
        /// Its name.
        publication: String,
    },
    /// The canary was updated and streamed past, but did not arrive.
    #[error("the canary updated at {updated} did not arrive, although everything up to {received} did")]
    CanaryLost {
        /// WAL position right before the update.
        updated: Lsn,
        /// Up to here everything has been received.
        received: EndLsn,
    },
    /// History took in nothing while changes waited.
    #[error("history took in nothing for {stalled_ms} ms while changes waited")]
    HistoryStalled {
        /// For how long.
        stalled_ms: u64,
    },
    /// The source fails at its own WAL: the same transaction fails it each time.
    #[error(
        "the source cannot decode {}: {words} (SQLSTATE {sqlstate}); failed {times} times{}",
        transaction_at(*transaction, *durable),
        way_past(*transaction)
    )]
    SourceCannotDecode {
        /// D: everything before the transaction is stored.
        durable: EndLsn,
        /// Commit LSN of the transaction, if it had begun to arrive.
        transaction: Option<Lsn>,
        /// The server's code.
        sqlstate: String,
        /// The server's words, without what could be of a row.
        words: String,
        /// How often by now.
        times: u32,
    },
    /// The replication connection failed.
    #[error("read the replication slot")]
    Walsender(#[from] walsender::Error),
    /// What the walsender sent cannot be turned into transactions.
    #[error("assemble transactions")]
    Assemble(#[from] AssembleError),
    /// A line of wal2json cannot be turned into the messages that say the same.
    #[error("translate what wal2json sends")]
    Wal2json(#[from] Wal2jsonError),
    /// A row of wal2json fits nothing that is known of its table.
    #[error(
        "a row of table {table} fits no shape that is known{}",
        misfit.as_ref().map_or_else(String::new, |misfit| format!(": {misfit}"))
    )]
    NoShape {
        /// The table, as the row names it.
        table: TableName,
        /// What does not fit; `None` where there is nothing to compare with.
        misfit: Option<Misfit>,
    },
    /// Other tables are published than wal2json was asked for.
    #[error("the published tables have changed")]
    TablesChanged {
        /// Those whose changes may have been left out.
        missing: Vec<ListedTable>,
        /// When this was the WAL's end, they were as they were asked for.
        since: Lsn,
    },
    /// Asking the source failed.
    #[error("ask the source")]
    Source(#[from] waldelta_source::Error),
    /// A statement on the source failed.
    #[error("{what}")]
    Query {
        /// What was being done, as verb and object.
        what: &'static str,
        /// PostgreSQL's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The source did not answer in time.
    #[error("{what}: no answer within {waited_ms} ms")]
    Unanswered {
        /// What was being done, as verb and object.
        what: &'static str,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// History failed.
    #[error("store in history")]
    History(#[from] waldelta_history::Error),
}

impl Error {
    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Error::NotBegun => Code::HistoryNotBegun,
            Error::OtherFeed { .. } => Code::OtherFeed,
            Error::SourceChanged { .. } => Code::SourceChanged,
            Error::TimelineChanged { .. } => Code::TimelineChanged,
            Error::SlotMissing { .. } => Code::SlotMissing,
            Error::SlotLost { .. } => Code::SlotLost,
            Error::SlotForeign { .. } => Code::SlotUnusable,
            Error::SlotActive { .. } => Code::SlotActive,
            Error::SlotAhead { .. } => Code::SlotAhead,
            Error::SlotWithoutHistory { .. } => Code::SlotWithoutHistory,
            Error::BaselineMissing { .. } => Code::BaselineMissing,
            Error::SlotBlocked { .. } => Code::SlotBlocked,
            Error::SourceBehind { .. } => Code::SourceBehind,
            Error::PublicationMissing { .. } | Error::CanaryLost { .. } => Code::PublicationMissing,
            Error::HistoryStalled { .. } => Code::HistoryStalled,
            Error::SourceCannotDecode { .. } => Code::SourceCannotDecode,
            Error::Walsender(source) => source.code(),
            Error::Assemble(source) => source.code(),
            Error::Wal2json(source) => source.code(),
            Error::NoShape { .. } => Code::Wal2jsonShape,
            Error::TablesChanged { .. } => Code::Wal2jsonTables,
            Error::Source(source) => source.code(),
            Error::Query { .. } | Error::Unanswered { .. } => Code::SourceUnreachable,
            Error::History(source) => source.code(),
        }
    }

    /// Whether trying again can help without a decision of anybody.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::NotBegun
            | Error::OtherFeed { .. }
            | Error::SourceChanged { .. }
            | Error::TimelineChanged { .. }
            | Error::SlotMissing { .. }
            | Error::SlotLost { .. }
            | Error::SlotForeign { .. }
            | Error::SlotAhead { .. }
            | Error::SlotWithoutHistory { .. }
            | Error::BaselineMissing { .. }
            | Error::SourceBehind { .. }
            | Error::PublicationMissing { .. }
            | Error::CanaryLost { .. }
            | Error::Assemble(_)
            | Error::Wal2json(_)
            | Error::NoShape { .. } => false,
            Error::SlotActive { .. }
            | Error::TablesChanged { .. }
            | Error::SlotBlocked { .. }
            | Error::HistoryStalled { .. }
            | Error::Query { .. }
            | Error::Unanswered { .. } => true,
            // Once may be chance: a server short of memory, say.
            Error::SourceCannotDecode { times, .. } => *times < 2,
            Error::Walsender(source) => source.is_retryable(),
            // A password may be changed back, a database come up: only what stands in the configuration stays wrong.
            Error::Source(waldelta_source::Error::Connect(source)) => {
                !matches!(source, waldelta_pgconn::Error::Invalid(_))
            }
            Error::Source(source) => source.is_retryable(),
            Error::History(source) => source.is_retryable(),
        }
    }

    /// This error and what it comes from, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let own = error.to_string();
            if !text.ends_with(&own) {
                text.push_str(": ");
                text.push_str(&own);
            }
            cause = error.source();
        }
        text
    }
}

fn transaction_at(commit_lsn: Option<Lsn>, durable: EndLsn) -> String {
    match commit_lsn {
        Some(commit_lsn) => format!("the transaction that commits at {commit_lsn}"),
        None => format!("the first transaction that commits at or after {durable}"),
    }
}

/// Where to go on from for whoever decides to leave the transaction out: right behind its beginning is enough.
fn way_past(commit_lsn: Option<Lsn>) -> String {
    commit_lsn.map_or_else(String::new, |commit_lsn| {
        format!("; <lsn> to go on from without it: {}", Lsn(commit_lsn.0.saturating_add(1)))
    })
}
