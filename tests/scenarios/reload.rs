//! A running service reads its configuration again on SIGHUP: what is good takes effect on those who are connected, and what is not
//! good changes nothing and says where.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{Frame, Service, TestDatabase, WsClient, tls, wait_until};

use crate::setting::{
    ConfigFile, PATIENCE, Setting, config_file, run_options, waldelta, waldelta_ok, with_databases,
};

/// `a` tells old rows by their key alone.
const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, v text);
    CREATE TABLE b (id int PRIMARY KEY, v text);
    CREATE TABLE mark (id int PRIMARY KEY)";
const BOTH: &str = "
    [[rules]]
    table = 'public.a'
    [[rules]]
    table = 'public.b'
    [[rules]]
    table = 'public.mark'";

/// A service with a configuration file that the test rewrites.
struct Configured {
    setting: Setting,
    config: ConfigFile,
}

impl Configured {
    async fn new(hint: &str, config: &str) -> Self {
        let (source, history) =
            (TestDatabase::create(hint).await, TestDatabase::create(&format!("{hint}_h")).await);
        source.exec(SCHEMA).await;
        waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
        let config = config_file(config);
        let service = Service::start(config.add_to(run_options(&source, &history))).await;
        Configured { setting: Setting { service, source, history }, config }
    }

    /// Has the service read another text; comes back when it has.
    async fn reload(&self, text: &str, result: &str) {
        let before = self.reloads(result).await;
        std::fs::write(self.config.path(), text).unwrap();
        self.setting.service.hang_up();
        wait_until(&format!("{text} is {result}"), PATIENCE, async || self.reloads(result).await > before)
            .await;
    }

    async fn reloads(&self, result: &str) -> f64 {
        let (_, metrics) = self.setting.service.get("/metrics").await;
        let name = format!("waldelta_config_reloads_total{{result=\"{result}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0").parse().unwrap()
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.setting.service.get("/v1/status").await.1).unwrap()
    }

    async fn audited(&self, action: &str) -> Vec<Value> {
        let sql = format!("SELECT detail::text FROM waldelta.audit WHERE action = '{action}' ORDER BY id");
        let rows = self.setting.history.query(&sql).await;
        rows.iter().map(|row| serde_json::from_str(row[0].as_ref().unwrap()).unwrap()).collect()
    }

    async fn connect(&self, tables: &[&str]) -> WsClient {
        let subscriptions: Vec<Value> =
            tables.iter().map(|table| json!({"id": table, "table": table})).collect();
        let mut socket = WsClient::connect(&self.setting.service.stream()).await;
        let hello = json!({"type": "hello", "client_id": "c", "after": null, "subscriptions": subscriptions});
        socket.send(&hello).await;
        socket.next_of_type("live", PATIENCE).await;
        socket
    }
}

/// All that comes until a word is in it, or the connection is closed.
async fn until(socket: &mut WsClient, word: &str) -> String {
    let (deadline, mut all) = (Instant::now() + PATIENCE, String::new());
    loop {
        match socket.next_frame(deadline.saturating_duration_since(Instant::now())).await {
            Frame::Text(text) => all.push_str(&text),
            Frame::Closed { code, reason } => {
                all.push_str(&format!("closed {code} {reason}"));
                return all;
            }
        }
        if all.contains(word) {
            return all;
        }
    }
}

#[tokio::test]
async fn rules_that_change_hold_for_those_who_are_connected() {
    let it = Configured::new("reload_rules", BOTH).await;
    let mut socket = it.connect(&["*"]).await;
    it.setting.source.exec("INSERT INTO b VALUES (1, 'seen-before')").await;
    assert!(until(&mut socket, "seen-before").await.contains("seen-before"));

    let narrower = BOTH.replace("'public.b'", "'public.b'\n columns = []");
    it.reload(&narrower, "applied").await;
    it.setting.source.exec("INSERT INTO b VALUES (2, 'hidden-now'); INSERT INTO mark VALUES (1)").await;
    it.setting.settled().await;
    let mut all = until(&mut socket, "public.mark").await;
    if all.contains("closed") {
        socket = it.connect(&["*"]).await;
        it.setting.source.exec("INSERT INTO mark VALUES (2)").await;
        all.push_str(&until(&mut socket, "public.mark").await);
    }
    assert!(all.contains("WD-PERMISSION-CHANGED") || all.contains("permission_changed"), "{all}");
    assert!(!all.contains("hidden-now"), "{all}");

    it.reload(BOTH, "applied").await;
    let mut again = it.connect(&["public.b"]).await;
    it.setting.source.exec("INSERT INTO b VALUES (3, 'seen-again')").await;
    assert!(until(&mut again, "seen-again").await.contains("seen-again"));

    let changed = it.audited("rules_changed").await;
    let fingerprints = |entry: &Value| (entry["before"].clone(), entry["after"].clone());
    assert_eq!(changed.len(), 2, "{changed:?}");
    let ((first, narrow), (narrow_again, last)) = (fingerprints(&changed[0]), fingerprints(&changed[1]));
    assert_eq!((first, narrow), (last, narrow_again), "the same rules again");
    let reloaded = it.audited("config_reloaded").await;
    assert_eq!(reloaded.len(), 2);
    assert_eq!(reloaded[0], json!({"changed": ["rules"], "waiting": []}));
}

#[tokio::test]
async fn a_file_that_is_not_good_changes_nothing_and_says_where() {
    let it = Configured::new("reload_bad", BOTH).await;
    let before = it.status().await["config"].clone();
    assert_eq!((&before["code"], &before["rules"]), (&Value::Null, &json!([])), "{before}");
    let mut socket = it.connect(&["*"]).await;
    let rule = |text: &str| format!("{BOTH}\n[[rules]]\n{text}");
    let limits = "[limits]\nsessions_per_address_max = 1\n";
    for (text, code, says) in [
        (format!("{BOTH}\n[limits\n"), "WD-CONFIG-INVALID", "line 8, column"),
        (rule("table = 'public.a'\ncolumn = ['v']"), "WD-CONFIG-INVALID", "`rules[4].column`; did you mean"),
        (rule("table = 'a b c'"), "WD-CONFIG-INVALID", "rule 4"),
        (rule("table = 'public.a'\nwhere = 'v = '"), "WD-CONFIG-INVALID", "`where`"),
        (
            format!("{limits}[[rules]]\ntable = '*'\nwhere = 'nothing = 1'\n{BOTH}"),
            "WD-RULE-MISFIT",
            "rules[1]",
        ),
        (
            format!("{limits}[[rules]]\ntable = 'public.a'\nwhere = \"v = 'x'\""),
            "WD-RULE-UNDECIDABLE",
            "ALTER TABLE public.a REPLICA IDENTITY FULL",
        ),
        ("[server]\nheartbeat_ms = 0\n".to_owned(), "WD-CONFIG-INVALID", "server.heartbeat_ms"),
        ("[auth]\nstatic_tokens = true".to_owned(), "WD-CONFIG-INVALID", "restart"),
    ] {
        it.reload(&text, "refused").await;
        let status = it.status().await["config"].clone();
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!(status["code"], code, "{text}\n{message}");
        assert!(message.contains(says), "{text}\n{message}");
        let log = it.setting.service.log();
        assert!(log.contains(code) && log.contains("nothing has changed"), "{log}");
    }
    std::fs::remove_file(it.config.path()).unwrap();
    it.setting.service.hang_up();
    wait_until("the file is missed", PATIENCE, async || {
        it.status().await["config"]["message"].as_str().unwrap_or_default().contains("read ")
    })
    .await;
    // The session lives as it did, and so do the limits and rules.
    it.setting.source.exec("INSERT INTO a VALUES (1, 'still-here')").await;
    assert!(!until(&mut socket, "still-here").await.contains("closed"));
    let mut other = it.connect(&["*"]).await;
    it.setting.source.exec("INSERT INTO b VALUES (1, 'there-too')").await;
    assert!(until(&mut other, "there-too").await.contains("there-too"));
    assert_eq!(it.audited("config_reloaded").await.len() + it.audited("rules_changed").await.len(), 0);

    let text = format!("server.heartbeat_ms = 14000\nserver.allowed_hosts = ['example.com']\n{BOTH}");
    it.reload(&text, "applied").await;
    let status = it.status().await["config"].clone();
    assert_eq!((&status["code"], &status["message"]), (&Value::Null, &Value::Null), "{status}");
    assert_eq!(status["waiting"], json!(["server.heartbeat_ms"]));
    let reloaded = it.audited("config_reloaded").await;
    assert_eq!(reloaded, [json!({"changed": ["server.allowed_hosts"], "waiting": ["server.heartbeat_ms"]})]);
}

/// At the start a rule that does not fit stops nothing, and shows nothing.
#[tokio::test]
async fn a_rule_that_does_not_fit_at_the_start_closes_its_table_and_is_told() {
    let text = "[[rules]]\ntable = 'public.a'\nwhere = \"v = 'x'\"\n[[rules]]\ntable = '*'";
    let it = Configured::new("reload_start", text).await;
    wait_until("it is told", PATIENCE, async || {
        it.status().await["config"]["rules"].as_array().is_some_and(|rules| !rules.is_empty())
    })
    .await;
    let rule = it.status().await["config"]["rules"][0].clone();
    assert_eq!((&rule["rule"], &rule["table"]), (&json!(1), &json!("public.a")));
    assert_eq!(rule["code"], "WD-RULE-UNDECIDABLE");
    let log = it.setting.service.log();
    assert!(log.contains("WD-RULE-UNDECIDABLE") && log.contains("REPLICA IDENTITY FULL"), "{log}");
    let Configured { setting: Setting { source, history, .. }, config } = &it;
    let mut check = with_databases(&["doctor"], source, history);
    check.extend(["--config".to_owned(), config.path().to_owned()]);
    let (code, answer, _) = waldelta(&check);
    assert_eq!(code, Some(1));
    assert!(
        answer.contains("FAILED   rules: rules[1], for public.a") && answer.contains("WD-RULE-UNDECIDABLE"),
        "{answer}"
    );
}

#[tokio::test]
async fn config_check_says_what_a_service_would_refuse() {
    let (source, history) =
        (TestDatabase::create("check_config").await, TestDatabase::create("check_config_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let check = |text: &str, more: &[&str]| {
        let file = config_file(text);
        let mut args = with_databases(&["config", "check", "--config", file.path()], &source, &history);
        args.extend(more.iter().map(|word| (*word).to_owned()));
        waldelta(&args)
    };
    let (code, answer, log) = check(BOTH, &[]);
    assert_eq!(code, Some(0), "{answer}{log}");
    assert!(answer.contains("the configuration can be used") && answer.contains("everybody"), "{answer}");

    let (code, answer, _) = check("[[rules]]\ntable = 'public.a'\nwhere = \"v = 'x'\"", &[]);
    assert_eq!(code, Some(1), "{answer}");
    assert!(
        answer.contains("FAILED   rules[1], for public.a") && answer.contains("WD-RULE-UNDECIDABLE"),
        "{answer}"
    );
    assert!(answer.contains("ALTER TABLE public.a REPLICA IDENTITY FULL;"), "{answer}");
    assert!(answer.contains("nobody sees public.b: no rule is for it"), "{answer}");

    // Without the source it is not known whether rules fit.
    let (code, answer, _) = check("[[rules]]\ntable = 'public.a'\nwhere = \"v = 'x'\"", &["--offline"]);
    assert_eq!(code, Some(0), "{answer}");
    let (code, answer, _) = check("[[rules]]\ntabel = 'public.a'", &["--offline", "--json"]);
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(report["findings"][0]["code"], "WD-CONFIG-INVALID");
    assert!(
        report["findings"][0]["why"].as_str().unwrap().contains("did you mean `rules[1].table`"),
        "{answer}"
    );

    let (code, answer, _) = check("[auth]\nstatic_tokens = true", &[]);
    assert_eq!(code, Some(0));
    assert!(answer.contains("nobody sees anything") && answer.contains("nobody sees public.a"), "{answer}");
    let (code, answer, _) = check(
        "[[auth.issuers]]\nissuer = 'x'\naudiences = ['a']\nalgorithms = ['HS256']\nsecret_file = '/nowhere'",
        &[],
    );
    assert_eq!(code, Some(1), "{answer}");
    assert!(answer.contains("/nowhere"), "{answer}");

    let nobody = config_file(BOTH);
    let args = ["config", "check", "--database-url", "postgresql://127.0.0.1:1/x", "--config", nobody.path()];
    let (code, answer, _) = waldelta(&args.map(str::to_owned));
    assert_eq!(code, Some(2), "{answer}");
    assert!(answer.contains("unknown"), "{answer}");
}

/// Whose tokens are taken changes for those who are connected too.
#[tokio::test]
async fn who_is_let_in_changes_for_those_who_are_connected() {
    let secret = TempFile::new("secret", "0123456789abcdef0123456789abcdef");
    let issuer = format!(
        "[[auth.issuers]]\nissuer = 'me'\naudiences = ['us']\nalgorithms = ['HS256']\nsecret_file = '{}'\n",
        secret.path()
    );
    let with = |static_tokens: bool| format!("{BOTH}\n[auth]\nstatic_tokens = {static_tokens}\n{issuer}");
    let it = Configured::new("reload_auth", &with(true)).await;
    let Setting { service, source, history } = &it.setting;
    let made = waldelta_ok(&with_databases(
        &["token", "create", "--json", "--name", "t", "--subject", "anna"],
        source,
        history,
    ));
    let made: Value = serde_json::from_str(&made).unwrap();
    let hello = json!({"type": "hello", "client_id": "c", "after": null, "token": made["token"],
        "subscriptions": [{"id": "a", "table": "public.a"}]});
    let mut socket = WsClient::connect(&service.stream()).await;
    socket.send(&hello).await;
    socket.next_of_type("live", PATIENCE).await;

    std::fs::write(it.config.path(), with(false)).unwrap();
    service.hang_up();
    let (code, reason) = socket.closed(PATIENCE).await;
    assert_eq!(code, 4401, "{reason}");
    let mut again = WsClient::connect(&service.stream()).await;
    again.send(&hello).await;
    assert_eq!(again.closed(PATIENCE).await.0, 4401);

    // A secret that is not good is refused, and the one before is taken on.
    std::fs::write(secret.path(), "short").unwrap();
    service.hang_up();
    wait_until("it is refused", PATIENCE, async || {
        let log = service.log();
        log.contains("nothing has changed") && !log.contains("\"short\"")
    })
    .await;
    std::fs::write(secret.path(), "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(it.config.path(), with(true)).unwrap();
    service.hang_up();
    wait_until("the token is taken again", PATIENCE, async || {
        let mut socket = WsClient::connect(&service.stream()).await;
        socket.send(&hello).await;
        matches!(socket.next_frame(PATIENCE).await, Frame::Text(text) if text.contains("\"welcome\""))
    })
    .await;
}

#[tokio::test]
async fn another_certificate_is_shown_to_those_who_come() {
    let certificate = TempFile::new("crt", tls::FIRST.certificate);
    let key = TempFile::new("key", tls::FIRST.key);
    let text = format!("[server.tls]\ncertificate = '{}'\nkey = '{}'", certificate.path(), key.path());
    let (source, history) =
        (TestDatabase::create("reload_tls").await, TestDatabase::create("reload_tls_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file(&text);
    let service = Service::spawn(config.add_to(run_options(&source, &history)));
    let shows = async |which: &tls::Certificate| {
        tls::connect(service.port()).await.is_ok_and(|stream| tls::shows(&stream, which))
    };
    wait_until("it shows the first", PATIENCE, async || shows(&tls::FIRST).await).await;
    std::fs::write(certificate.path(), tls::SECOND.certificate).unwrap();
    service.hang_up();
    wait_until("half of a pair is refused", PATIENCE, async || {
        service.log().contains("WD-CERTIFICATE-INVALID")
    })
    .await;
    assert!(shows(&tls::FIRST).await);
    std::fs::write(key.path(), tls::SECOND.key).unwrap();
    service.hang_up();
    wait_until("it shows the second", PATIENCE, async || shows(&tls::SECOND).await).await;

    // Other files are taken too, once both are good.
    let (other_certificate, other_key) =
        (TempFile::new("crt", tls::FIRST.certificate), TempFile::new("key", tls::SECOND.key));
    let other =
        format!("[server.tls]\ncertificate = '{}'\nkey = '{}'", other_certificate.path(), other_key.path());
    std::fs::write(config.path(), &other).unwrap();
    service.hang_up();
    wait_until("a key of another certificate is refused", PATIENCE, async || {
        service.log().contains(&format!("it is not the key of {}", other_certificate.path()))
    })
    .await;
    assert!(shows(&tls::SECOND).await);
    std::fs::write(other_key.path(), tls::FIRST.key).unwrap();
    std::fs::remove_file(key.path()).unwrap();
    service.hang_up();
    wait_until("it shows what is in the other files", PATIENCE, async || shows(&tls::FIRST).await).await;
    let audited = "SELECT detail->>'changed' FROM waldelta.audit WHERE action = 'config_reloaded' ORDER BY id DESC LIMIT 1";
    assert_eq!(history.query_text(audited).await, r#"["server.tls"]"#);

    // That there is no encryption any more waits for a restart.
    std::fs::write(config.path(), "[limits]\nsessions_per_address_max = 9").unwrap();
    service.hang_up();
    wait_until("it waits", PATIENCE, async || {
        let log = service.log();
        log.contains("server.tls.key") && log.contains("server.tls.certificate")
    })
    .await;
    assert!(shows(&tls::FIRST).await);
}

/// What is wrong with the rules was said when they were taken, and is said on.
#[tokio::test]
async fn rules_that_do_not_fit_already_keep_nothing_else_from_being_taken() {
    let unfit = "[[rules]]\ntable = 'public.a'\nwhere = \"v = 'x'\"\n";
    let it = Configured::new("reload_unfit", unfit).await;
    let limits = "[limits]\nsessions_per_address_max = 9\n";
    it.reload(&format!("{limits}{unfit}"), "applied").await;
    // Nor other rules.
    it.reload(&format!("{limits}[[rules]]\ntable = 'public.b'\n{unfit}"), "applied").await;
    let status = it.status().await["config"].clone();
    assert_eq!((&status["code"], &status["rules"][0]["rule"]), (&Value::Null, &json!(2)), "{status}");
    it.reload(&format!("{limits}{}", unfit.replace("'x'", "'y'")), "refused").await;
    assert_eq!(it.status().await["config"]["code"], "WD-RULE-UNDECIDABLE");
}

/// Where there was no rule before, there are tables to be looked at now.
#[tokio::test]
async fn the_first_rules_are_looked_at_like_others() {
    let it = Configured::new("reload_first", "").await;
    it.reload("[[rules]]\ntable = 'public.*'\nwhere = \"v = 'x'\"\n", "refused").await;
    assert_eq!(it.status().await["config"]["code"], "WD-RULE-UNDECIDABLE");
}

/// A file that the service reads, as long as this lives.
struct TempFile(PathBuf);

impl TempFile {
    fn new(kind: &str, text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("waldelta-reload-{}-{number}.{kind}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        TempFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Libraries ask in between whether they would be heard, at every statement; that takes no line from anybody else.
#[tokio::test]
async fn a_talkative_log_has_every_line() {
    let (source, history) =
        (TestDatabase::create("reload_log").await, TestDatabase::create("reload_log_h").await);
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file("");
    let options = config.add_to(run_options(&source, &history)).env("WALDELTA_LOG", "debug");
    let it =
        Configured { setting: Setting { service: Service::start(options).await, source, history }, config };
    for refused in 1..=30 {
        // Another failure each time: what is the same is not written without end.
        it.reload(&format!("[nothing_{refused}]"), "refused").await;
        let told = it.setting.service.log().matches("nothing has changed").count();
        assert_eq!(told, refused, "lines of as many refusals");
    }
}
