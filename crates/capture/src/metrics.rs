//! Capture's metrics. Their names end in their units. No name or label holds anything of a row.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::status::{Reading, State, Stored};

const RECEIVED: &str = "waldelta_capture_received_lsn_bytes";
const DURABLE: &str = "waldelta_capture_durable_lsn_bytes";
const REPORTED: &str = "waldelta_capture_reported_lsn_bytes";
const SOURCE: &str = "waldelta_capture_source_lsn_bytes";
const LAG: &str = "waldelta_capture_lag_bytes";
const LAST_COMMIT: &str = "waldelta_capture_last_commit_timestamp_seconds";
const TRANSACTIONS: &str = "waldelta_capture_transactions_total";
const CHANGES: &str = "waldelta_capture_changes_total";
const RECONNECTS: &str = "waldelta_capture_reconnects_total";
const STALLS: &str = "waldelta_capture_stalls_total";
const NEEDING_REPAIR: &str = "waldelta_capture_tables_needing_repair";
const STATE: &str = "waldelta_capture_state";

/// Tells the recorder what the metrics mean; once, at the start.
pub(crate) fn describe() {
    describe_gauge!(SOURCE, Unit::Bytes, "WAL position that the source last told");
    describe_gauge!(RECEIVED, Unit::Bytes, "WAL position up to which everything was received");
    describe_gauge!(DURABLE, Unit::Bytes, "WAL position up to which everything is in history");
    describe_gauge!(REPORTED, Unit::Bytes, "WAL position that the slot was told");
    describe_gauge!(
        LAG,
        Unit::Bytes,
        "WAL that may hold changes which are not in history; 0 when everything is"
    );
    describe_gauge!(LAST_COMMIT, Unit::Seconds, "Commit time of the last transaction or canary in history");
    describe_counter!(TRANSACTIONS, Unit::Count, "Transactions stored");
    describe_counter!(CHANGES, Unit::Count, "Changes stored");
    describe_counter!(RECONNECTS, Unit::Count, "Connections to the slot that were begun again");
    describe_counter!(STALLS, Unit::Count, "Connections given up because history took in nothing");
    describe_gauge!(
        NEEDING_REPAIR,
        Unit::Count,
        "Tables whose rows at the source changed in a way that history has no changes of"
    );
    describe_gauge!(STATE, "1 for the state that capture is in, 0 for the others");
}

pub(crate) fn positions(reading: &Reading) {
    gauge!(SOURCE).set(float(reading.source_end.0));
    gauge!(RECEIVED).set(float(reading.received.0));
    gauge!(DURABLE).set(float(reading.durable.0.0));
    gauge!(REPORTED).set(float(reading.reported.0.0));
    gauge!(LAG).set(float(reading.lag_bytes()));
}

pub(crate) fn stored(stored: &Stored) {
    counter!(TRANSACTIONS).increment(stored.transactions);
    counter!(CHANGES).increment(stored.changes);
    if let Some(us) = stored.last_commit_us {
        #[expect(clippy::cast_precision_loss, reason = "exact to the microsecond until the year 2255")]
        gauge!(LAST_COMMIT).set(us as f64 / 1e6);
    }
}

pub(crate) fn needs_repair(tables: usize) {
    #[expect(clippy::cast_precision_loss, reason = "there are not that many tables")]
    gauge!(NEEDING_REPAIR).set(tables as f64);
}

pub(crate) fn reconnect() {
    counter!(RECONNECTS).increment(1);
}

pub(crate) fn stall() {
    counter!(STALLS).increment(1);
}

pub(crate) fn state(state: &State) {
    let name = match state {
        State::Starting => "starting",
        State::Streaming => "streaming",
        State::Reconnecting { .. } => "reconnecting",
        State::Stopped { .. } => "stopped",
    };
    for each in ["starting", "streaming", "reconnecting", "stopped"] {
        gauge!(STATE, "state" => each).set(if each == name { 1.0 } else { 0.0 });
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB of WAL, and rounded beyond")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
