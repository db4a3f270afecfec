//! An issuer of tokens for tests: keys made with the openssl program, tokens with any header and claims, good and forged.

use std::io::Write;
use std::process::{Command, Stdio};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Signer {
    pub algorithm: Algorithm,
    key: EncodingKey,
    /// The public half in PEM; empty for a secret.
    pub public: String,
}

impl Signer {
    pub(crate) fn rsa(bits: u32) -> Self {
        let private = openssl(&format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"), "");
        let key = EncodingKey::from_rsa_pem(private.as_bytes()).unwrap();
        Signer { algorithm: Algorithm::RS256, key, public: public(&private) }
    }

    pub(crate) fn p256() -> Self {
        Self::elliptic("P-256", Algorithm::ES256)
    }

    pub(crate) fn p384() -> Self {
        Self::elliptic("P-384", Algorithm::ES384)
    }

    fn elliptic(curve: &str, algorithm: Algorithm) -> Self {
        let private = openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve}"), "");
        let key = EncodingKey::from_ec_pem(private.as_bytes()).unwrap();
        Signer { algorithm, key, public: public(&private) }
    }

    pub(crate) fn ed25519() -> Self {
        let private = openssl("genpkey -algorithm ED25519", "");
        let key = EncodingKey::from_ed_pem(private.as_bytes()).unwrap();
        Signer { algorithm: Algorithm::EdDSA, key, public: public(&private) }
    }

    pub(crate) fn secret(secret: &[u8]) -> Self {
        Signer { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret), public: String::new() }
    }

    /// The same key with another algorithm.
    pub(crate) fn with(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// A token with this header and these claims.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> String {
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// The same of texts, which need not be JSON.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// A header that says what is the case.
    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": self.algorithm })
    }

    /// The public half as a set of keys has it.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }
}

fn public(private: &str) -> String {
    openssl("pkey -pubout", private)
}

/// What the openssl program answers.
pub(crate) fn openssl(arguments: &str, input: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split_whitespace());
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = |chunk: &[u8]| {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = move |at: usize| ALPHABET[(bits >> (18 - 6 * at)) as usize & 63] as char;
        (0..=chunk.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[test]
fn base64url_is_that_of_the_rfc() {
    for (bytes, text) in
        [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")]
    {
        assert_eq!(base64url(bytes.as_bytes()), text);
    }
    assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
}
