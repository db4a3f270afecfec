//! What most scenarios begin with: a source, a history in a database of its own, and a service between them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use waldelta_testkit::{
    Frame, Replica, Service, ServiceOptions, TestDatabase, WsClient, connect, source_rows, wait_until,
};
use waldelta_wal::{Epoch, Position};

use crate::fold::{assert_same, folded};

/// How long something may take that should take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A captured database. The service is dropped before the databases.
pub struct Setting {
    pub service: Service,
    pub source: TestDatabase,
    pub history: TestDatabase,
}

impl Setting {
    /// A source with these tables, all captured by a running service.
    pub async fn new(hint: &str, schema_sql: &str) -> Self {
        let source = TestDatabase::create(hint).await;
        let history = TestDatabase::create(&format!("{hint}_h")).await;
        Self::over(source, history, schema_sql).await
    }

    /// The same over databases that the test has made.
    pub async fn over(source: TestDatabase, history: TestDatabase, schema_sql: &str) -> Self {
        source.exec(schema_sql).await;
        waldelta_ok(&with_databases(&["init", "--apply"], &source, &history));
        let service = Service::start(run_options(&source, &history)).await;
        Setting { service, source, history }
    }

    /// How the service of this setting is started: for starting it again in another way.
    pub fn run_options(&self) -> ServiceOptions {
        run_options(&self.source, &self.history)
    }

    /// Waits until everything that has committed up to now is durable in history.
    pub async fn settled(&self) {
        let end = self.source.query_text("SELECT pg_current_wal_insert_lsn()").await;
        let durable = format!("SELECT durable_end >= '{end}'::pg_lsn FROM waldelta.captures");
        // A quiet source writes no commit for capture to see: a message of ours is one.
        self.source.exec("SELECT pg_logical_emit_message(true, 'waldelta.fence', 'settled')").await;
        wait_until("history has everything", PATIENCE, async || {
            self.history.query_text(&durable).await == "t"
        })
        .await;
    }

    /// A client that follows all tables, up to the moment when it is live and equal to the source.
    pub async fn client(&self, client_id: &str) -> (WsClient, Replica) {
        let mut replica = Replica::new();
        let socket = self.resume(client_id, &mut replica).await;
        (socket, replica)
    }

    /// Connects a client that goes on from what it has, up to the moment when it is live.
    pub async fn resume(&self, client_id: &str, replica: &mut Replica) -> WsClient {
        replica.disconnected();
        let mut socket = WsClient::connect(&self.service.stream()).await;
        socket.send(&replica.hello(client_id, &[all_tables()])).await;
        socket
            .follow(replica, "it is live", PATIENCE, |replica| replica.is_live() && replica.is_consistent())
            .await;
        socket
    }

    /// Follows until the client has everything that has committed up to now, and checks that its tables then equal the
    /// source's, both ways. The source must be quiet.
    pub async fn equal(&self, socket: &mut WsClient, replica: &mut Replica, tables: &[&str]) {
        self.settled().await;
        let last = self.last_of(tables).await;
        socket
            .follow(replica, "it has everything", PATIENCE, |replica| {
                replica.is_live() && replica.position() >= last
            })
            .await;
        let client = connect(self.source.url()).await;
        for table in tables {
            assert_same(table, &replica.rows(table), &source_rows(&client, table).await);
        }
    }

    /// Checks that history, folded, is the source's tables, both ways. The source must be quiet, and history have all of
    /// the tables, from their beginning or with a baseline.
    pub async fn history_equals_source(&self, tables: &[&str]) {
        self.settled().await;
        let (source, history) = (connect(self.source.url()).await, connect(self.history.url()).await);
        for table in tables {
            assert_same(table, &folded(&history, table, None).await, &source_rows(&source, table).await);
        }
        self.history_is_gapless().await;
    }

    /// Checks that a copy is, at its own position, what history says. True at every moment, under load too.
    pub async fn equals_history(&self, replica: &Replica, tables: &[&str]) {
        let history = connect(self.history.url()).await;
        for table in tables {
            assert_same(table, &replica.rows(table), &folded(&history, table, replica.position()).await);
        }
    }

    /// Checks that each change of a transaction is in history exactly once, numbered from 0 without a gap.
    pub async fn history_is_gapless(&self) {
        let sql =
            "SELECT epoch, lsn, min(seq), max(seq), count(*), count(DISTINCT id) FROM waldelta.change_history
                   GROUP BY epoch, lsn
                   HAVING min(seq) <> 0 OR max(seq) <> count(*) - 1 OR count(DISTINCT id) <> count(*)";
        let broken = self.history.query(sql).await;
        assert!(broken.is_empty(), "transactions with gaps or doubles: {broken:?}");
    }

    /// The last transaction in history that changed one of these tables.
    pub async fn last_of(&self, tables: &[&str]) -> Option<Position> {
        let names = tables.join("','");
        let sql = format!(
            "SELECT epoch, lsn FROM waldelta.change_history WHERE table_name IN ('{names}') AND operation <> 'baseline'
             ORDER BY epoch DESC, lsn DESC LIMIT 1"
        );
        let row = self.history.query(&sql).await.into_iter().next()?;
        let (epoch, lsn) = (row[0].as_ref().unwrap(), row[1].as_ref().unwrap());
        Some(Position::whole(Epoch(epoch.parse().unwrap()), lsn.parse().unwrap()))
    }
}

/// Applies frames to a copy and keeps them, up to and including the first for which `is_last` holds.
pub async fn record(
    socket: &mut WsClient,
    replica: &mut Replica,
    what: &str,
    mut is_last: impl FnMut(&Value) -> bool,
) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    let mut frames = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited {PATIENCE:?} in vain until {what}");
        let text = match socket.next_frame(left).await {
            Frame::Text(text) => text,
            closed @ Frame::Closed { .. } => panic!("{closed:?} before {what}"),
        };
        replica.apply(&text).unwrap_or_else(|violation| panic!("{}: {text}", violation.0));
        frames.push(serde_json::from_str(&text).unwrap());
        if frames.last().is_some_and(&mut is_last) {
            return frames;
        }
    }
}

/// The frames of one type among others.
pub fn of_type<'a>(frames: &'a [Value], kind: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["type"] == kind).collect()
}

/// The changes in `tx` frames, in order.
pub fn changes(frames: &[Value]) -> Vec<&Value> {
    of_type(frames, "tx").iter().flat_map(|frame| frame["changes"].as_array().unwrap()).collect()
}

/// A subscription to everything.
pub fn all_tables() -> Value {
    json!({"id": "all", "table": "*"})
}

/// `waldelta run` between these databases.
pub fn run_options(source: &TestDatabase, history: &TestDatabase) -> ServiceOptions {
    ServiceOptions::new(with_databases(&["run"], source, history))
}

/// The same, with the source as this role sees it.
pub fn run_options_as(role: &str, source: &TestDatabase, history: &TestDatabase) -> ServiceOptions {
    let mut options = run_options(source, history);
    let theirs = source.url().replace("//postgres@", &format!("//{role}@"));
    for arg in options.args.iter_mut().filter(|arg| **arg == *source.url()) {
        *arg = theirs.clone().into();
    }
    options
}

/// A configuration file that lives as long as this does.
pub struct ConfigFile(std::path::PathBuf);

/// Writes a configuration file with this text.
pub fn config_file(text: &str) -> ConfigFile {
    static WRITTEN: AtomicU32 = AtomicU32::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("waldelta-test-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    ConfigFile(path)
}

impl ConfigFile {
    /// Where it is.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The program started with it.
    pub fn add_to(&self, mut options: ServiceOptions) -> ServiceOptions {
        options.args.extend(["--config", self.path()].map(Into::into));
        options
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A command line with the databases and the slot of a setting.
pub fn with_databases(command: &[&str], source: &TestDatabase, history: &TestDatabase) -> Vec<String> {
    let mut args: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let slot = source.slot("slot");
    args.extend(
        ["--database-url", source.url(), "--history-url", history.url(), "--slot", &slot].map(str::to_owned),
    );
    args
}

/// Runs a `waldelta` command to its end: exit code, standard output, standard error.
pub fn waldelta(args: &[String]) -> (Option<i32>, String, String) {
    let output = Command::new(waldelta_testkit::program())
        .args(args)
        .env_remove("FAILPOINTS")
        .output()
        .unwrap_or_else(|error| panic!("run waldelta {args:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a `waldelta` command that must succeed, and returns what it answered.
pub fn waldelta_ok(args: &[String]) -> String {
    let (code, answer, log) = waldelta(args);
    assert_eq!(code, Some(0), "waldelta {args:?}\n{answer}\n{log}");
    answer
}
