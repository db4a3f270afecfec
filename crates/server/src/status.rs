//! The status model: one reading of the whole service, from which `/v1/status`, `/readyz`, the metrics and `waldelta
//! status` are all made, so that their numbers agree.

mod checks;
mod recent;
mod unfollowed;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use waldelta_capture::{Budget, NeedsRepair, Reading, State, TableReading};
use waldelta_fanout::{Fanout, SessionReading};
use waldelta_history::{History, Retained, Sealed};
use waldelta_wal::ReplicaIdentity;

use crate::human::duration;
use crate::metrics;
use crate::role::Role;
use crate::service::{ConfigStatus, Reloads};
pub(crate) use checks::{Check, Severity};
pub(crate) use recent::{Recent, RecentReading, STEP as RECENT_STEP};
pub(crate) use writer::{Answer, Watched, WriterStatus, describe_metrics};

/// What the service says of itself.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    /// Version of the service.
    pub version: String,
    /// What this process does of the service.
    #[serde(default)]
    pub role: Role,
    /// Whether new clients are served: by a process that captures with current data, by one that only serves them with what is
    /// durable. Of one that serves none: whether it captures, or stands by to.
    pub ready: bool,
    /// Capture, from the source to history; absent in a process that only serves clients.
    pub capture: Option<CaptureStatus>,
    /// Who writes history; only in a process that does not capture.
    #[serde(default)]
    pub writer: Option<WriterStatus>,
    /// Tables whose rows at the source changed in a way that history has no changes of. Capture goes on, theirs too.
    pub needs_repair: Vec<RepairStatus>,
    /// Tables that were added while capture runs and are not whole in history yet; that comes by itself.
    pub joining: Vec<RepairStatus>,
    /// What is durable.
    pub history: HistoryStatus,
    /// The configuration that is in force.
    #[serde(default)]
    pub config: ConfigStatus,
    /// The slot at the source; absent when the source does not answer, and where there is no slot.
    pub slot: Option<SlotStatus>,
    /// The tables of which something was stored since the start, by name; of very many those that changed first.
    #[serde(default)]
    pub tables: Vec<TableStatus>,
    /// What is looked at, the worst first.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Connected clients of this process.
    pub sessions: Vec<SessionStatus>,
}

/// What was stored of a table since the start.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TableStatus {
    /// Name of the table.
    pub table: String,
    /// Changes of it.
    pub changes: u64,
    /// Changes a second, over about the last ten seconds.
    pub changes_per_second: f64,
    /// Since the last of them.
    pub changed_seconds: f64,
    /// What the source does not tell of its rows; absent where it tells what clients need.
    pub warning: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CaptureStatus {
    /// `starting`, `streaming`, `standby`, `paused`, `reconnecting`, `stopped`.
    pub state: String,
    /// The state's name among all named states, such as `slot_missing`.
    pub name: String,
    /// The instance that writes history, while this one stands by.
    pub holder: Option<String>,
    /// Code of the failure, when there is one.
    pub code: Option<String>,
    /// What failed.
    pub message: Option<String>,
    /// How to mend it.
    pub fix: Option<String>,
    /// Whether commits at the source wait for capture, as for a synchronous standby: `WD-SYNCHRONOUS-STANDBY`.
    pub commits_wait: bool,
    /// WAL end that the source last told.
    pub source_lsn: String,
    /// Received up to here.
    pub received_lsn: String,
    /// Taken apart up to here, in whole transactions.
    #[serde(default)]
    pub decoded_lsn: String,
    /// Durable up to here.
    pub durable_lsn: String,
    /// Reported to the slot.
    pub reported_lsn: String,
    /// WAL that may hold changes which are not durable; 0 when everything is.
    pub lag_bytes: u64,
    /// From the source's end to what was received.
    pub receive_lag_bytes: u64,
    /// From what was received to what was taken apart.
    #[serde(default)]
    pub decode_lag_bytes: u64,
    /// From there to what is durable.
    pub store_lag_bytes: u64,
    /// From what is durable to what the slot was told.
    pub report_lag_bytes: u64,
    /// Age of the newest thing known to be durable while there may be more to come, 0 when all is durable; absent while
    /// nothing is known.
    pub lag_seconds: Option<f64>,
    /// Transactions stored since the start.
    pub transactions: u64,
    /// Changes stored since the start.
    pub changes: u64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RepairStatus {
    /// Name of the table.
    pub table: String,
    /// What has happened to it, such as `rewritten`.
    pub reason: String,
    /// The same in a sentence, with what follows from it.
    pub explanation: String,
    /// What a table that is being added waits for, where that lasts.
    pub waits_for: Option<String>,
    /// What committed before it is told whole.
    pub since_lsn: String,
    /// Since it was noticed.
    pub since_seconds: f64,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct HistoryStatus {
    pub epoch: u32,
    /// The head as a cursor.
    pub head: String,
    /// How much of it there is; absent before it was looked at, and where another process writes.
    #[serde(default)]
    pub retained: Option<RetainedStatus>,
    /// The newest seal; absent where this process does not seal.
    #[serde(default)]
    pub sealed: Option<SealedStatus>,
}

/// The newest seal.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SealedStatus {
    /// Its name, to be noted elsewhere.
    pub seal: String,
    /// The last position in it.
    pub upto: String,
    /// When it was made, in microseconds since 1970.
    pub at_us: i64,
}

/// As of the last sweep.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RetainedStatus {
    /// How much is to be kept: `off`, a time, a size.
    pub retain: String,
    /// The oldest cursor that can be resumed.
    pub floor: String,
    /// How long ago what follows it was stored, at most.
    pub floor_age_seconds: Option<f64>,
    /// Partitions of change_history.
    pub partitions: u64,
    /// Their bytes, with indexes.
    pub bytes: u64,
    /// Something is kept for longer only because a client that was here of late has yet to read it.
    pub held_for_clients: bool,
    /// Something is there only because a reader was in the way of removing it.
    pub busy: bool,
    /// Something is there only because the source does not show it to everybody yet, or could not be asked.
    #[serde(default)]
    pub not_shown: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SlotStatus {
    pub name: String,
    pub active: bool,
    pub wal_status: Option<String>,
    /// WAL that the slot retains at the source.
    pub retained_bytes: u64,
    /// WAL that may still be written before the slot can be lost; absent: no limit.
    pub safe_wal_bytes: Option<u64>,
    /// WAL that the source writes, over the last minute.
    pub wal_bytes_per_second: Option<u64>,
    /// Until the slot can be lost, if nobody reads it; absent without a limit, and while nothing is written.
    pub seconds_until_lost: Option<u64>,
    /// What is to be made of that: `ok`, `warning`, `critical`, `lost`.
    pub verdict: String,
    /// What mends it, where something is to be mended.
    pub fix: Option<String>,
    /// Why the slot can never be used again.
    pub invalidation: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SessionStatus {
    pub session: String,
    pub client_id: String,
    pub subject: Option<String>,
    pub state: String,
    pub cursor: String,
    pub acked: Option<String>,
    pub sent_bytes: u64,
}

/// Where readings come from: the parts that a process of its role has.
pub(crate) struct Observer {
    pub role: Role,
    pub history: History,
    pub capture: Option<Arc<waldelta_capture::Status>>,
    pub writer: Option<Arc<Watched>>,
    pub fanout: Option<Fanout>,
    pub config: Arc<Reloads>,
    /// How long history that another process writes may not be followed before this one is not ready.
    pub unfollowed_max: Duration,
    /// Lag beyond this is a warning; 0: it is none.
    pub lag_seconds_max: f64,
    /// What some numbers were.
    pub recent: Recent,
}

impl Observer {
    /// Reads everything but the sessions, of which there may be thousands: readiness is asked for often, and by everybody. It
    /// costs the databases nothing: what is told of them was looked at before.
    pub(crate) fn read(&self) -> Status {
        let head = self.history.feed().head();
        let reading = self.capture.as_ref().map(|capture| capture.read());
        let writer = self.writer.as_ref().map(|writer| writer.read());
        let ready = match (&reading, &writer) {
            (Some(reading), _) => is_ready(&reading.state),
            (None, Some(writer)) => writer.serves(),
            (None, None) => false,
        };
        let tables = |tables: Vec<NeedsRepair>| tables.into_iter().map(RepairStatus::from).collect();
        let gaps = self.writer.as_ref().map(|writer| writer.tables()).unwrap_or_default();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.role,
            ready,
            capture: reading.as_ref().map(CaptureStatus::from),
            writer,
            needs_repair: tables(gaps.needs_repair),
            joining: tables(gaps.joining),
            history: HistoryStatus {
                epoch: head.epoch.0,
                head: head.cursor().to_string(),
                retained: self.history.retained().map(RetainedStatus::from),
                sealed: self.history.sealed().map(SealedStatus::from),
            },
            config: self.config.read(),
            slot: None,
            tables: Vec::new(),
            checks: Vec::new(),
            sessions: Vec::new(),
        };
        let state = reading.as_ref().map(|reading| &reading.state);
        if let Some(failure) = unfollowed::failure(&self.history, state, self.unfollowed_max) {
            unfollowed::tell(&mut status, &failure);
        }
        if let Some(reading) = reading {
            status.needs_repair = tables(reading.needs_repair);
            status.joining = tables(reading.joining);
            status.slot = reading.budget.map(SlotStatus::from);
        }
        status.checks = checks::checks(&status, self.lag_seconds_max);
        status
    }

    /// The same with the tables and the sessions.
    pub(crate) fn read_in_full(&self) -> Status {
        let tables = self.capture.as_ref().map(|capture| capture.read_tables()).unwrap_or_default();
        let sessions = self.fanout.as_ref().map(Fanout::sessions).unwrap_or_default();
        Status {
            tables: tables.into_iter().map(TableStatus::from).collect(),
            sessions: sessions.into_iter().map(SessionStatus::from).collect(),
            ..self.read()
        }
    }

    /// Takes a sample of what is kept for an hour.
    pub(crate) fn sample(&self, metrics: &str) {
        let sessions = self.fanout.as_ref().map_or(0, |fanout| fanout.session_count() as u64);
        self.recent.note(&self.read(), sessions, metrics, now_us());
    }

    /// Puts everything that grows by itself into the metrics.
    pub(crate) fn record(&self) {
        metrics::record();
        self.role.record();
        if let Some(capture) = &self.capture {
            capture.record();
        }
        if let Some(writer) = &self.writer {
            writer.record();
        }
        if let Some(fanout) = &self.fanout {
            fanout.record();
        }
    }
}

/// Whether new clients are served with current data: what this instance captures, or what it follows.
fn is_ready(state: &State) -> bool {
    matches!(state, State::Streaming | State::Standby { .. })
}

impl Status {
    /// One line: what is worst, or that all is well.
    pub(crate) fn headline(&self) -> String {
        let Some(worst) = self.checks.first().filter(|check| check.severity <= Severity::Warning) else {
            return format!("all is well, {} sessions", self.sessions.len());
        };
        let code = worst.code.as_ref().map_or_else(String::new, |code| format!("{code}: "));
        let words = worst.message.as_deref().unwrap_or(&worst.name);
        format!("{} {}: {code}{words}", worst.severity.as_str(), worst.of)
    }
}

impl CaptureStatus {
    /// One line, whatever the state.
    pub(crate) fn headline(&self) -> String {
        match &self.holder {
            Some(holder) => format!("{}: history is written by {holder}", self.state),
            None if self.name != self.state => format!("{} ({})", self.state, self.name),
            None => self.state.clone(),
        }
    }
}

impl RetainedStatus {
    /// What there is, for people.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "kept      {} partitions, {} bytes, from {} on (history.retain = {})",
            self.partitions, self.bytes, self.floor, self.retain
        );
        if self.held_for_clients {
            line.push_str("; some is held for clients that have yet to read it");
        }
        if self.busy {
            line.push_str("; a reader is in the way of removing more");
        }
        if self.not_shown {
            line.push_str("; some is held because the source does not show it yet, or cannot be asked");
        }
        line
    }
}

impl From<Sealed> for SealedStatus {
    fn from(sealed: Sealed) -> Self {
        SealedStatus { seal: sealed.name.to_string(), upto: sealed.upto.to_string(), at_us: sealed.at_us }
    }
}

impl From<Retained> for RetainedStatus {
    fn from(retained: Retained) -> Self {
        RetainedStatus {
            retain: retained.retention.to_string(),
            floor: retained.floor.to_string(),
            floor_age_seconds: retained.floor_age.map(|age| age.as_secs_f64()),
            partitions: retained.partitions as u64,
            bytes: retained.bytes,
            held_for_clients: retained.is_held,
            busy: retained.is_busy,
            not_shown: retained.is_unseen,
        }
    }
}

impl From<&Reading> for CaptureStatus {
    fn from(reading: &Reading) -> Self {
        let state = &reading.state;
        let code = state.code();
        let lag = reading.lag(Instant::now(), now_us());
        let (message, holder) = match state {
            State::Starting | State::Streaming => (None, None),
            State::Standby { holder } => (None, Some(holder.clone())),
            State::Paused { by } => (Some(format!("paused on the console by {by:?}")), None),
            State::Reconnecting { message, .. } | State::Stopped { message, .. } => {
                (Some(message.clone()), None)
            }
        };
        CaptureStatus {
            state: state.as_str().to_owned(),
            name: state.name().to_owned(),
            holder,
            code: code.map(|code| code.as_str().to_owned()),
            fix: match state {
                State::Paused { .. } => Some("RESUME on the console".to_owned()),
                _ => code.map(|code| code.explanation().fix.to_owned()),
            },
            message,
            commits_wait: reading.commits_wait,
            source_lsn: reading.source_end.to_string(),
            received_lsn: reading.received.to_string(),
            decoded_lsn: reading.decoded.to_string(),
            durable_lsn: reading.durable.to_string(),
            reported_lsn: reading.reported.to_string(),
            lag_bytes: lag.bytes,
            receive_lag_bytes: lag.receive.bytes,
            decode_lag_bytes: lag.decode.bytes,
            store_lag_bytes: lag.store.bytes,
            report_lag_bytes: lag.report.bytes,
            lag_seconds: lag.seconds,
            transactions: reading.transactions,
            changes: reading.changes,
        }
    }
}

impl SlotStatus {
    /// In words, what the slot retains and what room it has.
    pub(crate) fn room(&self) -> String {
        let rate = self.wal_bytes_per_second.unwrap_or(0);
        let left = match (&self.invalidation, self.safe_wal_bytes, self.seconds_until_lost) {
            (Some(reason), ..) => format!("lost: {reason}"),
            (None, None, _) => "no limit on what it may retain".to_owned(),
            (None, Some(safe), None) => format!("room for {safe} more"),
            (None, Some(safe), Some(seconds)) => {
                format!("room for {safe} more: {} if nobody reads it, at {rate} bytes/s", duration(seconds))
            }
        };
        format!("retains {} bytes, {left}", self.retained_bytes)
    }
}

impl From<Budget> for SlotStatus {
    fn from(budget: Budget) -> Self {
        SlotStatus {
            fix: budget.fix(),
            name: budget.slot,
            active: budget.active,
            wal_status: budget.wal_status,
            retained_bytes: budget.retained_bytes,
            safe_wal_bytes: budget.safe_bytes,
            wal_bytes_per_second: budget.wal_bytes_per_second,
            seconds_until_lost: budget.seconds_until_lost,
            verdict: budget.verdict.as_str().to_owned(),
            invalidation: budget.invalidation,
        }
    }
}

impl From<NeedsRepair> for RepairStatus {
    fn from(table: NeedsRepair) -> Self {
        RepairStatus {
            table: table.table,
            reason: table.reason,
            explanation: table.explanation.to_owned(),
            waits_for: table.waits_for,
            since_lsn: table.from.to_string(),
            since_seconds: age_seconds(table.found_at_us),
        }
    }
}

impl From<TableReading> for TableStatus {
    fn from(reading: TableReading) -> Self {
        let table = &reading.table;
        let warning = match (table.key.is_empty(), table.identity) {
            (true, ReplicaIdentity::Full) => {
                Some("it has no key: its rows are told apart by all that is in them")
            }
            (true, _) => Some(
                "it has neither key nor REPLICA IDENTITY FULL: its owner's UPDATE and DELETE fail while it is published",
            ),
            (false, _) => None,
        };
        TableStatus {
            table: table.name.to_string(),
            changes: reading.changes,
            changes_per_second: reading.changes_per_second,
            changed_seconds: Instant::now().saturating_duration_since(reading.stored_at).as_secs_f64(),
            warning: warning.map(str::to_owned),
        }
    }
}

impl From<SessionReading> for SessionStatus {
    fn from(session: SessionReading) -> Self {
        SessionStatus {
            session: session.session,
            client_id: session.client_id,
            subject: session.subject,
            state: session.state.to_owned(),
            cursor: session.cursor,
            acked: session.acked,
            sent_bytes: session.sent_bytes,
        }
    }
}

/// Seconds since a moment by a database's clock; never negative, since clocks differ.
fn age_seconds(at_us: i64) -> f64 {
    (now_us() - at_us).max(0) as f64 / 1e6
}

#[expect(clippy::disallowed_methods, reason = "an age is for people; nothing is decided by it")]
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
pub(crate) mod tests;
