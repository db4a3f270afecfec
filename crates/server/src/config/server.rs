//! The settings of the listener and of the client side, and what the fan-out makes of them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::listener::TlsConfig;
use crate::listener::Network;
use crate::role::Role;

const SECONDS_OF_A_DAY: u64 = 86_400;

/// The listener, and the bounds of the client side.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// What this process does of the service.
    pub role: Role,
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Address of the operators' routes; empty: they are on `listen`.
    pub admin_listen: String,
    /// Proxies that are believed whom a request comes from, and whether it is encrypted.
    pub trusted_proxies: Vec<Network>,
    /// Open connections from one address at most; 0: half of all that there may be.
    pub connections_per_address_max: usize,
    /// Origins of web pages that may connect, such as `https://app.example.com`; loopback pages always may.
    pub allowed_origins: Vec<String>,
    /// Names that a request may call the service by, beside addresses and localhost: those of a proxy in front.
    pub allowed_hosts: Vec<String>,
    /// A quiet session gets a heartbeat this often.
    pub heartbeat_ms: u64,
    /// A client that takes in nothing for this long while something is written to it is let go.
    pub write_timeout_ms: u64,
    /// Sessions at most.
    pub sessions_max: usize,
    /// Sessions of which it is not known yet where they begin, at the same time at most.
    pub arrivals_max: usize,
    /// Sessions that take a snapshot or wait for one, at the same time at most.
    pub hydrations_max: usize,
    /// Reads of history for sessions that catch up, at the same time at most.
    pub catch_up_reads_max: usize,
    /// Bytes of what was read so that are kept for others who catch up at most.
    pub catch_up_bytes_max: usize,
    /// Snapshots that run at the same time at most.
    pub snapshots_max: usize,
    /// A session that waits for its snapshot for longer is let go; it can come back.
    pub snapshot_wait_timeout_ms: u64,
    /// A snapshot that a client has not taken over within this ends its session.
    pub snapshot_timeout_ms: u64,
    /// Bytes of snapshots that are kept ready for the next client at most.
    pub snapshot_cache_bytes_max: usize,
    /// One with more bytes than this is not kept.
    pub snapshot_bytes_max: usize,
    /// A snapshot is handed out for this long.
    pub snapshot_age_max_ms: u64,
    /// What is kept of a client that was not here for so many days is forgotten.
    pub forget_clients_after_days: u64,
    /// On stop, clients are asked to go elsewhere within this time, before their connections are closed.
    pub drain_ms: u64,
    /// On stop, what is under way after that has this long to end.
    pub stop_timeout_ms: u64,
    /// Encryption.
    pub tls: TlsConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            role: Role::All,
            listen: SocketAddr::from(([127, 0, 0, 1], 7654)),
            admin_listen: String::new(),
            trusted_proxies: Vec::new(),
            connections_per_address_max: 0,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            heartbeat_ms: 15_000,
            write_timeout_ms: 30_000,
            sessions_max: 10_000,
            arrivals_max: 1_000,
            hydrations_max: 2_000,
            catch_up_reads_max: 8,
            catch_up_bytes_max: 16 << 20,
            snapshots_max: 4,
            snapshot_wait_timeout_ms: 60_000,
            snapshot_timeout_ms: 600_000,
            snapshot_cache_bytes_max: 256 << 20,
            snapshot_bytes_max: 128 << 20,
            snapshot_age_max_ms: 60_000,
            forget_clients_after_days: 90,
            drain_ms: 5_000,
            stop_timeout_ms: 10_000,
            tls: TlsConfig::default(),
        }
    }
}

impl ServerConfig {
    /// What the client side needs.
    pub(crate) fn fanout(&self) -> waldelta_fanout::Config {
        waldelta_fanout::Config {
            heartbeat_interval: Duration::from_millis(self.heartbeat_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            sessions_max: self.sessions_max,
            arrivals_max: self.arrivals_max,
            hydrations_max: self.hydrations_max,
            catch_up_reads_max: self.catch_up_reads_max,
            catch_up_bytes_max: self.catch_up_bytes_max,
            snapshots_max: self.snapshots_max,
            snapshot_wait_timeout: Duration::from_millis(self.snapshot_wait_timeout_ms),
            snapshot_timeout: Duration::from_millis(self.snapshot_timeout_ms),
            snapshot_cache_bytes_max: self.snapshot_cache_bytes_max,
            snapshot_bytes_max: self.snapshot_bytes_max,
            snapshot_age_max: Duration::from_millis(self.snapshot_age_max_ms),
            forget_clients_after: Duration::from_secs(
                self.forget_clients_after_days.saturating_mul(SECONDS_OF_A_DAY),
            ),
            drain: Duration::from_millis(self.drain_ms),
            policy: waldelta_fanout::Policy {
                allowed_origins: self.allowed_origins.clone(),
                allowed_hosts: self.allowed_hosts.clone(),
                ..waldelta_fanout::Policy::default()
            },
            ..waldelta_fanout::Config::default()
        }
    }

    /// The first setting that makes no sense, and why.
    pub(super) fn nonsense(&self) -> Option<String> {
        const COUNT: RangeInclusive<u64> = 1..=10_000_000;
        let counted = "each of them takes memory here";
        let bounded = [
            ("sessions_max", self.sessions_max as u64, COUNT, counted),
            ("arrivals_max", self.arrivals_max as u64, COUNT, counted),
            ("hydrations_max", self.hydrations_max as u64, COUNT, counted),
            (
                "catch_up_bytes_max",
                self.catch_up_bytes_max as u64,
                1 << 20..=1 << 40,
                "it is in bytes, and a page that others may want has 128 kB and more",
            ),
            (
                "snapshot_bytes_max",
                self.snapshot_bytes_max as u64,
                1 << 20..=1 << 40,
                "it is in bytes, and a snapshot that is not kept is read anew for every client",
            ),
            (
                "snapshot_age_max_ms",
                self.snapshot_age_max_ms,
                1..=24 * 3_600_000,
                "it is in milliseconds, and for so long a snapshot has tables that are no longer published",
            ),
            (
                "forget_clients_after_days",
                self.forget_clients_after_days,
                1..=36_500,
                "it is in days, and a client that is here is noted once a minute",
            ),
        ];
        let misfit = bounded.into_iter().find(|(_, value, range, _)| !range.contains(value));
        let Some((name, value, range, why)) = misfit else { return self.listener_nonsense() };
        let (least, most) = range.into_inner();
        Some(format!("server.{name} must be between {least} and {most}, and is {value}: {why}"))
    }

    /// The settings that cannot be 0, by name: no bound is not meant by a bound of nothing.
    pub(super) fn at_least_one(&self) -> [(&'static str, u64); 7] {
        [
            ("server.heartbeat_ms", self.heartbeat_ms),
            ("server.write_timeout_ms", self.write_timeout_ms),
            ("server.catch_up_reads_max", self.catch_up_reads_max as u64),
            ("server.snapshots_max", self.snapshots_max as u64),
            ("server.snapshot_wait_timeout_ms", self.snapshot_wait_timeout_ms),
            ("server.snapshot_timeout_ms", self.snapshot_timeout_ms),
            ("server.snapshot_cache_bytes_max", self.snapshot_cache_bytes_max as u64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two places say what the defaults are: the file that people read, and the part that is used without a server.
    #[test]
    fn the_defaults_are_those_of_the_client_side() {
        let (ours, theirs) = (ServerConfig::default().fanout(), waldelta_fanout::Config::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
