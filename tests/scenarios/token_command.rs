//! Tokens as an operator makes them: what the command prints is what a running service takes, until it is revoked.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use waldelta_testkit::{Service, TestDatabase, program, wait_until};

use crate::setting::{PATIENCE, config_file, run_options, waldelta, waldelta_ok, with_databases};

/// Runs a command that asks the service, with a token in its environment.
fn asking(token: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program()).args(args).env("WALDELTA_TOKEN", token).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_shown_once_taken_and_revoked() {
    let source = TestDatabase::create("tokens").await;
    let history = TestDatabase::create("tokens_h").await;
    source.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    let command = |args: &[&str]| with_databases(args, &source, &history);
    waldelta_ok(&command(&["init", "--apply"]));
    let config = config_file("[auth]\nstatic_tokens = true\n[[rules]]\ntable = \"public.t\"\n");
    let service = Service::start(config.add_to(run_options(&source, &history))).await;

    let shown = waldelta_ok(&command(&["token", "create", "--name", "ops", "--subject", "root", "--admin"]));
    let admin = shown.lines().next().unwrap().to_owned();
    assert!(shown.contains("an operator's") && shown.contains("shown this once"), "{shown}");
    let client = [
        "token",
        "create",
        "--name",
        "app",
        "--subject",
        "ada",
        "--expires",
        "90d",
        "--json",
        "--claim",
        "level=3",
    ];
    let made: Value = serde_json::from_str(&waldelta_ok(&command(&client))).unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(made["expires_at"].is_string(), "{made}");

    // What it is not told again, and what it does not take.
    let listed = waldelta_ok(&command(&["token", "list"]));
    assert!(
        listed.contains(&format!("{id}  app  of ada  made ")) && listed.contains("ops  of root  operator"),
        "{listed}"
    );
    let as_json = waldelta_ok(&command(&["token", "list", "--json"]));
    let parsed: Value = serde_json::from_str(&as_json).unwrap();
    assert_eq!(parsed["tokens"].as_array().unwrap().len(), 2, "{as_json}");
    for secret in [&admin, token].map(|token| token.split_once('.').unwrap().1.to_owned()) {
        assert!(!listed.contains(&secret) && !as_json.contains(&secret));
    }
    for (nonsense, why) in [
        (&["token", "create", "--name", " ", "--subject", "a"][..], "the name must"),
        (
            &["token", "create", "--name", "n", "--subject", "a", "--claim", "sub=\"b\""],
            "the claim sub is the subject",
        ),
        (&["token", "create", "--name", "n", "--subject", "a", "--claim", "c=1", "--claim", "c=2"], "twice"),
        (&["token", "revoke", "0123456789abcdef"], "no token with this id"),
    ] {
        let (code, _, log) = waldelta(&command(nonsense));
        assert!(code == Some(1) && log.contains("error: WD-") && log.contains(why), "{nonsense:?}: {log}");
    }

    let url = service.http("");
    let url = url.trim_end_matches('/');
    let refused = |token: &str, code: &str| {
        let (exit, _, log) = asking(token, &["status", "--url", url]);
        assert!(exit == Some(1) && log.contains(&format!("error: {code}: ")), "{log}");
    };
    refused("", "WD-TOKEN-MISSING");
    refused(token, "WD-NOT-PERMITTED");
    let other = if token.ends_with('0') { '1' } else { '0' };
    refused(&format!("{}{other}", &token[..token.len() - 1]), "WD-TOKEN-INVALID");
    let (exit, answer, log) = asking(&admin, &["status", "--url", url]);
    assert_eq!(exit, Some(0), "{answer}\n{log}");

    // A client that is served when its token is revoked is let go.
    let mut tail = Command::new(program())
        .args(["tail", "--url", url, "--snapshot"])
        .env("WALDELTA_TOKEN", token)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("-- live, at ")));
    source.exec("INSERT INTO t VALUES (7)").await;
    assert!(lines.any(|line| line.unwrap().contains("{\"id\":7}")));
    assert!(waldelta_ok(&command(&["token", "revoke", &format!("wd_{id}")])).starts_with("revoked"));
    wait_until("the client is let go", PATIENCE, async || tail.try_wait().unwrap().is_some()).await;
    let output = tail.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && log.contains("4401"), "{log}");
    refused(token, "WD-TOKEN-REVOKED");
    assert!(
        waldelta_ok(&command(&["token", "list"]))
            .lines()
            .any(|line| line.contains(id) && line.contains("REVOKED"))
    );

    waldelta_ok(&command(&[
        "token",
        "revoke",
        "--issuer",
        "https://a.example",
        "--subject",
        "ada",
        "--expires",
        "30d",
    ]));
    let listed = waldelta_ok(&command(&["token", "list"]));
    assert!(
        listed.contains("JWT of https://a.example: all of ada that were issued by then  REVOKED"),
        "{listed}"
    );
    // Nothing of them is in a log.
    let logs = service.log() + &log;
    for secret in [&admin, token].map(|token| token.split_once('.').unwrap().1.to_owned()) {
        assert!(!logs.contains(&secret), "{logs}");
    }
}
