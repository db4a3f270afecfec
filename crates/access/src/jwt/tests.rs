//! Tokens that are taken, and a corpus of those that are not: forged, confused, foreign, expired.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::signing::{Signer, base64url};
use crate::{ClientIds, Issuer, Keys, Origin};

mod corpus;

const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_S)
}

/// Claims that are taken.
fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "waldelta", "sub": "ann", "exp": NOW_S + 60, "iat": NOW_S - 60 })
}

/// The same with another claim, or without one where `value` is null.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn issuer(keys: Keys, algorithms: &[&str]) -> Issuer {
    Issuer {
        issuer: "https://id.example".into(),
        audiences: vec!["waldelta".into(), "other".into()],
        algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        keys,
    }
}

fn config(issuers: Vec<Issuer>) -> Config {
    Config { required: true, issuers, leeway: Duration::from_secs(5), ..Config::default() }
}

fn of_secret() -> Verifier {
    Verifier::new(&config(vec![issuer(Keys::Secret(SECRET.to_vec()), &["HS256"])]))
}

async fn verify(verifier: &Verifier, claims: &Value) -> Result<Identity, Refusal> {
    let signer = Signer::secret(SECRET);
    verifier.verify(&signer.token(&signer.header(), claims), now()).await
}

#[tokio::test]
async fn a_token_says_who_somebody_is() {
    let mut all = claims();
    for (name, value) in [
        ("jti", json!("7")),
        ("client_ids", json!(["web-*", "phone"])),
        ("tenant", json!(17)),
        ("nbf", json!(NOW_S - 1)),
    ] {
        all[name] = value;
    }
    let identity = verify(&of_secret(), &all).await.unwrap();
    assert_eq!(&*identity.subject, "ann");
    let origin = Origin::Jwt {
        issuer: "https://id.example".into(),
        id: Some("7".into()),
        issued_at: Some(NOW_S - 60),
        key: None,
    };
    assert_eq!(identity.origin, origin);
    assert_eq!(identity.client_ids, ClientIds::Only(vec!["web-*".to_owned(), "phone".to_owned()].into()));
    assert_eq!(identity.expires_at, Some(now() + Duration::from_secs(60)));
    assert_eq!(Value::Object((*identity.claims).clone()), all);
    assert!(!identity.is_admin);
}

#[tokio::test]
async fn every_algorithm_that_can_be_named_is_taken() {
    let mut names = Vec::new();
    let rsa = Signer::rsa(2_048);
    let rsa = || rsa.clone();
    let signers = [
        Signer::secret(SECRET),
        Signer::secret(SECRET).with("HS384".parse().unwrap()),
        Signer::secret(SECRET).with("HS512".parse().unwrap()),
        rsa(),
        rsa().with("RS384".parse().unwrap()),
        rsa().with("RS512".parse().unwrap()),
        rsa().with("PS256".parse().unwrap()),
        rsa().with("PS384".parse().unwrap()),
        rsa().with("PS512".parse().unwrap()),
        Signer::p256(),
        Signer::p384(),
        Signer::ed25519(),
    ];
    for signer in signers {
        let name = format!("{:?}", signer.algorithm);
        let keys = match signer.public.as_str() {
            "" => Keys::Secret(SECRET.to_vec()),
            pem => Keys::Pem(pem.to_owned()),
        };
        let config = config(vec![issuer(keys, &[&name])]);
        config.check().unwrap();
        let token = signer.token(&signer.header(), &claims());
        let identity = Verifier::new(&config).verify(&token, now()).await;
        assert_eq!(identity.map(|identity| identity.subject.to_string()), Ok("ann".into()), "{name}");
        names.push(name);
    }
    assert_eq!(names, crate::ALGORITHMS, "each of them, once");
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_no_more() {
    let verifier = of_secret();
    for (name, ms, expected) in [
        ("exp", -4_900, None),
        ("exp", -5_000, Some(Refusal::Expired)),
        ("exp", -1_000_000_000, Some(Refusal::Expired)),
        ("nbf", 5_000, None),
        ("nbf", 5_100, Some(Refusal::Invalid)),
        ("iat", 5_000, None),
        ("iat", 5_100, Some(Refusal::Invalid)),
    ] {
        let at = json!((NOW_S as f64 * 1e3 + f64::from(ms)) / 1e3);
        let refusal = verify(&verifier, &claims_with(name, at)).await.err();
        assert_eq!(refusal, expected, "{name} {ms} ms from now");
    }
}

#[tokio::test]
async fn the_leeway_is_bounded() {
    let config = Config {
        leeway: Duration::from_secs(86_400),
        ..config(vec![issuer(Keys::Secret(SECRET.into()), &["HS256"])])
    };
    let verifier = Verifier::new(&config);
    assert!(verify(&verifier, &claims_with("exp", json!(NOW_S - 299))).await.is_ok());
    let refusal = verify(&verifier, &claims_with("exp", json!(NOW_S - 301))).await.err();
    assert_eq!(refusal, Some(Refusal::Expired));
}

#[tokio::test]
async fn all_claims_of_an_operator_make_one() {
    let verifier = |admin_claims: Value| {
        let config = config(vec![issuer(Keys::Secret(SECRET.to_vec()), &["HS256"])]);
        let Value::Object(admin_claims) = admin_claims else { unreachable!() };
        Verifier::new(&Config { admin_claims, ..config })
    };
    let wanted = json!({ "role": "operator", "level": 3 });
    for (claims, expected) in [
        (json!({ "role": "operator", "level": 3 }), true),
        (json!({ "role": ["clerk", "operator"], "level": 3 }), true),
        (json!({ "role": "operator" }), false),
        (json!({ "role": "operator", "level": 4 }), false),
        (json!({ "role": "operator", "level": "3" }), false),
        (json!({ "role": "operators", "level": 3 }), false),
        (json!({ "role": ["operators"], "level": 3 }), false),
        (json!({ "role": { "operator": true }, "level": 3 }), false),
        (json!({ "role": null, "level": 3 }), false),
        (json!({}), false),
    ] {
        let mut all = self::claims();
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let identity = verify(&verifier(wanted.clone()), &all).await.unwrap();
        assert_eq!(identity.is_admin, expected, "{claims}");
    }
    assert!(
        !verify(&verifier(json!({})), &claims()).await.unwrap().is_admin,
        "nobody is, if nothing says who"
    );
}

#[tokio::test]
async fn an_issuer_that_is_no_longer_configured_is_not_taken_from_then_on() {
    let verifier = of_secret();
    assert!(verifier.takes("https://id.example", None) && !verifier.takes("https://id.example/", None));
    verify(&verifier, &claims()).await.unwrap();
    verifier.configure(&config(Vec::new()));
    assert!(!verifier.takes("https://id.example", None));
    assert_eq!(verify(&verifier, &claims()).await.err(), Some(Refusal::Invalid));
    let rotated = b"another secret of thirty-two bytes or more";
    verifier.configure(&config(vec![issuer(Keys::Secret(rotated.to_vec()), &["HS256"])]));
    assert_eq!(verify(&verifier, &claims()).await.err(), Some(Refusal::Invalid), "the old secret");
}

#[tokio::test]
async fn an_issuer_that_cannot_be_used_takes_nobody_and_harms_no_other() {
    let mut broken = issuer(Keys::Secret(b"short".to_vec()), &["HS256"]);
    broken.issuer = "https://broken.example".into();
    let config = config(vec![broken, issuer(Keys::Secret(SECRET.to_vec()), &["HS256"])]);
    assert_eq!(config.check().unwrap_err().issuer, "https://broken.example");
    let verifier = Verifier::new(&config);
    verify(&verifier, &claims()).await.unwrap();
    let signer = Signer::secret(b"short");
    let token = signer.token(&signer.header(), &claims_with("iss", json!("https://broken.example")));
    assert_eq!(verifier.verify(&token, now()).await.err(), Some(Refusal::Invalid));
}

#[tokio::test]
async fn nothing_shows_a_secret_or_a_claim() {
    let config = config(vec![issuer(Keys::Secret(SECRET.to_vec()), &["HS256"])]);
    let identity =
        verify(&Verifier::new(&config), &claims_with("tenant", json!("a secret tenant"))).await.unwrap();
    for shown in [format!("{config:?}"), format!("{identity:?}")] {
        assert!(!shown.contains("a secret"), "{shown}");
    }
}

/// What a verifier says of a text, without waiting for anything.
fn says(token: &str) -> Option<Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(of_secret().verify(token, now())).err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_panics_or_is_taken(text in "\\PC{0,200}") {
        prop_assert_eq!(says(&text), Some(Refusal::Invalid));
    }

    #[test]
    fn no_three_parts_panic_or_are_taken(parts in proptest::array::uniform3(proptest::collection::vec(any::<u8>(), 0..80))) {
        let token = parts.map(|part| base64url(&part)).join(".");
        prop_assert_eq!(says(&token), Some(Refusal::Invalid));
    }

    #[test]
    fn no_bit_of_a_token_can_be_another(at in any::<prop::sample::Index>(), other in "[A-Za-z0-9_.=-]") {
        let signer = Signer::secret(SECRET);
        let mut token = signer.token(&signer.header(), &claims());
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != other);
        token.replace_range(at..=at, &other);
        prop_assert_eq!(says(&token), Some(Refusal::Invalid));
    }

    /// Signed as it should be, so that it gets as far as a token can.
    #[test]
    fn no_claim_of_another_type_panics(name in "exp|nbf|iat|aud|sub|jti|client_ids|iss", value in json_value()) {
        let signer = Signer::secret(SECRET);
        let mut claims = claims();
        claims[name] = value;
        says(&signer.token(&signer.header(), &claims));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
