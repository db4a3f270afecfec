//! Capture's metrics. Their names end in their units. No name or label holds anything of a row.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use metrics::{
    Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use waldelta_wal::TableName;

use crate::budget::{Budget, Verdict};
use crate::status::{Canary, Reading, State, Stored};

const RECEIVED: &str = "waldelta_capture_received_lsn_bytes";
const DURABLE: &str = "waldelta_capture_durable_lsn_bytes";
const DECODED: &str = "waldelta_capture_decoded_lsn_bytes";
const REPORTED: &str = "waldelta_capture_reported_lsn_bytes";
const SOURCE: &str = "waldelta_capture_source_lsn_bytes";
const LAG: &str = "waldelta_capture_lag_bytes";
const STAGE_LAG: &str = "waldelta_capture_stage_lag_bytes";
const STAGE_LAG_SECONDS: &str = "waldelta_capture_stage_lag_seconds";
const LAG_SECONDS: &str = "waldelta_capture_lag_seconds";
const LAST_COMMIT: &str = "waldelta_capture_last_commit_timestamp_seconds";
const TRANSACTIONS: &str = "waldelta_capture_transactions_total";
const CHANGES: &str = "waldelta_capture_changes_total";
const TRANSACTION_CHANGES: &str = "waldelta_capture_transaction_changes";
const TABLE_CHANGES: &str = "waldelta_capture_table_changes_total";
const RECONNECTS: &str = "waldelta_capture_reconnects_total";
const STALLS: &str = "waldelta_capture_stalls_total";
const NEEDING_REPAIR: &str = "waldelta_capture_tables_needing_repair";
const JOINING: &str = "waldelta_capture_tables_joining";
const STATE: &str = "waldelta_capture_state";
const NAMED_STATE: &str = "waldelta_capture_named_state";
const APPEND_FAILURES: &str = "waldelta_capture_append_failures_total";
const CANARY: &str = "waldelta_capture_canary_alive";
const SLOT_ACTIVE: &str = "waldelta_slot_active";
const SLOT_RETAINED: &str = "waldelta_slot_retained_bytes";
const SLOT_SAFE: &str = "waldelta_slot_safe_bytes";
const SLOT_SECONDS: &str = "waldelta_slot_seconds_until_lost";
const SLOT_WAL_STATUS: &str = "waldelta_slot_wal_status";
const SLOT_VERDICT: &str = "waldelta_slot_verdict";
const WAL_RATE: &str = "waldelta_source_wal_bytes_per_second";

const STATES: [&str; 6] = ["starting", "streaming", "standby", "paused", "reconnecting", "stopped"];
/// Of `pg_replication_slots.wal_status`.
const WAL_STATES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];
/// The names that had a 1 once: they get a 0 when it goes elsewhere. There are as many as there are named states.
static NAMES_TOLD: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

/// Tells the recorder what the metrics mean; once, at the start.
pub fn describe() {
    describe_gauge!(SOURCE, Unit::Bytes, "WAL position that the source last told");
    describe_gauge!(
        RECEIVED,
        Unit::Bytes,
        "Furthest WAL position of which something was received, of a transaction that has not ended too"
    );
    describe_gauge!(
        DECODED,
        Unit::Bytes,
        "WAL position up to which all transactions were received and taken apart"
    );
    describe_gauge!(DURABLE, Unit::Bytes, "WAL position up to which everything is in history");
    describe_gauge!(REPORTED, Unit::Bytes, "WAL position that the slot was told");
    describe_gauge!(
        LAG,
        Unit::Bytes,
        "WAL that may hold changes which are not in history; 0 when everything is"
    );
    describe_gauge!(
        STAGE_LAG,
        Unit::Bytes,
        "WAL between two stages, by `stage`: receive (source to received), decode (to decoded), store (to durable), report (to what the slot was told)"
    );
    describe_gauge!(
        STAGE_LAG_SECONDS,
        Unit::Seconds,
        "How much longer the source has been past where one stage is than past where the stage before is, by `stage` as above; it is looked some times a second"
    );
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "Age of the newest thing known to be durable while there may be more to come, else 0; NaN while nothing is known"
    );
    describe_gauge!(LAST_COMMIT, Unit::Seconds, "Commit time of the last transaction or canary in history");
    describe_counter!(TRANSACTIONS, Unit::Count, "Transactions stored");
    describe_counter!(CHANGES, Unit::Count, "Changes stored");
    describe_histogram!(TRANSACTION_CHANGES, Unit::Count, "Changes of a transaction that was stored");
    describe_counter!(
        TABLE_CHANGES,
        Unit::Count,
        "Changes stored, by `table` (of those beyond the first 200 together: `others`)"
    );
    describe_counter!(RECONNECTS, Unit::Count, "Connections to the slot that were begun again");
    describe_counter!(STALLS, Unit::Count, "Connections given up because history took in nothing");
    describe_counter!(
        APPEND_FAILURES,
        Unit::Count,
        "Appends to history that failed; what was in them comes again"
    );
    describe_gauge!(
        CANARY,
        "1 while the canary can be updated at the source, 0 while it cannot, NaN while that is not known or it is switched off"
    );
    describe_gauge!(
        NEEDING_REPAIR,
        Unit::Count,
        "Tables whose rows at the source changed in a way that history has no changes of"
    );
    describe_gauge!(JOINING, Unit::Count, "Tables that were added and are not whole in history yet");
    describe_gauge!(STATE, "By `state`: 1 for the one that capture is in, 0 for the others");
    describe_gauge!(
        NAMED_STATE,
        "By `name`: 1 for that of the state that capture is in, 0 for those that it was in before"
    );
    describe_gauge!(
        SLOT_ACTIVE,
        "1 while somebody reads the slot, 0 while nobody does; NaN while it is not known"
    );
    describe_gauge!(
        SLOT_RETAINED,
        Unit::Bytes,
        "WAL that the slot retains at the source; NaN while it is not known"
    );
    describe_gauge!(
        SLOT_SAFE,
        Unit::Bytes,
        "WAL that may still be written before the slot can be lost; NaN without a limit"
    );
    describe_gauge!(
        SLOT_SECONDS,
        Unit::Seconds,
        "Time until the slot can be lost, if nobody reads it; NaN without a limit, and while nothing is written"
    );
    describe_gauge!(SLOT_WAL_STATUS, "By `wal_status`: 1 for that of the slot, 0 for the others");
    describe_gauge!(
        SLOT_VERDICT,
        "By `verdict`: 1 for what is to be made of the slot's room, 0 for the others"
    );
    describe_gauge!(WAL_RATE, Unit::Bytes, "WAL that the source writes a second, over the last minute");
}

/// Everything that a reading says.
pub(crate) fn reading(reading: &Reading) {
    gauge!(SOURCE).set(float(reading.source_end.0));
    gauge!(RECEIVED).set(float(reading.received.0));
    gauge!(DECODED).set(float(reading.decoded.0));
    gauge!(DURABLE).set(float(reading.durable.0.0));
    gauge!(REPORTED).set(float(reading.reported.0.0));
    let lag = reading.lag(Instant::now(), now_us());
    gauge!(LAG).set(float(lag.bytes));
    for (stage, between) in
        [("receive", lag.receive), ("decode", lag.decode), ("store", lag.store), ("report", lag.report)]
    {
        gauge!(STAGE_LAG, "stage" => stage).set(float(between.bytes));
        gauge!(STAGE_LAG_SECONDS, "stage" => stage).set(between.seconds);
    }
    gauge!(LAG_SECONDS).set(lag.seconds.unwrap_or(f64::NAN));
    gauge!(NEEDING_REPAIR).set(float(reading.needs_repair.len() as u64));
    gauge!(JOINING).set(float(reading.joining.len() as u64));
    gauge!(CANARY).set(match reading.canary {
        Canary::Unknown => f64::NAN,
        Canary::Alive => 1.0,
        Canary::Refused(_) => 0.0,
    });
    state(&reading.state);
    budget(reading.budget.as_ref());
}

fn budget(budget: Option<&Budget>) {
    let known = |value: Option<u64>| value.map_or(f64::NAN, float);
    gauge!(SLOT_ACTIVE).set(known(budget.map(|budget| u64::from(budget.active))));
    gauge!(SLOT_RETAINED).set(known(budget.map(|budget| budget.retained_bytes)));
    gauge!(SLOT_SAFE).set(known(budget.and_then(|budget| budget.safe_bytes)));
    gauge!(WAL_RATE).set(known(budget.and_then(|budget| budget.wal_bytes_per_second)));
    gauge!(SLOT_SECONDS).set(known(budget.and_then(|budget| budget.seconds_until_lost)));
    let status = budget.and_then(|budget| budget.wal_status.as_deref());
    for each in WAL_STATES {
        one_of(SLOT_WAL_STATUS, "wal_status", each, status == Some(each));
    }
    for each in Verdict::ALL {
        let is = budget.is_some_and(|budget| budget.verdict == each);
        one_of(SLOT_VERDICT, "verdict", each.as_str(), is);
    }
}

pub(crate) fn stored(stored: &Stored) {
    counter!(TRANSACTIONS).increment(stored.transactions);
    counter!(CHANGES).increment(stored.changes);
    let sizes = histogram!(TRANSACTION_CHANGES);
    stored.sizes.iter().for_each(|changes| sizes.record(float(*changes)));
    if let Some(us) = stored.last_commit_us {
        #[expect(clippy::cast_precision_loss, reason = "exact to the microsecond until the year 2255")]
        gauge!(LAST_COMMIT).set(us as f64 / 1e6);
    }
}

/// The counter of a table's changes; `None`: of all those that have none of their own.
pub(crate) fn of_table(name: Option<&TableName>) -> Counter {
    // A table's name has a dot in it.
    let name = name.map_or_else(|| "others".to_owned(), TableName::to_string);
    counter!(TABLE_CHANGES, "table" => name)
}

pub(crate) fn reconnect() {
    counter!(RECONNECTS).increment(1);
}

pub(crate) fn append_failed() {
    counter!(APPEND_FAILURES).increment(1);
}

pub(crate) fn stall() {
    counter!(STALLS).increment(1);
}

fn state(state: &State) {
    for each in STATES {
        one_of(STATE, "state", each, each == state.as_str());
    }
    let name = state.name();
    let mut told = NAMES_TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(&name) {
        told.push(name);
    }
    for each in told.iter() {
        one_of(NAMED_STATE, "name", each, *each == name);
    }
}

fn one_of(metric: &'static str, label: &'static str, value: &'static str, is: bool) {
    gauge!(metric, label => value).set(if is { 1.0 } else { 0.0 });
}

#[expect(clippy::disallowed_methods, reason = "an age is for people; nothing is decided by it")]
fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 8 PiB of WAL, and rounded beyond")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
