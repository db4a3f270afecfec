//! A client that asks for some rows and columns has exactly these, as SQL would select them, whatever happens to the rows.

use serde_json::{Value, json};
use waldelta_testkit::{Dice, Replica, TestDatabase, WsClient, connect, source_rows};

use crate::fold::assert_same;
use crate::setting::{PATIENCE, Setting, changes, record, waldelta_ok, with_databases};

/// `d` has the default replica identity, `f` tells whole rows; what is in `body` is sent only where it changes, or with the row
/// before it. `k` has no key. `mark` tells clients that everything before it has come.
const SCHEMA: &str = "
    CREATE TABLE d (id int PRIMARY KEY, region text NOT NULL, n int, total numeric(12,2), big int8, note text, body text);
    ALTER TABLE d ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE f (LIKE d INCLUDING ALL);
    ALTER TABLE f REPLICA IDENTITY FULL;
    CREATE TABLE k (LIKE d INCLUDING STORAGE);
    ALTER TABLE k REPLICA IDENTITY FULL;
    CREATE TABLE mark (id int PRIMARY KEY)";

/// What a client asks for of one table, and the same as a query.
struct Case {
    asked: Vec<Value>,
    query: String,
}

fn case(table: &str, condition: Option<&str>, columns: Option<&[&str]>, strings: bool) -> Case {
    let mut asked = json!({"id": "rows", "table": table});
    if let Some(condition) = condition {
        asked["where"] = condition.into();
    }
    if let Some(columns) = columns {
        asked["columns"] = columns.into();
    }
    if strings {
        asked["big_numbers"] = "string".into();
    }
    let columns = columns.unwrap_or(&["region", "n", "total", "big", "note", "body"]);
    let shown = |column: &&str| match *column {
        big @ ("total" | "big") if strings => format!("{big}::text AS {big}"),
        column => column.to_owned(),
    };
    let columns: Vec<String> = columns.iter().filter(|column| **column != "id").map(shown).collect();
    let (columns, condition) = (columns.join(", "), condition.unwrap_or("true"));
    Case { asked: vec![asked], query: format!("(SELECT id, {columns} FROM {table} WHERE {condition})") }
}

/// With the default identity an update that brings a row into a filter does not have what it leaves as it is in `body`.
const BUT_BODY: [&str; 5] = ["region", "n", "total", "big", "note"];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.push(case("k", Some("region = 'eu' OR n > 40"), None, false));
    cases.push(case("k", Some("n > 10 AND n <= 50"), Some(&["id", "region"]), true));
    for (table, columns) in [("d", Some(&BUT_BODY[..])), ("f", None)] {
        cases.extend([
            case(table, None, columns, false),
            case(table, Some("region = 'eu'"), columns, false),
            case(table, Some("n > 10 AND n <= 50"), columns, false),
            case(table, Some("region IN ('us', 'ap') OR n IS NULL"), columns, false),
            case(table, Some("NOT (total >= 250.5 OR note = 'it''s')"), Some(&["note"]), false),
            case(table, Some("id <= 20 AND region <> 'eu'"), columns, true),
            case(table, None, Some(&["big", "n"]), true),
            case(table, Some("big IN (9007199254740993, -5)"), Some(&["total"]), true),
            Case {
                asked: vec![
                    json!({"id": "a", "table": table, "where": "region = 'eu'", "columns": ["region"]}),
                    json!({"id": "b", "table": table, "where": "n > 40", "columns": ["n"], "old": true}),
                ],
                query: format!("(SELECT id, region, n FROM {table} WHERE region = 'eu' OR n > 40)"),
            },
        ]);
    }
    // What is sent with the row before it.
    cases.push(case("f", Some("body LIKE 'a%' AND n < 60"), None, false));
    cases
}

struct Client {
    id: String,
    case: Case,
    socket: WsClient,
    replica: Replica,
}

impl Client {
    async fn connect(setting: &Setting, id: String, case: Case) -> Self {
        let socket = WsClient::connect(&setting.service.stream()).await;
        let mut client = Client { id, case, socket, replica: Replica::new() };
        client.begin().await;
        client
    }

    async fn resume(&mut self, setting: &Setting) {
        self.replica.disconnected();
        self.socket = WsClient::connect(&setting.service.stream()).await;
        self.begin().await;
    }

    async fn begin(&mut self) {
        let mut asked = self.case.asked.clone();
        asked.push(json!({"id": "mark", "table": "mark"}));
        self.socket.send(&self.replica.hello(&self.id, &asked)).await;
        let ready = |replica: &Replica| replica.is_live() && replica.is_consistent();
        self.socket.follow(&mut self.replica, "it is live", PATIENCE, ready).await;
    }

    /// Follows up to the last mark, and compares.
    async fn check(&mut self, setting: &Setting, when: &str) {
        let last = setting.last_of(&["public.mark"]).await;
        let arrived = |replica: &Replica| replica.position() >= last;
        self.socket.follow(&mut self.replica, when, PATIENCE, arrived).await;
        let expected = source_rows(&connect(setting.source.url()).await, &self.case.query).await;
        let table = format!("public.{}", self.case.asked[0]["table"].as_str().unwrap());
        assert_same(&format!("{when}: {}", self.case.query), &self.replica.rows(&table), &expected);
        assert!(self.replica.errors().is_empty() && self.replica.resets().is_empty(), "{when}");
    }
}

async fn check_all(setting: &Setting, clients: &mut [Client], when: &str) {
    setting.source.exec("INSERT INTO mark SELECT coalesce(max(id), 0) + 1 FROM mark").await;
    setting.settled().await;
    for client in clients {
        client.check(setting, when).await;
    }
}

/// Transactions that bring rows, change them, give them other keys and take them away, alike in all tables.
fn writes(dice: &mut Dice, transactions: usize) -> String {
    let mut sql = String::new();
    for _ in 0..transactions {
        sql.push_str("BEGIN;");
        for _ in 0..=dice.roll(3) {
            let (id, other) = (dice.roll(60), dice.roll(60));
            let region = ["eu", "us", "ap", "EU"][dice.roll(4) as usize];
            let n = match dice.roll(5) {
                0 => "NULL".to_owned(),
                _ => dice.roll(80).to_string(),
            };
            let total = format!("{}.{}", dice.roll(500), dice.roll(100));
            let big = ["9007199254740993", "-5", "0", "NULL"][dice.roll(4) as usize];
            let note = ["'it''s'", "'x'", "''", "NULL"][dice.roll(4) as usize];
            let body = ["a", "b", "ab"][dice.roll(3) as usize];
            let set = match dice.roll(6) {
                0 => format!("region = '{region}'"),
                1 => format!("n = {n}"),
                2 => format!("total = {total}, big = {big}"),
                3 => format!("note = {note}"),
                4 => format!("body = repeat('{body}', 5000)"),
                _ => format!("region = '{region}', n = {n}, body = body || 'x'"),
            };
            let kind = dice.roll(20);
            for table in ["d", "f", "k"] {
                sql.push_str(&match kind {
                    0..7 if table == "k" => {
                        format!("INSERT INTO k VALUES ({id}, '{region}', {n}, {total}, {big}, {note}, '{body}');")
                    }
                    0..7 => format!(
                        "INSERT INTO {table} VALUES ({id}, '{region}', {n}, {total}, {big}, {note}, repeat('{body}', 5000))
                         ON CONFLICT (id) DO UPDATE SET region = excluded.region, n = excluded.n, note = excluded.note;"
                    ),
                    7..13 => format!("UPDATE {table} SET {set} WHERE id = {id};"),
                    13..16 => format!(
                        "UPDATE {table} SET id = {other}, n = {n} WHERE id = {id} AND NOT EXISTS (SELECT FROM {table} WHERE id = {other});"
                    ),
                    16..19 => format!("DELETE FROM {table} WHERE id = {id};"),
                    _ => format!("UPDATE {table} SET n = n + 7 WHERE region = '{region}';"),
                });
            }
        }
        sql.push_str("COMMIT;");
        if dice.roll(120) == 0 {
            sql.push_str("TRUNCATE d, f, k;");
        }
    }
    sql
}

#[tokio::test]
async fn each_copy_is_what_its_query_selects() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut dice = Dice::of(seed, "filters");
    let (source, history) = (TestDatabase::create("filters").await, TestDatabase::create("filters_h").await);
    source.exec(SCHEMA).await;
    waldelta_ok(&with_databases(&["init", "--apply", "--allow-keyless"], &source, &history));
    let setting = Setting::over(source, history, "").await;
    setting.source.exec(&writes(&mut dice, 80)).await;
    let mut clients = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        clients.push(Client::connect(&setting, format!("c{number}"), case).await);
    }
    check_all(&setting, &mut clients, "after the snapshot").await;
    setting.source.exec(&writes(&mut dice, 100)).await;
    check_all(&setting, &mut clients, "while live").await;
    // Too large to be kept ready: each reads what is its own, in parts.
    let many = |table: &str| {
        format!(
            "UPDATE {table} SET n = 45 - coalesce(n, 0);
             INSERT INTO {table} SELECT i, CASE i % 3 WHEN 0 THEN 'eu' WHEN 1 THEN 'us' ELSE 'ap' END, i % 100, i, i, 'x', repeat('a', 3000)
             FROM generate_series(1000, 1999) i;
             UPDATE {table} SET region = 'eu', n = n / 2 WHERE id % 7 = 0;
             DELETE FROM {table} WHERE id >= 1100"
        )
    };
    setting.source.exec(&format!("BEGIN; {}; {}; {}; COMMIT", many("d"), many("f"), many("k"))).await;
    check_all(&setting, &mut clients, "after a large transaction").await;

    for client in &mut clients {
        client.resume(&setting).await;
    }
    check_all(&setting, &mut clients, "after coming back").await;
    let (away, here): (Vec<_>, Vec<_>) = (0..clients.len()).partition(|number| number % 2 == 0);
    for number in &away {
        // Nobody reads here meanwhile.
        clients[*number].socket = WsClient::connect(&setting.service.stream()).await;
    }
    setting.source.exec(&writes(&mut dice, 100)).await;
    for number in away {
        clients[number].resume(&setting).await;
    }
    check_all(&setting, &mut clients, &format!("after {} were away and {} not", here.len() + 1, here.len()))
        .await;
}

/// The frames that tell of rows which come into a filter and leave it.
#[tokio::test]
async fn a_change_is_told_as_what_it_is_to_the_client() {
    let setting = Setting::new("filters_told", SCHEMA).await;
    for table in ["d", "f"] {
        setting.source.exec(&format!("INSERT INTO {table} VALUES (1, 'eu', 1), (2, 'us', 2)")).await;
    }
    let mut replica = Replica::new();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    let asked =
        |id: &str| json!({"id": id, "table": id, "where": "region = 'eu'", "columns": ["region", "n"]});
    let subscriptions = [asked("d"), asked("f"), json!({"id": "mark", "table": "mark"})];
    socket.send(&replica.hello("c", &subscriptions)).await;
    let ready = |replica: &Replica| replica.is_live() && replica.is_consistent();
    socket.follow(&mut replica, "it is live", PATIENCE, ready).await;
    let mut marks = 0;
    for (sql, of_d, of_f) in [
        // With the default identity the row before is not known: told so that it is right whatever it was.
        ("UPDATE {} SET region = 'us' WHERE id = 1", "delete@1", "delete@1"),
        ("UPDATE {} SET n = 3 WHERE id = 1", "delete@1", ""),
        ("UPDATE {} SET region = 'eu' WHERE id = 1", "update@1", "insert@1"),
        ("UPDATE {} SET n = 4 WHERE id = 1", "update@1", "update@1"),
        ("UPDATE {} SET id = 5 WHERE id = 1", "delete@1 insert@5", "delete@1 insert@5"),
        ("UPDATE {} SET id = 6, region = 'ap' WHERE id = 5", "delete@5", "delete@5"),
        ("UPDATE {} SET id = 7, region = 'eu' WHERE id = 6", "delete@6 insert@7", "insert@7"),
        ("UPDATE {} SET id = 9 WHERE id = 2", "delete@2", ""),
        ("INSERT INTO {} VALUES (10, 'us')", "", ""),
        ("INSERT INTO {} VALUES (11, 'eu')", "insert@11", "insert@11"),
        ("DELETE FROM {} WHERE id = 9", "delete@9", ""),
        ("DELETE FROM {} WHERE id = 7", "delete@7", "delete@7"),
        ("TRUNCATE {}", "truncate@null", "truncate@null"),
    ] {
        for (table, expected) in [("d", of_d), ("f", of_f)] {
            marks += 1;
            setting.source.exec(&sql.replace("{}", table)).await;
            setting.source.exec(&format!("INSERT INTO mark VALUES ({marks})")).await;
            let frames = record(&mut socket, &mut replica, "the mark is there", |frame| {
                changes(std::slice::from_ref(frame)).iter().any(|change| change["table"] == "public.mark")
            })
            .await;
            let of_table = format!("public.{table}");
            let told = changes(&frames).into_iter().filter(|change| change["table"] == *of_table);
            let told: Vec<String> = told
                .map(|change| format!("{}@{}", change["op"].as_str().unwrap(), change["key"]["id"]))
                .collect();
            assert_eq!(told.join(" "), expected, "{table}: {sql}");
        }
    }
}

#[tokio::test]
async fn other_rows_of_a_table_are_asked_for_while_connected() {
    let setting = Setting::new("filters_more", SCHEMA).await;
    setting.source.exec(&writes(&mut Dice::of(7, "writes"), 80)).await;
    let eu = || case("d", Some("region = 'eu'"), Some(&["n"]), false);
    let mut client = Client::connect(&setting, "c".into(), eu()).await;
    check_all(&setting, std::slice::from_mut(&mut client), "at first").await;
    let more = json!({"id": "more", "table": "d", "where": "n > 30", "columns": ["region"], "big_numbers": "string"});
    client.socket.send(&json!({"type": "subscribe", "subscriptions": [more]})).await;
    client.case.query = "(SELECT id, region, n FROM d WHERE region = 'eu' OR n > 30)".into();
    snapshot_came(&mut client).await;
    setting.source.exec("UPDATE d SET n = n + 10; UPDATE d SET region = 'us' WHERE id % 5 = 0").await;
    check_all(&setting, std::slice::from_mut(&mut client), "with more rows and columns").await;
    client.socket.send(&json!({"type": "unsubscribe", "ids": ["more"]})).await;
    client.case = eu();
    snapshot_came(&mut client).await;
    setting.source.exec("UPDATE d SET n = n - 10; UPDATE d SET region = 'eu' WHERE id % 3 = 0").await;
    check_all(&setting, std::slice::from_mut(&mut client), "with less again").await;
}

async fn snapshot_came(client: &mut Client) {
    record(&mut client.socket, &mut client.replica, "the snapshot is there", |frame| {
        frame["type"] == "snapshot_end"
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_the_table_is_refused_and_ends_a_session_when_the_table_changes() {
    let setting = Setting::new("filters_misfit", SCHEMA).await;
    let hello = |id: &str, asked: Value| json!({"type": "hello", "client_id": id, "subscriptions": [asked]});
    for asked in [
        json!({"id": "s", "table": "d", "where": "nothing = 1"}),
        json!({"id": "s", "table": "d", "columns": ["nothing"]}),
        json!({"id": "s", "table": "d", "where": "n = 'x'"}),
    ] {
        let mut socket = WsClient::connect(&setting.service.stream()).await;
        socket.send(&hello("refused", asked)).await;
        let error = socket.next_of_type("error", PATIENCE).await;
        assert_eq!((&error["code"], &error["subscription"]), (&"WD-FILTER-INVALID".into(), &"s".into()));
        assert_eq!(socket.closed(PATIENCE).await.0, 4403);
    }
    let case = case("d", Some("note = 'x'"), Some(&["n"]), false);
    let mut client = Client::connect(&setting, "c".into(), case).await;
    client
        .socket
        .send(&json!({"type": "subscribe", "subscriptions": [
        {"id": "bad", "table": "f", "where": "nothing = 1"}]}))
        .await;
    let refused = |frame: &Value| frame["type"] == "error";
    let frames = record(&mut client.socket, &mut client.replica, "it is refused", refused).await;
    let error = frames.last().unwrap();
    assert_eq!((&error["code"], &error["subscription"]), (&"WD-FILTER-INVALID".into(), &"bad".into()));
    assert_eq!(error["fatal"], false);
    setting.source.exec("INSERT INTO d VALUES (1, 'eu', 1, 1, 1, 'x'), (2, 'eu', 2, 2, 2, 'y')").await;
    setting.source.exec("INSERT INTO mark VALUES (1)").await;
    setting.settled().await;
    let marked = |replica: &Replica| replica.rows("public.mark").len() == 1;
    client.socket.follow(&mut client.replica, "the rest goes on", PATIENCE, marked).await;
    assert_eq!(client.replica.rows("public.d"), [r#"{"id":1,"n":1}"#]);

    setting.source.exec("ALTER TABLE d DROP COLUMN note; INSERT INTO d VALUES (3, 'eu', 3)").await;
    let error = client.socket.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["subscription"]), (&"WD-FILTER-INVALID".into(), &"rows".into()));
    let (code, reason) = client.socket.closed(PATIENCE).await;
    assert_eq!((code, reason.as_str()), (4403, r#"{"code":"WD-FILTER-INVALID"}"#));

    // Coming back with the same does not help, with another filter it does.
    client.replica.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&client.replica.hello("c", &client.case.asked)).await;
    let error = socket.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["subscription"]), (&"WD-FILTER-INVALID".into(), &"rows".into()));
    let other = self::case("d", Some("region = 'eu'"), Some(&["n"]), false);
    let mut client = Client::connect(&setting, "c".into(), other).await;
    check_all(&setting, std::slice::from_mut(&mut client), "with another filter").await;
}
