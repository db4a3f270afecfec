//! Which tokens are taken. It reads no file and no environment: the server fills it in.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::jwks::PlaceError;
use crate::jwt::{PEM_NAMES, Trusted};

/// Algorithms that can be named (RFC 7518, section 3.1; RFC 8037).
pub const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

/// Bytes of a shared secret at least (RFC 7518, section 3.2, for HS256).
pub const SECRET_BYTES_MIN: usize = 32;

/// Clocks may differ by so much at most: what is more is wrong, and makes expired tokens good.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Which tokens are taken. Without static tokens and issuers nobody has to authenticate, and nobody can.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether clients must authenticate.
    pub required: bool,
    /// Whether the static tokens of the history database are taken.
    pub static_tokens: bool,
    /// Who may sign JSON web tokens.
    pub issuers: Vec<Issuer>,
    /// Claims, by name, with a value that makes a JWT one of an operator: each of them must match.
    pub admin_claims: serde_json::Map<String, serde_json::Value>,
    /// Clocks may differ by so much.
    pub leeway: Duration,
}

/// One who signs JSON web tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim has to have one of these.
    pub audiences: Vec<String>,
    /// Algorithms that are taken, as RFC 7518 names them; all of one family. The token's header never chooses another.
    pub algorithms: Vec<String>,
    /// What signatures are checked with.
    pub keys: Keys,
}

/// What signatures are checked with. Its `Debug` has no secret.
#[derive(Clone)]
pub enum Keys {
    /// A shared secret, for HS256, HS384 or HS512.
    Secret(Vec<u8>),
    /// A public key in PEM.
    Pem(String),
    /// A set of public keys (RFC 7517) behind a URL.
    Jwks {
        /// Where it is.
        url: String,
        /// Whether it may be behind plain HTTP, or at a private, loopback or link-local address.
        allow_private: bool,
    },
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::Secret(_) => f.write_str("Secret"),
            Keys::Pem(_) => f.write_str("Pem"),
            Keys::Jwks { url, allow_private } => {
                f.debug_struct("Jwks").field("url", url).field("allow_private", allow_private).finish()
            }
        }
    }
}

impl Config {
    /// Whether all of it can be used.
    ///
    /// # Errors
    /// With the first issuer that cannot, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::new();
        for issuer in &self.issuers {
            Trusted::new(issuer, &[])?;
            if !names.insert(&issuer.issuer) {
                return Err(ConfigError { issuer: issuer.issuer.clone(), fault: Fault::Twice });
            }
        }
        Ok(())
    }
}

/// An issuer that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer {issuer:?}")]
pub struct ConfigError {
    /// Its name.
    pub issuer: String,
    /// What is wrong with its settings.
    #[source]
    pub fault: Fault,
}

/// What is wrong with the settings of an issuer. It has nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No name.
    #[error("it has no name: `issuer` must be the `iss` of its tokens")]
    NoIssuer,
    /// The same name again.
    #[error("it is there twice")]
    Twice,
    /// No audience, or an empty one.
    #[error("it has no audience: `audiences` must name what its tokens have in `aud`")]
    NoAudience,
    /// No algorithm.
    #[error("it has no algorithm: `algorithms` must name at least one of {}", ALGORITHMS.join(", "))]
    NoAlgorithm,
    /// An algorithm that is not known.
    #[error("the algorithm {name:?} is not known; it must be one of {}", ALGORITHMS.join(", "))]
    UnknownAlgorithm {
        /// As it was written.
        name: String,
    },
    /// Algorithms that need different keys.
    #[error("its algorithms need different kinds of keys; name those of one kind")]
    MixedAlgorithms,
    /// A secret that can be guessed.
    #[error("its secret is too short: at least {SECRET_BYTES_MIN} bytes are needed")]
    SecretTooShort,
    /// No public key in PEM.
    #[error("its file has no public key in PEM: it must have one, under {}", PEM_NAMES.join(" or "))]
    NoPublicKey,
    /// A key of another kind, or one that is too short.
    #[error(
        "its key cannot be used with its algorithms: HS takes a secret, all others a public key or a set of keys; RSA keys have \
         2048 to 4096 bits, ES256 goes with P-256 and ES384 with P-384, EdDSA with Ed25519"
    )]
    KeyUnfit,
    /// The URL of a set of keys.
    #[error("its set of keys cannot be fetched: {0}")]
    Url(PlaceError),
}
