//! A client that joins while others write gets a snapshot and then stays equal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use waldelta_testkit::{Frame, Replica, TestDatabase, WsClient};

use crate::setting::{PATIENCE, Setting, all_tables};

const SCHEMA: &str = "
    CREATE TABLE a (id bigint PRIMARY KEY, n int NOT NULL, v text);
    CREATE TABLE b (x bigint, y text, v numeric, big text, PRIMARY KEY (x, y));
    ALTER TABLE b ALTER big SET STORAGE EXTERNAL";
const TABLES: [&str; 2] = ["public.a", "public.b"];
const WRITERS: u64 = 4;
/// A writer begins a transaction at most this often: a debug build of the service and of five clients has to keep up.
const PACE: Duration = Duration::from_millis(20);

/// Sessions that insert, update, change keys and delete until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: JoinSet<()>,
}

impl Load {
    fn start(source: &TestDatabase) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (stop, committed, url) = (stop.clone(), committed.clone(), source.url().to_owned());
            writers.spawn(async move {
                let client = waldelta_testkit::connect(&url).await;
                // Each has rows of its own, so that none waits for another.
                let mut step = 0u64;
                let mut pace = interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    let sql = transaction(writer, step);
                    client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
                    committed.fetch_add(1, Ordering::Relaxed);
                    step += 1;
                }
            });
        }
        Load { stop, committed, writers }
    }

    /// Waits until so many more transactions have committed.
    async fn has_committed(&self, more: u64) {
        let wanted = self.committed.load(Ordering::Relaxed) + more;
        let committed = self.committed.clone();
        waldelta_testkit::wait_until("the load has gone on", PATIENCE, async || {
            committed.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap();
        }
    }
}

/// One transaction of a writer: rows come, change, move to another key and go.
fn transaction(writer: u64, step: u64) -> String {
    let id = |step: u64| step * WRITERS + writer;
    let (new, old, older) = (id(step), id(step.saturating_sub(5)), id(step.saturating_sub(40)));
    match step % 10 {
        // Rolled back: nobody may ever see it.
        7 => format!("BEGIN; INSERT INTO a VALUES ({new}, -1, 'never'); ROLLBACK"),
        _ => format!(
            "BEGIN;
             INSERT INTO a VALUES ({new}, 0, 'a{new}');
             INSERT INTO b VALUES ({new}, 'y', {new}.50, repeat('big', 1000));
             UPDATE a SET n = n + 1 WHERE id = {old};
             UPDATE b SET v = v + 1 WHERE x = {old} AND y = 'y';
             UPDATE b SET y = 'moved' WHERE x = {older} AND y = 'y';
             DELETE FROM a WHERE id = {older};
             COMMIT"
        ),
    }
}

#[tokio::test]
async fn a_client_that_joins_under_load_becomes_equal_and_stays_so() {
    let setting = Setting::new("late", SCHEMA).await;
    let load = Load::start(&setting.source);
    load.has_committed(100).await;
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut replica = Replica::new();
        let mut socket = WsClient::connect(&setting.service.stream()).await;
        socket.send(&replica.hello(&format!("late-{number}"), &[all_tables()])).await;
        socket.follow(&mut replica, "it is consistent", PATIENCE, Replica::is_consistent).await;
        // Now, in the middle of everything, it is what the source was at this position.
        setting.equals_history(&replica, &TABLES).await;
        load.has_committed(30).await;
        clients.push((socket, replica));
    }
    // Later too, at whatever position it then has.
    for (socket, replica) in &mut clients {
        let seen = replica.transactions();
        socket.follow(replica, "more comes", PATIENCE, |replica| replica.transactions() > seen + 20).await;
        setting.equals_history(replica, &TABLES).await;
    }
    load.stop().await;
    for (mut socket, mut replica) in clients {
        setting.equal(&mut socket, &mut replica, &TABLES).await;
        assert!(replica.resets().is_empty() && replica.errors().is_empty());
    }
    setting.history_equals_source(&TABLES).await;
}

#[tokio::test]
async fn a_connection_lost_before_the_copy_is_consistent_loses_nothing() {
    let setting = Setting::new("late_cut", SCHEMA).await;
    let load = Load::start(&setting.source);
    load.has_committed(100).await;
    let mut cut = 0;
    let mut replicas = Vec::new();
    for number in 0..6 {
        let client_id = format!("cut-{number}");
        let mut replica = Replica::new();
        let mut socket = WsClient::connect(&setting.service.stream()).await;
        socket.send(&replica.hello(&client_id, &[all_tables()])).await;
        read_through_snapshot(&mut socket, &mut replica).await;
        cut += usize::from(!replica.is_consistent());
        drop(socket);
        load.has_committed(20).await;
        replicas.push((client_id, replica));
    }
    assert!(cut > 0, "every copy was consistent with its snapshot: the load was no load");
    let mut clients = Vec::new();
    for (client_id, mut replica) in replicas {
        clients.push((setting.resume(&client_id, &mut replica).await, replica));
    }
    load.stop().await;
    for (mut socket, mut replica) in clients {
        setting.equal(&mut socket, &mut replica, &TABLES).await;
        assert!(replica.resets().is_empty());
    }
}

#[tokio::test]
async fn a_connection_lost_inside_the_snapshot_begins_anew() {
    let setting = Setting::new("late_inside", SCHEMA).await;
    setting
        .source
        .exec("INSERT INTO a SELECT i, 0, repeat('x', 100) FROM generate_series(1000001, 1020000) i")
        .await;
    let load = Load::start(&setting.source);
    load.has_committed(50).await;
    let mut replica = Replica::new();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello("inside", &[all_tables()])).await;
    let mut rows = 0;
    while rows < 2 {
        let frame = socket.next_frame(PATIENCE).await;
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        rows += usize::from(text.starts_with("{\"type\":\"rows\""));
        replica.apply(&text).unwrap();
    }
    drop(socket);
    let mut socket = setting.resume("inside", &mut replica).await;
    load.stop().await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
}

/// Reads up to and including `snapshot_end`.
async fn read_through_snapshot(socket: &mut WsClient, replica: &mut Replica) {
    loop {
        let frame = socket.next_frame(PATIENCE).await;
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        replica.apply(&text).unwrap();
        if text.starts_with("{\"type\":\"snapshot_end\"") {
            return;
        }
    }
}
