//! Tables that their rules do not fit for a while, each in its own way: before they are first changed, after that, under another
//! name, made anew. When they fit again everybody has exactly the rows of its own, who was connected and who was away; and nobody
//! is told anything of them before.

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{
    Frame, HttpStream, Replica, Service, TestDatabase, WsClient, connect, source_rows, wait_until,
};

use crate::setting::{PATIENCE, Setting, config_file, run_options, waldelta_ok, with_databases};

/// A rule needs all of old rows: FULL. `late` has not that at first, and nobody changes it.
const SCHEMA: &str = "
    CREATE TABLE late (id int PRIMARY KEY, tenant text, v text);
    CREATE TABLE shut (id int PRIMARY KEY, tenant text, v text);
    ALTER TABLE shut REPLICA IDENTITY FULL;
    CREATE TABLE moved (id int PRIMARY KEY, tenant text, v text);
    ALTER TABLE moved REPLICA IDENTITY FULL;
    CREATE TABLE made (id int PRIMARY KEY, tenant text, v text);
    ALTER TABLE made REPLICA IDENTITY FULL;
    CREATE TABLE mark (id int PRIMARY KEY);
    INSERT INTO late SELECT i, t, 'before' FROM (VALUES (1, 'alpha'), (2, 'beta'), (3, 'beta')) AS rows (i, t);
    INSERT INTO shut SELECT * FROM late;
    INSERT INTO moved SELECT * FROM late;
    INSERT INTO made SELECT * FROM late";

const TENANTS: [&str; 2] = ["alpha", "beta"];

const RULES: &str = r#"
    [auth]
    static_tokens = true

    [[rules]]
    table = "public.mark"

    [[rules]]
    table = "public.*"
    where = "tenant = :claims.tenant"
"#;

/// A client of a tenant that follows whatever there is.
struct Client {
    tenant: &'static str,
    id: &'static str,
    token: String,
    /// None while it is away.
    socket: Option<WsClient>,
    replica: Replica,
    /// Everything that it was sent.
    got: String,
}

impl Client {
    async fn connect(setting: &Setting, tenant: &'static str, id: &'static str) -> Self {
        let token = token(setting, tenant, &["--claim", &format!("tenant=\"{tenant}\"")]);
        let mut client =
            Client { tenant, id, token, socket: None, replica: Replica::new(), got: String::new() };
        client.begin(setting).await;
        client
    }

    fn leave(&mut self) {
        self.socket = None;
        self.replica.disconnected();
    }

    async fn begin(&mut self, setting: &Setting) {
        let mut hello = self.replica.hello(self.id, &[json!({"id": "all", "table": "*"})]);
        hello["token"] = self.token.clone().into();
        let socket = self.socket.insert(WsClient::connect(&setting.service.stream()).await);
        socket.send(&hello).await;
        self.follow("it is live", |replica| replica.is_live() && replica.is_consistent()).await;
    }

    async fn follow(&mut self, what: &str, done: impl Fn(&Replica) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.replica) {
            let socket = self.socket.as_mut().unwrap();
            match socket.next_frame(deadline.saturating_duration_since(Instant::now())).await {
                Frame::Text(text) => {
                    self.replica.apply(&text).unwrap_or_else(|violation| panic!("{}: {text}", violation.0));
                    self.got.push_str(&text);
                }
                closed @ Frame::Closed { .. } => panic!("{closed:?} before {what}"),
            }
        }
    }

    /// Follows until it has of these tables what SQL selects for its tenant, and of those others nothing.
    async fn has(&mut self, setting: &Setting, when: &str, tables: &[&str], without: &[&str]) {
        setting.settled().await;
        let last = setting.last_of(&["public.mark"]).await;
        let source = connect(setting.source.url()).await;
        let mut wanted = Vec::new();
        for table in tables {
            let query = format!("(SELECT * FROM {table} WHERE tenant = '{}')", self.tenant);
            wanted.push((format!("public.{table}"), source_rows(&source, &query).await));
        }
        wanted.extend(without.iter().map(|table| (format!("public.{table}"), Vec::new())));
        let is_there =
            |replica: &Replica| replica.is_live() && replica.is_consistent() && replica.position() >= last;
        self.follow(when, is_there).await;
        for (table, rows) in wanted {
            assert_eq!(self.replica.rows(&table), rows, "{when}: {table} of {}", self.tenant);
        }
    }
}

fn token(setting: &Setting, name: &str, more: &[&str]) -> String {
    let command = [&["token", "create", "--json", "--name", name, "--subject", name][..], more].concat();
    let made = waldelta_ok(&with_databases(&command, &setting.source, &setting.history));
    serde_json::from_str::<Value>(&made).unwrap()["token"].as_str().unwrap().to_owned()
}

/// Does something at the source, statement by statement, and then something that everybody is told.
async fn exec(setting: &Setting, sql: &str) {
    for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
        setting.source.exec(statement).await;
    }
    setting.source.exec("INSERT INTO mark SELECT coalesce(max(id), 0) + 1 FROM mark").await;
}

async fn get(setting: &Setting, path: &str, token: &str) -> Value {
    serde_json::from_str(&answer(setting, path, token).await).unwrap()
}

async fn answer(setting: &Setting, path: &str, token: &str) -> String {
    let address = format!("127.0.0.1:{}", setting.service.port());
    let stream = HttpStream::get(&address, path, &format!("Authorization: Bearer {token}\r\n")).await;
    stream.body(PATIENCE).await
}

#[tokio::test]
async fn a_table_that_comes_to_fit_its_rule_comes_with_its_rows_to_everybody() {
    let (source, history) =
        (TestDatabase::create("refitted").await, TestDatabase::create("refitted_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file(RULES);
    let service = Service::start(config.add_to(run_options(&source, &history))).await;
    let setting = Setting { service, source, history };
    let mut here = Vec::new();
    for tenant in TENANTS {
        here.push(Client::connect(&setting, tenant, "here").await);
    }
    let mut away = Vec::new();
    for tenant in TENANTS {
        let mut client = Client::connect(&setting, tenant, "away").await;
        client.leave();
        away.push(client);
    }

    // What is asked for by everybody tells of no session.
    let operator = token(&setting, "operator", &["--admin"]);
    let status = get(&setting, "/v1/status", &operator).await;
    assert!(status["sessions"].as_array().unwrap().len() >= TENANTS.len(), "{status}");
    let ready = answer(&setting, "/readyz?verbose", &operator).await;
    assert!(ready.starts_with("ok\n") && !ready.contains("alpha") && !ready.contains("session"), "{ready}");

    for client in &mut here {
        client.has(&setting, "at first", &["shut", "moved", "made"], &["late"]).await;
        assert!(!client.got.contains("public.late"), "{}", client.got);
    }
    // With the first change, which is of one tenant.
    exec(&setting, "ALTER TABLE late REPLICA IDENTITY FULL; UPDATE late SET v = 'x' WHERE id = 1").await;
    for client in &mut here {
        client.has(&setting, "it fits", &["late", "shut", "moved", "made"], &[]).await;
    }
    exec(&setting, "ALTER TABLE shut REPLICA IDENTITY DEFAULT; UPDATE shut SET v = 'hidden' WHERE id = 1")
        .await;
    for client in &mut here {
        client.has(&setting, "it fits no more", &["late", "moved", "made"], &["shut"]).await;
    }
    exec(&setting, "ALTER TABLE shut REPLICA IDENTITY FULL; UPDATE shut SET v = 'y' WHERE id = 2").await;
    exec(
        &setting,
        "ALTER TABLE moved RENAME COLUMN tenant TO owner; INSERT INTO moved VALUES (4, 'alpha', 'as owner');
         ALTER TABLE moved RENAME TO elsewhere; UPDATE elsewhere SET v = 'as another' WHERE id = 2;
         ALTER TABLE elsewhere RENAME COLUMN owner TO tenant; ALTER TABLE elsewhere RENAME TO moved;
         UPDATE moved SET v = 'again' WHERE id = 1",
    )
    .await;
    for client in &mut here {
        client.has(&setting, "both fit again", &["late", "shut", "moved", "made"], &[]).await;
    }

    // Another table of the same name, which joins without fitting.
    exec(
        &setting,
        "DROP TABLE made; CREATE TABLE made (id int PRIMARY KEY, tenant text, v text);
         INSERT INTO made VALUES (1, 'alpha', 'new'), (5, 'beta', 'new'); ALTER PUBLICATION waldelta ADD TABLE made",
    )
    .await;
    wait_until("it has joined", PATIENCE, async || {
        exec(&setting, "").await;
        let joined = "SELECT count(*) FROM waldelta.change_history WHERE operation = 'reset' AND table_name = 'public.made'";
        setting.history.query_text(joined).await != "0"
    })
    .await;
    exec(&setting, "").await;
    for client in &mut here {
        client.has(&setting, "it is made anew", &["late", "shut", "moved"], &["made"]).await;
    }
    exec(&setting, "ALTER TABLE made REPLICA IDENTITY FULL; UPDATE made SET v = 'fits' WHERE id = 5").await;
    for client in here.iter_mut() {
        client.has(&setting, "all of them fit", &["late", "shut", "moved", "made"], &[]).await;
    }
    // Who comes back with a cursor has gone past all of that.
    for client in &mut away {
        client.begin(&setting).await;
        client.has(&setting, "it is back", &["late", "shut", "moved", "made"], &[]).await;
    }
    for client in here.iter().chain(&away) {
        assert!(!client.got.contains("elsewhere"), "{}", client.got);
        let other = TENANTS.iter().find(|tenant| **tenant != client.tenant).unwrap();
        assert!(!client.got.contains(*other), "{}", client.got);
    }
}
