//! The status model: one reading of the whole service, from which `/v1/status`, `/readyz`, the metrics and `waldelta
//! status` are all made, so that their numbers agree.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use waldelta_capture::{NeedsRepair, State};
use waldelta_fanout::{Fanout, SessionReading};
use waldelta_history::History;
use waldelta_source::{Source, catalog};

/// A reading of the slot is used again for this long: a dashboard must not load the source.
const SLOT_READING_KEPT: Duration = Duration::from_secs(1);
/// A source that does not answer must not hold up the answer for longer.
const SLOT_READING_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// What is durable.
    pub history: HistoryStatus,
    /// The slot at the source; absent when the source did not answer.
    pub slot: Option<SlotStatus>,
    /// Connected clients.
    pub sessions: Vec<SessionStatus>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CaptureStatus {
    /// `starting`, `streaming`, `reconnecting`, `stopped`.
    pub state: String,
    /// Code of the failure, when there is one.
    pub code: Option<String>,
    /// What failed.
    pub message: Option<String>,
    /// How to mend it.
    pub fix: Option<String>,
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
    /// Age of the last commit that is durable, while there is more to come; 0 when all is durable.
    pub lag_seconds: f64,
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
    pub retained_bytes: i64,
    /// WAL that may still be written before the slot is lost; absent: no limit.
    pub safe_wal_bytes: Option<i64>,
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
    pub source: Source,
    slot: Mutex<Option<(Instant, Option<SlotStatus>)>>,
}

impl Observer {
    /// An observer of these parts.
    pub(crate) fn new(
        capture: Arc<waldelta_capture::Status>,
        history: History,
        fanout: Fanout,
        source: Source,
    ) -> Self {
        Observer { capture, history, fanout, source, slot: Mutex::default() }
    }

    /// Reads everything.
    pub(crate) async fn read(&self) -> Status {
        let head = self.history.feed().head();
        let capture = self.capture();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: capture.state == "streaming",
            capture,
            needs_repair: self.needs_repair(),
            history: HistoryStatus { epoch: head.epoch.0, head: head.cursor().to_string() },
            slot: self.slot().await,
            sessions: self.fanout.sessions().into_iter().map(SessionStatus::from).collect(),
        }
    }

    /// Reads capture alone, which costs nothing.
    pub(crate) fn capture(&self) -> CaptureStatus {
        let reading = self.capture.read();
        let (state, failure) = match &reading.state {
            State::Starting => ("starting", None),
            State::Streaming => ("streaming", None),
            State::Reconnecting { code, message } => ("reconnecting", Some((*code, message.clone()))),
            State::Stopped { code, message } => ("stopped", Some((*code, message.clone()))),
        };
        let lag_bytes = reading.lag_bytes();
        CaptureStatus {
            state: state.to_owned(),
            code: failure.as_ref().map(|(code, _)| code.as_str().to_owned()),
            fix: failure.as_ref().map(|(code, _)| code.explanation().fix.to_owned()),
            message: failure.map(|(_, message)| message),
            source_lsn: reading.source_end.to_string(),
            received_lsn: reading.received.to_string(),
            durable_lsn: reading.durable.to_string(),
            reported_lsn: reading.reported.to_string(),
            lag_bytes,
            lag_seconds: if lag_bytes == 0 { 0.0 } else { reading.last_commit_us.map_or(0.0, age_seconds) },
            transactions: reading.transactions,
            changes: reading.changes,
        }
    }

    /// The tables that need repair, as capture knows them.
    pub(crate) fn needs_repair(&self) -> Vec<RepairStatus> {
        self.capture.read().needs_repair.into_iter().map(RepairStatus::from).collect()
    }

    /// The slot, asked at most once per [`SLOT_READING_KEPT`] however many ask.
    async fn slot(&self) -> Option<SlotStatus> {
        let mut kept = self.slot.lock().await;
        if let Some((at, slot)) = &*kept
            && at.elapsed() < SLOT_READING_KEPT
        {
            return slot.clone();
        }
        let slot = match tokio::time::timeout(SLOT_READING_TIMEOUT, self.ask_slot()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the source did not tell of its slot");
                None
            }
            Err(_) => None,
        };
        *kept = Some((Instant::now(), slot.clone()));
        slot
    }

    async fn ask_slot(&self) -> Result<Option<SlotStatus>, waldelta_source::Error> {
        let client = self.source.connect().await?;
        let slot = catalog::slot(&client, &self.source.slot).await?;
        Ok(slot.map(|slot| SlotStatus {
            name: self.source.slot.clone(),
            active: slot.active_pid.is_some(),
            wal_status: slot.wal_status,
            retained_bytes: slot.retained_bytes,
            safe_wal_bytes: slot.safe_wal_bytes,
        }))
    }
}

impl From<NeedsRepair> for RepairStatus {
    fn from(table: NeedsRepair) -> Self {
        RepairStatus {
            table: table.table,
            reason: table.reason,
            explanation: table.explanation.to_owned(),
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
#[expect(clippy::disallowed_methods, reason = "an age is for people; nothing is decided by it")]
fn age_seconds(at_us: i64) -> f64 {
    let now_us =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    (now_us - at_us).max(0) as f64 / 1e6
}
