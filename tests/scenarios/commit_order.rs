//! Transactions arrive and are stored in the order of their commits, whatever order they wrote in.

use tokio_postgres::Client;
use waldelta_testkit::{TestDatabase, connect};

use crate::setting::{Setting, changes, of_type, record};

const SCHEMA: &str =
    "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)";
const TABLES: [&str; 2] = ["public.a", "public.b"];
const SESSIONS: usize = 4;
const ROUNDS: usize = 12;
const COPIED: usize = 3_000;

/// What PostgreSQL's own example decoder says about a slot of its own: per change the transaction, the operation, the table
/// and the id.
struct Witness {
    slot: String,
}

impl Witness {
    async fn begin(source: &TestDatabase) -> Self {
        let slot = source.slot("witness");
        source.query(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")).await;
        Witness { slot }
    }

    async fn saw(&self, source: &TestDatabase) -> Vec<String> {
        let sql = format!("SELECT xid, data FROM pg_logical_slot_get_changes('{}', NULL, NULL)", self.slot);
        let lines = source.query(&sql).await;
        let changes = lines.iter().filter_map(|line| {
            let (xid, text) = (line[0].as_ref().unwrap(), line[1].as_ref().unwrap());
            let (table, rest) = text.strip_prefix("table ")?.split_once(": ")?;
            let (operation, rest) = rest.split_once(": id[integer]:")?;
            let id = rest.split_once(' ').map_or(rest, |(id, _)| id);
            table.starts_with("public.").then(|| format!("{xid} {} {table} {id}", operation.to_lowercase()))
        });
        changes.collect()
    }
}

/// The same of history.
async fn stored(history: &TestDatabase) -> Vec<String> {
    let sql = "SELECT format('%s %s %s %s', transaction_id::text::bigint & 4294967295, operation, table_name,
                             row_key::jsonb->>0)
               FROM waldelta.change_history ORDER BY epoch, lsn, seq";
    history.query(sql).await.into_iter().map(|mut row| row[0].take().unwrap()).collect()
}

/// Round for round: every session writes before any of them commits, and they commit in an order of their own.
async fn interleave(sessions: &[Client]) {
    for round in 0..ROUNDS {
        for session in sessions {
            session.batch_execute("BEGIN").await.unwrap();
        }
        // The writes of one transaction lie between those of the others.
        for step in 0..5 {
            for (number, session) in sessions.iter().enumerate() {
                let id = (round * SESSIONS + number) * 5 + step;
                let table = if step % 2 == 0 { "a" } else { "b" };
                let sql = format!("INSERT INTO {table} VALUES ({id}, 'r{round} s{number}')");
                session.batch_execute(&sql).await.unwrap();
            }
        }
        for turn in 0..SESSIONS {
            // Another one begins each time, and every other round goes backwards.
            let number = (round + if round % 2 == 0 { turn } else { SESSIONS - turn }) % SESSIONS;
            let end = if (round + number) % 7 == 6 { "ROLLBACK" } else { "COMMIT" };
            sessions[number].batch_execute(end).await.unwrap();
        }
    }
}

#[tokio::test]
async fn interleaved_transactions_arrive_and_are_stored_in_commit_order() {
    let setting = Setting::new("order", SCHEMA).await;
    let witness = Witness::begin(&setting.source).await;
    let (mut socket, mut replica) = setting.client("c").await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(connect(setting.source.url()).await);
    }
    interleave(&sessions).await;
    setting.source.exec("INSERT INTO a VALUES (1000000, 'last')").await;

    let is_last = |frame: &serde_json::Value| frame["changes"][0]["key"]["id"] == 1_000_000;
    let frames = record(&mut socket, &mut replica, "the last one", is_last).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let saw = witness.saw(&setting.source).await;
    assert!(saw.len() > ROUNDS * SESSIONS, "{saw:?}");
    assert_eq!(stored(&setting.history).await, saw);
    let arrived: Vec<String> = of_type(&frames, "tx")
        .iter()
        .flat_map(|tx| {
            let changes = changes(std::slice::from_ref(*tx)).into_iter();
            let line = |c: &serde_json::Value| {
                format!("{} {} {} {}", tx["xid"], text(&c["op"]), text(&c["table"]), c["key"]["id"])
            };
            changes.map(line).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(arrived, saw);
    setting.history_equals_source(&TABLES).await;
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn the_rows_of_one_copy_keep_their_order_beside_other_transactions() {
    let setting = Setting::new("order_copy", SCHEMA).await;
    let witness = Witness::begin(&setting.source).await;
    let (mut socket, mut replica) = setting.client("c").await;
    let (copying, beside) = (connect(setting.source.url()).await, connect(setting.source.url()).await);
    // All rows of one COPY share the WAL position of one record; those of two in one transaction are told apart too.
    copying.batch_execute(&format!("BEGIN; COPY a (id) FROM PROGRAM 'seq 1 {COPIED}'")).await.unwrap();
    beside.batch_execute("INSERT INTO b VALUES (-1, 'commits first')").await.unwrap();
    copying.batch_execute(&format!("COPY b (id) FROM PROGRAM 'seq {COPIED} -1 1'")).await.unwrap();
    beside.batch_execute("INSERT INTO b VALUES (-2, 'commits second')").await.unwrap();
    copying.batch_execute("COMMIT").await.unwrap();
    beside.batch_execute("INSERT INTO b VALUES (-3, 'commits last')").await.unwrap();

    let is_last = |frame: &serde_json::Value| frame["changes"][0]["key"]["id"] == -3;
    let frames = record(&mut socket, &mut replica, "the last one", is_last).await;
    let ids: Vec<i64> = changes(&frames).iter().map(|change| change["key"]["id"].as_i64().unwrap()).collect();
    let copied = i64::try_from(COPIED).unwrap();
    let expected: Vec<i64> =
        [-1, -2].into_iter().chain(1..=copied).chain((1..=copied).rev()).chain([-3]).collect();
    assert!(ids == expected, "{} changes, in another order", ids.len());
    assert_eq!(stored(&setting.history).await, witness.saw(&setting.source).await);
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    setting.history_equals_source(&TABLES).await;
}
