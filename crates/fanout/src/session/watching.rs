//! What may change about a client from outside while it is connected: whether its token is good, and what it may see.
//!
//! Nothing of it is lost when the futures are dropped: a change counts as seen only together with what it comes to.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use waldelta_access::{Access, Identity, Refusal};

use crate::inner::Inner;
use crate::policy::Policy;
use crate::rules::Grant;

/// What is watched for one session. A copy has seen what this one has.
#[derive(Clone)]
pub(crate) struct Watching {
    access: watch::Receiver<u64>,
    policy: watch::Receiver<Arc<Policy>>,
}

impl Watching {
    /// What changes from now on is seen, and whether an identity holds is looked at once in any case.
    pub(crate) fn new(inner: &Inner) -> Self {
        let (mut access, policy) = (inner.access.changes(), inner.policy.subscribe());
        access.mark_changed();
        Watching { access, policy }
    }

    /// Resolves when the client must not stay: with why. `until` is when its token ends by itself.
    pub(crate) async fn refused(
        access: &mut watch::Receiver<u64>,
        checks: &Access,
        identity: Option<&Arc<Identity>>,
        until: Option<Instant>,
    ) -> Refusal {
        let revoked = async {
            loop {
                changed(access).await;
                if let Err(refusal) = holds(checks, identity) {
                    return refusal;
                }
            }
        };
        let expired = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            refusal = revoked => refusal,
            () = expired => Refusal::Expired,
        }
    }

    /// Resolves when something else may be seen than what `known` grants: with that.
    pub(crate) async fn regranted(
        policy: &mut watch::Receiver<Arc<Policy>>,
        identity: Option<&Arc<Identity>>,
        known: Option<&Grant>,
    ) -> Grant {
        let Some(known) = known else { return std::future::pending().await };
        loop {
            changed(policy).await;
            let grant = policy.borrow().rules.grant(identity.map(Arc::as_ref));
            if grant != *known {
                return grant;
            }
        }
    }

    /// Both, to be waited for beside each other.
    pub(crate) fn parts(&mut self) -> (&mut watch::Receiver<u64>, &mut watch::Receiver<Arc<Policy>>) {
        (&mut self.access, &mut self.policy)
    }
}

/// Whether a client may stay.
pub(crate) fn holds(access: &Access, identity: Option<&Arc<Identity>>) -> Result<(), Refusal> {
    match identity {
        Some(identity) => access.check(identity),
        None if access.is_required() => Err(Refusal::Missing),
        None => Ok(()),
    }
}

/// Resolves when the value changes; never, when its owner is gone.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
