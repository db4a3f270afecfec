//! A committed transaction can be in the WAL, and in history, while no snapshot shows it yet. A synchronous standby that
//! does not answer makes that last as long as a test wants. A client that asks for a snapshot meanwhile neither loses
//! such a transaction nor gets it twice; a table without key shows both.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use waldelta_testkit::{
    Frame, Replica, Service, TestCluster, TestDatabase, WsClient, connect, source_rows, wait_until,
};

use crate::setting::{
    PATIENCE, Setting, all_tables, config_file, run_options, waldelta, waldelta_ok, with_databases,
};

const SCHEMA: &str = "
    CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
    CREATE TABLE entry (account int NOT NULL, amount int NOT NULL);
    INSERT INTO account SELECT id, 0 FROM generate_series(1, 5) id";
const TABLES: [&str; 2] = ["public.account", "public.entry"];
/// How long nothing of a snapshot may come while it has to wait.
const QUIET: Duration = Duration::from_secs(1);

/// A source of its own whose commits wait for a standby that never answers, unless they ask not to.
struct Waiting {
    setting: Setting,
    waiters: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Waiting {
    async fn new(hint: &str) -> Self {
        // Who says nothing does not wait: the tests' own connections.
        let cluster =
            TestCluster::own(&[("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")])
                .await;
        let source = TestDatabase::create_on(&cluster, hint).await;
        let history = TestDatabase::create(&format!("{hint}_h")).await;
        source.exec(SCHEMA).await;
        // From here on, new connections that say nothing wait: the service has to say that it does not want to.
        source.exec(&format!("ALTER DATABASE {} SET synchronous_commit = 'on'", source.name())).await;
        waldelta_ok(&with_databases(&["init", "--apply", "--allow-keyless"], &source, &history));
        let service = Service::start(run_options(&source, &history)).await;
        Waiting { setting: Setting { service, source, history }, waiters: JoinSet::new() }
    }

    /// Commits a transaction that is in history then, but that nobody sees. Returns its backend's process id.
    async fn commit_unseen(&mut self, amount: i32) -> String {
        let client = connect(self.setting.source.url()).await;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        self.waiters.spawn(async move { book(&client, amount).await });
        let source = &self.setting.source;
        let waits =
            format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'SyncRep'");
        wait_until("the commit waits", PATIENCE, async || source.query_text(&waits).await == "1").await;
        self.in_history(amount).await;
        let seen = format!("SELECT count(*) FROM entry WHERE amount = {amount}");
        assert_eq!(source.query_text(&seen).await, "0", "the source shows it already");
        pid.to_string()
    }

    /// Commits a transaction that everybody sees at once.
    async fn commit_seen(&self, amount: i32) {
        let client = connect(self.setting.source.url()).await;
        client.batch_execute("SET synchronous_commit = local").await.unwrap();
        book(&client, amount).await.unwrap();
        self.in_history(amount).await;
    }

    async fn in_history(&self, amount: i32) {
        let sql = format!(
            "SELECT count(*) FROM waldelta.change_history
             WHERE table_name = 'public.entry' AND data ->> 'amount' = '{amount}'"
        );
        let history = &self.setting.history;
        wait_until("history has it", PATIENCE, async || history.query_text(&sql).await == "1").await;
    }

    /// A client that asks for a snapshot, up to where the service has to wait for the source.
    async fn client_that_waits(&self) -> (WsClient, Replica) {
        let mut replica = Replica::new();
        let mut socket = WsClient::connect(&self.setting.service.stream()).await;
        socket.send(&replica.hello("new", &[all_tables()])).await;
        // The session is at its snapshot, and has looked at what is visible.
        wait_until("the client is being hydrated", PATIENCE, async || {
            let (_, status) = self.setting.service.get("/v1/status").await;
            let status: Value = serde_json::from_str(&status).unwrap();
            status["sessions"][0]["state"] == "hydrating"
        })
        .await;
        while let Some(frame) = socket.frame_within(QUIET).await {
            let Frame::Text(text) = frame else { panic!("{frame:?}") };
            let frame: Value = serde_json::from_str(&text).unwrap();
            assert!(["welcome", "heartbeat"].contains(&frame["type"].as_str().unwrap()), "too early: {text}");
            replica.apply(&text).unwrap();
        }
        (socket, replica)
    }

    /// No commit waits any more.
    async fn lift(&mut self) {
        self.setting.source.exec("ALTER SYSTEM SET synchronous_standby_names = ''").await;
        self.setting.source.exec("SELECT pg_reload_conf()").await;
        while let Some(committed) = self.waiters.join_next().await {
            committed.unwrap().unwrap();
        }
    }

    async fn live_and_equal(&self, mut socket: WsClient, mut replica: Replica) {
        let live = |replica: &Replica| replica.is_live() && replica.is_consistent();
        socket.follow(&mut replica, "it is live", PATIENCE, live).await;
        self.setting.equal(&mut socket, &mut replica, &TABLES).await;
        // Once more, after a transaction that ends what might still be under way.
        self.commit_seen(1_000).await;
        self.setting.equal(&mut socket, &mut replica, &TABLES).await;
        let entries = source_rows(&connect(self.setting.source.url()).await, "public.entry").await;
        assert_eq!(replica.rows("public.entry"), entries);
        assert_eq!(replica.resets(), [""; 0]);
    }
}

async fn book(client: &Client, amount: i32) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "BEGIN;
         INSERT INTO entry VALUES (1, {amount});
         UPDATE account SET balance = balance + {amount} WHERE id = {};
         COMMIT",
        amount % 5 + 1
    );
    client.batch_execute(&sql).await
}

#[tokio::test]
async fn the_newest_transaction_of_all() {
    let mut waiting = Waiting::new("unseen_newest").await;
    waiting.commit_seen(1).await;
    waiting.commit_unseen(2).await;
    // Not even in the list of transactions in progress: a snapshot ends before it.
    let xid = waiting
        .setting
        .history
        .query_text("SELECT max(transaction_id::text::bigint) FROM waldelta.change_history");
    let ends = format!("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint <= {}", xid.await);
    assert_eq!(waiting.setting.source.query_text(&ends).await, "t");
    let (socket, replica) = waiting.client_that_waits().await;
    waiting.lift().await;
    waiting.live_and_equal(socket, replica).await;
}

#[tokio::test]
async fn newer_transactions_are_visible_already() {
    let mut waiting = Waiting::new("unseen_older").await;
    waiting.commit_seen(1).await;
    waiting.commit_unseen(2).await;
    waiting.commit_seen(3).await;
    waiting.commit_seen(4).await;
    let (socket, replica) = waiting.client_that_waits().await;
    waiting.commit_seen(5).await;
    waiting.lift().await;
    waiting.live_and_equal(socket, replica).await;
}

/// The second transaction comes while the snapshot waits for the first, and is still unseen when the snapshot is taken:
/// the stream has to bring what the snapshot lacks.
#[tokio::test]
async fn one_that_the_snapshot_need_not_wait_for() {
    let mut waiting = Waiting::new("unseen_later").await;
    waiting.commit_seen(1).await;
    let first = waiting.commit_unseen(2).await;
    let (mut socket, mut replica) = waiting.client_that_waits().await;
    waiting.commit_unseen(3).await;
    // The first commit gives up waiting; it is committed all the same.
    waiting.setting.source.query_text(&format!("SELECT pg_cancel_backend({first})")).await;
    let live = |replica: &Replica| replica.is_live() && replica.is_consistent();
    socket.follow(&mut replica, "it is live while the source does not show all", PATIENCE, live).await;
    let client = connect(waiting.setting.source.url()).await;
    let shown = source_rows(&client, "public.entry").await;
    assert_eq!(
        replica.rows("public.entry").len(),
        shown.len() + 1,
        "what is durable, also what the source does not show"
    );
    waiting.lift().await;
    waiting.live_and_equal(socket, replica).await;
}

/// Nothing that the service itself writes at the source waits for the standby: a client goes live, the canary beats, and
/// the service stops at once.
#[tokio::test]
async fn the_service_does_not_wait_for_a_standby() {
    let mut waiting = Waiting::new("unseen_own").await;
    let config = config_file("[capture]\ncanary_interval_ms = 200\n");
    let status = waiting.setting.service.stop().await;
    assert!(status.success(), "{status}; {}", waiting.setting.service.log());
    let often = config.add_to(waiting.setting.run_options());
    waiting.setting.service.start_again_with(often).await;
    waiting.commit_seen(1).await;
    let (socket, replica) = waiting.setting.client("new").await;
    let source = &waiting.setting.source;
    let beats = "SELECT beat > 0 FROM waldelta.canary";
    wait_until("the canary beats", PATIENCE, async || source.query_text(beats).await == "t").await;
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(source.query_text(stuck).await, "0");
    waiting.live_and_equal(socket, replica).await;
    let status = waiting.setting.service.stop().await;
    assert!(status.success(), "{status}; {}", waiting.setting.service.log());
}

/// History that is kept for a shorter time than the commit waits: the snapshot would not know what it lacks, and the stream
/// would not bring it.
#[tokio::test]
async fn what_nobody_sees_yet_outlives_what_history_keeps() {
    let mut waiting = Waiting::new("unseen_kept").await;
    let config = config_file("[history]\nretain = \"1MB\"\n");
    let status = waiting.setting.service.stop().await;
    assert!(status.success(), "{status}; {}", waiting.setting.service.log());
    let little = config.add_to(waiting.setting.run_options());
    waiting.setting.service.start_again_with(little).await;
    waiting.commit_seen(1).await;
    waiting.commit_unseen(2).await;
    // Another account each: the second has a transaction in progress.
    for amount in [3, 4, 5, 6, 8, 9] {
        // Some megabytes of WAL, and so of partitions.
        let wal = "SELECT pg_logical_emit_message(false, 'much', repeat('x', 1500000))";
        waiting.setting.source.query_text(wal).await;
        waiting.commit_seen(amount).await;
    }
    let (source, history) = (&waiting.setting.source, &waiting.setting.history);
    let order = with_databases(&["prune", "--keep", "1B", "--yes", "--json"], source, history);
    let (code, done, log) = waldelta(&order);
    assert_eq!(code, Some(1), "something is left: {done} {log}");
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["done"]["is_unseen"], true, "{done}");
    let (_, status) = waiting.setting.service.get("/v1/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["history"]["retained"]["not_shown"], true, "{status}");
    let (socket, replica) = waiting.client_that_waits().await;
    waiting.lift().await;
    waiting.live_and_equal(socket, replica).await;
    // Now everybody sees it.
    let done: Value = serde_json::from_str(&waldelta_ok(&order)).unwrap();
    assert_eq!(done["done"]["is_unseen"], false, "{done}");
    assert_ne!(done["done"]["partitions"], 0, "{done}");
}
