//! What capture says of itself: read by `status`, metrics, readiness and logs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use waldelta_history::Gap;
use waldelta_wal::{Code, EndLsn, Lsn};

use crate::repairs::NeedsRepair;
use crate::{Error, metrics};

/// The named state of capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected yet.
    Starting,
    /// Reading and storing.
    Streaming,
    /// The connection broke or was refused; trying again.
    Reconnecting {
        /// Code of the failure.
        code: Code,
        /// What failed.
        message: String,
    },
    /// Going on needs a decision or a repair.
    Stopped {
        /// Code of the failure.
        code: Code,
        /// What is the case.
        message: String,
    },
}

/// Whether the canary gives its signs of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// Not tried yet, or switched off.
    #[default]
    Unknown,
    /// It is updated and arrives.
    Alive,
    /// It cannot be updated: an idle source's lag is not known in seconds, and a publication that was lost is noticed
    /// by asking the catalog only.
    Refused(String),
}

/// A reading of where capture is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Named state.
    pub state: State,
    /// WAL end that the source last told.
    pub source_end: Lsn,
    /// Received up to here.
    pub received: Lsn,
    /// Durable in history up to here (D).
    pub durable: EndLsn,
    /// Reported to the slot (A).
    pub reported: EndLsn,
    /// Whether something received was not durable yet, when that was last looked at.
    pub waiting: bool,
    /// Commit time of the last transaction or canary stored, microseconds since 1970-01-01 UTC, by the source's clock.
    pub last_commit_us: Option<i64>,
    /// Transactions stored since the start.
    pub transactions: u64,
    /// Changes stored since the start.
    pub changes: u64,
    /// Connections to the slot that were begun again since the start.
    pub reconnects: u64,
    /// The canary's state.
    pub canary: Canary,
    /// The tables that need repair: their history has an open gap. Capture goes on, theirs too.
    pub needs_repair: Vec<NeedsRepair>,
}

impl Reading {
    /// WAL, in bytes, that may hold changes which are not durable.
    ///
    /// While everything received is durable and the source has no more, it is 0, although D may lie behind: WAL without
    /// captured changes moves it only now and then.
    pub fn lag_bytes(&self) -> u64 {
        let caught_up = self.state == State::Streaming && !self.waiting && self.received >= self.source_end;
        if caught_up { 0 } else { self.source_end.0.saturating_sub(self.durable.0.0) }
    }
}

/// Shared between capture, which writes it, and whoever shows it.
#[derive(Debug)]
pub struct Status {
    reading: Mutex<Reading>,
    /// When this was the WAL's end, the source's tables were as history knows them. It outlives a connection.
    tables_known_at: Mutex<Option<Lsn>>,
}

/// What an append or advance has made durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Where D moved to, if it moved.
    pub(crate) durable_end: Option<EndLsn>,
    /// Whole transactions in it.
    pub(crate) transactions: u64,
    /// Changes in it.
    pub(crate) changes: u64,
    /// Commit time of the last transaction in it.
    pub(crate) last_commit_us: Option<i64>,
    /// The tables that need repair, where there may be more than before.
    pub(crate) gaps: Option<Vec<Gap>>,
}

impl Status {
    /// A status in [`State::Starting`].
    pub fn new() -> Self {
        metrics::describe();
        Status {
            reading: Mutex::new(Reading {
                state: State::Starting,
                source_end: Lsn(0),
                received: Lsn(0),
                durable: EndLsn::default(),
                reported: EndLsn::default(),
                waiting: false,
                last_commit_us: None,
                transactions: 0,
                changes: 0,
                reconnects: 0,
                canary: Canary::Unknown,
                needs_repair: Vec::new(),
            }),
            tables_known_at: Mutex::new(None),
        }
    }

    /// A copy of the current reading.
    pub fn read(&self) -> Reading {
        self.lock().clone()
    }

    /// Capture does not run, and why: for whoever finds that out before it runs.
    pub fn stopped(&self, code: Code, message: String) {
        self.lock().state = State::Stopped { code, message };
        metrics::state(&State::Stopped { code, message: String::new() });
    }

    pub(crate) fn streaming(&self, durable: EndLsn, source_end: Lsn) {
        let mut reading = self.lock();
        reading.state = State::Streaming;
        reading.durable = durable;
        reading.received = reading.received.max(durable.0);
        reading.source_end = reading.source_end.max(source_end);
        metrics::state(&reading.state);
        metrics::positions(&reading);
    }

    pub(crate) fn reconnecting(&self, error: &Error) {
        let mut reading = self.lock();
        reading.state = State::Reconnecting { code: error.code(), message: error.chain() };
        metrics::state(&reading.state);
    }

    pub(crate) fn reconnected(&self) {
        self.lock().reconnects += 1;
        metrics::reconnect();
    }

    pub(crate) fn source_end(&self, end: Lsn) {
        let mut reading = self.lock();
        reading.source_end = reading.source_end.max(end);
    }

    pub(crate) fn positions(&self, received: EndLsn, reported: EndLsn, waiting: bool) {
        let mut reading = self.lock();
        reading.waiting = waiting;
        reading.received = reading.received.max(received.0);
        reading.source_end = reading.source_end.max(received.0);
        reading.reported = reported;
        metrics::positions(&reading);
    }

    pub(crate) fn stored(&self, stored: &Stored) {
        let mut reading = self.lock();
        if let Some(end) = stored.durable_end {
            reading.durable = end;
        }
        reading.last_commit_us = stored.last_commit_us.or(reading.last_commit_us);
        reading.transactions += stored.transactions;
        reading.changes += stored.changes;
        metrics::stored(stored);
    }

    /// The tables that need repair. Those that were not among them before are told in the log.
    pub(crate) fn needs_repair(&self, tables: Vec<NeedsRepair>) {
        metrics::needs_repair(tables.len());
        let before = std::mem::replace(&mut self.lock().needs_repair, tables.clone());
        let is_known = |table: &NeedsRepair| {
            before.iter().any(|known| known.table_oid == table.table_oid && known.from == table.from)
        };
        tables.iter().filter(|table| !is_known(table)).for_each(NeedsRepair::tell);
    }

    pub(crate) fn set_tables_known_at(&self, at: Lsn) {
        *self.tables_known_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    pub(crate) fn tables_known_at(&self) -> Option<Lsn> {
        *self.tables_known_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn canary(&self, canary: Canary) {
        self.lock().canary = canary;
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        // A reading is whole after each line above, so a panic elsewhere leaves nothing half done.
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}
