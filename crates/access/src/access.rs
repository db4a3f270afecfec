//! All of it together: which form a token has, who it says somebody is, and whether that still holds.
//!
//! What is known of static tokens and revocations is a picture in memory, which [`Access::run`] keeps fresh. While history is out
//! of reach the picture stays as it is; before there is one, nobody can be let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History};
use waldelta_wal::chain_text;

use crate::hashing::Hashing;
use crate::jwt::Verifier;
use crate::known::Known;
use crate::{Config, Identity, LEEWAY_MAX, Origin, Refusal, Ticket, clock, static_token, ticket};

/// How often history is asked whether tokens or revocations have changed: so long a revoked token may still be taken.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// It is asked at once for an id that is not known, no more often than this, and nobody waits longer for their turn. That an id is
/// known may so be told by the time it takes; ids are no secrets, and 64 random bits that nobody finds by trying.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);
/// History answers within this time, or is out of reach: a host that died after it took the question never says so, and nothing
/// would be noticed for as long as somebody waits for it.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(5);
/// Tickets that are looked up at once, each on one of the connections that all share, and requests that wait for that: who makes
/// tickets up holds up others with tickets at most.
const REDEEM_AT_ONCE: usize = 2;
const REDEEM_WAITING_MAX: usize = 256;
/// Bytes of a token at most.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Who is let in. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    history: History,
    config: watch::Sender<Arc<Config>>,
    jwt: Verifier,
    hashing: Hashing,
    /// `None` until it was read once.
    known: watch::Sender<Option<Arc<Known>>>,
    /// One reads at a time, so that an older picture never replaces a newer one. The last time.
    looked: Mutex<Option<Look>>,
    is_out_of_reach: AtomicBool,
    redeeming: Semaphore,
    /// Those that are redeemed, too.
    redeem_waiting: Semaphore,
    /// Counts what makes identities worth another look: revocations, other settings, and keys that are gone.
    changes: watch::Sender<u64>,
}

/// A question to history.
struct Look {
    begun: Instant,
    /// Whether there was no answer, so that what is known may be old.
    has_failed: bool,
}

impl Access {
    /// Lets in who has a token that `config` takes. Nobody is let in before [`Access::run`] has read once what was revoked, or
    /// [`Access::load`] has.
    pub fn new(config: Config, history: History) -> Self {
        let inner = Inner {
            history,
            jwt: Verifier::new(&config),
            config: watch::Sender::new(Arc::new(config)),
            hashing: Hashing::new(),
            known: watch::Sender::new(None),
            looked: Mutex::new(None),
            is_out_of_reach: AtomicBool::new(false),
            redeeming: Semaphore::new(REDEEM_AT_ONCE),
            redeem_waiting: Semaphore::new(REDEEM_AT_ONCE + REDEEM_WAITING_MAX),
            changes: watch::Sender::new(0),
        };
        Access { inner: Arc::new(inner) }
    }

    /// Whether a token is needed.
    pub fn is_required(&self) -> bool {
        self.inner.config.borrow().required
    }

    /// Takes other settings from now on. Live identities are looked at again.
    pub fn configure(&self, config: Config) {
        self.inner.jwt.configure(&config);
        self.inner.config.send_replace(Arc::new(config));
        self.inner.moved();
    }

    /// Who presents this token. Its `expires_at` is when it ends here: the leeway for clocks that differ is in it.
    pub async fn verify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        self.inner.verify(token, clock::now()).await
    }

    /// A ticket that can be used once, soon, in any process of this history, in place of the token of this identity.
    ///
    /// # Errors
    /// [`Refusal::Busy`] where its subject has as many as may be, or all together; that of [`Access::check`].
    pub async fn issue(&self, identity: &Identity) -> Result<Ticket, Refusal> {
        self.inner.issue(identity, clock::now()).await
    }

    /// Who presents this ticket; it is used up then. The identity is that of its token, and ends when that one does.
    ///
    /// # Errors
    /// [`Refusal::Busy`] where too many tickets are presented at once; that of [`Access::check`].
    pub async fn redeem(&self, ticket: &str) -> Result<Arc<Identity>, Refusal> {
        self.inner.redeem(ticket, clock::now()).await
    }

    /// Whether an identity still holds: not expired, not revoked, of an issuer that is still taken and a key that this one still
    /// has. Asks nobody.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        self.inner.check(identity, clock::now())
    }

    /// Moves when identities are worth another [`Access::check`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Reads tokens and revocations, where they have changed since they were read last.
    pub async fn load(&self) -> Result<(), Error> {
        let read = self.inner.look(&mut *self.inner.looked.lock().await).await;
        match &read {
            Ok(()) if self.inner.is_out_of_reach.swap(false, Ordering::Relaxed) => {
                tracing::info!("tokens and revocations can be read again");
            }
            Err(error) if !self.inner.is_out_of_reach.swap(true, Ordering::Relaxed) => tracing::warn!(
                code = error.code().as_str(),
                error = chain_text(error),
                "tokens and revocations cannot be read; what is known of them stays as it is"
            ),
            _ => {}
        }
        read
    }

    /// Keeps what is known of static tokens, revocations and keys up to date, until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(
            self.inner.jwt.run(stop.clone(), || self.inner.moved()),
            stop.run_until_cancelled(self.poll())
        );
    }

    async fn poll(&self) {
        let mut config = self.inner.config.subscribe();
        let mut timer = tokio::time::interval(POLL_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                // Nothing was read while nobody needed a token.
                changed = config.changed() => if changed.is_err() { return },
            }
            // What fails is in the log, and is tried again.
            if self.is_required() && self.load().await.is_ok() {
                let _ = timeout(HISTORY_TIMEOUT, self.inner.history.forget_tickets()).await;
            }
        }
    }
}

impl Inner {
    async fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, Refusal> {
        let identity = match token {
            "" => return Err(Refusal::Missing),
            _ if token.len() > TOKEN_BYTES_MAX => return Err(Refusal::Invalid),
            _ if token.starts_with(static_token::PREFIX) => self.verify_static(token).await?,
            _ if token.split('.').count() == 3 => self.verify_jwt(token, now).await?,
            _ => return Err(Refusal::invalid("it is neither static nor a JSON web token")),
        };
        self.check(&identity, now)?;
        Ok(identity)
    }

    async fn verify_static(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let (id, secret) = static_token::parse(token)
            .ok_or_else(|| Refusal::invalid("it is no token of `waldelta token create`"))?;
        if !self.config.borrow().static_tokens {
            return Err(Refusal::invalid("auth.static_tokens is off"));
        }
        let mut known = self.known()?;
        if known.token(id).is_none() {
            self.look_again().await?;
            known = self.known()?;
        }
        let kept = known.token(id);
        self.hashing.check(kept.map(|kept| &kept.proof), secret).await?;
        // Without one nothing is right.
        kept.map(|kept| Arc::clone(&kept.identity)).ok_or(Refusal::Invalid)
    }

    async fn verify_jwt(&self, token: &str, now: SystemTime) -> Result<Arc<Identity>, Refusal> {
        let mut identity = self.jwt.verify(token, now).await?;
        let leeway = self.leeway();
        identity.expires_at = identity.expires_at.map(|at| at.checked_add(leeway).unwrap_or(at));
        Ok(Arc::new(identity))
    }

    async fn issue(&self, identity: &Identity, now: SystemTime) -> Result<Ticket, Refusal> {
        self.check(identity, now)?;
        let left = identity.expires_at.and_then(|at| at.duration_since(now).ok());
        let lives_for = left.map_or(ticket::LIVES_FOR, |left| left.min(ticket::LIVES_FOR));
        let ticket = Ticket::new(lives_for).map_err(|_| Refusal::Unavailable)?;
        let hash = ticket::hash(&ticket.text).ok_or(Refusal::Unavailable)?;
        let kept = ticket::kept(identity).map_err(|_| Refusal::Unavailable)?;
        let owner = ticket::owner(identity);
        let stored = in_time("tickets", self.history.store_ticket(&hash, &owner, &kept, lives_for)).await;
        match stored.map_err(|error| unavailable(&error, "a ticket could not be stored"))? {
            true => Ok(ticket),
            false => Err(Refusal::Busy),
        }
    }

    async fn redeem(&self, text: &str, now: SystemTime) -> Result<Arc<Identity>, Refusal> {
        let hash = ticket::hash(text).ok_or(Refusal::Invalid)?;
        let _place = self.redeem_waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let until = Instant::now() + LOOK_WAIT_MAX;
        let turn = timeout_at(until, self.redeeming.acquire()).await.map_err(|_| Refusal::Busy)?;
        let turn = turn.map_err(|_| Refusal::Busy)?;
        let taken = in_time("tickets", self.history.take_ticket(&hash)).await;
        drop(turn);
        let taken = taken.map_err(|error| unavailable(&error, "a ticket could not be taken"))?;
        let taken = taken.ok_or(Refusal::Invalid)?;
        if !taken.is_in_time {
            return Err(Refusal::Expired);
        }
        // Only another version of this program could have written it otherwise.
        let identity = ticket::identity(&taken.identity).map_err(|_| Refusal::Invalid)?;
        self.check(&identity, now)?;
        Ok(Arc::new(identity))
    }

    fn check(&self, identity: &Identity, now: SystemTime) -> Result<(), Refusal> {
        let has_ended = |at: Option<SystemTime>| at.is_some_and(|at| at <= now);
        if has_ended(identity.expires_at) {
            return Err(Refusal::Expired);
        }
        let is_revoked = match &identity.origin {
            Origin::Static(id) => {
                let known = self.known()?;
                match known.token(id).filter(|_| self.config.borrow().static_tokens) {
                    // By hand it can be made to end earlier.
                    Some(kept) if has_ended(kept.identity.expires_at) => return Err(Refusal::Expired),
                    Some(kept) => kept.is_revoked,
                    None => true,
                }
            }
            Origin::Jwt { issuer, id, issued_at, key } => {
                let id = id.as_deref();
                !self.jwt.takes(issuer, key.as_ref())
                    || self.known()?.is_revoked(issuer, id, &identity.subject, *issued_at, self.leeway())
            }
        };
        if is_revoked { Err(Refusal::Revoked) } else { Ok(()) }
    }

    /// For a token that may have been made just now. What many ask for together is looked at once.
    async fn look_again(&self) -> Result<(), Refusal> {
        let asked = Instant::now();
        let mut looked = timeout(LOOK_WAIT_MAX, self.looked.lock()).await.map_err(|_| Refusal::Busy)?;
        if let Some(Look { begun, has_failed }) = *looked {
            if begun > asked {
                return if has_failed { Err(Refusal::Unavailable) } else { Ok(()) };
            }
            sleep_until(begun + LOOK_INTERVAL_MIN).await;
        }
        self.look(&mut looked).await.map_err(|_| Refusal::Unavailable)
    }

    /// Reads what has changed.
    async fn look(&self, looked: &mut Option<Look>) -> Result<(), Error> {
        let begun = Instant::now();
        // Also where nobody waits for the end of it.
        *looked = Some(Look { begun, has_failed: true });
        self.read().await?;
        *looked = Some(Look { begun, has_failed: false });
        Ok(())
    }

    async fn read(&self) -> Result<(), Error> {
        let before = self.known.borrow().clone();
        let list = in_time("tokens and revocations", async {
            let revision = self.history.access_revision().await?;
            if before.as_ref().is_some_and(|before| before.revision == revision) {
                return Ok(None);
            }
            self.history.access().await.map(Some)
        });
        let Some(list) = list.await? else { return Ok(()) };
        self.known.send_replace(Some(Arc::new(Known::new(list, before.as_deref()))));
        self.moved();
        Ok(())
    }

    fn known(&self) -> Result<Arc<Known>, Refusal> {
        self.known.borrow().clone().ok_or(Refusal::Unavailable)
    }

    fn leeway(&self) -> Duration {
        self.config.borrow().leeway.min(LEEWAY_MAX)
    }

    fn moved(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// What history answers, unless it takes too long.
async fn in_time<T>(what: &'static str, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(HISTORY_TIMEOUT, asked).await.unwrap_or_else(|_| Err(Error::late(what)))
}

fn unavailable(error: &Error, what: &'static str) -> Refusal {
    tracing::warn!(code = error.code().as_str(), error = chain_text(error), "{what}");
    Refusal::Unavailable
}

#[cfg(test)]
mod tests;
