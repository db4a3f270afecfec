//! `waldelta doctor` by its exit code, and what it says of history and of who is let in.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;
use waldelta_testkit::{TestDatabase, tls};

use crate::setting::{Setting, config_file, waldelta, waldelta_ok, with_databases};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// Exit code, and the checks by name.
fn doctor(more: &[&str], source: &TestDatabase, history: &TestDatabase) -> (Option<i32>, Vec<Value>) {
    let (code, answer, log) =
        waldelta(&with_databases(&[&["doctor", "--json"], more].concat(), source, history));
    (code, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}{log}")))
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

fn state(checks: &[Value], name: &str) -> String {
    check(checks, name)["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn strict_counts_warnings_and_open_questions_as_failures() {
    let source = TestDatabase::create("doctor_strict").await;
    source.exec(SCHEMA).await;
    let history = TestDatabase::create("doctor_strict_h").await;
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!((code, state(&checks, "slot").as_str()), (Some(1), "failed"));
    for check in checks.iter().filter(|check| check["state"] != "ok") {
        assert!(check["code"].as_str().unwrap().starts_with("WD-") && check["why"].is_string(), "{check}");
    }
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!(code, Some(0), "{checks:?}");
    // Other tests share the server: whether it has standbys is theirs.
    let others = |checks: &[Value]| {
        let unwell = checks.iter().filter(|check| check["state"] != "ok" && check["name"] != "failover");
        unwell.map(|check| check["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(others(&checks), [] as [&str; 0]);
    source.exec("ALTER EVENT TRIGGER waldelta_ddl_dropped DISABLE").await;
    let (code, checks) = doctor(&[], &source, &history);
    assert_eq!((code, others(&checks)), (Some(0), vec!["ddl".to_owned()]), "a warning is no failure");
    let (code, _) = doctor(&["--strict"], &source, &history);
    assert_eq!(code, Some(1), "unless it is to be one");
    let (_, answer, _) = waldelta(&with_databases(&["doctor", "--strict"], &source, &history));
    assert!(
        answer.contains("no check failed; 1 warn and 0 could not be answered, which --strict counts too"),
        "{answer}"
    );
    assert!(answer.contains("why: The event triggers that tell of it"), "{answer}");
}

#[tokio::test]
async fn history_is_looked_at_and_nothing_in_it_is_changed() {
    let source = TestDatabase::create("doctor_history").await;
    source.exec(SCHEMA).await;
    let history = TestDatabase::create("doctor_history_h").await;
    let (_, checks) = doctor(&[], &source, &history);
    assert!(
        check(&checks, "history")["found"]
            .as_str()
            .unwrap()
            .starts_with("there is no history yet in postgresql://")
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta'";
    assert_eq!(history.query_text(schemas).await, "0", "a look makes nothing");
    let setting = Setting::over(source, history, "CREATE TABLE u (id int PRIMARY KEY)").await;
    let Setting { service: _service, source, history } = &setting;
    source.exec("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)").await;
    setting.settled().await;
    let (code, checks) = doctor(&[], source, history);
    let said = check(&checks, "history")["found"].as_str().unwrap();
    for part in ["is durable up to ", "of epoch ", "writes it; 1 partitions of ", "schema version "] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(code, Some(0), "{checks:?}");
    assert_eq!(check(&checks, "gaps")["found"], "no table needs repair");

    // What history knows and capture does not get any more, and what it knows to lack.
    source.exec("ALTER PUBLICATION waldelta DROP TABLE u").await;
    let oid = source.query_text("SELECT 't'::regclass::oid").await;
    history
        .exec(&format!(
            "INSERT INTO waldelta.gaps (epoch, table_oid, from_lsn, reason)
             SELECT epoch, {oid}, durable_end, 'rewritten' FROM waldelta.captures"
        ))
        .await;
    let (code, checks) = doctor(&[], source, history);
    assert_eq!(code, Some(0), "{checks:?}");
    let (known, gaps) = (check(&checks, "known_tables"), check(&checks, "gaps"));
    assert_eq!((&known["state"], &known["code"]), (&"warning".into(), &"WD-TABLE-NOT-CAPTURED".into()));
    assert!(known["found"].as_str().unwrap().ends_with("public.u"), "{known}");
    assert_eq!((&gaps["state"], &gaps["code"]), (&"warning".into(), &"WD-NEEDS-REPAIR".into()));
    assert!(gaps["found"].as_str().unwrap().starts_with("public.t (rewritten since "), "{gaps}");
    source.exec(known["fix"].as_str().unwrap()).await;
    let (_, checks) = doctor(&[], source, history);
    assert_eq!(state(&checks, "known_tables"), "ok");

    // One that a later version has upgraded, and that of another source.
    let newest = "(SELECT max(version) FROM waldelta._sqlx_migrations)";
    let newer =
        format!("UPDATE waldelta._sqlx_migrations SET version = version + 90 WHERE version = {newest}");
    history.exec(&newer).await;
    let (code, checks) = doctor(&[], source, history);
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-HISTORY-SCHEMA-NEWER".into()));
    history.exec(&newer.replace('+', "-")).await;
    let other = TestDatabase::create("doctor_other").await;
    let slot = source.slot("slot");
    let elsewhere = ["--database-url", other.url(), "--history-url", history.url(), "--slot", &slot];
    let (code, answer, _) = waldelta(
        &["doctor", "--json"].iter().chain(&elsewhere).map(|word| (*word).to_owned()).collect::<Vec<_>>(),
    );
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-SOURCE-CHANGED".into()));

    // The history of another slot, and none.
    let (code, checks) = doctor(&["--publication", "other"], source, history);
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-OTHER-FEED".into()));
    let nowhere =
        ["doctor", "--json", "--database-url", source.url(), "--history-url", "postgresql://u@127.0.0.1:1/h"];
    let (code, answer, _) = waldelta(&nowhere.map(str::to_owned));
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &check(&checks, "history")["code"]), (Some(1), &"WD-HISTORY-UNREACHABLE".into()));
    let here = ["doctor", "--json", "--database-url", source.url()];
    let (_, answer, _) = waldelta(&here.map(str::to_owned));
    let checks: Vec<Value> = serde_json::from_str(&answer).unwrap();
    assert!(check(&checks, "history")["found"].as_str().unwrap().contains("in the captured database"));
}

/// A public key as issuers publish it; of RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "1",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// Answers one request with this body, and is gone. Returns its port.
fn answer_once(body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.extend(byte);
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
    });
    port
}

#[tokio::test]
async fn what_ends_soon_and_who_does_not_answer_is_told_before_clients_notice() {
    let source = TestDatabase::create("doctor_ends").await;
    source.exec(SCHEMA).await;
    let history = TestDatabase::create("doctor_ends_h").await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let (_, checks) = doctor(&[], &source, &history);
    for left_out in ["tokens", "keys", "certificate"] {
        assert!(
            checks.iter().all(|check| check["name"] != left_out),
            "{left_out} is not about this configuration"
        );
    }

    let files = tls::authority_file();
    let config = config_file(&format!(
        "[server.tls]\ncertificate = '{}'\nkey = '{}'\n[auth]\nstatic_tokens = true\n[[auth.issuers]]\nissuer = 'https://id.example'\n\
         audiences = ['waldelta']\nalgorithms = ['ES256']\njwks_url = 'http://127.0.0.1:{}/keys'\nallow_private = true\n\
         [[rules]]\ntable = '*'\n",
        files.with_file_name("first.crt").display(),
        files.with_file_name("first.key").display(),
        answer_once(KEYS)
    ));
    let doctor = || doctor(&["--config", config.path()], &source, &history);
    let (code, checks) = doctor();
    assert_eq!(code, Some(0), "{checks:?}");
    assert_eq!(check(&checks, "keys")["found"], "the set of https://id.example has 1 keys that can be used");
    assert_eq!((state(&checks, "tokens"), state(&checks, "certificate")), ("ok".into(), "ok".into()));

    for (name, more) in [("soon", &["--expires", "6d"][..]), ("later", &["--expires", "8d"]), ("never", &[])]
    {
        let create = [&["token", "create", "--subject", "s", "--name", name], more].concat();
        waldelta_ok(&with_databases(&create, &source, &history));
    }
    let (code, checks) = doctor();
    assert_eq!(code, Some(0), "{checks:?}");
    let (tokens, keys) = (check(&checks, "tokens"), check(&checks, "keys"));
    assert_eq!((&tokens["state"], &tokens["code"]), (&"warning".into(), &"WD-TOKEN-ENDING".into()));
    let id = history.query_text("SELECT id FROM waldelta.tokens WHERE name = 'soon'").await;
    let found = tokens["found"].as_str().unwrap();
    assert!(found.starts_with(&format!("{id} (soon) ends at ")) && !found.contains("later"), "{found}");
    // Nobody is there any more who would tell the keys.
    assert_eq!((&keys["state"], &keys["code"]), (&"warning".into(), &"WD-KEYS-UNAVAILABLE".into()));
    assert!(
        keys["found"].as_str().unwrap().contains("https://id.example: fetch the set of keys: connect"),
        "{keys}"
    );
    history.exec("UPDATE waldelta.tokens SET revoked_at = now() WHERE name = 'soon'").await;
    assert_eq!(state(&doctor().1, "tokens"), "ok", "one that was taken back");
}
