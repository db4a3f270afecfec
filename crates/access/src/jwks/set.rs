//! A set of keys as an issuer publishes it (RFC 7517, section 5), and the key in it that a token names.

use std::collections::HashSet;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::KeyMark;
use crate::jwt::fits;

/// Keys of one set at most.
pub(super) const KEYS_MAX: usize = 100;

/// Algorithms that a key without a word about it may be for.
const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Public keys for signatures.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    mark: Option<KeyMark>,
}

/// What there is of a key.
pub(super) enum Lookup<'a> {
    Found(&'a DecodingKey),
    /// It is there, and not for this algorithm.
    Unfit,
    /// It is not there; or, where the token names none, it could be several.
    Unknown,
}

/// A set that is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetError {
    #[error("it is no set of keys in JSON")]
    NoSet,
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("two of its keys have the same name")]
    Ambiguous,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Whether this key is in it, under whatever name.
    pub(super) fn has(&self, mark: &KeyMark) -> bool {
        self.0.iter().any(|key| key.mark.as_ref() == Some(mark))
    }

    /// Whether each key of another is in it.
    pub(super) fn has_all_of(&self, other: &KeySet) -> bool {
        other.0.iter().filter_map(|key| key.mark.as_ref()).all(|mark| self.has(mark))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a set. Keys of a kind that is not known, for another use, with something secret in them, or too short are skipped.
    pub(super) fn parse(json: &[u8]) -> Result<Self, SetError> {
        let published: Published = serde_json::from_slice(json).map_err(|_| SetError::NoSet)?;
        if published.keys.len() > KEYS_MAX {
            return Err(SetError::TooMany);
        }
        let keys: Vec<Key> = published.keys.into_iter().filter_map(Key::read).collect();
        let mut names = HashSet::new();
        if keys.iter().filter_map(|key| key.kid.as_ref()).any(|kid| !names.insert(kid)) {
            return Err(SetError::Ambiguous);
        }
        Ok(KeySet(keys))
    }

    /// The key of this name; without a name the only one for the algorithm.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Lookup<'_> {
        let is_for = |key: &&Key| key.algorithms.contains(&algorithm);
        let Some(kid) = kid else {
            let mut fitting = self.0.iter().filter(is_for);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Lookup::Found(&key.key),
                _ => Lookup::Unknown,
            };
        };
        match self.0.iter().find(|key| key.kid.as_deref() == Some(kid)) {
            Some(key) if is_for(&key) => Lookup::Found(&key.key),
            Some(_) => Lookup::Unfit,
            None => Lookup::Unknown,
        }
    }
}

impl Key {
    fn read(published: Value) -> Option<Key> {
        // A private key, or a shared secret: whoever publishes it has none any more.
        if published.get("d").is_some() || published.get("k").is_some() {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(published).ok()?;
        let common = &jwk.common;
        let is_for_signatures =
            common.public_key_use.as_ref().is_none_or(|for_| *for_ == PublicKeyUse::Signature)
                && common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify));
        if !is_for_signatures || !is_on_its_curve(&jwk) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let named: Option<Algorithm> = match common.key_algorithm {
            Some(named) => Some(named.try_into().ok()?),
            None => None,
        };
        let algorithms: Vec<Algorithm> = ASYMMETRIC
            .into_iter()
            .filter(|algorithm| named.is_none_or(|named| named == *algorithm) && fits(&key, *algorithm))
            .collect();
        (!algorithms.is_empty()).then(|| Key {
            kid: jwk.common.key_id,
            algorithms,
            mark: KeyMark::of(&key),
            key,
        })
    }
}

/// Whether the curve that it names is the one that its numbers are for: an algorithm is chosen by their length.
fn is_on_its_curve(jwk: &Jwk) -> bool {
    // In base64url without padding: 32 bytes are 43 characters, and 48 bytes 64.
    let lengths = |x: &str, y: &str, length| x.len() == length && y.len() == length;
    match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => lengths(&key.x, &key.y, 43),
            EllipticCurve::P384 => lengths(&key.x, &key.y, 64),
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        AlgorithmParameters::RSA(_) => true,
        _ => false,
    }
}
