//! What a set may have in it, and which key a token gets.

use jsonwebtoken::Algorithm;
use jsonwebtoken::Algorithm::{ES384, EdDSA, HS256, PS256, RS512};
use proptest::prelude::*;

use super::super::set::{KEYS_MAX, SetError};
use super::*;

fn parse(keys: &[Value]) -> Result<KeySet, SetError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn is_found(set: &KeySet, kid: Option<&str>, algorithm: Algorithm) -> bool {
    matches!(set.find(kid, algorithm), Lookup::Found(_))
}

/// A key with one thing in it changed.
fn with(signer: &Signer, name: &str, value: Value) -> Value {
    let mut jwk = signer.jwk("a");
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_is_for_what_it_says_and_for_what_its_kind_can_do() {
    let mut anything = Signer::rsa(2_048).jwk("any");
    anything.as_object_mut().unwrap().remove("alg");
    anything.as_object_mut().unwrap().remove("use");
    let rsa = Signer::rsa(2_048).jwk("rsa");
    let keys =
        [anything, rsa, Signer::p256().jwk("p256"), Signer::p384().jwk("p384"), Signer::ed25519().jwk("ed")];
    let set = parse(&keys).unwrap();
    for (kid, algorithms) in [
        ("any", &[RS256, RS512, PS256][..]),
        ("rsa", &[RS256]),
        ("p256", &[ES256]),
        ("p384", &[ES384]),
        ("ed", &[EdDSA]),
        ("none", &[]),
    ] {
        for algorithm in [HS256, RS256, RS512, PS256, ES256, ES384, EdDSA] {
            let expected = algorithms.contains(&algorithm);
            assert_eq!(is_found(&set, Some(kid), algorithm), expected, "{kid} {algorithm:?}");
        }
    }
}

#[test]
fn without_a_name_the_only_one_that_fits_is_used() {
    let set = parse(&[Signer::p256().jwk("a"), Signer::p384().jwk("b"), Signer::p384().jwk("c")]).unwrap();
    assert!(is_found(&set, None, ES256));
    assert!(!is_found(&set, None, ES384), "it could be either");
    assert!(!is_found(&set, None, EdDSA));
}

#[test]
fn what_is_not_for_signatures_or_not_sound_is_skipped() {
    let (p256, ed25519, rsa) = (Signer::p256(), Signer::ed25519(), Signer::rsa(2_048));
    let mut off_the_curve = p256.jwk("a");
    off_the_curve["y"] = off_the_curve["x"].clone();
    let skipped = [
        ("no key", json!(7)),
        ("nothing", json!({})),
        ("an unknown kind", json!({ "kty": "AKP", "kid": "a", "pub": "AA" })),
        ("a shared secret", json!({ "kty": "oct", "kid": "a", "alg": "HS256", "k": "c2VjcmV0" })),
        ("a private key", with(&p256, "d", json!("AA"))),
        ("a key for encryption", with(&p256, "use", json!("enc"))),
        ("a key for other operations", with(&p256, "key_ops", json!(["encrypt"]))),
        ("a name that is no text", with(&p256, "kid", json!(7))),
        ("another curve's name", with(&p256, "crv", json!("P-384"))),
        ("an unknown curve", with(&p256, "crv", json!("secp256k1"))),
        ("an algorithm of another curve", with(&p256, "alg", json!("ES384"))),
        ("an algorithm of another kind", with(&p256, "alg", json!("RS256"))),
        ("an algorithm of secrets", with(&rsa, "alg", json!("HS256"))),
        ("an algorithm of encryption", with(&rsa, "alg", json!("RSA-OAEP"))),
        ("a point that is not on the curve", off_the_curve),
        ("half a point", with(&p256, "y", json!("AA"))),
        ("too short for Ed25519", with(&ed25519, "x", json!("AAAA"))),
        ("nothing for Ed25519", with(&ed25519, "x", json!(""))),
        ("too long for Ed25519", with(&ed25519, "x", json!("A".repeat(44)))),
        ("no base64", with(&ed25519, "x", json!("?".repeat(43)))),
        ("RSA of 1024 bits", Signer::rsa(1_024).jwk("a")),
        ("RSA of many bits", with(&rsa, "n", json!("_".repeat(1_000)))),
        ("RSA of no bits", with(&rsa, "n", json!(""))),
        ("RSA of leading zeros", with(&rsa, "n", json!(format!("{}_w", "A".repeat(400))))),
        ("RSA with an exponent of one", with(&rsa, "e", json!("AQ"))),
        ("RSA with an even exponent", with(&rsa, "e", json!("Ag"))),
        ("RSA without an exponent", with(&rsa, "e", json!(""))),
    ];
    for (what, key) in &skipped {
        let set = parse(&[key.clone(), Signer::p256().jwk("good")]).unwrap();
        for algorithm in [HS256, RS256, RS512, PS256, ES256, ES384, EdDSA] {
            assert!(!is_found(&set, Some("a"), algorithm), "{what} {algorithm:?}");
        }
        assert!(is_found(&set, Some("good"), ES256), "{what} harms no other key");
    }
}

#[test]
fn a_name_is_that_of_one_key() {
    let (a, b) = (Signer::p256(), Signer::p256());
    assert_eq!(parse(&[a.jwk("a"), b.jwk("a")]).unwrap_err(), SetError::Ambiguous);
    // Some issuers publish a key for encryption under the name of the one for signatures.
    let mut for_encryption = b.jwk("a");
    for_encryption["use"] = "enc".into();
    assert!(is_found(&parse(&[a.jwk("a"), for_encryption]).unwrap(), Some("a"), ES256));
}

#[test]
fn a_set_has_as_many_keys_as_may_be() {
    let key = Signer::ed25519();
    let keys = |count: usize| (0..count).map(|n| key.jwk(&n.to_string())).collect::<Vec<_>>();
    assert!(parse(&keys(KEYS_MAX)).is_ok());
    assert_eq!(parse(&keys(KEYS_MAX + 1)).unwrap_err(), SetError::TooMany);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&bytes);
    }

    #[test]
    fn no_numbers_of_a_key_panic(
        kty in "RSA|EC|OKP|oct",
        crv in "P-256|P-384|P-521|Ed25519",
        n in "[A-Za-z0-9_-]{0,90}",
        x in "[A-Za-z0-9_-]{0,70}",
        y in "[A-Za-z0-9_-]{43}|[A-Za-z0-9_-]{64}",
    ) {
        let key = json!({ "kty": kty, "crv": crv, "kid": "a", "n": n, "e": "AQAB", "x": x, "y": y });
        let set = parse(&[key]).unwrap();
        for algorithm in [RS256, ES256, ES384, EdDSA] {
            if let Lookup::Found(key) = set.find(Some("a"), algorithm) {
                let _ = jsonwebtoken::crypto::verify("AAAA", b"", key, algorithm);
            }
        }
    }
}
