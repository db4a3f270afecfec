//! Who came, who was turned away and who looked into the past stands in the audit, for good; and nothing that is a secret stands there,
//! in the log, in metrics, in status or in what those are told who ask wrongly.

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{Frame, HttpStream, Service, TestDatabase, WsClient, wait_until};

use crate::setting::{
    ConfigFile, PATIENCE, Setting, config_file, run_options, waldelta, waldelta_ok, with_databases,
};

const SCHEMA: &str = "
    CREATE TABLE doc (id text PRIMARY KEY, tenant text, note text);
    ALTER TABLE doc REPLICA IDENTITY FULL";
const CONFIG: &str = "
    [auth]
    static_tokens = true
    [[rules]]
    table = 'public.doc'
    where = \"tenant = :claims.tenant AND note <> 'PLANTED-literal'\"";

struct Watched {
    setting: Setting,
    config: ConfigFile,
}

impl Watched {
    async fn new(hint: &str, log: &str) -> Self {
        let (source, history) =
            (TestDatabase::create(hint).await, TestDatabase::create(&format!("{hint}_h")).await);
        source.exec(SCHEMA).await;
        waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
        let config = config_file(CONFIG);
        let options = config
            .add_to(run_options(&source, &history))
            .env("WALDELTA_LOG", log)
            .env("PGPASSWORD", "PLANTED-pass");
        let service = Service::start(options).await;
        Watched { setting: Setting { service, source, history }, config }
    }

    /// Makes a token; the command is done by the databases alone.
    fn token(&self, subject: &str, more: &[&str]) -> String {
        let mut command = vec!["token", "create", "--json", "--name", "t", "--subject", subject];
        command.extend(more);
        let made = waldelta_ok(&with_databases(&command, &self.setting.source, &self.setting.history));
        let made: Value = serde_json::from_str(&made).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    /// A connection that has said hello with this token.
    async fn hello(&self, token: &str, client_id: &str, filter: Option<&str>) -> WsClient {
        let mut socket = WsClient::connect(&self.setting.service.stream()).await;
        let mut subscription = json!({"id": "s", "table": "public.doc"});
        if let Some(filter) = filter {
            subscription["where"] = filter.into();
        }
        let hello = json!({"type": "hello", "client_id": client_id, "after": null, "token": token,
            "subscriptions": [subscription]});
        socket.send(&hello).await;
        socket
    }

    async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let address = format!("127.0.0.1:{}", self.setting.service.port());
        let header = format!("Authorization: Bearer {token}\r\n");
        let answer = HttpStream::get(&address, path, &header).await;
        (answer.status(), answer.body(PATIENCE).await)
    }

    /// Entries as text: action, subject, client, address, detail.
    async fn entries(&self, action: &str) -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', subject, client_id, host(address), detail) FROM waldelta.audit \
             WHERE action = '{action}' ORDER BY id"
        );
        let rows = self.setting.history.query(&sql).await;
        rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
    }

    async fn until_audited(&self, action: &str, entries: usize) -> Vec<String> {
        wait_until(&format!("{entries} times {action}"), PATIENCE, async || {
            self.entries(action).await.len() >= entries
        })
        .await;
        self.entries(action).await
    }
}

#[tokio::test]
async fn who_comes_and_who_is_turned_away_is_written_for_good() {
    let it = Watched::new("audit_who", "info").await;
    let token = it.token("anna", &["--claim", "tenant=\"one\""]);
    it.setting.source.exec("INSERT INTO doc VALUES ('k', 'one', 'x')").await;
    it.setting.settled().await;
    let created = it.until_audited("token_created", 1).await;
    assert!(created[0].starts_with("anna {") && created[0].contains("\"is_admin\": false"), "{created:?}");

    let mut socket = it.hello(&token, "web-7", None).await;
    // It is told before it is served.
    socket.next_of_type("welcome", PATIENCE).await;
    let began = it.until_audited("session_began", 1).await;
    assert!(began[0].starts_with("anna web-7 127.0.0.1 {"), "{began:?}");
    assert!(
        began[0].contains("\"transport\": \"websocket\"") && began[0].contains("\"session\": \"s1\""),
        "{began:?}"
    );

    // A flood of those who are turned away is few entries, and all are counted.
    for _ in 0..20 {
        let mut refused = it.hello("wd_no.token", "web-8", None).await;
        assert_eq!(refused.closed(PATIENCE).await.0, 4401);
    }
    let counted = "SELECT coalesce(sum((detail ->> 'count')::int), 0) FROM waldelta.audit \
        WHERE action = 'session_refused' AND detail ->> 'code' = 'WD-TOKEN-INVALID' AND host(address) = '127.0.0.1'";
    wait_until("all are counted", PATIENCE, async || it.setting.history.query_text(counted).await == "20")
        .await;
    let entries = it.entries("session_refused").await.len();
    assert!(entries < 20, "{entries} entries");

    // Who reads what a row was finds the entry there when the answer comes.
    let (status, body) = it.get("/v1/rows/public.doc/k/history", &token).await;
    assert_eq!(status, 200, "{body}");
    let read = it.entries("row_history_read").await;
    assert_eq!(read.len(), 1, "{read:?}");
    assert!(read[0].starts_with("anna ") && read[0].contains("\"table\": \"public.doc\""), "{read:?}");

    for forbidden in
        ["UPDATE waldelta.audit SET subject = ''", "DELETE FROM waldelta.audit", "TRUNCATE waldelta.audit"]
    {
        let client = it.setting.history.client().await;
        let refused = client.batch_execute(forbidden).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("only ever added to"), "{refused:?}");
    }
    let log = it.setting.service.log();
    for action in ["session_began", "session_refused", "row_history_read"] {
        assert!(log.contains(action), "{action} is not in the log");
    }
}

/// What cannot be written down is not shown.
#[tokio::test]
async fn the_past_is_not_read_unnoticed() {
    let it = Watched::new("audit_unwritten", "info").await;
    let token = it.token("anna", &["--claim", "tenant=\"one\""]);
    it.setting.source.exec("INSERT INTO doc VALUES ('k', 'one', 'was')").await;
    it.setting.settled().await;
    let forbid =
        "ALTER TABLE waldelta.audit ADD CONSTRAINT full_disk CHECK (action <> 'row_history_read') NOT VALID";
    it.setting.history.exec(forbid).await;
    let (status, body) = it.get("/v1/rows/public.doc/k/history", &token).await;
    assert!(status == 503 && !body.contains("was"), "{status} {body}");
    it.setting.history.exec("ALTER TABLE waldelta.audit DROP CONSTRAINT full_disk").await;
    wait_until("it is shown again", PATIENCE, async || {
        it.get("/v1/rows/public.doc/k/history", &token).await.0 == 200
    })
    .await;
    // Sessions are let in meanwhile, and told when that is possible again.
    it.setting.history.exec("ALTER TABLE waldelta.audit RENAME TO elsewhere").await;
    let mut socket = it.hello(&token, "early", None).await;
    socket.next_of_type("welcome", PATIENCE).await;
    it.setting.history.exec("ALTER TABLE waldelta.elsewhere RENAME TO audit").await;
    let began = it.until_audited("session_began", 2).await;
    assert!(began.iter().any(|entry| entry.starts_with("anna early ")), "{began:?}");
}

/// What waits when the service stops is written.
#[tokio::test]
async fn a_stop_loses_no_entry() {
    let mut it = Watched::new("audit_stop", "info").await;
    for _ in 0..3 {
        let mut refused = it.hello("nothing", "x", None).await;
        refused.closed(PATIENCE).await;
    }
    assert!(it.setting.service.stop().await.success());
    let counted = "SELECT coalesce(sum((detail ->> 'count')::int), 0) FROM waldelta.audit WHERE action = 'session_refused'";
    assert_eq!(it.setting.history.query_text(counted).await, "3");
}

/// Every word that is planted somewhere: what begins so must not come out at any place where it has no business.
const PLANTED: &str = "PLANTED";

#[tokio::test]
async fn planted_secrets_come_out_nowhere() {
    let mut it = Watched::new("audit_planted", "trace,h2=info").await;
    let token =
        it.token("anna", &["--claim", "tenant=\"PLANTED-claim\"", "--claim", "other=\"PLANTED-other\""]);
    let operator = it.token("olga", &["--admin"]);
    let secret = token.split_once('.').map_or(token.as_str(), |(_, secret)| secret).to_owned();
    let operators_secret =
        operator.split_once('.').map_or(operator.as_str(), |(_, secret)| secret).to_owned();
    let exec = async |sql: &str| it.setting.source.exec(sql).await;
    exec("INSERT INTO doc VALUES ('PLANTED-key', 'PLANTED-claim', 'PLANTED-note')").await;
    it.setting.settled().await;

    let mut told = String::new();
    // Served as it should be: with its values, to whom they belong.
    let mut socket = it.hello(&token, "good", Some("note <> 'PLANTED-filter'")).await;
    socket.next_of_type("live", PATIENCE).await;
    exec("UPDATE doc SET note = 'PLANTED-again'").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match socket.next_frame(deadline.saturating_duration_since(Instant::now())).await {
            Frame::Text(text) if text.contains("PLANTED-again") => break,
            Frame::Text(_) => {}
            closed @ Frame::Closed { .. } => panic!("{closed:?}"),
        }
    }
    let (status, body) = it.get("/v1/rows/public.doc/PLANTED-key/history", &token).await;
    assert!(status == 200 && body.contains("PLANTED-note"), "{status} {body}");

    // And what is asked wrongly.
    for filter in [
        "note = 'PLANTED-broken",
        "id > 5 AND note = 'PLANTED-a'",
        "nothing = 'PLANTED-b'",
        "tenant LIKE 'PLANTED-%' ESCAPE 'PLANTED'",
    ] {
        let mut refused = it.hello(&token, "wrong", Some(filter)).await;
        loop {
            match refused.next_frame(PATIENCE).await {
                Frame::Text(text) if text.contains("\"error\"") => told.push_str(&text),
                // Where it is served, it is not an error.
                Frame::Text(text) if text.contains("\"live\"") => break,
                Frame::Text(_) => {}
                Frame::Closed { reason, .. } => {
                    told.push_str(&reason);
                    break;
                }
            }
        }
    }
    for wrong in ["PLANTED-token", &format!("{}x", token), "PLANTED.PLANTED.PLANTED", "wd_x.PLANTED"] {
        let mut refused = it.hello(wrong, "wrong", None).await;
        told.push_str(&refused.closed(PATIENCE).await.1);
        told.push_str(&it.get("/v1/changes?table=public.doc", wrong).await.1);
    }
    let mut garbage = WsClient::connect(&it.setting.service.stream()).await;
    garbage.send_text("{\"type\": \"hello\", \"token\": \"PLANTED-json\", \"PLANTED-field\": ").await;
    told.push_str(&garbage.closed(PATIENCE).await.1);
    for path in [
        "/v1/changes?table=public.doc&token=PLANTED-url",
        "/v1/changes?table=public.doc&where=note%20%3D%20PLANTED",
        "/v1/changes?after=PLANTED&table=public.doc",
        "/v1/rows/public.doc/PLANTED-none/history",
        "/v1/rows/public.doc/PLANTED-none",
        "/v1/rows/public.doc/%5B%22PLANTED%22%2C1%5D",
        "/v1/status",
        "/metrics",
    ] {
        let (status, body) = it.get(path, &token).await;
        // Whose row it is is asked with its key, and told with it.
        if status != 200 {
            told.push_str(&body);
        }
    }
    // A configuration that is refused repeats no line of it.
    for text in [
        "[source]\nurl = 'postgresql://PLANTED-user:PLANTED-password@x/y\n",
        "[[rules]]\ntable = '*'\nwhere = \"note = 'PLANTED-rule' AND\"",
        "[[rules]]\ntable = 'public.doc'\nwhere = \"nothing = 'PLANTED-rule'\"\nclaims = { a = 'PLANTED-value' }\n[auth]\nstatic_tokens = true",
    ] {
        std::fs::write(it.config.path(), text).unwrap();
        let refused = it.setting.service.log().matches("nothing has changed").count();
        it.setting.service.hang_up();
        wait_until("it is refused", PATIENCE, async || {
            it.setting.service.log().matches("nothing has changed").count() > refused
        })
        .await;
        let mut check = with_databases(&["config", "check"], &it.setting.source, &it.setting.history);
        check.extend(["--config".to_owned(), it.config.path().to_owned()]);
        let (_, answer, log) = waldelta(&check);
        // Its own rules are shown to whoever has the file.
        told.push_str(&log);
        told.extend(answer.lines().filter(|line| !line.starts_with(['1', 'r'])));
    }
    for path in ["/metrics", "/v1/status", "/v1/clients"] {
        let (status, body) = it.get(path, &operator).await;
        assert_eq!(status, 200, "{path}: {body}");
        told.push_str(&body);
    }
    let listed = with_databases(&["token", "list"], &it.setting.source, &it.setting.history);
    let listed = waldelta_ok(&listed);
    assert!(!listed.contains(&secret), "{listed}");

    it.until_audited("session_began", 2).await;
    it.until_audited("session_refused", 1).await;
    let audit = it.setting.history.query("SELECT audit::text FROM waldelta.audit").await;
    let audit: String = audit.into_iter().flatten().flatten().collect();
    it.setting.service.stop().await;
    let log = it.setting.service.log();
    for code in ["WD-TOKEN-INVALID", "WD-FILTER-INVALID", "WD-CONFIG-INVALID", "WD-RULE-MISFIT"] {
        assert!(told.contains(code), "nobody was told {code}: {told}");
    }
    for (place, text) in [("told", &told), ("audit", &audit), ("log", &log)] {
        for word in [PLANTED, &secret, &operators_secret] {
            let Some(at) = text.find(word) else { continue };
            let (from, to) = (at.saturating_sub(400), (at + 200).min(text.len()));
            let near = String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned();
            panic!("{word} is in {place}: … {near} …");
        }
    }
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is as talkative as it can be");
}
