//! What a process does of the service: write history, serve clients, or both.
//!
//! The parts are the same in each; which of them run is all that differs.

use clap::ValueEnum;
use metrics::{describe_gauge, gauge};
use serde::{Deserialize, Serialize};

const ROLE: &str = "waldelta_role";

/// What a process does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Captures, and serves clients
    #[default]
    All,
    /// Captures; serves the operator's pages and no clients
    Capture,
    /// Serves clients with the history that another process writes
    Fanout,
}

impl Role {
    /// Its name in the configuration, status, metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::All => "all",
            Role::Capture => "capture",
            Role::Fanout => "fanout",
        }
    }

    /// Whether it writes history, or stands by to.
    pub(crate) fn captures(self) -> bool {
        matches!(self, Role::All | Role::Capture)
    }

    /// Whether it serves clients.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Role::All | Role::Fanout)
    }

    /// Tells the recorder what the metric means.
    pub(crate) fn describe_metrics() {
        describe_gauge!(ROLE, "By `role`: 1 for that of this process");
    }

    /// Puts it into the metrics.
    pub(crate) fn record(self) {
        gauge!(ROLE, "role" => self.as_str()).set(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_one_name_everywhere() {
        for role in Role::value_variants() {
            let flag = role.to_possible_value().unwrap();
            assert_eq!(flag.get_name(), role.as_str());
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert!(role.captures() || role.serves(), "a process does something");
        }
    }
}
