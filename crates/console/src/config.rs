//! Who may use the console, and how.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;

/// How a console is served.
#[derive(Clone, Default)]
pub struct Config {
    /// Who may connect; nobody in particular: whoever connects is an administrator.
    pub users: Users,
    /// Encryption, asked for at each connection. Who connects without it is turned away then.
    pub tls: Option<Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>>,
    /// Connections at the same time at most.
    pub connections_max: usize,
}

/// Who may connect, by name. A clone is the same users: others can be taken while a console is served.
#[derive(Clone, Default)]
pub struct Users(Arc<RwLock<BTreeMap<String, User>>>);

impl Users {
    /// These.
    pub fn new(by_name: BTreeMap<String, User>) -> Self {
        Users(Arc::new(RwLock::new(by_name)))
    }

    /// Takes others in their place, for connections that are open too. A console that was begun with users has some from then on,
    /// and one that was begun without has none.
    pub fn take(&self, by_name: BTreeMap<String, User>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = by_name;
    }

    /// Whether these are they.
    pub fn are(&self, by_name: &BTreeMap<String, User>) -> bool {
        *self.0.read().unwrap_or_else(PoisonError::into_inner) == *by_name
    }

    pub(crate) fn get(&self, name: &str) -> Option<User> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Somebody who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What tells whether it is them.
    pub verifier: Verifier,
    /// Whether they may do more than look.
    pub is_admin: bool,
}

/// What PostgreSQL stores of a password: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`. The password cannot be had from it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: usize,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Vec<u8>,
    pub(crate) server_key: Vec<u8>,
}

/// It is no verifier. What stands there is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no SCRAM-SHA-256 verifier, as PostgreSQL has it in pg_authid.rolpassword")]
pub struct VerifierError;

/// Bytes of each of the two keys.
const KEY_BYTES: usize = 32;
/// More would keep the client busy for seconds.
const ITERATIONS_MAX: usize = 1_000_000;

impl std::str::FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let parts = || {
            let (salted, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
            let (iterations, salt) = salted.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let decode = |text: &str| STANDARD.decode(text).ok();
            let verifier = Verifier {
                iterations: iterations.parse().ok()?,
                salt: decode(salt)?,
                stored_key: decode(stored_key)?,
                server_key: decode(server_key)?,
            };
            let has_keys =
                [&verifier.stored_key, &verifier.server_key].iter().all(|key| key.len() == KEY_BYTES);
            let is_usable =
                has_keys && !verifier.salt.is_empty() && (1..=ITERATIONS_MAX).contains(&verifier.iterations);
            is_usable.then_some(verifier)
        };
        parts().ok_or(VerifierError)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Verifier")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_read_as_postgresql_writes_it_and_tells_nothing() {
        let key = STANDARD.encode([7; KEY_BYTES]);
        let text = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        let verifier: Verifier = text.parse().unwrap();
        assert_eq!((verifier.iterations, &*verifier.salt), (4096, &b"salt"[..]));
        assert_eq!(format!("{verifier:?}"), "Verifier");
        let short = STANDARD.encode([7; 31]);
        for wrong in [
            "",
            "password",
            "md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            &format!("SCRAM-SHA-256$0:c2FsdA==${key}:{key}"),
            &format!("SCRAM-SHA-256$4096:c2FsdA==${key}"),
            &format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{short}"),
            &format!("SCRAM-SHA-256$4096:${key}:{key}"),
        ] {
            assert_eq!(wrong.parse::<Verifier>(), Err(VerifierError), "{wrong}");
        }
    }
}
