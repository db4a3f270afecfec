//! Bounds and times of the client side. It reads no file and no environment: the server fills it in.

use std::time::Duration;

use crate::policy::Policy;

/// Bounds and times of the client side.
#[derive(Clone, Debug)]
pub struct Config {
    /// A client that has not said hello for this long is let go (4408).
    pub hello_timeout: Duration,
    /// A quiet session gets a heartbeat this often; a client that gives no sign of life for three of these is let go. Below
    /// 30 s: proxies cut connections that are idle for longer.
    pub heartbeat_interval: Duration,
    /// A client that takes nothing in for this long while something is written to it is let go (4418); it can resume. A
    /// fetched value that is not read for as long is given up when others wait.
    pub write_timeout: Duration,
    /// Sessions at most (4429 beyond), and as many waiting long polls.
    pub sessions_max: usize,
    /// Sessions of which it is not known yet where they begin, at the same time at most (1013 beyond; they can come back).
    pub arrivals_max: usize,
    /// Sessions that take a snapshot or wait for one, at the same time at most (1013 beyond; they can come back).
    pub hydrations_max: usize,
    /// Subscriptions of one session at most.
    pub subscriptions_max: usize,
    /// A frame from a client may have this many bytes at most (4413).
    pub client_frame_bytes_max: usize,
    /// Bytes of ready frames that are kept per scope at most.
    pub scope_bytes_max: usize,
    /// Snapshots that run at the same time at most.
    pub snapshots_max: usize,
    /// How long a session waits for its turn to take a snapshot (1013 beyond; it can come back).
    pub snapshot_wait_timeout: Duration,
    /// A snapshot that is not handed over whole within this ends the session (4418): while it lasts the source cleans up
    /// nothing that is newer.
    pub snapshot_timeout: Duration,
    /// How long a snapshot waits for a committed transaction to become visible.
    pub visibility_timeout: Duration,
    /// How long `live` waits to learn from the source which transactions began before the client connected.
    pub frontier_timeout: Duration,
    /// Reads of history for sessions that catch up, at the same time at most.
    pub catch_up_reads_max: usize,
    /// Bytes of pages of history that are kept for other sessions which catch up over the same stretch.
    pub catch_up_bytes_max: usize,
    /// Bytes of snapshots that are kept ready for other clients, and of those that are read, at most: compressed.
    pub snapshot_cache_bytes_max: usize,
    /// A snapshot is handed out for this long: so long may tables be in it that are no longer published.
    pub snapshot_age_max: Duration,
    /// A snapshot with more bytes than this, compressed, is not kept: the source waits for those who take it.
    pub snapshot_bytes_max: usize,
    /// What is kept of a client that was not here for this long is forgotten; it can still resume by its cursor.
    pub forget_clients_after: Duration,
    /// On a stop the sessions are let go one after the other within this time; few sessions in less.
    pub drain: Duration,
    /// What can be changed while it runs.
    pub policy: Policy,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hello_timeout: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            sessions_max: 10_000,
            arrivals_max: 1_000,
            hydrations_max: 2_000,
            subscriptions_max: 100,
            client_frame_bytes_max: 64 * 1024,
            scope_bytes_max: 16 * 1024 * 1024,
            snapshots_max: 4,
            snapshot_wait_timeout: Duration::from_secs(60),
            snapshot_timeout: Duration::from_secs(600),
            visibility_timeout: Duration::from_secs(30),
            frontier_timeout: Duration::from_secs(5),
            catch_up_reads_max: 8,
            catch_up_bytes_max: 16 * 1024 * 1024,
            snapshot_cache_bytes_max: 256 * 1024 * 1024,
            snapshot_age_max: Duration::from_secs(60),
            snapshot_bytes_max: 128 * 1024 * 1024,
            forget_clients_after: Duration::from_secs(90 * 86_400),
            drain: Duration::from_secs(5),
            policy: Policy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What proxies in front of it are known to cut is idle for 60 s, some of them for 30 s.
    #[test]
    fn no_connection_is_idle_for_as_long_as_a_proxy_bears() {
        assert!(Config::default().heartbeat_interval < Duration::from_secs(30));
    }
}
