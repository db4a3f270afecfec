//! The status model: one reading of the whole service, from which `/v1/status`, `/readyz`, the metrics and `waldelta
//! status` are all made, so that their numbers agree.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use waldelta_capture::{Budget, NeedsRepair, Reading, State};
use waldelta_fanout::{Fanout, SessionReading};
use waldelta_history::History;

/// What the service says of itself.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Status {
    /// Version of the service.
    pub version: String,
    /// Whether new clients are served with current data.
    pub ready: bool,
    /// Capture, from the source to history.
    pub capture: CaptureStatus,
    /// Tables whose rows at the source changed in a way that history has no changes of. Capture goes on, theirs too.
    pub needs_repair: Vec<RepairStatus>,
    /// Tables that were added while capture runs and are not whole in history yet; that comes by itself.
    pub joining: Vec<RepairStatus>,
    /// What is durable.
    pub history: HistoryStatus,
    /// The slot at the source; absent when the source does not answer, and where there is no slot.
    pub slot: Option<SlotStatus>,
    /// Connected clients.
    pub sessions: Vec<SessionStatus>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CaptureStatus {
    /// `starting`, `streaming`, `standby`, `reconnecting`, `stopped`.
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
    /// Durable up to here.
    pub durable_lsn: String,
    /// Reported to the slot.
    pub reported_lsn: String,
    /// WAL that may hold changes which are not durable; 0 when everything is.
    pub lag_bytes: u64,
    /// From the source's end to what was received.
    pub receive_lag_bytes: u64,
    /// From what was received to what is durable.
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
    pub state: String,
    pub cursor: String,
    pub acked: Option<String>,
    pub sent_bytes: u64,
}

/// Where readings come from.
pub(crate) struct Observer {
    pub capture: Arc<waldelta_capture::Status>,
    pub history: History,
    pub fanout: Fanout,
}

impl Observer {
    /// Reads everything. It costs the source nothing: what is told of it was looked at before.
    pub(crate) fn read(&self) -> Status {
        let head = self.history.feed().head();
        let reading = self.capture.read();
        let tables = |tables: Vec<NeedsRepair>| tables.into_iter().map(RepairStatus::from).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: is_ready(&reading.state),
            capture: CaptureStatus::from(&reading),
            needs_repair: tables(reading.needs_repair),
            joining: tables(reading.joining),
            history: HistoryStatus { epoch: head.epoch.0, head: head.cursor().to_string() },
            slot: reading.budget.map(SlotStatus::from),
            sessions: self.fanout.sessions().into_iter().map(SessionStatus::from).collect(),
        }
    }
}

/// Whether new clients are served with current data: what this instance captures, or what it follows.
fn is_ready(state: &State) -> bool {
    matches!(state, State::Streaming | State::Standby { .. })
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

impl From<&Reading> for CaptureStatus {
    fn from(reading: &Reading) -> Self {
        let state = &reading.state;
        let code = state.code();
        let lag = reading.lag(Instant::now(), now_us());
        let (message, holder) = match state {
            State::Starting | State::Streaming => (None, None),
            State::Standby { holder } => (None, Some(holder.clone())),
            State::Reconnecting { message, .. } | State::Stopped { message, .. } => {
                (Some(message.clone()), None)
            }
        };
        CaptureStatus {
            state: state.as_str().to_owned(),
            name: state.name().to_owned(),
            holder,
            code: code.map(|code| code.as_str().to_owned()),
            fix: code.map(|code| code.explanation().fix.to_owned()),
            message,
            commits_wait: reading.commits_wait,
            source_lsn: reading.source_end.to_string(),
            received_lsn: reading.received.to_string(),
            durable_lsn: reading.durable.to_string(),
            reported_lsn: reading.reported.to_string(),
            lag_bytes: lag.bytes,
            receive_lag_bytes: lag.receive_bytes,
            store_lag_bytes: lag.store_bytes,
            report_lag_bytes: lag.report_bytes,
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

/// A span for people, in its two largest units.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
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

impl From<SessionReading> for SessionStatus {
    fn from(session: SessionReading) -> Self {
        SessionStatus {
            session: session.session,
            client_id: session.client_id,
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
fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A status in this state, with a value for everything that can be told.
    pub(crate) fn status(state: &str, name: &str) -> Status {
        let table = |table: &str| RepairStatus {
            table: table.into(),
            reason: "rewritten".into(),
            explanation: "all rows were written anew".into(),
            waits_for: None,
            since_lsn: "0/16B3748".into(),
            since_seconds: 3.5,
        };
        Status {
            version: "0".into(),
            ready: true,
            capture: CaptureStatus {
                state: state.into(),
                name: name.into(),
                holder: None,
                code: None,
                message: None,
                fix: None,
                commits_wait: false,
                source_lsn: "0/20".into(),
                received_lsn: "0/20".into(),
                durable_lsn: "0/14".into(),
                reported_lsn: "0/14".into(),
                lag_bytes: 12,
                receive_lag_bytes: 0,
                store_lag_bytes: 12,
                report_lag_bytes: 0,
                lag_seconds: Some(0.5),
                transactions: 1,
                changes: 2,
            },
            needs_repair: vec![table("public.t")],
            joining: vec![table("public.n")],
            history: HistoryStatus { epoch: 1, head: "h".into() },
            slot: Some(SlotStatus {
                name: "s".into(),
                active: true,
                wal_status: Some("extended".into()),
                retained_bytes: 7,
                safe_wal_bytes: Some(9),
                wal_bytes_per_second: Some(3),
                seconds_until_lost: Some(3_670),
                verdict: "warning".into(),
                fix: Some("raise it".into()),
                invalidation: None,
            }),
            sessions: Vec::new(),
        }
    }

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        let told = [0, 59, 60, 3_599, 3_600, 86_399, 90_000].map(duration);
        assert_eq!(told, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 1 h"]);
    }

    #[test]
    fn a_slot_without_a_limit_and_one_that_is_lost_are_told_apart() {
        let mut slot = status("streaming", "streaming").slot.unwrap();
        slot.safe_wal_bytes = None;
        assert_eq!(slot.room(), "retains 7 bytes, no limit on what it may retain");
        slot.invalidation = Some("wal_removed".into());
        assert_eq!(slot.room(), "retains 7 bytes, lost: wal_removed");
    }

    /// What one version says another can read: `waldelta status` need not be of the version that runs.
    #[test]
    fn a_status_survives_its_own_json() {
        let json = serde_json::to_value(status("stopped", "slot_missing")).unwrap();
        let read: Status = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), json);
        assert_eq!(
            (&json["capture"]["state"], &json["capture"]["name"]),
            (&"stopped".into(), &"slot_missing".into())
        );
    }
}
