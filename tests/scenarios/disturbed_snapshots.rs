//! What happens at the source while a client's snapshot is read: timeouts of the role do not end it, and a table that is
//! emptied, dropped, renamed or rewritten under it is noticed. The client has the source's rows in the end.

use serde_json::Value;
use waldelta_testkit::{
    Frame, Replica, Service, TestCluster, TestDatabase, WsClient, connect, source_rows, wait_until,
};

use crate::setting::{PATIENCE, Setting, all_tables, run_options_as};

/// It comes first in a snapshot.
const LARGE: &str = "CREATE TABLE a_large (id int PRIMARY KEY, value text);
    INSERT INTO a_large SELECT i, repeat(i || ' ', 10000) FROM generate_series(100, 400) i";
const SMALL: &str = "CREATE TABLE b_small (id int PRIMARY KEY, value text); INSERT INTO b_small VALUES (1, 'one'), (2, 'two')";

/// A client whose snapshot was taken and cannot be read, as long as the lock lasts.
struct Held {
    socket: WsClient,
    lock: tokio_postgres::Client,
}

/// Connects a client, and waits until the reading for it has waited for the large table for a while.
async fn held(setting: &Setting, replica: &Replica) -> Held {
    let lock = setting.source.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE a_large IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello("held", &[all_tables()])).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'waldelta'
                 AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '300 ms'";
    wait_until("the reading waits", PATIENCE, async || setting.source.query_text(waits).await != "0").await;
    Held { socket, lock }
}

impl Held {
    async fn release(self) -> WsClient {
        self.lock.batch_execute("ROLLBACK").await.unwrap();
        self.socket
    }
}

/// Reads on until the client has the source's rows; comes back when it is let go. The codes of the failures it was told.
async fn read_on(
    setting: &Setting,
    mut socket: WsClient,
    replica: &mut Replica,
    tables: &[&str],
) -> (WsClient, Vec<String>) {
    let source = connect(setting.source.url()).await;
    let mut wanted = Vec::new();
    for table in tables {
        wanted.push(source_rows(&source, table).await);
    }
    let mut codes = Vec::new();
    let is_done = |replica: &Replica| {
        let same = tables.iter().zip(&wanted).all(|(table, rows)| replica.rows(table) == *rows);
        replica.is_live() && replica.is_consistent() && same
    };
    while !is_done(replica) {
        match socket.next_frame(PATIENCE).await {
            Frame::Text(text) => {
                replica.apply(&text).unwrap_or_else(|violation| panic!("{}", violation.0));
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"] == "error" {
                    codes.push(frame["code"].as_str().unwrap().to_owned());
                }
            }
            Frame::Closed { code, reason } => {
                assert!(codes.len() < 5, "it does not come to an end: {codes:?}, {code} {reason}");
                replica.disconnected();
                socket = WsClient::connect(&setting.service.stream()).await;
                socket.send(&replica.hello("held", &[all_tables()])).await;
            }
        }
    }
    (socket, codes)
}

#[tokio::test]
async fn by_timeouts_of_the_role_and_the_database() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "timeouts").await;
    let history = TestDatabase::create("timeouts_h").await;
    let mut setting = Setting::over(source, history, &format!("{LARGE}; {SMALL}")).await;
    setting.service.stop().await;
    let name = setting.source.name().to_owned();
    let mut sql = "CREATE ROLE hurried SUPERUSER LOGIN REPLICATION;".to_owned();
    let mut timeouts = vec![
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ];
    if setting.source.server_major().await >= 17 {
        timeouts.push("transaction_timeout");
    }
    for timeout in timeouts {
        sql += &format!(
            "ALTER ROLE hurried IN DATABASE {name} SET {timeout} = '100ms'; ALTER ROLE hurried SET {timeout} = '50ms';"
        );
    }
    setting.source.exec(&sql).await;
    let options = run_options_as("hurried", &setting.source, &setting.history);
    setting.service = Service::start(options).await;

    let mut replica = Replica::new();
    let socket = held(&setting, &replica).await.release().await;
    let tables = ["public.a_large", "public.b_small"];
    let (mut socket, codes) = read_on(&setting, socket, &mut replica, &tables).await;
    assert_eq!(codes, [""; 0], "it was read in one go");
    setting.source.exec("UPDATE b_small SET value = 'three' WHERE id = 2").await;
    setting.equal(&mut socket, &mut replica, &tables).await;
    let log = setting.service.log();
    assert!(!log.contains("capture was interrupted"), "{log}");
}

/// A statement on the small table while the large one, which comes first, is being read.
async fn by(hint: &str, statement: &str, tables: &[&str]) {
    let setting = Setting::new(hint, &format!("{LARGE}; {SMALL}")).await;
    let mut replica = Replica::new();
    let held = held(&setting, &replica).await;
    setting.source.exec(statement).await;
    let (mut socket, codes) = read_on(&setting, held.release().await, &mut replica, tables).await;
    // Newer versions fail to list the publication's tables when one is dropped meanwhile: the client comes back all the same.
    let is_expected = |code: &String| ["WD-TABLE-CHANGED", "WD-STATEMENT-FAILED"].contains(&code.as_str());
    assert!(!codes.is_empty() && codes.iter().all(is_expected), "{codes:?}");
    setting.source.exec("UPDATE a_large SET value = 'small' WHERE id = 100").await;
    setting.equal(&mut socket, &mut replica, tables).await;
}

#[tokio::test]
async fn by_a_truncate() {
    by("snapshot_truncate", "TRUNCATE b_small", &["public.a_large", "public.b_small"]).await;
}

#[tokio::test]
async fn by_a_drop() {
    by("snapshot_drop", "DROP TABLE b_small", &["public.a_large"]).await;
}

#[tokio::test]
async fn by_another_name() {
    let statement = "ALTER TABLE b_small RENAME TO c_small; INSERT INTO c_small VALUES (3, 'three')";
    by("snapshot_rename", statement, &["public.a_large", "public.c_small"]).await;
}

#[tokio::test]
async fn by_a_rewrite() {
    let statement = "ALTER TABLE b_small ALTER COLUMN value TYPE int USING length(value)";
    by("snapshot_rewrite", statement, &["public.a_large", "public.b_small"]).await;
}
