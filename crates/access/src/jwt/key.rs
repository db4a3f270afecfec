//! Which algorithm a key is good for.
//!
//! A key that is too short is good for none, and neither is one that is not what it says: the library that checks signatures
//! would say so late, or not at all.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto};

use crate::config::SECRET_BYTES_MIN;

/// Bits of an RSA key: fewer are no longer safe (NIST SP 800-131A), more cost too much time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

const ED25519_BYTES: usize = 32;

/// Whether signatures of this algorithm can be checked with this key.
pub(crate) fn fits(key: &DecodingKey, algorithm: Algorithm) -> bool {
    let sound = match key.family() {
        AlgorithmFamily::Hmac => key.try_get_as_bytes().is_ok_and(|secret| secret.len() >= SECRET_BYTES_MIN),
        AlgorithmFamily::Rsa => rsa_bits(key).is_some_and(|bits| RSA_BITS.contains(&bits)),
        // The verifier takes this for granted.
        AlgorithmFamily::Ed => key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == ED25519_BYTES),
        // Making the verifier checks that it is a point on the curve of the algorithm.
        AlgorithmFamily::Ec => true,
    };
    sound && key.family() == algorithm.family() && crypto::verify("", b"", key, algorithm).is_ok()
}

/// Bits of the modulus, counted in whole bytes; `None` if the key cannot be read, or its exponent makes no signature.
fn rsa_bits(key: &DecodingKey) -> Option<usize> {
    if let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() {
        let exponent = stripped(e);
        let is_odd = exponent.last().is_some_and(|last| last % 2 == 1);
        return (is_odd && exponent != [1] && exponent.len() <= 4).then(|| stripped(n).len() * 8);
    }
    match Jwk::from_decoding_key(key, None).ok()?.algorithm {
        // In base64url without padding, and without leading zeros.
        AlgorithmParameters::RSA(parameters) => Some(parameters.n.len() * 3 / 4 * 8),
        _ => None,
    }
}

fn stripped(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[first..]
}
