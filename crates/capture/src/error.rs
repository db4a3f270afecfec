//! Why capture cannot go on.

use waldelta_source::catalog::ListedTable;
use waldelta_wal::{AssembleError, Code, EndLsn, Lsn, Misfit, Skip, TableName, Wal2jsonError};

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
    /// The source was promoted or restored, and everything that history holds survived it.
    #[error("the source is on timeline {found}, {}; {slot}", left_at(*stored, *fork, *durable))]
    TimelineChanged {
        /// The timeline that history was captured from.
        stored: u32,
        /// What the source says now.
        found: u32,
        /// Where the one left the other, where that was found out.
        fork: Option<Lsn>,
        /// D.
        durable: EndLsn,
        /// What has become of the slot, for people.
        slot: &'static str,
    },
    /// The source was promoted or restored at a place before what history holds, or comes from elsewhere.
    #[error(
        "the source is on timeline {found}, {}: what history has beyond that did not survive; {slot}",
        left_at(*stored, *fork, *durable)
    )]
    DivergedTimeline {
        /// The timeline that history was captured from.
        stored: u32,
        /// What the source says now.
        found: u32,
        /// Where the one left the other, where that was found out.
        fork: Option<Lsn>,
        /// D.
        durable: EndLsn,
        /// What has become of the slot, for people.
        slot: &'static str,
    },
    /// The standby that is streamed from went over to another timeline. What came since is not stored; it comes again.
    #[error("the standby has left timeline {captured} for {found} under the stream")]
    TimelineLeft {
        /// The timeline of the epoch.
        captured: u32,
        /// What the standby says now.
        found: u32,
    },
    /// Standbys of this version have no logical slots.
    #[error("the source is a standby of a version before 16, which has no logical slots")]
    StandbyTooOld,
    /// There is no slot of this name.
    #[error("there is no replication slot {slot:?}")]
    SlotMissing {
        /// Its name.
        slot: String,
    },
    /// The server has thrown away what the slot would need.
    #[error("replication slot {slot:?} was invalidated ({reason}): {}", loss(reason))]
    SlotLost {
        /// Its name.
        slot: String,
        /// Why, in the words of `pg_replication_slots.invalidation_reason`.
        reason: String,
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
    #[error("the slot is confirmed up to {confirmed}, but history holds only up to {durable}: {likely}")]
    SlotAhead {
        /// `confirmed_flush_lsn`.
        confirmed: EndLsn,
        /// D.
        durable: EndLsn,
        /// What has likely happened, for people.
        likely: &'static str,
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
        /// Whether it is a standby, which may be about to get there.
        is_standby: bool,
    },
    /// The server does not write what a slot needs.
    #[error("the source's wal_level is {found}")]
    WalLevel {
        /// `wal_level`.
        found: String,
    },
    /// The publication does not exist.
    #[error("there is no publication {publication:?}")]
    PublicationMissing {
        /// Its name.
        publication: String,
    },
    /// The publication exists, but did not when changes were made that are to be decoded with it.
    #[error(
        "publication {publication:?} was missing when changes were made, which can never be decoded with it"
    )]
    PublicationYounger {
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
    /// A transaction that the source cannot send was left out as ordered. The next connection goes on behind it.
    #[error("the transaction that commits at {transaction} was left out as ordered")]
    LeftOut {
        /// Its commit LSN.
        transaction: Lsn,
    },
    /// Something in a transaction cannot be understood.
    #[error("understand transaction {commit_lsn} (`{}` leaves it out)", Skip::command(*commit_lsn, None))]
    InTransaction {
        /// Its commit LSN.
        commit_lsn: Lsn,
        /// What.
        #[source]
        source: Box<Error>,
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
    /// History did not answer in time.
    #[error("take the writer's lease on history: no answer within {waited_ms} ms")]
    HistoryUnanswered {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// What was to be done is no longer what is needed.
    #[error("source or history are no longer as they were when they were looked at")]
    PlanOutdated,
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
            Error::TimelineChanged { .. } | Error::TimelineLeft { .. } => Code::TimelineChanged,
            Error::StandbyTooOld => Code::VersionUnsupported,
            Error::DivergedTimeline { .. } => Code::DivergedTimeline,
            Error::SlotMissing { .. } => Code::SlotMissing,
            Error::SlotLost { .. } => Code::SlotLost,
            Error::SlotForeign { .. } => Code::SlotUnusable,
            Error::SlotActive { .. } => Code::SlotActive,
            Error::SlotAhead { .. } => Code::SlotAhead,
            Error::SlotWithoutHistory { .. } => Code::SlotWithoutHistory,
            Error::BaselineMissing { .. } => Code::BaselineMissing,
            Error::SlotBlocked { .. } => Code::SlotBlocked,
            Error::SourceBehind { .. } => Code::SourceBehind,
            Error::WalLevel { .. } => Code::WalLevel,
            Error::PublicationMissing { .. }
            | Error::PublicationYounger { .. }
            | Error::CanaryLost { .. } => Code::PublicationMissing,
            Error::HistoryUnanswered { .. } => Code::HistoryUnreachable,
            Error::PlanOutdated => Code::RecoveryOutdated,
            Error::HistoryStalled { .. } => Code::HistoryStalled,
            Error::SourceCannotDecode { .. } | Error::LeftOut { .. } => Code::SourceCannotDecode,
            Error::InTransaction { source, .. } => source.code(),
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
            | Error::DivergedTimeline { .. }
            | Error::StandbyTooOld
            | Error::SlotMissing { .. }
            | Error::SlotLost { .. }
            | Error::SlotForeign { .. }
            | Error::SlotAhead { .. }
            | Error::SlotWithoutHistory { .. }
            | Error::BaselineMissing { .. }
            | Error::WalLevel { .. }
            | Error::PublicationMissing { .. }
            | Error::PublicationYounger { .. }
            | Error::CanaryLost { .. }
            | Error::Assemble(_)
            | Error::Wal2json(_)
            | Error::NoShape { .. } => false,
            Error::SlotActive { .. }
            | Error::TimelineLeft { .. }
            | Error::LeftOut { .. }
            | Error::TablesChanged { .. }
            | Error::SlotBlocked { .. }
            | Error::HistoryStalled { .. }
            | Error::HistoryUnanswered { .. }
            | Error::PlanOutdated
            | Error::Query { .. }
            | Error::Unanswered { .. } => true,
            // It may be replaying still.
            Error::SourceBehind { is_standby, .. } => *is_standby,
            Error::InTransaction { source, .. } => source.is_retryable(),
            // Once may be chance: a server short of memory, say.
            Error::SourceCannotDecode { times, .. } => *times < 2,
            Error::Walsender(source) => source.is_retryable(),
            // A password may be changed back, a database come up: only what stands in the configuration stays wrong.
            Error::Source(waldelta_source::Error::Connect(source)) => {
                !matches!(source, waldelta_pgconn::Error::Invalid(_))
            }
            Error::Source(source) => source.is_retryable(),
            // Another instance writes: this one is a standby again.
            Error::History(waldelta_history::Error::Fenced { .. }) => true,
            Error::History(source) => source.is_retryable(),
        }
    }

    /// Whether it says how source, slot and history stand to each other, so that another look says whether it is still so.
    pub(crate) fn is_of_the_source_as_it_was(&self) -> bool {
        matches!(
            self,
            Error::NotBegun
                | Error::OtherFeed { .. }
                | Error::SourceChanged { .. }
                | Error::TimelineChanged { .. }
                | Error::DivergedTimeline { .. }
                | Error::StandbyTooOld
                | Error::SlotMissing { .. }
                | Error::SlotLost { .. }
                | Error::SlotForeign { .. }
                | Error::SlotAhead { .. }
                | Error::SourceBehind { .. }
                | Error::WalLevel { .. }
                | Error::PublicationMissing { .. }
        )
    }

    /// The source did not answer in time.
    pub(crate) fn unanswered(what: &'static str, waited: std::time::Duration) -> Self {
        Error::Unanswered { what, waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX) }
    }

    /// This error and what it comes from, in one line.
    pub(crate) fn chain(&self) -> String {
        waldelta_wal::chain_text(self)
    }
}

fn left_at(stored: u32, fork: Option<Lsn>, durable: EndLsn) -> String {
    match fork {
        Some(fork) => format!("which left timeline {stored} at {fork}; history holds up to {durable}"),
        None => format!("which is not known to come from timeline {stored}; history holds up to {durable}"),
    }
}

/// What the server's word for it means, and which setting has to do with it.
fn loss(reason: &str) -> &'static str {
    match reason {
        "wal_removed" => "it retained more WAL than max_slot_wal_keep_size allows, and that is gone",
        "idle_timeout" => "nobody read it for longer than idle_replication_slot_timeout",
        "rows_removed" => "the standby replayed the removal of catalog rows that it needs",
        "wal_level_insufficient" => "wal_level of the primary is no longer logical",
        _ => "what it needs is gone",
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
        let (command, next) = (Skip::command(commit_lsn, None), Lsn(commit_lsn.0.saturating_add(1)));
        format!("; `{command}` leaves it out; <lsn> to go on from without it: {next}")
    })
}
