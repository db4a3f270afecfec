//! One issuer, made ready to be used: what its configuration says, checked.

use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::key::fits;
use crate::config::{ConfigError, Fault, Issuer, Keys, SECRET_BYTES_MIN};
use crate::jwks::{Jwks, Place};
use crate::{KeyMark, Refusal};

/// What a PEM file with a public key may be named inside; not a certificate, and not a private key.
pub(crate) const PEM_NAMES: [&str; 2] = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];

/// One issuer whose tokens are taken.
pub(crate) struct Trusted {
    pub issuer: Arc<str>,
    pub audiences: Vec<String>,
    /// All of one family.
    pub algorithms: Vec<Algorithm>,
    keys: Source,
}

enum Source {
    Fixed(DecodingKey, Option<KeyMark>),
    Jwks(Arc<Jwks>),
}

impl Trusted {
    /// What a configured issuer is used as. Of `kept`, the set of keys from the same place is used on.
    ///
    /// # Errors
    /// When its settings make no sense, or its key cannot be used with its algorithms.
    pub(crate) fn new(issuer: &Issuer, kept: &[Arc<Jwks>]) -> Result<Self, ConfigError> {
        let fail = |fault| ConfigError { issuer: issuer.issuer.clone(), fault };
        if issuer.issuer.is_empty() {
            return Err(fail(Fault::NoIssuer));
        }
        if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
            return Err(fail(Fault::NoAudience));
        }
        let algorithms = algorithms(&issuer.algorithms).map_err(fail)?;
        let keys = Source::new(&issuer.keys, &algorithms, kept).map_err(fail)?;
        let audiences = issuer.audiences.clone();
        Ok(Trusted { issuer: issuer.issuer.as_str().into(), audiences, algorithms, keys })
    }

    /// The set of keys behind a URL, if that is what there is.
    pub(crate) fn jwks(&self) -> Option<&Arc<Jwks>> {
        match &self.keys {
            Source::Fixed(..) => None,
            Source::Jwks(jwks) => Some(jwks),
        }
    }

    /// Whether a key is still its. As long as a set of keys has never been fetched, every key could be.
    pub(super) fn has(&self, mark: &KeyMark) -> bool {
        match &self.keys {
            Source::Fixed(_, known) => known.as_ref() == Some(mark),
            Source::Jwks(jwks) => jwks.has(mark),
        }
    }

    /// The key for a token. A single one is used whatever the token calls it.
    pub(super) async fn key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        at: Instant,
    ) -> Result<DecodingKey, Refusal> {
        match &self.keys {
            Source::Fixed(key, _) => Ok(key.clone()),
            Source::Jwks(jwks) => jwks.find(kid, algorithm, at).await,
        }
    }
}

impl Source {
    fn new(keys: &Keys, algorithms: &[Algorithm], kept: &[Arc<Jwks>]) -> Result<Self, Fault> {
        let is_shared = algorithms.iter().any(|algorithm| algorithm.family() == AlgorithmFamily::Hmac);
        if is_shared != matches!(keys, Keys::Secret(_)) {
            return Err(Fault::KeyUnfit);
        }
        let key = match keys {
            Keys::Secret(secret) if secret.len() < SECRET_BYTES_MIN => return Err(Fault::SecretTooShort),
            Keys::Secret(secret) => DecodingKey::from_secret(secret),
            Keys::Pem(pem) => read_pem(pem, algorithms)?,
            Keys::Jwks { url, allow_private } => {
                let place = Place::parse(url, *allow_private).map_err(Fault::Url)?;
                let known = kept.iter().find(|jwks| *jwks.place() == place);
                return Ok(Source::Jwks(known.cloned().unwrap_or_else(|| Arc::new(Jwks::new(place)))));
            }
        };
        let is_good = algorithms.iter().all(|algorithm| fits(&key, *algorithm));
        if is_good {
            let mark = KeyMark::of(&key);
            Ok(Source::Fixed(key, mark))
        } else {
            Err(Fault::KeyUnfit)
        }
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, Fault> {
    let parse = |name: &String| name.parse().map_err(|_| Fault::UnknownAlgorithm { name: name.clone() });
    let algorithms: Vec<Algorithm> = names.iter().map(parse).collect::<Result<_, _>>()?;
    let family = algorithms.first().ok_or(Fault::NoAlgorithm)?.family();
    if algorithms.iter().any(|algorithm| algorithm.family() != family) {
        return Err(Fault::MixedAlgorithms);
    }
    Ok(algorithms)
}

fn read_pem(pem: &str, algorithms: &[Algorithm]) -> Result<DecodingKey, Fault> {
    let is_one = pem.matches("-----BEGIN ").count() == 1;
    if !is_one || !PEM_NAMES.iter().any(|name| pem.contains(name)) {
        return Err(Fault::NoPublicKey);
    }
    let family = algorithms.first().ok_or(Fault::NoAlgorithm)?.family();
    let key = match family {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem.as_bytes()),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem.as_bytes()),
        AlgorithmFamily::Hmac => return Err(Fault::KeyUnfit),
    };
    key.map_err(|_| Fault::KeyUnfit)
}
