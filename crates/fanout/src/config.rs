//! Bounds and times of the client side. It reads no file and no environment: the server fills it in.

use std::time::Duration;

/// Bounds and times of the client side.
#[derive(Clone, Debug)]
pub struct Config {
    /// A client that has not said hello for this long is let go (4408).
    pub hello_timeout: Duration,
    /// A quiet session gets a heartbeat this often; a client that answers no ping for three of these is let go.
    pub heartbeat_interval: Duration,
    /// A write to a socket that takes longer than this ends the session (4418); it can resume. A fetched value that is not
    /// read for as long is given up when others wait.
    pub write_timeout: Duration,
    /// Sessions at most (4429 beyond), and as many waiting long polls.
    pub sessions_max: usize,
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
    /// Origins of web pages that may connect, such as `https://app.example.com`; those of this machine always may.
    pub allowed_origins: Vec<String>,
    /// Host names under which the service answers besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hello_timeout: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            sessions_max: 10_000,
            subscriptions_max: 100,
            client_frame_bytes_max: 64 * 1024,
            scope_bytes_max: 16 * 1024 * 1024,
            snapshots_max: 4,
            snapshot_wait_timeout: Duration::from_secs(60),
            snapshot_timeout: Duration::from_secs(600),
            visibility_timeout: Duration::from_secs(30),
            frontier_timeout: Duration::from_secs(5),
            catch_up_reads_max: 8,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
        }
    }
}
