//! How long an answer that takes its time may go on: as long as whoever asked for it is somebody, and may see the same.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use tokio::sync::watch;
use waldelta_access::{Access, Identity, Refusal};
use waldelta_wal::Code;

use super::asker::Asker;
use super::guard::Policies;
use super::problem::Problem;
use crate::inner::Inner;
use crate::rules::Grant;

/// An identity is looked at this often at least, since clocks can be set; and not more often than this where its time has come.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The time for which somebody is answered.
pub(super) struct Term {
    access: Access,
    identity: Option<Arc<Identity>>,
    grant: Grant,
    policies: Policies,
    /// Moves when identities are worth another look.
    changes: watch::Receiver<u64>,
}

impl Term {
    pub(super) fn of(inner: &Inner, asker: &Asker) -> Self {
        let (mut policies, changes) = (inner.policy.subscribe(), inner.access.changes());
        // What changed since they were let in is seen at the first look.
        policies.mark_changed();
        let (identity, grant) = (asker.identity.clone(), asker.grant.clone());
        Term { access: inner.access.clone(), identity, grant, policies, changes }
    }

    /// Why it is over, if it is.
    pub(super) fn over(&mut self) -> Option<Code> {
        // Noted as seen before looking: what comes meanwhile is looked at again.
        self.changes.borrow_and_update();
        let holds = match &self.identity {
            Some(identity) => self.access.check(identity),
            None if self.access.is_required() => Err(Refusal::Missing),
            None => Ok(()),
        };
        if let Err(refusal) = holds {
            return Some(refusal.code());
        }
        if !self.policies.has_changed().unwrap_or(false) {
            return None;
        }
        let policy = self.policies.borrow_and_update().clone();
        let is_same = policy.rules.grant(self.identity.as_deref()) == self.grant;
        if !is_same {
            // Asked again, it is over again.
            self.policies.mark_changed();
        }
        (!is_same).then_some(Code::PermissionChanged)
    }

    /// Returns when it is over.
    pub(super) async fn ends(&mut self) -> Code {
        loop {
            if let Some(code) = self.over() {
                return code;
            }
            let wait = self.until_look();
            // Whoever has the other ends lives as long as this.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = self.changes.changed() => {}
                Ok(()) = self.policies.changed() => self.policies.mark_changed(),
            }
        }
    }

    fn until_look(&self) -> Duration {
        let expires_at = self.identity.as_ref().and_then(|identity| identity.expires_at);
        let rest = expires_at.map(|at| at.duration_since(now()).unwrap_or_default());
        rest.unwrap_or(LOOK_INTERVAL_MAX).clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
    }
}

/// The answer to who has waited until it was over. Who may see something else by now asks again.
pub(super) fn problem(code: Code) -> Problem {
    let status = match code {
        Code::PermissionChanged => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    };
    Problem::new(status, code, code.explanation().title)
}

#[expect(clippy::disallowed_methods, reason = "a token ends by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}
