//! Tokens that must not be taken, as data: what each is, the token, and the refusal.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;

/// Issuers of all kinds, and the keys with which somebody signs.
struct World {
    rsa: Signer,
    p256: Signer,
    ed25519: Signer,
    secret: Signer,
    stranger: Signer,
    verifier: Verifier,
}

impl World {
    fn new() -> Self {
        let (rsa, p256, ed25519) = (Signer::rsa(2_048), Signer::p256(), Signer::ed25519());
        let named = |name: &str, keys, algorithms: &[&str]| {
            let mut issuer = issuer(keys, algorithms);
            issuer.issuer = format!("https://{name}.example");
            issuer
        };
        let pem = |signer: &Signer| Keys::Pem(signer.public.clone());
        let config = config(vec![
            named("rsa", pem(&rsa), &["RS256", "PS256"]),
            named("p256", pem(&p256), &["ES256"]),
            named("ed25519", pem(&ed25519), &["EdDSA"]),
            named("secret", Keys::Secret(SECRET.to_vec()), &["HS256"]),
        ]);
        config.check().unwrap();
        let verifier = Verifier::new(&config);
        let (secret, stranger) = (Signer::secret(SECRET), Signer::rsa(2_048));
        World { rsa, p256, ed25519, secret, stranger, verifier }
    }

    async fn expect(&self, what: &str, token: &str, expected: Option<Refusal>) {
        assert_eq!(self.verifier.verify(token, now()).await.err(), expected, "{what}");
    }
}

fn of(name: &str) -> Value {
    claims_with("iss", json!(format!("https://{name}.example")))
}

/// Claims of the issuer with the secret, with another one.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims_with(name, value);
    claims["iss"] = "https://secret.example".into();
    claims
}

fn header(algorithm: &str) -> Value {
    json!({ "typ": "JWT", "alg": algorithm })
}

fn header_with(algorithm: &str, name: &str, value: Value) -> Value {
    let mut header = header(algorithm);
    header[name] = value;
    header
}

const INVALID: Option<Refusal> = Some(Refusal::Invalid);

/// J1: the token never says how it is to be checked, or with what.
#[tokio::test]
async fn no_header_chooses_algorithm_or_key() {
    let world = World::new();
    let World { rsa, p256, ed25519, secret, stranger, .. } = &world;
    world.expect("RS256 as configured", &rsa.token(&header("RS256"), &of("rsa")), None).await;
    world.expect("ES256 as configured", &p256.token(&header("ES256"), &of("p256")), None).await;
    world.expect("EdDSA as configured", &ed25519.token(&header("EdDSA"), &of("ed25519")), None).await;
    world.expect("HS256 as configured", &secret.token(&header("HS256"), &of("secret")), None).await;

    let with_public_key = Signer::secret(rsa.public.as_bytes());
    let with_trimmed_key = Signer::secret(rsa.public.trim_end().as_bytes());
    let with_empty_key = Signer::secret(b"");
    let unsigned = |name: &str| {
        let message = secret.sign(&header(name).to_string(), &of("rsa").to_string());
        message[..=message.rfind('.').unwrap()].to_owned()
    };
    let jwk = stranger.jwk("mine");
    let strange = |name: &str, value: Value| stranger.token(&header_with("RS256", name, value), &of("rsa"));
    let own = |name: &str, value: Value| rsa.token(&header_with("RS256", name, value), &of("rsa"));
    let cases = [
        ("HS256 with the public key as the secret", with_public_key.token(&header("HS256"), &of("rsa"))),
        ("the same without the last newline", with_trimmed_key.token(&header("HS256"), &of("rsa"))),
        ("HS256 with an empty secret", with_empty_key.token(&header("HS256"), &of("rsa"))),
        ("an empty secret where there is one", with_empty_key.token(&header("HS256"), &of("secret"))),
        ("HS256 of another issuer's secret", secret.token(&header("HS256"), &of("rsa"))),
        ("RS256 where there is a secret", rsa.token(&header("RS256"), &of("secret"))),
        ("none without a signature", unsigned("none")),
        ("None", unsigned("None")),
        ("NONE", unsigned("NONE")),
        ("nOnE", unsigned("nOnE")),
        ("none with a signature", rsa.token(&header("none"), &of("rsa"))),
        ("RS256 without a signature", unsigned("RS256")),
        ("no algorithm", rsa.token(&json!({ "typ": "JWT" }), &of("rsa"))),
        ("an algorithm that is no text", rsa.token(&json!({ "alg": ["RS256"] }), &of("rsa"))),
        ("the algorithm in small letters", rsa.token(&header("rs256"), &of("rsa"))),
        ("two algorithms", rsa.sign("{\"alg\":\"none\",\"alg\":\"RS256\"}", &of("rsa").to_string())),
        ("an algorithm of the family that is not listed", {
            Signer::secret(SECRET).with(Algorithm::HS512).token(&header("HS512"), &of("secret"))
        }),
        ("an algorithm that it was not signed with", rsa.token(&header("PS256"), &of("rsa"))),
        ("the key of another issuer", p256.token(&header("ES256"), &of("rsa"))),
        ("the key of another issuer, for that one's algorithm", p256.token(&header("RS256"), &of("rsa"))),
        ("a stranger's key", stranger.token(&header("RS256"), &of("rsa"))),
        ("a stranger's key that comes along", strange("jwk", jwk.clone())),
        ("a stranger's key behind a URL", strange("jku", json!("https://evil.example/keys"))),
        ("a stranger's certificate behind a URL", strange("x5u", json!("https://evil.example/cert"))),
        ("a stranger's certificate that comes along", strange("x5c", json!(["MIIB"]))),
        ("the right key that comes along", own("jwk", rsa.jwk("k"))),
        ("a URL of a key, with the right signature", own("jku", json!("https://rsa.example/keys"))),
        ("a URL of a certificate, with the right signature", own("x5u", json!("https://rsa.example/c"))),
        ("a certificate, with the right signature", own("x5c", json!([]))),
        ("an extension that must be understood", own("crit", json!(["b64"]))),
        ("no extension that must be understood", own("crit", json!([]))),
        ("encryption", own("enc", json!("A128GCM"))),
        ("compression", own("zip", json!("DEF"))),
        ("a key name that is no text", own("kid", json!(7))),
        ("a key name that is a file", strange("kid", json!("../../../../dev/null"))),
        ("a token of another use", own("typ", json!("logout+jwt"))),
        ("a proof of possession", own("typ", json!("dpop+jwt"))),
    ];
    for (what, token) in &cases {
        world.expect(what, token, INVALID).await;
    }
    for typ in [json!("at+jwt"), json!("application/at+JWT"), json!("jwt")] {
        world.expect("a token for access", &own("typ", typ), None).await;
    }
    world.expect("a thumbprint only names a key", &own("x5t", json!("abc")), None).await;
}

/// J2 (CVE-2026-25537) and J3: what cannot be compared is refused, not skipped.
#[tokio::test]
async fn no_claim_is_of_another_type_or_missing() {
    let world = World::new();
    let taken = [
        with("aud", json!(["x", "waldelta"])),
        with("aud", json!("other")),
        with("exp", json!(NOW_S as f64 + 0.5)),
        with("nbf", json!(0)),
        with("iat", Value::Null),
        with("client_ids", json!([])),
    ];
    for claims in &taken {
        world.expect(&claims.to_string(), &world.secret.token(&header("HS256"), claims), None).await;
    }
    let later = (NOW_S + 60).to_string();
    let cases = [
        ("no exp", with("exp", Value::Null)),
        ("exp in text", with("exp", json!(later))),
        ("exp as a list", with("exp", json!([NOW_S + 60]))),
        ("exp true", with("exp", json!(true))),
        ("exp below zero", with("exp", json!(-1))),
        ("exp beyond time", with("exp", json!(1e300))),
        ("exp as far as numbers go", with("exp", json!(u64::MAX))),
        ("nbf in text", with("nbf", json!("0"))),
        ("nbf as an object", with("nbf", json!({}))),
        ("nbf in the future", with("nbf", json!(NOW_S + 3_600))),
        ("iat in text", with("iat", json!("0"))),
        ("iat in the future", with("iat", json!(NOW_S + 3_600))),
        ("no sub", with("sub", Value::Null)),
        ("sub as a number", with("sub", json!(7))),
        ("sub as a list", with("sub", json!(["ann"]))),
        ("sub empty", with("sub", json!(""))),
        ("sub with a zero", with("sub", json!("ann\0"))),
        ("sub without end", with("sub", json!("a".repeat(1_025)))),
        ("no aud", with("aud", Value::Null)),
        ("aud of another", with("aud", json!("elsewhere"))),
        ("aud of others", with("aud", json!(["elsewhere", "there"]))),
        ("aud of nobody", with("aud", json!([]))),
        ("aud beginning like ours", with("aud", json!("waldelta2"))),
        ("aud as an object", with("aud", json!({ "waldelta": true }))),
        ("aud with a number among the texts", with("aud", json!(["waldelta", 7]))),
        ("jti as a number", with("jti", json!(7))),
        ("client_ids in text", with("client_ids", json!("web"))),
        ("client_ids with a number", with("client_ids", json!(["web", 7]))),
        ("no iss", claims_with("iss", Value::Null)),
        ("iss of nobody", claims_with("iss", json!("https://evil.example"))),
        ("iss with a slash more", claims_with("iss", json!("https://secret.example/"))),
        ("iss in capitals", claims_with("iss", json!("https://SECRET.example"))),
        ("iss as a list", claims_with("iss", json!(["https://secret.example"]))),
    ];
    for (what, claims) in &cases {
        world.expect(what, &world.secret.token(&header("HS256"), claims), INVALID).await;
    }
    let expired = world.secret.token(&header("HS256"), &with("exp", json!(NOW_S - 60)));
    world.expect("expired", &expired, Some(Refusal::Expired)).await;
    let mut foreign = with("exp", json!(NOW_S - 60));
    foreign["aud"] = "elsewhere".into();
    let foreign = world.secret.token(&header("HS256"), &foreign);
    world.expect("expired, and of another audience", &foreign, INVALID).await;
    let forged = Signer::secret(b"another secret of thirty-two bytes");
    let forged = forged.token(&header("HS256"), &with("exp", json!(NOW_S - 60)));
    world.expect("forged, and expired", &forged, INVALID).await;
}

#[tokio::test]
async fn nothing_in_another_form_is_taken() {
    let world = World::new();
    let good = world.secret.token(&header("HS256"), &of("secret"));
    world.expect("the token that they are made of", &good, None).await;
    let parts: Vec<&str> = good.split('.').collect();
    let claims = of("secret").to_string();
    let cases = [
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("more dots", "....".to_owned()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.{}", parts[2])),
        ("a part before", format!("{}.{good}", parts[0])),
        ("a space before", format!(" {good}")),
        ("a newline behind", format!("{good}\n")),
        ("padding", format!("{good}=")),
        ("the scheme", format!("Bearer {good}")),
        ("another half", format!("{}.{}.{}", parts[0], base64url(b"{}"), parts[2])),
        ("a signature cut short", good[..good.len() - 1].to_owned()),
        ("a signature of nothing", format!("{}.{}.", parts[0], parts[1])),
        ("a header that is a list", world.secret.sign("[]", &claims)),
        ("a header that is no JSON", world.secret.sign("HS256", &claims)),
        ("claims that are a list", world.secret.sign(&header("HS256").to_string(), "[]")),
        ("claims that are no JSON", world.secret.sign(&header("HS256").to_string(), "ann")),
        (
            "something behind the claims",
            world.secret.sign(&header("HS256").to_string(), &format!("{claims}{{}}")),
        ),
        ("claims without a bottom", {
            let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
            world.secret.sign(&header("HS256").to_string(), &format!("{{\"a\":{deep}}}"))
        }),
        ("more than is read", world.secret.token(&header("HS256"), &with("x", json!("x".repeat(8_192))))),
        (
            "the form in JSON",
            json!({ "payload": parts[1], "signature": parts[2], "protected": parts[0] }).to_string(),
        ),
    ];
    for (what, token) in &cases {
        world.expect(what, token, INVALID).await;
    }
}
