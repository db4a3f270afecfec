//! Tokens that somebody else signs: a service whose configuration names an issuer and a file with its key lets in whom the tokens
//! say, as long as they say, and takes another key on SIGHUP. Nothing of a token is in its log.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use waldelta_testkit::{HttpStream, Service, TestDatabase, WsClient, wait_until};

use crate::setting::{ConfigFile, PATIENCE, Setting, config_file, run_options, waldelta_ok, with_databases};

/// A key pair of an issuer, its public half in a file beside the configuration.
struct Key {
    private: Vec<u8>,
    public: Vec<u8>,
}

impl Key {
    fn new() -> Self {
        let private =
            openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"", None);
        let public = openssl(&["pkey", "-pubout"], &private, None);
        Key { private, public }
    }

    /// A token with these claims, beside those that every one has.
    fn token(&self, claims: Value) -> String {
        let mut all = json!({ "iss": "https://id.example", "aud": "waldelta", "exp": in_seconds(600) });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({ "alg": "RS256", "typ": "JWT" });
        let message = [header, all].map(|part| base64url(part.to_string().as_bytes())).join(".");
        let file = PathBuf::from(format!("{}.pem", temporary("key")));
        std::fs::write(&file, &self.private).unwrap();
        let signed = openssl(&["dgst", "-sha256", "-sign"], message.as_bytes(), Some(&file));
        std::fs::remove_file(&file).unwrap();
        format!("{message}.{}", base64url(&signed))
    }
}

#[expect(clippy::disallowed_methods, reason = "the service compares it with its own clock")]
fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn temporary(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("{}/waldelta-issuer-{}-{number}-{name}", std::env::temp_dir().display(), std::process::id())
}

fn openssl(arguments: &[&str], input: &[u8], file: Option<&PathBuf>) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments).args(file);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn base64url(bytes: &[u8]) -> String {
    let text = String::from_utf8(openssl(&["base64", "-A"], bytes, None)).unwrap();
    text.trim_end().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// A service that takes the tokens of one issuer.
struct Issued {
    setting: Setting,
    key_file: String,
    _config: ConfigFile,
}

impl Issued {
    async fn new(hint: &str, key: &Key, more: &str) -> Self {
        let key_file = temporary("public.pem");
        std::fs::write(&key_file, &key.public).unwrap();
        let relative = PathBuf::from(&key_file).file_name().unwrap().to_str().unwrap().to_owned();
        let config = config_file(&format!(
            "{more}\n[[auth.issuers]]\nissuer = 'https://id.example'\naudiences = ['waldelta']\nalgorithms = ['RS256']\n\
             public_key_file = '{relative}'\n[[rules]]\ntable = 'public.t'\nwhere = 'tenant = :claims.tenant'\n"
        ));
        let (source, history) =
            (TestDatabase::create(hint).await, TestDatabase::create(&format!("{hint}_h")).await);
        source.exec("CREATE TABLE t (tenant text, id int, PRIMARY KEY (tenant, id))").await;
        waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
        let service = Service::start(config.add_to(run_options(&source, &history))).await;
        Issued { setting: Setting { service, source, history }, key_file, _config: config }
    }

    /// What a request with this token is answered.
    async fn ask(&self, token: &str) -> (u16, String) {
        let address = format!("127.0.0.1:{}", self.setting.service.port());
        let headers = format!("Authorization: Bearer {token}\r\n");
        let answer = HttpStream::get(&address, "/v1/snapshot?table=public.t", &headers).await;
        (answer.status(), answer.body(PATIENCE).await)
    }

    /// The answer's code, of a request that is refused.
    async fn refusal(&self, token: &str) -> (u16, String) {
        let (status, body) = self.ask(token).await;
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        (status, problem["code"].as_str().unwrap_or(&body).to_owned())
    }

    async fn connect(&self, token: &str) -> WsClient {
        let mut socket = WsClient::connect(&self.setting.service.stream()).await;
        let hello = json!({
            "type": "hello", "client_id": "c", "token": token, "after": null,
            "subscriptions": [{ "id": "t", "table": "public.t" }]
        });
        socket.send(&hello).await;
        socket
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.key_file);
    }
}

#[tokio::test]
async fn a_token_of_a_named_issuer_shows_what_its_claims_allow_and_no_other_is_taken() {
    let (key, stranger) = (Key::new(), Key::new());
    let it = Issued::new("issuers", &key, "").await;
    it.setting.source.exec("INSERT INTO t VALUES ('acme', 1), ('other', 2)").await;
    it.setting.settled().await;
    let claims = || json!({ "sub": "ann", "tenant": "acme" });

    let good = key.token(claims());
    let (status, rows) = it.ask(&good).await;
    assert!(status == 200 && rows.contains("acme") && !rows.contains("other"), "{status} {rows}");

    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let invalid = (401, "WD-TOKEN-INVALID".to_owned());
    assert_eq!(it.refusal(&stranger.token(claims())).await, invalid);
    assert_eq!(it.refusal(&key.token(with("aud", json!("elsewhere")))).await, invalid);
    assert_eq!(it.refusal(&key.token(with("iss", json!("https://evil.example")))).await, invalid);
    assert_eq!(it.refusal(&key.token(with("exp", json!(in_seconds(600).to_string())))).await, invalid);
    assert_eq!(it.refusal(&key.token(with("sub", json!(7)))).await, invalid);
    let expired = it.refusal(&key.token(with("exp", json!(in_seconds(-600))))).await;
    assert_eq!(expired, (401, "WD-TOKEN-EXPIRED".to_owned()));

    let mut socket = it.connect(&good).await;
    socket.next_of_type("live", PATIENCE).await;
    let (code, reason) = it.connect(&stranger.token(claims())).await.closed(PATIENCE).await;
    assert!(code == 4401 && reason.contains("WD-TOKEN-INVALID"), "{code} {reason}");

    let log = it.setting.service.log();
    let (_, secret_part) = good.rsplit_once('.').unwrap();
    assert!(!log.contains(secret_part) && !log.contains("acme"), "a token or a claim is in the log");
}

#[tokio::test]
async fn another_key_of_an_issuer_is_taken_on_hangup_and_the_old_one_no_longer() {
    let (old, new) = (Key::new(), Key::new());
    let it = Issued::new("issuers_rotate", &old, "").await;
    let claims = || json!({ "sub": "ann", "tenant": "acme" });
    assert_eq!(it.ask(&old.token(claims())).await.0, 200);
    assert_eq!(it.refusal(&new.token(claims())).await.0, 401);
    let mut session = it.connect(&old.token(claims())).await;
    session.next_of_type("live", PATIENCE).await;
    std::fs::write(&it.key_file, &new.public).unwrap();
    it.setting.service.hang_up();
    let fresh = new.token(claims());
    wait_until("the new key is taken", PATIENCE, async || it.ask(&fresh).await.0 == 200).await;
    assert_eq!(it.refusal(&old.token(claims())).await, (401, "WD-TOKEN-INVALID".to_owned()));
    let (code, reason) = session.closed(PATIENCE).await;
    assert!(code == 4401 && reason.contains("WD-TOKEN-REVOKED"), "{code} {reason}");
    // A file that is no key changes nothing.
    std::fs::write(&it.key_file, "no key").unwrap();
    it.setting.service.hang_up();
    wait_until("it says so", PATIENCE, async || it.setting.service.log().contains("no public key in PEM"))
        .await;
    assert_eq!(it.ask(&fresh).await.0, 200);
}

/// J16: who takes more than its part is told so, and others get theirs.
#[tokio::test]
async fn a_tenant_has_no_more_sessions_and_an_address_no_more_requests_than_it_may() {
    let key = Key::new();
    let limits = "[limits]\nsessions_per_tenant_max = 2\ntenant_claim = 'tenant'\nrequests_per_second_max = 1\n\
        requests_burst_max = 40\n";
    let it = Issued::new("issuers_limits", &key, limits).await;
    let token = |subject: &str, tenant: &str| key.token(json!({ "sub": subject, "tenant": tenant }));
    let mut held = Vec::new();
    for subject in ["ann", "ben"] {
        let mut socket = it.connect(&token(subject, "acme")).await;
        socket.next_of_type("live", PATIENCE).await;
        held.push(socket);
    }
    let (code, reason) = it.connect(&token("cem", "acme")).await.closed(PATIENCE).await;
    assert!(code == 4429 && reason.contains("WD-TOO-MANY-CONNECTIONS"), "{code} {reason}");
    it.connect(&token("dan", "other")).await.next_of_type("live", PATIENCE).await;

    let (address, headers) = (
        format!("127.0.0.1:{}", it.setting.service.port()),
        format!("Authorization: Bearer {}\r\n", token("ann", "acme")),
    );
    let mut refused = None;
    // However slow the machine is, it asks more often than once a second.
    for _ in 0..10_000 {
        let answer = HttpStream::get(&address, "/v1/changes?limit=1", &headers).await;
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("too many requests of one address");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.body(PATIENCE).await.contains("WD-TOO-MANY-REQUESTS"));
    // Probes are for whoever runs the service, and always answered.
    assert_eq!(it.setting.service.get("/livez").await.0, 200);
}
