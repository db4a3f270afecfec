//! Which public key a token was signed with, kept with whoever presented it: an issuer that takes a key out of use takes back what
//! was signed with it. A shared secret has none, because it would be a way to try secrets.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The same for the same public key, however it was written down and whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct KeyMark([u8; 32]);

impl KeyMark {
    /// That of a public key.
    pub(crate) fn of(key: &DecodingKey) -> Option<Self> {
        if key.family() == AlgorithmFamily::Hmac {
            return None;
        }
        let jwk = Jwk::from_decoding_key(key, None).ok()?;
        let numbers = serde_json::to_vec(&jwk.algorithm).ok()?;
        Some(KeyMark(Sha256::digest(numbers).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::Signer;

    #[test]
    fn a_public_key_has_one_mark_in_pem_and_as_jwk_and_a_secret_has_none() {
        let signers = [Signer::p256(), Signer::p256(), Signer::p384(), Signer::ed25519(), Signer::rsa(2_048)];
        let mut marks = Vec::new();
        for signer in &signers {
            let pem = signer.public.as_bytes();
            let pem = match signer.algorithm.family() {
                AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
                AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem),
                _ => DecodingKey::from_ec_pem(pem),
            };
            let jwk: Jwk = serde_json::from_value(signer.jwk("any")).unwrap();
            let mark = KeyMark::of(&pem.unwrap()).expect("a mark");
            assert_eq!(
                KeyMark::of(&DecodingKey::from_jwk(&jwk).unwrap()),
                Some(mark),
                "{:?}",
                signer.algorithm
            );
            assert!(!marks.contains(&mark), "two keys with one mark");
            marks.push(mark);
        }
        assert_eq!(KeyMark::of(&DecodingKey::from_secret(&[7; 32])), None);
    }
}
