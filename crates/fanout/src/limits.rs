//! How much one may take of what all share: sessions and whatever else stays, counted by address, subject and tenant, and requests over time, by address
//! and subject. The bounds are those of the policy of the moment.
//!
//! What there may be of something in all is bounded elsewhere (see `inner`). It is not known here what a session or a request
//! does, nor whether somebody may do it. What is kept does not grow with those who have gone: a count ends with its sessions,
//! and a bucket that is full again is forgotten.

mod buckets;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use waldelta_access::Identity;
use waldelta_wal::Code;

use self::buckets::Buckets;
use crate::closing::Closing;
use crate::lock::lock;
use crate::policy::{Limits, Policy};

/// Who has taken how much. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Quotas {
    policy: watch::Receiver<Arc<Policy>>,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    sessions: Mutex<HashMap<Key, usize>>,
    requests: Mutex<Buckets>,
}

/// Whose share it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    /// See [`Identity::person`].
    Subject(Box<str>),
    Tenant(Box<str>),
}

/// A request came too early; it may come again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter(pub Duration);

impl RetryAfter {
    /// For the header of this name: whole seconds, at least one.
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1)
    }
}

impl Quotas {
    /// Nobody has taken anything yet.
    pub(crate) fn new(policy: watch::Receiver<Arc<Policy>>) -> Self {
        Quotas { policy, taken: Arc::default() }
    }

    /// A session's share of what there may be of its address, and of its subject and tenant, as far as they are known. Who has
    /// only the address when a connection comes asks [`SessionShare::identify`] as soon as there is an identity. It is given
    /// back when it is dropped.
    ///
    /// # Errors
    /// 4429 with `WD-TOO-MANY-CONNECTIONS`, when one of them has as many sessions as it may; nothing is taken then.
    pub(crate) fn session(
        &self,
        address: Option<IpAddr>,
        identity: Option<&Identity>,
    ) -> Result<SessionShare, Closing> {
        let address = address.map(|address| Key::Address(network(address)));
        let mut share = SessionShare { quotas: self.clone(), address: None, others: Vec::new() };
        let others = identity.map_or_else(Vec::new, |identity| self.keys(identity));
        self.exchange(&[], address.iter().chain(&others))?;
        (share.address, share.others) = (address, others);
        Ok(share)
    }

    /// Takes one request from what an address, and a subject, may send now. Ask with the address alone before a token is looked
    /// at, so that guesses are counted too, and with the identity alone once it is known.
    ///
    /// # Errors
    /// 429 with `WD-TOO-MANY-REQUESTS` and `Retry-After`, when it comes too early; it takes nothing then.
    pub(crate) fn request(
        &self,
        address: Option<IpAddr>,
        identity: Option<&Identity>,
    ) -> Result<(), RetryAfter> {
        self.request_at(Instant::now(), address, identity)
    }

    fn request_at(
        &self,
        now: Instant,
        address: Option<IpAddr>,
        identity: Option<&Identity>,
    ) -> Result<(), RetryAfter> {
        let limits = self.limits();
        let address = address.map(|address| Key::Address(network(address)));
        let subject = identity.map(Key::subject);
        let mut requests = lock(&self.taken.requests);
        for key in address.into_iter().chain(subject) {
            let kind = key.kind();
            requests.take(key, now, &limits).map_err(|after| {
                refused(kind, "request");
                RetryAfter(after)
            })?;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.policy.borrow().limits.clone()
    }

    fn keys(&self, identity: &Identity) -> Vec<Key> {
        let subject = Key::subject(identity);
        let tenant = tenant(&self.limits().tenant_claim, identity).map(Key::Tenant);
        [subject].into_iter().chain(tenant).collect()
    }

    /// Takes a place for each of `new` and gives back those of `old`, or does nothing of it.
    fn exchange<'a>(&self, old: &[Key], new: impl Iterator<Item = &'a Key> + Clone) -> Result<(), Closing> {
        let limits = self.limits();
        let mut sessions = lock(&self.taken.sessions);
        let added = || new.clone().filter(|key| !old.contains(key));
        for key in added() {
            if sessions.get(key).copied().unwrap_or(0) >= key.sessions_max(&limits) {
                refused(key.kind(), "session");
                return Err(Closing::TooMany(Code::TooManyConnections));
            }
        }
        for key in added() {
            *sessions.entry(key.clone()).or_insert(0) += 1;
        }
        for key in old.iter().filter(|key| !new.clone().any(|new| new == *key)) {
            if let Some(count) = sessions.get_mut(key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    sessions.remove(key);
                }
            }
        }
        Ok(())
    }
}

/// A session's share; given back when it is dropped.
pub(crate) struct SessionShare {
    quotas: Quotas,
    address: Option<Key>,
    /// Of the subject and the tenant.
    others: Vec<Key>,
}

impl SessionShare {
    /// It is known, or known anew, whose session it is: takes their share, and gives back that of the identity before.
    ///
    /// # Errors
    /// As of [`Quotas::session`]; the share is what it was then.
    pub(crate) fn identify(&mut self, identity: &Identity) -> Result<(), Closing> {
        let others = self.quotas.keys(identity);
        self.quotas.exchange(&self.others, others.iter())?;
        self.others = others;
        Ok(())
    }
}

impl Drop for SessionShare {
    fn drop(&mut self) {
        let mut all = std::mem::take(&mut self.others);
        all.extend(self.address.take());
        // Nothing is taken, so nothing is refused.
        let _ = self.quotas.exchange(&all, [].iter());
    }
}

impl Key {
    fn subject(identity: &Identity) -> Self {
        Key::Subject(identity.person().into())
    }

    fn sessions_max(&self, limits: &Limits) -> usize {
        match self {
            Key::Address(_) => limits.sessions_per_address_max,
            Key::Subject(_) => limits.sessions_per_subject_max,
            Key::Tenant(_) => limits.sessions_per_tenant_max,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Key::Address(_) => "address",
            Key::Subject(_) => "subject",
            Key::Tenant(_) => "tenant",
        }
    }
}

/// Whose an address is: with IPv6 one customer has at least 64 bits of addresses (RFC 6177), so they count as one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Whose tenant somebody is; `None` without such a claim, or where it is neither text nor a number.
fn tenant(claim: &str, identity: &Identity) -> Option<Box<str>> {
    let claim = Some(claim).filter(|claim| !claim.is_empty())?;
    match identity.claims.get(claim)? {
        Value::String(tenant) => Some(tenant.as_str().into()),
        Value::Number(tenant) => Some(tenant.to_string().into()),
        _ => None,
    }
}

fn refused(of: &'static str, what: &'static str) {
    metrics::counter!("waldelta_fanout_limited_total", "of" => of, "what" => what).increment(1);
}

#[cfg(test)]
mod tests;
