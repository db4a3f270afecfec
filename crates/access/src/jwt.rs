//! JSON web tokens (RFC 7519): checked by what the configuration says, never by what their header says.
//!
//! The issuer that a token names chooses among those that are configured, and nothing else. That one's algorithms and keys
//! check the signature; then its claims are looked at, with the caller's time. Revocations are not looked at here.

mod claims;
mod key;
mod parts;
mod trusted;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{join_all, pending};
use jsonwebtoken::crypto;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waldelta_wal::chain_text;

pub(crate) use self::key::fits;
use self::parts::Parts;
pub(crate) use self::trusted::{PEM_NAMES, Trusted};
use crate::config::LEEWAY_MAX;
use crate::jwks::Jwks;
use crate::{Config, Identity, KeyMark, Refusal};

/// Checks JSON web tokens.
pub(crate) struct Verifier {
    trust: watch::Sender<Arc<Trust>>,
}

/// Whose tokens are taken, and on what terms.
struct Trust {
    issuers: Vec<Trusted>,
    terms: Terms,
}

/// Terms that hold for all issuers.
struct Terms {
    admin_claims: Map<String, Value>,
    leeway: Duration,
}

impl Verifier {
    /// Takes tokens of the issuers in `config`. One of them that cannot be used (see [`Config::check`]) is left out, and the log
    /// says so. Sets of keys are fetched by [`Verifier::run`]; before that the keys in them are not known.
    pub(crate) fn new(config: &Config) -> Self {
        Verifier { trust: watch::Sender::new(Arc::new(Trust::new(config, &[]))) }
    }

    /// Takes those of another configuration from now on. Sets of keys that are still named are kept.
    pub(crate) fn configure(&self, config: &Config) {
        let before = self.trust.borrow().clone();
        self.trust.send_replace(Arc::new(Trust::new(config, &before.issuers)));
    }

    /// Whether tokens of an issuer (`iss`) are taken that are signed with this key; of a key that is not known any of its keys
    /// could have been it.
    pub(crate) fn takes(&self, issuer: &str, key: Option<&KeyMark>) -> bool {
        let trust = self.trust.borrow();
        trust.issuer(issuer).is_some_and(|trusted| key.is_none_or(|key| trusted.has(key)))
    }

    /// Who presents this token at the time `now`. It waits only where the set of its issuer's keys has no key of that name: for
    /// one fetch, together with all others who need it. `expires_at` of the identity is the claim, without the leeway with
    /// which it was compared.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::Expired`], or [`Refusal::Unavailable`] where there are no keys to check it with.
    pub(crate) async fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, Refusal> {
        self.verify_at(token, now, Instant::now()).await
    }

    /// With the time of day for the claims, and a moment for the age of keys.
    async fn verify_at(&self, token: &str, now: SystemTime, at: Instant) -> Result<Identity, Refusal> {
        let parts = Parts::read(token)?;
        let trust = self.trust.borrow().clone();
        let issuer = parts.claims.get("iss").and_then(Value::as_str);
        let issuer = issuer.ok_or_else(|| Refusal::invalid("it has no `iss` that is text"))?;
        let trusted = trust.issuer(issuer);
        let trusted = trusted.ok_or_else(|| Refusal::invalid("its `iss` is none of auth.issuers"))?;
        if !trusted.algorithms.contains(&parts.algorithm) {
            return Err(Refusal::invalid("its `alg` is none of its issuer's algorithms"));
        }
        let key = trusted.key(parts.kid.as_deref(), parts.algorithm, at).await?;
        match crypto::verify(parts.signature, parts.message.as_bytes(), &key, parts.algorithm) {
            Ok(true) => claims::identity(parts.claims, trusted, KeyMark::of(&key), &trust.terms, now),
            Ok(false) | Err(_) => Err(Refusal::invalid("its signature is not one of its issuer's key")),
        }
    }

    /// Fetches the sets of keys and keeps them fresh, until told to stop. Whenever a set may lack a key that tokens were signed with,
    /// `on_loss` is told.
    pub(crate) async fn run(&self, stop: CancellationToken, on_loss: impl Fn()) {
        let mut trust = self.trust.subscribe();
        loop {
            let current = trust.borrow_and_update().clone();
            let refreshing = async {
                let jwks = current.issuers.iter().filter_map(Trusted::jwks);
                join_all(jwks.map(|jwks| jwks.run(&on_loss))).await;
                pending::<()>().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = refreshing => {}
                changed = trust.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Trust {
    fn new(config: &Config, before: &[Trusted]) -> Self {
        let kept: Vec<Arc<Jwks>> = before.iter().filter_map(Trusted::jwks).cloned().collect();
        let trusted = |issuer| match Trusted::new(issuer, &kept) {
            Ok(trusted) => Some(trusted),
            Err(error) => {
                tracing::error!(
                    error = chain_text(&error),
                    "tokens of an issuer are not taken: its settings cannot be used"
                );
                None
            }
        };
        let issuers = config.issuers.iter().filter_map(trusted).collect();
        let terms =
            Terms { admin_claims: config.admin_claims.clone(), leeway: config.leeway.min(LEEWAY_MAX) };
        Trust { issuers, terms }
    }

    fn issuer(&self, name: &str) -> Option<&Trusted> {
        self.issuers.iter().find(|trusted| *trusted.issuer == *name)
    }
}

#[cfg(test)]
mod tests;
