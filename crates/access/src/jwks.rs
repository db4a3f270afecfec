//! Sets of public keys (RFC 7517) behind a URL: fetched, kept, refreshed, bounded in size, time and number.
//!
//! One loop per set fetches it ([`Jwks::run`]): in time, and when a token names a key that is not in it, though not often. Who
//! asks never fetches, so a client that goes away ends no fetch, and thousands of them begin one. What was fetched is used on
//! while nothing newer can be had, up to a day. A token whose key is known waits for nothing.

mod address;
mod fetch;
mod place;
mod set;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::ClientConfig;
use tokio::sync::{Notify, watch};
use waldelta_wal::chain_text;

use self::fetch::FetchError;
pub(crate) use self::place::Place;
pub use self::place::PlaceError;
use self::set::{KeySet, Lookup};
use crate::{Issuer, KeyMark, Keys, Refusal};

/// What was fetched is fresh for five minutes, and fetched again before that.
const REFRESH_INTERVAL: Duration = Duration::from_secs(240);
/// A fetch is not begun earlier than this after the one before: after a failure, and for a key that is not known.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// What was fetched is used for so long where it cannot be fetched again.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Who asks for a key that is not known waits for so long: a fetch that is under way, and a little.
const WAIT_MAX: Duration = Duration::from_secs(12);

const FETCHES: &str = "waldelta_access_jwks_fetches_total";

/// Tells the recorder what the metrics mean; once, at the start.
pub fn describe_metrics() {
    metrics::describe_counter!(
        FETCHES,
        metrics::Unit::Count,
        "Sets of keys of token issuers fetched, by `outcome`: ok, failed"
    );
}

/// A set of keys behind a URL.
pub(crate) struct Jwks {
    place: Place,
    /// Whom to trust as the server of the set; `None`: whom this machine trusts.
    tls: Option<Arc<ClientConfig>>,
    /// A fetch may take so long.
    time: Duration,
    state: Mutex<State>,
    /// Counts the fetches that have ended, however they did.
    ended: watch::Sender<u64>,
    /// A key is asked for that is not known.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// When the last fetch was begun that came to an end, or is under way.
    tried_at: Option<Instant>,
    is_under_way: bool,
    /// Whether the last fetch that ended did not succeed.
    is_failing: bool,
}

struct Kept {
    set: KeySet,
    at: Instant,
}

/// Why there is no key, and whether a fetch may bring it.
struct Absent {
    refusal: Refusal,
    may_come: bool,
}

impl Jwks {
    pub(crate) fn new(place: Place) -> Self {
        let (state, wanted) = (Mutex::default(), Notify::new());
        Jwks { place, tls: None, time: fetch::TIMEOUT, state, ended: watch::Sender::new(0), wanted }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The key of this name for this algorithm, at the moment `at`. Without a name it is the only one for the algorithm.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when there is none; [`Refusal::Unavailable`] when that cannot be said for now.
    pub(crate) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        at: Instant,
    ) -> Result<DecodingKey, Refusal> {
        let mut ended = self.ended.subscribe();
        match self.look(kid, algorithm, at) {
            Ok(key) => return Ok(key),
            Err(absent) if !absent.may_come => return Err(absent.refusal),
            // One that is under way is enough.
            Err(_) if self.state().is_under_way => {}
            Err(_) => self.wanted.notify_one(),
        }
        // However it ends, and also if it does not: what is known then decides.
        let _ = tokio::time::timeout(WAIT_MAX, ended.changed()).await;
        self.look(kid, algorithm, at).map_err(|absent| absent.refusal)
    }

    /// What is known now.
    fn look(&self, kid: Option<&str>, algorithm: Algorithm, at: Instant) -> Result<DecodingKey, Absent> {
        let state = self.state();
        let tried_lately =
            state.tried_at.is_some_and(|tried| at.saturating_duration_since(tried) < RETRY_INTERVAL);
        let may_come = state.is_under_way || !tried_lately;
        let kept = state.kept.as_ref();
        let Some(kept) = kept.filter(|kept| at.saturating_duration_since(kept.at) < STALE_MAX) else {
            return Err(Absent { refusal: Refusal::Unavailable, may_come });
        };
        match kept.set.find(kid, algorithm) {
            Lookup::Found(key) => Ok(key.clone()),
            Lookup::Unfit => Err(Absent { refusal: Refusal::Invalid, may_come: false }),
            Lookup::Unknown if state.is_failing => Err(Absent { refusal: Refusal::Unavailable, may_come }),
            Lookup::Unknown => Err(Absent { refusal: Refusal::Invalid, may_come }),
        }
    }

    /// Whether a key was in the set that was fetched last; also as long as none ever was.
    pub(crate) fn has(&self, mark: &KeyMark) -> bool {
        self.state().kept.as_ref().is_none_or(|kept| kept.set.has(mark))
    }

    /// Fetches it when it is due or wanted, for ever. Where a set came that lacks a key of the one before, or the first of all,
    /// `on_loss` is told.
    pub(crate) async fn run(&self, on_loss: impl Fn()) {
        loop {
            let (due, earliest) = self.schedule(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = async {
                    self.wanted.notified().await;
                    tokio::time::sleep_until(earliest.into()).await;
                } => {}
            }
            if self.refresh(Instant::now()).await {
                on_loss();
            }
        }
    }

    /// When the next fetch is due, and when it may begin at the earliest.
    fn schedule(&self, now: Instant) -> (Instant, Instant) {
        let state = self.state();
        let Some(tried_at) = state.tried_at else { return (now, now) };
        let pause = if state.is_failing { RETRY_INTERVAL } else { REFRESH_INTERVAL };
        (tried_at + pause, tried_at + RETRY_INTERVAL)
    }

    /// Fetches it once; true where a key may be gone that was there before.
    async fn refresh(&self, now: Instant) -> bool {
        let mut under_way = UnderWay::begin(self, now);
        let fetched = fetch::fetch(self.time, &self.place, self.tls.clone()).await;
        let fetched = fetched.and_then(|body| KeySet::parse(&body).map_err(FetchError::Set));
        let has_lost = self.keep(fetched, now);
        under_way.has_come_to_its_end = true;
        has_lost
    }

    fn keep(&self, fetched: Result<KeySet, FetchError>, now: Instant) -> bool {
        let mut has_lost = false;
        let mut state = self.state();
        let was_failing = std::mem::replace(&mut state.is_failing, fetched.is_err());
        let host = self.place.host();
        let outcome = match fetched {
            Ok(set) => {
                if was_failing {
                    tracing::info!(host, "the keys of a token issuer can be fetched again");
                }
                has_lost = state.kept.as_ref().is_none_or(|kept| !set.has_all_of(&kept.set));
                state.kept = Some(Kept { set, at: now });
                "ok"
            }
            Err(error) => {
                if !was_failing {
                    tracing::warn!(
                        host,
                        error = chain_text(&error),
                        "the keys of a token issuer cannot be fetched; those that are known are used for a day"
                    );
                }
                "failed"
            }
        };
        metrics::counter!(FETCHES, "outcome" => outcome).increment(1);
        has_lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set of keys that cannot be had. It has nothing of the answer but its status.
#[derive(Debug, thiserror::Error)]
#[error("fetch the set of keys")]
pub struct KeysError(#[source] FetchError);

/// How many keys that can be used are behind the URL of an issuer now, asked once, as a service asks. `None` where its keys are
/// not behind a URL, or behind one that is not fetched at all.
pub async fn published_keys(issuer: &Issuer) -> Option<Result<usize, KeysError>> {
    let Keys::Jwks { url, allow_private } = &issuer.keys else { return None };
    let place = Place::parse(url, *allow_private).ok()?;
    let fetched = fetch::fetch(fetch::TIMEOUT, &place, None).await;
    let set = fetched.and_then(|body| KeySet::parse(&body).map_err(FetchError::Set));
    Some(set.map(|set| set.len()).map_err(KeysError))
}

/// A fetch that was begun; it has ended when this is dropped.
struct UnderWay<'a> {
    jwks: &'a Jwks,
    /// When the one before was begun.
    tried_before: Option<Instant>,
    has_come_to_its_end: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(jwks: &'a Jwks, now: Instant) -> Self {
        let mut state = jwks.state();
        let tried_before = state.tried_at.replace(now);
        state.is_under_way = true;
        UnderWay { jwks, tried_before, has_come_to_its_end: false }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.jwks.state();
        state.is_under_way = false;
        if !self.has_come_to_its_end {
            // It was given up, as where other settings came: that is no try, and the next one need not wait.
            state.tried_at = self.tried_before;
        }
        drop(state);
        self.jwks.ended.send_modify(|ended| *ended += 1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
