//! What can be changed while the service runs: who may see what, from where, and how much of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::rules::Rules;

/// What can be changed while the service runs.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who may see what.
    pub rules: Rules,
    /// How much one may take of what all share.
    pub limits: Limits,
    /// Origins of web pages that may connect, such as `https://app.example.com`; those of this machine always may.
    pub allowed_origins: Vec<String>,
    /// Host names under which the service answers besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
}

/// The policy that is in force, for all who go by it: all clones are one.
#[derive(Clone, Debug)]
pub struct LivePolicy(pub(crate) watch::Sender<Arc<Policy>>);

impl LivePolicy {
    /// Puts a policy in force.
    pub fn new(policy: Policy) -> Self {
        LivePolicy(watch::Sender::new(Arc::new(policy)))
    }

    /// Puts another one in force from now on, for live sessions too.
    pub fn apply(&self, policy: Policy) {
        self.0.send_replace(Arc::new(policy));
    }
}

/// How much one may take of what all share.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions from one address at most (4429 beyond).
    pub sessions_per_address_max: usize,
    /// Sessions of one subject at most (4429 beyond).
    pub sessions_per_subject_max: usize,
    /// Sessions of one tenant at most (4429 beyond).
    pub sessions_per_tenant_max: usize,
    /// The claim that says whose tenant somebody is; empty: there are no tenants.
    pub tenant_claim: String,
    /// Requests and connections a second at most, from one address, and of one subject (429 beyond).
    pub requests_per_second_max: u32,
    /// So many may come at once after a pause.
    pub requests_burst_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions_per_address_max: 10_000,
            sessions_per_subject_max: 1_000,
            sessions_per_tenant_max: 10_000,
            tenant_claim: String::new(),
            requests_per_second_max: 2_000,
            requests_burst_max: 20_000,
        }
    }
}
