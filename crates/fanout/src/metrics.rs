//! Numbers of the client side, with their units.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};
use waldelta_wal::Code;

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
    /// From the commit to handed to the socket, in seconds.
    pub commit_to_socket: Histogram,
    pub snapshot_seconds: Histogram,
    pub unfollowed: Counter,
    pub own: Counter,
    pub in_snapshot: Counter,
}

/// Tells the recorder what the metrics mean; once, at the start.
pub fn describe() {
    metrics::describe_gauge!("waldelta_fanout_sessions", Unit::Count, "Sessions of this process, by `state`");
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
    metrics::describe_gauge!(
        "waldelta_fanout_frames_held_bytes",
        Unit::Bytes,
        "Bytes of frames that are kept ready for sessions"
    );
    metrics::describe_gauge!(
        "waldelta_fanout_scopes",
        Unit::Count,
        "What is followed: sessions that follow the same share it"
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
    metrics::describe_histogram!(
        "waldelta_fanout_commit_to_socket_seconds",
        Unit::Seconds,
        "From the commit, by the source's clock, to written to the socket, by this machine's: one sample per write to a session that is live"
    );
    metrics::describe_histogram!(
        "waldelta_fanout_snapshot_seconds",
        Unit::Seconds,
        "From asked for to the last row handed over, of snapshots sent whole over WebSocket"
    );
    metrics::describe_counter!(
        "waldelta_fanout_filtered_total",
        Unit::Count,
        "Transactions of which something was not told, by `reason`: `unfollowed` (no connected client follows it; once), \
             `own` (the client's own changes; once for each client), `snapshot` (the client's snapshot shows it; once for each client)"
    );
    metrics::describe_counter!(
        "waldelta_fanout_turned_away_total",
        Unit::Count,
        "Sessions and requests that were not let in, by the `code` that they were told"
    );
    metrics::describe_counter!(
        "waldelta_fanout_limited_total",
        Unit::Count,
        "Sessions and requests refused because one has had its part: `of` an address, a subject or a tenant, and of `what`"
    );
}

impl Metrics {
    pub(crate) fn new() -> Self {
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
            commit_to_socket: metrics::histogram!("waldelta_fanout_commit_to_socket_seconds"),
            snapshot_seconds: metrics::histogram!("waldelta_fanout_snapshot_seconds"),
            unfollowed: filtered("unfollowed"),
            own: filtered("own"),
            in_snapshot: filtered("snapshot"),
        }
    }

    /// `latency`: since it was found durable; `age_us`: since the commit.
    pub(crate) fn delivered(&self, latency: Duration, age_us: i64) {
        self.delivery.record(latency.as_secs_f64());
        // Clocks differ: never negative.
        let age = Duration::from_micros(u64::try_from(age_us).unwrap_or(0));
        self.commit_to_socket.record(age.as_secs_f64());
    }

    /// What a session was not told.
    pub(crate) fn left_out(&self, left_out: LeftOut) {
        self.own.increment(left_out.own);
        self.in_snapshot.increment(left_out.in_snapshot);
    }
}

/// Transactions of which a client was not told something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// It did that itself.
    pub own: u64,
    /// Its snapshot shows that.
    pub in_snapshot: u64,
}

impl std::ops::AddAssign for LeftOut {
    fn add_assign(&mut self, more: Self) {
        self.own += more.own;
        self.in_snapshot += more.in_snapshot;
    }
}

fn filtered(reason: &'static str) -> Counter {
    metrics::counter!("waldelta_fanout_filtered_total", "reason" => reason)
}

/// What grows and shrinks by itself.
pub(crate) fn held(frames_bytes: usize, scopes: usize) {
    metrics::gauge!("waldelta_fanout_frames_held_bytes").set(frames_bytes as f64);
    metrics::gauge!("waldelta_fanout_scopes").set(scopes as f64);
}

/// Somebody was not let in.
pub(crate) fn turned_away(code: Code) {
    metrics::counter!("waldelta_fanout_turned_away_total", "code" => code.as_str()).increment(1);
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
