//! A transaction that is far larger than the memory that the service may take: history gets it whole, clients get it in
//! parts that they apply as one. `make large` runs it at the length that its name says.

use std::time::Duration;

use serde_json::{Value, json};
use waldelta_testkit::{Frame, Replica, TestCluster, TestDatabase, WsClient};
use waldelta_wal::Position;

use crate::setting::{PATIENCE, Setting, all_tables};

const ROWS_VARIABLE: &str = "WALDELTA_LARGE_ROWS";
/// More than any page, piece or queue on the way has room for, and as many bytes as fit a debug build's time.
const ROWS_DEFAULT: u64 = 200_000;
/// Bytes of text in a row: the rows alone are more than [`GROWTH_BYTES_MAX`].
const VALUE_BYTES: usize = 500;
/// What the service may take beyond what it has when idle.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// A debug build on a busy machine.
const LONG: Duration = Duration::from_secs(200);

/// How many rows there are.
#[expect(clippy::disallowed_methods, reason = "the size of the transaction is given by whoever starts it")]
fn rows() -> u64 {
    let rows = std::env::var(ROWS_VARIABLE).map_or(ROWS_DEFAULT, |text| text.parse().unwrap());
    assert!(rows * VALUE_BYTES as u64 > GROWTH_BYTES_MAX, "{rows} rows would fit into memory");
    rows
}

/// Counts what arrives of one transaction, and checks that nothing is missing and nothing is told too early.
#[derive(Default)]
struct Tally {
    rows: u64,
    ids: u64,
    parts: u64,
    cursor: Option<Position>,
    whole: bool,
}

impl Tally {
    fn take(&mut self, frame: &Value) {
        assert!(!self.whole, "more after the end: {}", frame["cursor"]);
        let cursor: Position = frame["cursor"].as_str().unwrap().parse().unwrap();
        if let Some(before) = self.cursor {
            assert_eq!(
                (cursor.epoch, cursor.commit_lsn),
                (before.epoch, before.commit_lsn),
                "another one in between"
            );
            assert!(cursor > before, "{cursor} after {before}");
        }
        for change in frame["changes"].as_array().unwrap() {
            assert_eq!(change["seq"], self.rows, "at {cursor}");
            assert_eq!(change["op"], "insert");
            assert_eq!(change["data"]["value"].as_str().unwrap().len(), VALUE_BYTES);
            self.ids += change["data"]["id"].as_u64().unwrap();
            self.rows += 1;
        }
        let last = frame["last"].as_bool().unwrap();
        assert_eq!(cursor.is_whole(), last, "nobody is told to have half a transaction");
        if !last {
            assert_eq!(
                u64::from(cursor.index) + 1,
                self.rows,
                "the cursor of a part is that of its last change"
            );
        }
        (self.cursor, self.whole) = (Some(cursor), last);
        self.parts += 1;
    }

    /// Reads until the transaction is whole.
    async fn follow(socket: &mut WsClient, rows: u64) -> Self {
        let mut tally = Tally::default();
        while !tally.whole {
            let frame = socket.next_frame(LONG).await;
            let Frame::Text(text) = frame else { panic!("{frame:?} after {} rows", tally.rows) };
            let frame: Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "tx" => tally.take(&frame),
                "heartbeat" | "live" if tally.cursor.is_some() => panic!("inside a transaction: {text}"),
                _ => {}
            }
        }
        assert_eq!((tally.rows, tally.ids), (rows, rows * (rows + 1) / 2));
        assert!(tally.parts > 10, "in {} parts", tally.parts);
        tally
    }
}

/// On a server of its own: on the shared one, every new slot of another test would wait for these transactions.
async fn setting(hint: &str, schema_sql: &str) -> Setting {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, hint).await;
    let history = TestDatabase::create_on(&cluster, &format!("{hint}_h")).await;
    Setting::over(source, history, schema_sql).await
}

#[tokio::test]
async fn of_very_many_rows_in_bounded_memory() {
    let rows = rows();
    let setting = setting("large", "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL)").await;
    let (mut here, replica) = setting.client("here").await;
    let before = replica.position().unwrap();
    let idle = setting.service.rss_peak_bytes();

    let insert =
        format!("INSERT INTO item SELECT id, repeat('x', {VALUE_BYTES}) FROM generate_series(1, {rows}) id");
    let begun = std::time::Instant::now();
    let (written, tally) = tokio::join!(setting.source.exec(&insert), Tally::follow(&mut here, rows));
    let () = written;
    println!("the connected client has it after {:?}, in {} parts", begun.elapsed(), tally.parts);

    let sql = "SELECT count(*), min(seq), max(seq), count(DISTINCT seq), count(DISTINCT lsn), count(DISTINCT transaction_id)
               FROM waldelta.change_history WHERE table_name = 'public.item'";
    let row: Vec<String> = setting.history.query(sql).await.remove(0).into_iter().flatten().collect();
    let (all, last) = (rows.to_string(), (rows - 1).to_string());
    assert_eq!(row, [all.as_str(), "0", last.as_str(), all.as_str(), "1", "1"]);

    // A client that was away during all of it.
    let mut away = WsClient::connect(&setting.service.stream()).await;
    let hello = json!({
        "type": "hello", "client_id": "away", "after": before.to_string(), "subscriptions": [all_tables()],
    });
    away.send(&hello).await;
    let begun = std::time::Instant::now();
    let again = Tally::follow(&mut away, rows).await;
    println!("the client that was away has it after {:?}, in {} parts", begun.elapsed(), again.parts);
    assert_eq!(again.cursor, tally.cursor);

    let growth = setting.service.rss_peak_bytes().saturating_sub(idle);
    println!("idle {} MiB, growth {} MiB", idle >> 20, growth >> 20);
    assert!(growth <= GROWTH_BYTES_MAX, "the service grew by {growth} bytes");
}

/// Smaller, but more than one piece on every way, and mixed with others: applied as one by strict clients.
#[tokio::test]
async fn is_applied_as_one() {
    const TABLES: [&str; 2] = ["public.item", "public.small"];
    let schema = "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL, n int NOT NULL);
                  CREATE TABLE small (id int PRIMARY KEY, n int NOT NULL);
                  INSERT INTO small SELECT id, 0 FROM generate_series(1, 3) id";
    let setting = setting("large_parts", schema).await;
    let (mut here, mut replica) = setting.client("here").await;
    let (socket, mut away) = setting.client("away").await;
    drop(socket);

    let large = "BEGIN; UPDATE small SET n = n + 1;
                 INSERT INTO item SELECT id, repeat(md5(id::text), 4), 0 FROM generate_series(1, 24000) id;
                 UPDATE item SET n = 1 WHERE id % 3 = 0; DELETE FROM item WHERE id % 5 = 0; UPDATE small SET n = n + 1;
                 COMMIT";
    for _ in 0..2 {
        setting.source.exec("UPDATE small SET n = n + 1").await;
    }
    let transactions = replica.transactions();
    setting.source.exec(large).await;
    setting.source.exec("UPDATE small SET n = n + 1 WHERE id = 2").await;
    let arrived = |replica: &Replica| replica.transactions() >= transactions + 4;
    here.follow(&mut replica, "all four transactions are there", PATIENCE, arrived).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    let mut socket = setting.resume("away", &mut away).await;
    setting.equal(&mut socket, &mut away, &TABLES).await;
    assert_eq!(away.resets(), [""; 0]);
}
