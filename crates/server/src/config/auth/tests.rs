//! What `[auth]` may say, and what is refused.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::parse;
use super::*;

/// A folder of one test's own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("waldelta-auth-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ISSUER: &str = "[[auth.issuers]]\nissuer = 'https://id.example'\naudiences = ['waldelta']\n";

/// A configuration in a folder, as far as it is taken.
fn read_in(folder: &Folder, text: &str) -> Result<waldelta_access::Config, String> {
    let shown = |error: anyhow::Error| format!("{error:#}");
    let mut config = parse(text, Path::new("waldelta.toml")).map_err(shown)?;
    config.auth.relative_to(&folder.0);
    config.check().map_err(shown)?;
    config.access().map_err(shown)
}

fn refusal(text: &str) -> String {
    read_in(&Folder::new(), text).unwrap_err()
}

#[test]
fn without_tokens_and_issuers_nobody_needs_a_token() {
    let folder = Folder::new();
    let open = read_in(&folder, "").unwrap();
    assert!(!open.required && !open.static_tokens && open.issuers.is_empty());
    assert_eq!(open.leeway, Duration::from_secs(5));
    assert!(read_in(&folder, "[auth]\nstatic_tokens = true").unwrap().required);
}

#[test]
fn an_issuer_has_its_keys_from_a_file_beside_the_configuration() {
    let folder = Folder::new();
    folder.write("secret", "0123456789abcdef0123456789abcdef\n");
    let text = format!("{ISSUER}algorithms = ['HS256', 'HS512']\nsecret_file = 'secret'\n");
    let config = read_in(&folder, &text).unwrap();
    assert!(config.required && !config.static_tokens);
    let issuer = &config.issuers[0];
    assert_eq!(
        (issuer.issuer.as_str(), issuer.audiences.as_slice()),
        ("https://id.example", &["waldelta".into()][..])
    );
    let Keys::Secret(secret) = &issuer.keys else { panic!("{:?}", issuer.keys) };
    assert_eq!(secret, b"0123456789abcdef0123456789abcdef", "without the newline at its end");
}

#[test]
fn a_set_of_keys_is_only_named() {
    let text = format!("{ISSUER}algorithms = ['RS256', 'PS384']\njwks_url = 'https://id.example/keys'\n");
    let config = read_in(&Folder::new(), &text).unwrap();
    let Keys::Jwks { url, allow_private } = &config.issuers[0].keys else { panic!() };
    assert_eq!((url.as_str(), *allow_private), ("https://id.example/keys", false));
}

#[test]
fn claims_of_operators_are_of_any_simple_type() {
    let text = "[auth]\nadmin_claims = { role = 'operator', level = 3, root = true }";
    let config = read_in(&Folder::new(), text).unwrap();
    let expected = serde_json::json!({ "role": "operator", "level": 3, "root": true });
    assert_eq!(serde_json::Value::Object(config.admin_claims), expected);
    assert!(refusal("[auth]\nadmin_claims = { role = ['a'] }").contains("admin_claims"));
}

#[test]
fn where_the_keys_are_is_said_once() {
    let exactly_one = "exactly one of jwks_url, public_key_file and secret_file";
    let both = "jwks_url = 'https://id.example/keys'\npublic_key_file = 'key.pem'\n";
    for keys in ["", both] {
        let refusal = refusal(&format!("{ISSUER}algorithms = ['RS256']\n{keys}"));
        assert!(refusal.contains(exactly_one) && refusal.contains("auth.issuers[1]"), "{refusal}");
    }
    let refusal =
        refusal(&format!("{ISSUER}algorithms = ['HS256']\nsecret_file = 's'\nallow_private = true"));
    assert!(refusal.contains("jwks_url alone"), "{refusal}");
}

#[test]
fn what_a_key_is_not_good_for_is_refused() {
    let folder = Folder::new();
    folder.write("short", "0123456789abcdef0123456789abcde\n");
    folder.write("long", "0123456789abcdef0123456789abcdef");
    folder.write("empty", "");
    folder.write("huge", vec![b'x'; 65 * 1024]);
    folder.write(
        "private",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
    );
    let set = "jwks_url = 'https://id.example/keys'";
    for (algorithms, keys, says) in [
        ("'HS256'", "secret_file = 'short'", "at least 32 bytes"),
        ("'HS256'", "secret_file = 'empty'", "is empty"),
        ("'HS256'", "secret_file = 'huge'", "more than 65536 bytes"),
        ("'HS256'", "secret_file = 'absent'", "absent"),
        ("'RS256'", "secret_file = 'long'", "cannot be used with its algorithms"),
        ("'HS256'", set, "cannot be used with its algorithms"),
        ("'EdDSA'", "public_key_file = 'private'", "no public key in PEM"),
        ("'RS256'", "public_key_file = 'long'", "no public key in PEM"),
        ("'RS256', 'ES256'", set, "different kinds of keys"),
        ("'RS256', 'HS256'", set, "different kinds of keys"),
        ("'none'", set, "the algorithm \"none\" is not known; it must be one of HS256, "),
        ("'rs256'", set, "is not known"),
        ("", set, "at least one of HS256, "),
        ("'RS256'", "jwks_url = 'http://id.example/keys'", "must begin with https://"),
        ("'RS256'", "jwks_url = 'file:///etc/passwd'", "jwks_url"),
        ("'RS256'", "jwks_url = 'https://u:p@id.example/keys'", "user name"),
        ("'RS256'", "jwks_url = 'id.example/keys'", "jwks_url"),
    ] {
        let text = format!("{ISSUER}algorithms = [{algorithms}]\n{keys}\n");
        let refusal = read_in(&folder, &text).unwrap_err();
        assert!(refusal.contains(says) && refusal.contains("auth.issuers"), "{text}: {refusal}");
        assert!(!refusal.contains("0123456789"), "a secret: {refusal}");
    }
}

#[test]
fn an_issuer_has_a_name_of_its_own_and_an_audience() {
    let rest = "algorithms = ['RS256']\njwks_url = 'https://id.example/keys'\n";
    let twice = format!("{ISSUER}{rest}{ISSUER}{rest}");
    assert!(refusal(&twice).contains("there twice"));
    assert!(refusal(&format!("[[auth.issuers]]\nissuer = 'x'\n{rest}")).contains("no audience"));
    assert!(refusal(&format!("[[auth.issuers]]\naudiences = ['x']\n{rest}")).contains("no name"));
}

#[test]
fn clocks_do_not_differ_by_hours() {
    assert!(refusal("[auth]\nleeway_ms = 300001").contains("auth.leeway_ms must be at most 300000"));
}

#[test]
fn a_misspelt_setting_of_an_issuer_is_refused() {
    let refusal = refusal(&format!("{ISSUER}algorithm = ['RS256']\n"));
    assert!(refusal.contains("did you mean `auth.issuers[1].algorithms`"), "{refusal}");
}
