//! What capture says of itself: read by `status`, metrics, readiness and logs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use waldelta_wal::{Code, EndLsn, Lsn};

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
}

/// What an append or advance has made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Where D moved to, if it moved.
    pub(crate) durable_end: Option<EndLsn>,
    /// Whole transactions in it.
    pub(crate) transactions: u64,
    /// Changes in it.
    pub(crate) changes: u64,
    /// Commit time of the last transaction in it.
    pub(crate) last_commit_us: Option<i64>,
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
            }),
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
