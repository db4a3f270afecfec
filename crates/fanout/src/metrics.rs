//! Numbers of the client side, with their units.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

/// Handles to the numbers, made once: looking them up for each frame would cost more than the frame.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub frames: Counter,
    pub bytes: Counter,
    pub routed: Counter,
    pub filter_lookups: Counter,
    pub filter_evaluations: Counter,
    pub refused: Counter,
    pub extents: Counter,
    pub catch_up_reads: Counter,
    pub catch_up_shared: Counter,
    pub snapshots: Counter,
    pub snapshot_readings: Counter,
    pub snapshot_bytes: Gauge,
    pub evictions: Counter,
    /// From found durable to handed to the socket, in seconds; one sample per write.
    pub delivery: Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        metrics::describe_gauge!("waldelta_fanout_sessions", Unit::Count, "Sessions by state");
        metrics::describe_counter!("waldelta_fanout_frames_total", Unit::Count, "Frames written to sockets");
        metrics::describe_counter!(
            "waldelta_fanout_sent_bytes_total",
            Unit::Bytes,
            "Bytes of frames written to sockets"
        );
        metrics::describe_counter!(
            "waldelta_fanout_routed_transactions_total",
            Unit::Count,
            "Transactions routed to scopes"
        );
        metrics::describe_counter!(
            "waldelta_fanout_filter_lookups_total",
            Unit::Count,
            "Values of rows looked up among those that filters compare for equality"
        );
        metrics::describe_counter!(
            "waldelta_fanout_filter_evaluations_total",
            Unit::Count,
            "Filters evaluated to find whom changes concern; many where updates come without the old row"
        );
        metrics::describe_counter!(
            "waldelta_fanout_refused_connections_total",
            Unit::Count,
            "Connections that were not admitted, because too many are there or come at once"
        );
        metrics::describe_counter!(
            "waldelta_fanout_extent_reads_total",
            Unit::Count,
            "Times that the database was asked what history has, for all who began meanwhile"
        );
        metrics::describe_counter!(
            "waldelta_fanout_catch_up_reads_total",
            Unit::Count,
            "Pages read from history for sessions"
        );
        metrics::describe_counter!(
            "waldelta_fanout_catch_up_shared_total",
            Unit::Count,
            "Pages that sessions needed and that were there: read for another session, or ahead"
        );
        metrics::describe_counter!("waldelta_fanout_snapshots_total", Unit::Count, "Snapshots sent whole");
        metrics::describe_counter!(
            "waldelta_fanout_snapshot_readings_total",
            Unit::Count,
            "Readings of the source for snapshots, each for all who wanted the same"
        );
        metrics::describe_gauge!(
            "waldelta_fanout_snapshot_bytes",
            Unit::Bytes,
            "Bytes of snapshots that are held, compressed"
        );
        metrics::describe_counter!(
            "waldelta_fanout_evictions_total",
            Unit::Count,
            "Sessions let go because they were too slow"
        );
        metrics::describe_histogram!(
            "waldelta_fanout_delivery_seconds",
            Unit::Seconds,
            "From found durable to written to the socket, one sample per write"
        );
        Metrics {
            frames: metrics::counter!("waldelta_fanout_frames_total"),
            bytes: metrics::counter!("waldelta_fanout_sent_bytes_total"),
            routed: metrics::counter!("waldelta_fanout_routed_transactions_total"),
            filter_lookups: metrics::counter!("waldelta_fanout_filter_lookups_total"),
            filter_evaluations: metrics::counter!("waldelta_fanout_filter_evaluations_total"),
            refused: metrics::counter!("waldelta_fanout_refused_connections_total"),
            extents: metrics::counter!("waldelta_fanout_extent_reads_total"),
            catch_up_reads: metrics::counter!("waldelta_fanout_catch_up_reads_total"),
            catch_up_shared: metrics::counter!("waldelta_fanout_catch_up_shared_total"),
            snapshots: metrics::counter!("waldelta_fanout_snapshots_total"),
            snapshot_readings: metrics::counter!("waldelta_fanout_snapshot_readings_total"),
            snapshot_bytes: metrics::gauge!("waldelta_fanout_snapshot_bytes"),
            evictions: metrics::counter!("waldelta_fanout_evictions_total"),
            delivery: metrics::histogram!("waldelta_fanout_delivery_seconds"),
        }
    }

    pub(crate) fn delivered(&self, latency: Duration) {
        self.delivery.record(latency.as_secs_f64());
    }
}

/// Counts a session under its state until the state changes or the session ends.
pub(crate) struct StateGauge {
    state: &'static str,
    gauge: Gauge,
}

impl StateGauge {
    pub(crate) fn new(state: &'static str) -> Self {
        let gauge = metrics::gauge!("waldelta_fanout_sessions", "state" => state);
        gauge.increment(1.0);
        StateGauge { state, gauge }
    }

    pub(crate) fn change(&mut self, state: &'static str) {
        if self.state != state {
            *self = StateGauge::new(state);
        }
    }
}

impl Drop for StateGauge {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}
