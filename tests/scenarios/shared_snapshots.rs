//! Many clients that come at once while others write: the source is read once for all of them, and each becomes equal to it.
//! So do those that come later, and one whose connection breaks in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use waldelta_testkit::{Frame, Replica, TestDatabase, WsClient, wait_until};

use crate::setting::{PATIENCE, Setting, all_tables};

const SCHEMA: &str = "CREATE TABLE item (id bigint PRIMARY KEY, n int NOT NULL, v text)";
const ROWS: &str =
    "INSERT INTO item SELECT i, 0, repeat(i || ' ', 100) FROM generate_series(1000001, 1005000) i";
const TABLE: [&str; 1] = ["public.item"];
const CLIENTS: usize = 12;
const PACE: Duration = Duration::from_millis(20);

/// Writes until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<()>,
}

impl Load {
    #[expect(
        clippy::disallowed_methods,
        reason = "somebody writes while the test looks; it ends with the test"
    )]
    fn start(source: &TestDatabase) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, url) = (stop.clone(), source.url().to_owned());
        let writer = tokio::task::spawn(async move {
            let client = waldelta_testkit::connect(&url).await;
            let mut pace = tokio::time::interval(PACE);
            let mut id = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                id += 1;
                let (new, old) = (id, 1_000_000 + id);
                let sql = format!(
                    "BEGIN; INSERT INTO item VALUES ({new}, 0, 'new'); UPDATE item SET n = n + 1 WHERE id = {old};
                     DELETE FROM item WHERE id = {old} - 10; COMMIT"
                );
                client.batch_execute(&sql).await.unwrap();
            }
        });
        Load { stop, writer }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await.unwrap();
    }
}

/// A captured table with rows, all of them in history.
async fn setting(hint: &str) -> Setting {
    let setting = Setting::new(hint, SCHEMA).await;
    setting.source.exec(ROWS).await;
    setting.settled().await;
    setting
}

/// A number of `/metrics`.
async fn metric(setting: &Setting, name: &str) -> u64 {
    let (status, text) = setting.service.get("/metrics").await;
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}

async fn begin(setting: &Setting, client_id: &str, replica: &Replica) -> WsClient {
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello(client_id, &[all_tables()])).await;
    socket
}

#[tokio::test]
async fn who_comes_at_once_is_served_by_one_reading_and_becomes_equal() {
    const READINGS: &str = "waldelta_fanout_snapshot_readings_total";
    let setting = setting("shared").await;
    let load = Load::start(&setting.source);
    // All of them are there before the first row is read.
    let lock = setting.source.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let replica = Replica::new();
        clients.push((begin(&setting, &format!("client-{number}"), &replica).await, replica));
    }
    let hydrating = "waldelta_fanout_sessions{state=\"hydrating\"}";
    wait_until("all have come", PATIENCE, async || metric(&setting, hydrating).await == CLIENTS as u64).await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    for (socket, replica) in &mut clients {
        socket.follow(replica, "it is consistent", PATIENCE, Replica::is_consistent).await;
        setting.equals_history(replica, &TABLE).await;
    }
    assert_eq!(metric(&setting, READINGS).await, 1);
    // Later, out of what is kept, and with what has been written since.
    for number in 0..3 {
        let mut replica = Replica::new();
        let mut socket = begin(&setting, &format!("late-{number}"), &replica).await;
        socket.follow(&mut replica, "it is consistent", PATIENCE, Replica::is_consistent).await;
        setting.equals_history(&replica, &TABLE).await;
        clients.push((socket, replica));
    }
    assert_eq!(metric(&setting, READINGS).await, 1);
    load.stop().await;
    for (mut socket, mut replica) in clients {
        setting.equal(&mut socket, &mut replica, &TABLE).await;
        assert!(replica.resets().is_empty() && replica.errors().is_empty());
    }
}

/// Reads frames until so many of them had rows; the number of the last.
async fn read_rows(socket: &mut WsClient, replica: &mut Replica, frames: usize) -> (String, u64) {
    let (mut id, mut seen) = (String::new(), Vec::new());
    while seen.len() < frames {
        let frame = socket.next_frame(PATIENCE).await;
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str().unwrap() {
            "snapshot_begin" => id = frame["id"].as_str().unwrap().to_owned(),
            "rows" => seen.push(frame["n"].as_u64().unwrap()),
            _ => {}
        }
        replica.apply(&text).unwrap_or_else(|violation| panic!("{}", violation.0));
    }
    (id, seen[frames - 1])
}

#[tokio::test]
async fn a_client_that_is_cut_off_in_the_middle_goes_on_there_and_becomes_equal() {
    let setting = setting("shared_cut").await;
    let load = Load::start(&setting.source);
    // Somebody has the snapshot whole: it is kept.
    let (_first, _) = setting.client("first").await;
    let mut replica = Replica::new();
    let mut socket = begin(&setting, "cut", &replica).await;
    let (id, n) = read_rows(&mut socket, &mut replica, 5).await;
    drop(socket);

    let mut hello = replica.hello("cut", &[all_tables()]);
    assert!(hello["after"].is_null(), "{hello}");
    hello["snapshot_from"] = json!({"id": id, "n": n});
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&hello).await;
    assert_eq!(socket.next_json(PATIENCE).await["mode"], "snapshot");
    let begin = socket.next_json(PATIENCE).await;
    assert_eq!(
        (&begin["type"], &begin["id"], &begin["n"]),
        (&json!("snapshot_begin"), &json!(id), &json!(n + 1))
    );
    // The copy goes on as if nothing had happened: no row may come twice, and the sums must be those of both halves.
    socket.follow(&mut replica, "it is consistent", PATIENCE, Replica::is_consistent).await;
    setting.equals_history(&replica, &TABLE).await;
    load.stop().await;
    setting.equal(&mut socket, &mut replica, &TABLE).await;
    assert!(replica.resets().is_empty() && replica.errors().is_empty());
}
