//! What capture says of itself: read by `status`, metrics, readiness and logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use waldelta_history::{Error as HistoryError, Gap};
use waldelta_wal::{Code, EndLsn, Lsn, Table};

use crate::budget::Budget;
use crate::leadership::Leadership;
use crate::repairs::NeedsRepair;
use crate::tables::{TableReading, Tables};
use crate::trail::Trail;
use crate::{Error, metrics, states};

/// Reason of a gap of a table that was added while capture ran: it is to be had from its reset on.
const ADDED: &str = "added";

/// The named state of capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected yet.
    Starting,
    /// Reading and storing.
    Streaming,
    /// Another instance writes history; this one serves what it writes, and takes over when it ends.
    Standby {
        /// What the other calls itself.
        holder: String,
    },
    /// An operator has stopped it for a while.
    Paused {
        /// Who that was.
        by: String,
    },
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

impl State {
    /// Which of the states it is, without what was the case.
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Streaming => "streaming",
            State::Standby { .. } => "standby",
            State::Paused { .. } => "paused",
            State::Reconnecting { .. } => "reconnecting",
            State::Stopped { .. } => "stopped",
        }
    }

    /// The failure that it is in because of.
    pub fn code(&self) -> Option<Code> {
        match self {
            State::Reconnecting { code, .. } | State::Stopped { code, .. } => Some(*code),
            State::Starting | State::Streaming | State::Standby { .. } | State::Paused { .. } => None,
        }
    }

    /// Its name among all named states.
    pub fn name(&self) -> &'static str {
        match self.code() {
            Some(code) => states::named(code).map_or(code.as_str(), |state| state.name),
            None => self.as_str(),
        }
    }
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
    /// The furthest place in the WAL of which something was received, of a transaction that has not ended too.
    pub received: Lsn,
    /// Received and taken apart up to here, in whole transactions.
    pub decoded: Lsn,
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
    /// The tables that were added and are not whole in history yet. They need nobody: it comes by itself.
    pub joining: Vec<NeedsRepair>,
    /// The slot and what room it has; `None` while the source does not tell, and where there is no slot.
    pub budget: Option<Budget>,
    /// Whether commits at the source wait for us, which is nobody's wish: `WD-SYNCHRONOUS-STANDBY`.
    pub commits_wait: bool,
    /// When it was last known that everything committed by then is durable.
    pub all_durable_at: Option<Instant>,
    /// When the source's end was learned.
    pub(crate) source_end_at: Instant,
    /// Where the source's end was before.
    pub(crate) trail: Trail,
}

/// Shared between capture, which writes it, and whoever shows it.
#[derive(Debug)]
pub struct Status {
    reading: Mutex<Reading>,
    states: watch::Sender<State>,
    leadership: Leadership,
    /// When this was the WAL's end, the source's tables were as history knows them. It outlives a connection.
    tables_known_at: Mutex<Option<Lsn>>,
    tables: Mutex<Tables>,
}

impl Reading {
    fn source_end_is(&mut self, end: Lsn, at: Instant) {
        (self.source_end, self.source_end_at) = (end, at);
        self.trail.note(end, at);
    }

    fn forget_trail(&mut self) {
        let last = self.decoded.min(self.durable.0).min(self.reported.0);
        self.trail.forget_until(last);
    }
}

/// Where a connection is.
pub(crate) struct Positions {
    pub(crate) received: Lsn,
    pub(crate) decoded: EndLsn,
    pub(crate) reported: EndLsn,
    /// Whether something received is not durable yet.
    pub(crate) waiting: bool,
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
    /// Changes of each table in it, with its name.
    pub(crate) of_tables: Vec<(Arc<Table>, u64)>,
    /// Changes of each whole transaction in it.
    pub(crate) sizes: Vec<u64>,
    /// Commit time of the last transaction in it.
    pub(crate) last_commit_us: Option<i64>,
    /// The tables that need repair, where there may be more than before.
    pub(crate) gaps: Option<Vec<Gap>>,
}

impl Status {
    /// A status in [`State::Starting`].
    pub fn new() -> Self {
        Status {
            reading: Mutex::new(Reading {
                state: State::Starting,
                source_end: Lsn(0),
                received: Lsn(0),
                decoded: Lsn(0),
                durable: EndLsn::default(),
                reported: EndLsn::default(),
                waiting: false,
                last_commit_us: None,
                transactions: 0,
                changes: 0,
                reconnects: 0,
                canary: Canary::Unknown,
                needs_repair: Vec::new(),
                joining: Vec::new(),
                budget: None,
                commits_wait: false,
                all_durable_at: None,
                source_end_at: Instant::now(),
                trail: Trail::default(),
            }),
            states: watch::Sender::new(State::Starting),
            leadership: Leadership::new(),
            tables_known_at: Mutex::new(None),
            tables: Mutex::default(),
        }
    }

    /// A copy of the current reading.
    pub fn read(&self) -> Reading {
        self.lock().clone()
    }

    /// Tells each new state. Who looks late sees the last one.
    pub fn states(&self) -> watch::Receiver<State> {
        self.states.subscribe()
    }

    /// Puts everything that is read here into the metrics: to be called when they are asked for, since lag grows by itself.
    pub fn record(&self) {
        metrics::reading(&self.lock());
    }

    /// Capture does not run, and why: for whoever finds that out before it runs, or when it has ended.
    pub fn stopped(&self, code: Code, message: String) {
        self.leadership.leads(false);
        self.set_state(&mut self.lock(), State::Stopped { code, message });
    }

    /// An operator has stopped it for a while.
    pub fn paused(&self, by: &str) {
        self.leadership.leads(false);
        self.set_state(&mut self.lock(), State::Paused { by: by.to_owned() });
    }

    /// It begins, or goes on.
    pub fn starting(&self) {
        self.set_state(&mut self.lock(), State::Starting);
    }

    /// A connection streams. Where the source was before says nothing: it can be another one.
    pub(crate) fn streaming(&self, durable: EndLsn, source_end: Lsn) {
        let mut reading = self.lock();
        reading.durable = durable;
        (reading.received, reading.decoded) = (durable.0, durable.0);
        reading.source_end = source_end;
        reading.source_end_at = Instant::now();
        self.set_state(&mut reading, State::Streaming);
        set_active(&mut reading);
    }

    pub(crate) fn reconnecting(&self, error: &Error) {
        self.leadership.interrupted(error);
        match error {
            Error::History(HistoryError::LeaseHeld { holder, .. }) => self.standby(holder),
            _ => {
                let state = State::Reconnecting { code: error.code(), message: error.chain() };
                self.set_state(&mut self.lock(), state);
            }
        }
    }

    /// Another instance writes history.
    pub(crate) fn standby(&self, holder: &str) {
        let mut reading = self.lock();
        self.set_state(&mut reading, State::Standby { holder: holder.to_owned() });
        let durable = reading.durable;
        stands_by_at(&mut reading, durable);
    }

    /// What another instance has made durable.
    pub(crate) fn followed(&self, durable: EndLsn) {
        let mut reading = self.lock();
        match reading.state {
            State::Streaming => {}
            State::Standby { .. } => stands_by_at(&mut reading, durable),
            _ => {
                reading.durable = durable;
                reading.received = reading.received.max(durable.0);
                reading.decoded = reading.decoded.max(durable.0);
            }
        }
    }

    pub(crate) fn reconnected(&self) {
        self.lock().reconnects += 1;
        metrics::reconnect();
    }

    /// The stream has told where the source's WAL ends.
    pub(crate) fn source_end(&self, end: Lsn) {
        let mut reading = self.lock();
        if end > reading.source_end {
            reading.source_end_is(end, Instant::now());
        }
    }

    /// A look at the source has told where its WAL ends and what the slot was told, whether capture streams or not.
    pub(crate) fn looked(&self, end: Lsn, confirmed: Option<EndLsn>) {
        let mut reading = self.lock();
        // It may be another server by now; what the stream says may be newer by a moment.
        let is_streaming = reading.state == State::Streaming;
        let end = if is_streaming { reading.source_end.max(end) } else { end };
        if !is_streaming {
            reading.reported = confirmed.unwrap_or(reading.reported);
        }
        reading.source_end_is(end, Instant::now());
    }

    /// Whether commits at the source wait for us.
    pub(crate) fn set_commits_wait(&self, commits_wait: bool) {
        self.lock().commits_wait = commits_wait;
    }

    /// The slot, as it was last seen.
    pub(crate) fn set_budget(&self, budget: Option<Budget>) {
        let mut reading = self.lock();
        reading.budget = budget;
        set_active(&mut reading);
    }

    pub(crate) fn positions(&self, positions: Positions) {
        let mut reading = self.lock();
        reading.waiting = positions.waiting;
        reading.received = reading.received.max(positions.received);
        reading.decoded = reading.decoded.max(positions.decoded.0);
        if reading.received > reading.source_end {
            reading.source_end_is(positions.received, Instant::now());
        }
        // A connection that has told nothing yet takes nothing back.
        if positions.reported > EndLsn::default() {
            reading.reported = positions.reported;
        }
        reading.forget_trail();
        if reading.is_caught_up() {
            reading.all_durable_at = Some(reading.source_end_at);
        }
    }

    pub(crate) fn stored(&self, stored: &Stored) {
        let mut reading = self.lock();
        if let Some(end) = stored.durable_end {
            reading.durable = end;
        }
        reading.last_commit_us = stored.last_commit_us.or(reading.last_commit_us);
        reading.transactions += stored.transactions;
        reading.changes += stored.changes;
        drop(reading);
        metrics::stored(stored);
        self.tables().count(&stored.of_tables, Instant::now());
    }

    /// What was stored of each table since the start, by name; of very many tables those that changed first.
    pub fn read_tables(&self) -> Vec<TableReading> {
        self.tables().read(Instant::now())
    }

    /// The tables that have an open gap. Those that were not among them before are told in the log.
    pub(crate) fn needs_repair(&self, tables: Vec<NeedsRepair>) {
        let (joining, needs_repair): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|table| table.reason == ADDED);
        let is_among = |known: &[NeedsRepair], table: &NeedsRepair| {
            known.iter().any(|known| known.table_oid == table.table_oid && known.from == table.from)
        };
        let (was_joining, needed_repair) = {
            let mut reading = self.lock();
            (
                std::mem::replace(&mut reading.joining, joining.clone()),
                std::mem::replace(&mut reading.needs_repair, needs_repair.clone()),
            )
        };
        needs_repair.iter().filter(|table| !is_among(&needed_repair, table)).for_each(NeedsRepair::tell);
        for table in joining.iter().filter(|table| !is_among(&was_joining, table)) {
            tracing::info!(
                table = table.table,
                from = %table.from,
                "a table was added: its changes are stored from here on, its rows come with its reset"
            );
        }
    }

    /// The open transactions that tables which were added wait for, by their object ids. The others wait for none.
    pub(crate) fn joining_waits_for(&self, waits: &HashMap<u32, String>) {
        for table in &mut self.lock().joining {
            table.waits_for = table.table_oid.and_then(|oid| waits.get(&oid)).cloned();
        }
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

    pub(crate) fn leadership(&self) -> &Leadership {
        &self.leadership
    }

    fn set_state(&self, reading: &mut Reading, state: State) {
        reading.state = state;
        self.states.send_if_modified(|told| {
            let is_new = *told != reading.state;
            if is_new {
                *told = reading.state.clone();
            }
            is_new
        });
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A count more or less is the worst.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        // A reading is whole after each line above, so a panic elsewhere leaves nothing half done.
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever streams knows that the slot is in use: a look may have been a moment before.
fn set_active(reading: &mut Reading) {
    if reading.state == State::Streaming
        && let Some(budget) = &mut reading.budget
    {
        budget.active = true;
    }
}

/// Of what the other instance has received, only what is durable is known.
fn stands_by_at(reading: &mut Reading, durable: EndLsn) {
    reading.durable = durable;
    (reading.received, reading.decoded) = (durable.0, durable.0);
    reading.waiting = false;
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}
