//! Whether a secret is that of a static token: Argon2id, a few at once, and never twice for the same right secret.
//!
//! A hash costs time and memory on purpose, so whoever presents secrets could keep a process busy with them. What is known to be
//! wrong, by an unknown id or because the right secret is known, is hashed all the same, so that nobody learns from the time what
//! it was; but it waits in a line of its own and holds up nobody else. And of one token there is one hash at a time: who knows an
//! id holds up those with the same id at most, and nobody once its secret was presented. Nothing in here reads the database.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Refusal;

/// KiB of memory, passes and lanes of a hash: the least for Argon2id that OWASP's Password Storage Cheat Sheet recommends. A secret
/// here is 256 random bits, which no number of guesses finds; more would only make honest clients wait.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes of a salt: what RFC 9106 recommends for passwords.
pub(crate) const SALT_BYTES: usize = 16;

/// Hashes at once of secrets that may be right, and of those that are wrong: 19 MiB each.
const AT_ONCE: usize = 3;
const WRONG_AT_ONCE: usize = 1;
/// Requests with one token that wait while it is hashed for the first of them, and requests with wrong ones.
const WAITING_MAX: usize = 256;
const WRONG_WAITING_MAX: usize = 16;
/// Nobody waits for longer; who did comes back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What a wrong secret is hashed with. What comes out is looked at by nobody.
const DECOY_SALT: [u8; SALT_BYTES] = *b"waldelta's decoy";

/// A secret's hash as it is kept, in the PHC string format.
pub(crate) fn hash(secret: &str, salt: &[u8; SALT_BYTES]) -> Result<String, HashFailed> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashFailed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(secret.as_bytes(), salt).map_err(|_| HashFailed)?;
    Ok(hash.to_string())
}

/// Compares in constant time. The hash itself says with which cost it was made.
fn is_hash_of(hash: &str, secret: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok()
}

/// Argon2 refuses what it is given.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Argon2id refuses its parameters")]
pub struct HashFailed;

/// What is known of one token's secret.
pub(crate) struct Proof {
    hash: String,
    /// SHA-256 of the right secret, once it was presented: compared in constant time. There is no other right one.
    right: OnceLock<Output>,
    turn: Semaphore,
    waiting: Semaphore,
}

impl Proof {
    pub(crate) fn new(hash: String) -> Self {
        Proof { hash, right: OnceLock::new(), turn: Semaphore::new(1), waiting: Semaphore::new(WAITING_MAX) }
    }

    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether a secret is the right one; `None` while that is not known without hashing.
    fn knows(&self, digest: &Output) -> Option<bool> {
        self.right.get().map(|right| right == digest)
    }
}

/// Where secrets are hashed, a few at once.
pub(crate) struct Hashing {
    permits: Arc<Semaphore>,
    wrong: Arc<Semaphore>,
    wrong_waiting: Semaphore,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Hashing {
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            wrong: Arc::new(Semaphore::new(WRONG_AT_ONCE)),
            wrong_waiting: Semaphore::new(WRONG_WAITING_MAX),
        }
    }

    /// Lets a token in whose secret this is; without a proof, because nobody knows its id, none is let in.
    pub(crate) async fn check(&self, proof: Option<&Arc<Proof>>, secret: &str) -> Result<(), Refusal> {
        let digest = Output::new(&Sha256::digest(secret.as_bytes())).map_err(|_| Refusal::Invalid)?;
        let is_right = match proof.map(|proof| (proof, proof.knows(&digest))) {
            Some((_, Some(true))) => true,
            Some((proof, None)) => self.prove(proof, digest, secret).await?,
            Some((_, Some(false))) | None => self.waste(secret).await?,
        };
        if is_right { Ok(()) } else { Err(Refusal::Invalid) }
    }

    async fn prove(&self, proof: &Arc<Proof>, digest: Output, secret: &str) -> Result<bool, Refusal> {
        let _place = proof.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let in_time = Instant::now() + WAIT_MAX;
        let turn = timeout_at(in_time, proof.turn.acquire()).await.map_err(|_| Refusal::Busy)?;
        let _turn = turn.map_err(|_| Refusal::Busy)?;
        // Whoever came before with the same token may have proven it.
        if let Some(is_right) = proof.knows(&digest) {
            return Ok(is_right);
        }
        let permit = timeout_at(in_time, permit(&self.permits)).await.map_err(|_| Refusal::Busy)??;
        let (with, secret) = (Arc::clone(proof), secret.to_owned());
        let is_right = hashed(permit, move || is_hash_of(&with.hash, &secret)).await?;
        if is_right {
            // Whoever was first has written the same.
            let _ = proof.right.set(digest);
        }
        Ok(is_right)
    }

    /// As much work as for one that may be right.
    async fn waste(&self, secret: &str) -> Result<bool, Refusal> {
        let _place = self.wrong_waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        let permit = timeout(WAIT_MAX, permit(&self.wrong)).await.map_err(|_| Refusal::Busy)??;
        let secret = secret.to_owned();
        hashed(permit, move || {
            let _ = std::hint::black_box(hash(&secret, &DECOY_SALT));
            false
        })
        .await
    }
}

async fn permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(permits).acquire_owned().await.map_err(|_| Refusal::Busy)
}

/// Off the threads that serve. The permit goes with the work, which goes on where nobody waits for it any more.
async fn hashed(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> bool + Send + 'static,
) -> Result<bool, Refusal> {
    let work = move || {
        let is_right = work();
        drop(permit);
        is_right
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Busy)
}

#[cfg(test)]
mod tests;
