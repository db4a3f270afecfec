//! Two tenants side by side, over every way in which something leaves the service: each has exactly what is its own, as SQL
//! selects it, and not one byte of the other's; what nobody may see leaves for nobody.

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{
    Dice, Frame, HttpStream, Replica, Service, TestDatabase, WsClient, connect, source_rows,
};

use crate::fold::assert_same;
use crate::setting::{ConfigFile, PATIENCE, Setting, config_file, run_options, waldelta_ok, with_databases};

/// Every value of a tenant's row has a mark of that tenant; what nobody may see has one of its own. `doc` names its rows by tenant and
/// tells no more of old ones, `note` tells whole rows; a row of either goes from one tenant to the other.
const SCHEMA: &str = "
    CREATE TABLE doc (tenant text, id int, title text, secret text, body text, PRIMARY KEY (tenant, id));
    ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, line text, secret text, body text);
    ALTER TABLE note REPLICA IDENTITY FULL;
    ALTER TABLE note ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE hidden (id int PRIMARY KEY, v text);
    CREATE TABLE mark (id int PRIMARY KEY)";

const TENANTS: [&str; 2] = ["alpha", "beta"];
/// In all that nobody may see.
const PLANTED: &str = "PLANTED";

const RULES: &str = r#"
    [auth]
    static_tokens = true

    [[rules]]
    table = "public.doc"
    columns = ["title", "body"]
    where = "tenant = :claims.tenant"

    [[rules]]
    table = "public.note"
    columns = ["tenant", "line", "body"]
    where = "tenant = :claims.tenant"

    [[rules]]
    table = "public.mark"
"#;

/// The tables as a tenant is to have them.
fn queries(tenant: &str) -> [(&'static str, String); 2] {
    [
        ("public.doc", format!("(SELECT tenant, id, title, body FROM doc WHERE tenant = '{tenant}')")),
        ("public.note", format!("(SELECT id, tenant, line, body FROM note WHERE tenant = '{tenant}')")),
    ]
}

/// A setting with rules, and a token of each tenant.
struct Rented {
    setting: Setting,
    tokens: [String; 2],
    _config: ConfigFile,
}

async fn rented(hint: &str) -> Rented {
    let (source, history) =
        (TestDatabase::create(hint).await, TestDatabase::create(&format!("{hint}_h")).await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
    let config = config_file(RULES);
    let service = Service::start(config.add_to(run_options(&source, &history))).await;
    let tokens = TENANTS.map(|tenant| token(&source, &history, tenant));
    Rented { setting: Setting { service, source, history }, tokens, _config: config }
}

fn token(source: &TestDatabase, history: &TestDatabase, tenant: &str) -> String {
    let claim = format!("tenant=\"{tenant}\"");
    let command = ["token", "create", "--json", "--name", tenant, "--subject", tenant, "--claim", &claim];
    let made: Value = serde_json::from_str(&waldelta_ok(&with_databases(&command, source, history))).unwrap();
    made["token"].as_str().unwrap().to_owned()
}

/// Everything that left the service for a tenant, byte by byte.
#[derive(Default)]
struct Recording(String);

impl Recording {
    fn check(&self, tenant: usize, what: &str) {
        let other = format!("{}-only", TENANTS[1 - tenant]);
        for word in [other.as_str(), PLANTED, "hidden"] {
            if let Some(at) = self.0.find(word) {
                let (from, to) = (at.saturating_sub(300), (at + 300).min(self.0.len()));
                let near = String::from_utf8_lossy(&self.0.as_bytes()[from..to]).into_owned();
                panic!("{what}: {} got {word}: … {near} …", TENANTS[tenant]);
            }
        }
    }
}

/// One connected client of a tenant.
struct Client {
    tenant: usize,
    id: String,
    asked: Vec<Value>,
    socket: WsClient,
    replica: Replica,
    got: Recording,
}

impl Client {
    async fn connect(rented: &Rented, tenant: usize, id: &str, asked: Vec<Value>) -> Self {
        let socket = WsClient::connect(&rented.setting.service.stream()).await;
        let (replica, got) = (Replica::new(), Recording::default());
        let mut client = Client { tenant, id: id.to_owned(), asked, socket, replica, got };
        client.begin(rented).await;
        client
    }

    async fn resume(&mut self, rented: &Rented) {
        self.replica.disconnected();
        self.socket = WsClient::connect(&rented.setting.service.stream()).await;
        self.begin(rented).await;
    }

    async fn begin(&mut self, rented: &Rented) {
        let mut hello = self.replica.hello(&self.id, &self.asked);
        hello["token"] = rented.tokens[self.tenant].clone().into();
        self.socket.send(&hello).await;
        self.follow("it is live", |replica| replica.is_live() && replica.is_consistent()).await;
    }

    async fn follow(&mut self, what: &str, done: impl Fn(&Replica) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.replica) {
            match self.socket.next_frame(deadline.saturating_duration_since(Instant::now())).await {
                Frame::Text(text) => {
                    self.replica.apply(&text).unwrap_or_else(|violation| panic!("{}: {text}", violation.0));
                    self.got.0.push_str(&text);
                    self.got.0.push('\n');
                }
                closed @ Frame::Closed { .. } => panic!("{closed:?} before {what}"),
            }
        }
    }

    /// Follows up to the last mark, and compares with what SQL selects for the tenant.
    async fn check(&mut self, rented: &Rented, when: &str) {
        let last = rented.setting.last_of(&["public.mark"]).await;
        self.follow(when, |replica| replica.position() >= last).await;
        let source = connect(rented.setting.source.url()).await;
        let followed = |table: &str| {
            self.asked.iter().any(|one| [table, "*"].contains(&one["table"].as_str().unwrap_or_default()))
        };
        for (table, query) in queries(TENANTS[self.tenant]) {
            if followed(table) {
                let (rows, wanted) = (self.replica.rows(table), source_rows(&source, &query).await);
                assert_same(&format!("{when}: {} of {}", table, self.id), &rows, &wanted);
            }
        }
        self.got.check(self.tenant, &format!("{when}, {}", self.id));
    }
}

/// The ways to ask for it; the last two look for what is not theirs.
fn ways() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("all", vec![json!({"id": "all", "table": "*", "old": true})]),
        (
            "named",
            vec![
                json!({"id": "d", "table": "public.doc", "old": true}),
                json!({"id": "n", "table": "public.note", "big_numbers": "string"}),
                json!({"id": "m", "table": "public.mark"}),
            ],
        ),
        (
            "curious",
            vec![
                json!({"id": "n", "table": "public.note", "where": "tenant = 'alpha' OR tenant = 'beta' OR NOT id = 0", "old": true}),
                json!({"id": "m", "table": "public.mark"}),
            ],
        ),
    ]
}

/// Transactions in which rows of both tenants come, change, go, and go over from one to the other.
fn writes(dice: &mut Dice, transactions: usize) -> String {
    let mut sql = String::new();
    for _ in 0..transactions {
        sql.push_str("BEGIN;");
        for _ in 0..=dice.roll(4) {
            let (id, n) = (dice.roll(30), dice.roll(1_000_000));
            let tenant = TENANTS[dice.roll(2) as usize];
            let value = format!("'{tenant}-only-{n}'");
            let body = format!("repeat('{tenant}-only-{n}', 400)");
            let secret = format!("'{PLANTED}-{n}'");
            sql.push_str(&match dice.roll(14) {
                0..3 => format!(
                    "INSERT INTO doc VALUES ('{tenant}', {id}, {value}, {secret}, {body}) ON CONFLICT (tenant, id) DO UPDATE SET title = excluded.title, secret = excluded.secret;
                     INSERT INTO note VALUES ({id}, '{tenant}', {value}, {secret}, {body}) ON CONFLICT (id) DO NOTHING;"
                ),
                3 => format!("UPDATE doc SET title = tenant || '-only-{n}', secret = {secret} WHERE id = {id};"),
                4 => format!("UPDATE note SET line = tenant || '-only-{n}', secret = {secret} WHERE id = {id};"),
                5 => format!("UPDATE note SET secret = {secret} WHERE id = {id}; UPDATE doc SET secret = {secret} WHERE id = {id};"),
                // From one tenant to the other, or not.
                6 | 7 => format!(
                    "UPDATE note SET tenant = '{tenant}', line = {value}, body = {body}, secret = {secret} WHERE id = {id};"
                ),
                8 => format!(
                    "UPDATE doc SET tenant = '{tenant}', title = {value}, body = {body}, secret = {secret} WHERE id = {id} AND tenant <> '{tenant}'
                     AND NOT EXISTS (SELECT FROM doc WHERE id = {id} AND tenant = '{tenant}');"
                ),
                9 => format!("UPDATE note SET id = id + 100, secret = {secret} WHERE id = {id} AND NOT EXISTS (SELECT FROM note WHERE id = {id} + 100);"),
                10 => format!("DELETE FROM note WHERE id IN ({id}, {id} + 100);"),
                11 => format!("DELETE FROM doc WHERE id = {id};"),
                12 => format!("INSERT INTO hidden VALUES ({id}, {secret}) ON CONFLICT (id) DO UPDATE SET v = excluded.v;"),
                _ => format!("SELECT waldelta.set_client('{tenant}-writer', '{{\"why\": \"test\"}}');"),
            });
        }
        sql.push_str("COMMIT;");
        if dice.roll(80) == 0 {
            sql.push_str("TRUNCATE doc, note;");
        }
    }
    sql
}

async fn settle(rented: &Rented) {
    rented.setting.source.exec("INSERT INTO mark SELECT coalesce(max(id), 0) + 1 FROM mark").await;
    rented.setting.settled().await;
}

async fn check_all(rented: &Rented, clients: &mut [Client], when: &str) {
    settle(rented).await;
    for client in clients {
        client.check(rented, when).await;
    }
}

#[tokio::test]
async fn each_has_its_own_and_not_one_byte_of_the_other() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut dice = Dice::of(seed, "tenants");
    let rented = rented("tenants").await;
    rented.setting.source.exec(&writes(&mut dice, 80)).await;
    let mut clients = Vec::new();
    for (way, asked) in ways() {
        for tenant in [0, 1] {
            let id = format!("{way}-{}", TENANTS[tenant]);
            clients.push(Client::connect(&rented, tenant, &id, asked.clone()).await);
        }
    }
    check_all(&rented, &mut clients, "after the snapshot").await;
    rented.setting.source.exec(&writes(&mut dice, 150)).await;
    check_all(&rented, &mut clients, "while live").await;
    // Too large to be kept ready: each reads what is its own, in parts.
    let many = format!(
        "BEGIN;
         INSERT INTO note SELECT i, t, t || '-only-' || i, '{PLANTED}', repeat(t || '-only', 300)
         FROM (SELECT i, CASE i % 2 WHEN 0 THEN 'alpha' ELSE 'beta' END AS t FROM generate_series(1000, 2999) i) AS rows;
         UPDATE note SET tenant = 'alpha', line = 'alpha-only', body = 'alpha-only' WHERE id >= 1000 AND id % 5 = 0;
         DELETE FROM note WHERE id >= 1200;
         COMMIT"
    );
    rented.setting.source.exec(&many).await;
    check_all(&rented, &mut clients, "after a large transaction").await;
    for client in &mut clients {
        // Nobody reads here meanwhile.
        client.socket = WsClient::connect(&rented.setting.service.stream()).await;
    }
    rented.setting.source.exec(&writes(&mut dice, 100)).await;
    for client in &mut clients {
        client.resume(&rented).await;
    }
    check_all(&rented, &mut clients, "after coming back").await;
    for tenant in [0, 1] {
        over_http(&rented, tenant).await;
    }
    let log = rented.setting.service.log();
    for word in [PLANTED, "alpha-only", "beta-only", &rented.tokens[0], &rented.tokens[1]] {
        assert!(!log.contains(word), "the log has {word}");
    }
}

async fn answer(rented: &Rented, tenant: usize, path: &str, headers: &str) -> (u16, String) {
    let address = format!("127.0.0.1:{}", rented.setting.service.port());
    let headers = format!("Authorization: Bearer {}\r\n{headers}", rented.tokens[tenant]);
    let stream = HttpStream::get(&address, path, &headers).await;
    (stream.status(), stream.body(PATIENCE).await)
}

/// All that plain HTTP gives: the stream in every form, snapshots, and each row over time.
async fn over_http(rented: &Rented, tenant: usize) {
    let mut got = Recording::default();
    let floor = "00000001-0000000000000000-00000000";
    let first = rented.setting.history.query_text("SELECT min(lsn) FROM waldelta.change_history").await;
    for path in [
        format!("/v1/changes?since=2020-01-01T00:00:00Z&limit=10000&client_id=pages-{tenant}"),
        format!("/v1/changes?after={first}&limit=10000&table=public.note"),
        format!("/v1/changes?after={floor}&limit=10000"),
        format!("/v1/changes?after={first}&table=public.note&where=tenant%20IN%20('alpha','beta')"),
        "/v1/snapshot?table=*".to_owned(),
        "/v1/snapshot?table=public.note".to_owned(),
        "/v1/snapshot?table=public.doc&where=tenant%20%3C%3E%20'x'".to_owned(),
    ] {
        for form in ["Accept: application/json\r\n", "Accept: application/x-ndjson\r\n"] {
            if form.contains("ndjson") && path.contains("limit=") {
                continue;
            }
            let (status, body) = answer(rented, tenant, &path, form).await;
            assert!([200, 400, 404, 410].contains(&status), "{path}: {status} {body}");
            got.0.push_str(&body);
        }
    }
    assert!(got.0.contains(&format!("{}-only", TENANTS[tenant])), "what is its own has come");
    let keys = rented.setting.history.query(
        "SELECT DISTINCT table_name, row_key, old_data ->> 'tenant', data ->> 'tenant' FROM waldelta.change_history
         WHERE row_key IS NOT NULL AND table_name <> 'public.mark' LIMIT 60",
    );
    for row in keys.await {
        let (table, key) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
        let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/v1/rows/{table}/{key}/history?patch=rfc6902"),
            format!("/v1/rows/{table}/{key}/history"),
            format!("/v1/rows/{table}/{key}?at=2100-01-01T00:00:00Z"),
            format!("/v1/rows/{table}/{key}"),
        ] {
            let (status, body) = answer(rented, tenant, &path, "").await;
            let is_theirs = [&row[2], &row[3]].into_iter().flatten().any(|owner| owner == TENANTS[tenant]);
            assert!(!(table == "public.hidden" && status == 200), "{path}: {body}");
            // A row that may not be seen never was: nothing is told but what befell all rows.
            let is_nothing = path.contains("/history") && !body.contains("\"data\":{");
            assert!(status != 200 || is_theirs || is_nothing || table != "public.doc", "{path}: {body}");
            // The path that an error repeats would be the client's own words.
            got.0.push_str(&body.replace("public.hidden", ""));
        }
    }
    got.check(tenant, "over HTTP");
}

#[tokio::test]
async fn without_a_token_or_with_another_nothing_is_there() {
    let rented = rented("tenants_none").await;
    rented
        .setting
        .source
        .exec("INSERT INTO note VALUES (1, 'alpha', 'alpha-only', 'PLANTED', 'alpha-only')")
        .await;
    settle(&rented).await;
    let address = format!("127.0.0.1:{}", rented.setting.service.port());
    for headers in ["", "Authorization: Bearer wd_x.y\r\n", "Authorization: Basic YTpi\r\n"] {
        for path in [
            "/v1/changes",
            "/v1/snapshot?table=*",
            "/v1/rows/public.note/1",
            "/v1/status",
            "/metrics",
            "/v1/clients",
        ] {
            let stream = HttpStream::get(&address, path, headers).await;
            assert_eq!(stream.status(), 401, "{path} with {headers:?}");
            assert!(!stream.body(PATIENCE).await.contains("only"));
        }
    }
    for token in [json!(null), json!("wd_x.y"), json!(rented.tokens[0].replace('.', ".x"))] {
        let mut socket = WsClient::connect(&rented.setting.service.stream()).await;
        let mut hello = Replica::new().hello("c", &[json!({"id": "a", "table": "*"})]);
        hello["token"] = token;
        socket.send(&hello).await;
        assert_eq!(socket.closed(PATIENCE).await.0, 4401);
    }
}
