//! What history measures of itself. Names end in their unit.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{Head, Retained, Sweep};

const APPEND_DURATION: &str = "waldelta_history_append_duration_seconds";
const APPENDED_ROWS: &str = "waldelta_history_appended_rows_total";
const APPENDED_BYTES: &str = "waldelta_history_appended_bytes_total";
const DURABLE_LSN: &str = "waldelta_history_durable_lsn_bytes";
const FEED_BYTES: &str = "waldelta_history_feed_bytes";
const OPEN_GAPS: &str = "waldelta_history_open_gaps";
const PARTITIONS: &str = "waldelta_history_partitions";
const STORED_BYTES: &str = "waldelta_history_stored_bytes";
const FLOOR_AGE: &str = "waldelta_history_floor_age_seconds";
const SWEPT_AT: &str = "waldelta_history_swept_timestamp_seconds";
const PRUNED_PARTITIONS: &str = "waldelta_history_pruned_partitions_total";
const PRUNED_ROWS: &str = "waldelta_history_pruned_rows_total";
const HELD: &str = "waldelta_history_prune_held";
const SEALED_AT: &str = "waldelta_history_sealed_timestamp_seconds";
const READS: &str = "waldelta_history_catch_up_reads_total";
const READ_ROWS: &str = "waldelta_history_catch_up_rows_total";

/// Tells the recorder what each metric means; call it once, after the recorder is installed.
pub fn describe() {
    describe_histogram!(
        APPEND_DURATION,
        Unit::Seconds,
        "Time of one append to history, from BEGIN to COMMIT"
    );
    describe_counter!(APPENDED_ROWS, Unit::Count, "Changes made durable in history");
    describe_counter!(APPENDED_BYTES, Unit::Bytes, "Bytes sent to history by COPY");
    describe_gauge!(
        DURABLE_LSN,
        Unit::Bytes,
        "Durable end of history, as a byte position in the source's WAL"
    );
    describe_gauge!(FEED_BYTES, Unit::Bytes, "Memory that the in-memory tail of history holds, about");
    describe_gauge!(
        OPEN_GAPS,
        Unit::Count,
        "Tables that need repair: rows of them changed in a way that history has no changes of"
    );
    describe_gauge!(PARTITIONS, Unit::Count, "Partitions of change_history, as of the last sweep");
    describe_gauge!(
        STORED_BYTES,
        Unit::Bytes,
        "Bytes of change_history with its indexes, as of the last sweep"
    );
    describe_gauge!(
        FLOOR_AGE,
        Unit::Seconds,
        "How long ago the oldest that can be resumed from was stored, where that is known"
    );
    describe_gauge!(SWEPT_AT, Unit::Seconds, "When history was last swept, in seconds since 1970");
    describe_counter!(PRUNED_PARTITIONS, Unit::Count, "Partitions that were pruned");
    describe_counter!(PRUNED_ROWS, Unit::Count, "Changes that were pruned one by one");
    describe_gauge!(
        HELD,
        Unit::Count,
        "1 while something is kept for longer only because a client that was here of late has yet to read it"
    );
    describe_gauge!(
        SEALED_AT,
        Unit::Seconds,
        "When the newest seal of history was made, in seconds since 1970"
    );
    describe_counter!(
        READS,
        Unit::Count,
        "Pages read from the table by those whom the in-memory tail no longer served"
    );
    describe_counter!(READ_ROWS, Unit::Count, "Changes read in those pages");
}

pub(crate) fn appended(duration: Duration, rows: u64, bytes: u64) {
    histogram!(APPEND_DURATION).record(duration.as_secs_f64());
    counter!(APPENDED_ROWS).increment(rows);
    counter!(APPENDED_BYTES).increment(bytes);
}

pub(crate) fn durable(head: Head) {
    gauge!(DURABLE_LSN).set(head.durable_end.0.0 as f64);
}

pub(crate) fn open_gaps(count: usize) {
    gauge!(OPEN_GAPS).set(count as f64);
}

pub(crate) fn gaps_changed(more: i64) {
    gauge!(OPEN_GAPS).increment(more as f64);
}

pub(crate) fn feed_bytes(bytes: usize) {
    gauge!(FEED_BYTES).set(bytes as f64);
}

pub(crate) fn retained(retained: &Retained, swept: &Sweep) {
    gauge!(PARTITIONS).set(retained.partitions as f64);
    gauge!(STORED_BYTES).set(retained.bytes as f64);
    if let Some(age) = retained.floor_age {
        gauge!(FLOOR_AGE).set(age.as_secs_f64());
    }
    gauge!(SWEPT_AT).set(retained.at_us as f64 / 1_000_000.0);
    gauge!(HELD).set(f64::from(u8::from(retained.is_held)));
    counter!(PRUNED_PARTITIONS).increment(swept.partitions);
    counter!(PRUNED_ROWS).increment(swept.rows);
}

pub(crate) fn sealed(at_us: i64) {
    gauge!(SEALED_AT).set(at_us as f64 / 1_000_000.0);
}

pub(crate) fn page_read(rows: usize) {
    counter!(READS).increment(1);
    counter!(READ_ROWS).increment(rows as u64);
}
