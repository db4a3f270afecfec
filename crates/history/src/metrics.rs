//! What history measures of itself. Names end in their unit.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::Head;

const APPEND_DURATION: &str = "waldelta_history_append_duration_seconds";
const APPENDED_ROWS: &str = "waldelta_history_appended_rows_total";
const APPENDED_BYTES: &str = "waldelta_history_appended_bytes_total";
const DURABLE_LSN: &str = "waldelta_history_durable_lsn_bytes";
const FEED_BYTES: &str = "waldelta_history_feed_bytes";
const OPEN_GAPS: &str = "waldelta_history_open_gaps";
const READS: &str = "waldelta_history_catch_up_reads_total";
const READ_ROWS: &str = "waldelta_history_catch_up_rows_total";

/// Tells the recorder what each metric means; call it once, after the recorder is installed.
pub fn describe() {
    describe_histogram!(
        APPEND_DURATION,
        Unit::Seconds,
        "Time of one append to history, from BEGIN to COMMIT."
    );
    describe_counter!(APPENDED_ROWS, Unit::Count, "Changes made durable in history.");
    describe_counter!(APPENDED_BYTES, Unit::Bytes, "Bytes sent to history by COPY.");
    describe_gauge!(
        DURABLE_LSN,
        Unit::Bytes,
        "Durable end of history, as a byte position in the source's WAL."
    );
    describe_gauge!(FEED_BYTES, Unit::Bytes, "Memory that the in-memory tail of history holds, about.");
    describe_gauge!(
        OPEN_GAPS,
        Unit::Count,
        "Tables that need repair: rows of them changed in a way that history has no changes of."
    );
    describe_counter!(
        READS,
        Unit::Count,
        "Pages read from the table by those whom the in-memory tail no longer served."
    );
    describe_counter!(READ_ROWS, Unit::Count, "Changes read in those pages.");
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

pub(crate) fn page_read(rows: usize) {
    counter!(READS).increment(1);
    counter!(READ_ROWS).increment(rows as u64);
}
