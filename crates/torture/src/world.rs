//! What a round is played in: a source and a history, each a PostgreSQL of its own, processes of the program between them, and routes
//! that can be cut and held.

use std::fmt;
use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;
use waldelta_testkit::recorder::HistoryLog;
use waldelta_testkit::{Route, ServiceOptions, SmallDisk, TestCluster, TestDatabase, connect, program};
use waldelta_wal::{EndLsn, Epoch, Position};

use crate::access::{PASSWORD, RULES};
use crate::checkpoint::native::Native;
use crate::chronicle::say;
use crate::tables::schema;

/// Everything happens sooner than in production, so that more of it happens in a round.
const CONFIG: &str = "
[capture]
canary_interval_ms = 1000
takeover_after_ms = 10000
[history]
partition_bytes = 33554432
[server]
heartbeat_ms = 2000
write_timeout_ms = 4000
drain_ms = 1000
";

/// Far more than a round takes: a disk is full when a fault says so.
const WAL_DISK_MB: u32 = 1024;
const HISTORY_DISK_MB: u32 = 3072;
/// What a killed server has written need not reach a disk. But what goes wrong there has to be noticed, and WAL is not to grow far
/// beyond what slots keep.
const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "128MB"),
    ("max_slot_wal_keep_size", "-1"),
    ("max_prepared_transactions", "16"),
];

/// The databases. Their clusters go when this is dropped.
pub(crate) struct World {
    pub source_cluster: TestCluster,
    pub history_cluster: TestCluster,
    pub source: TestDatabase,
    pub history: TestDatabase,
    pub native: Native,
    /// Held by whoever brings a server down, or needs it up.
    servers: [Mutex<()>; 2],
    /// Those of the source's WAL and of all of history; none where nothing can be mounted. Below what is on them, which goes first.
    disks: [Option<SmallDisk>; 2],
    config: std::path::PathBuf,
}

impl World {
    /// New databases with tables in them, ready to be captured.
    pub(crate) async fn new(seed: u64) -> Self {
        let disks = [WAL_DISK_MB, HISTORY_DISK_MB].map(disk);
        let source_cluster = match &disks[0] {
            Some(disk) => TestCluster::own_with_wal_on(disk, &SETTINGS).await,
            None => TestCluster::own(&SETTINGS).await,
        };
        let history_cluster = match &disks[1] {
            Some(disk) => TestCluster::own_in(disk.path(), &SETTINGS).await,
            None => TestCluster::own(&SETTINGS).await,
        };
        let source = TestDatabase::create_on(&source_cluster, "torture").await;
        let history = TestDatabase::create_on(&history_cluster, "torture_h").await;
        let config =
            std::env::temp_dir().join(format!("waldelta-torture-{}-{seed}.toml", std::process::id()));
        std::fs::write(&config, format!("{CONFIG}{RULES}")).unwrap();
        let servers = [Mutex::default(), Mutex::default()];
        source.exec(&schema()).await;
        let native = Native::create(&source, source_cluster.port(), &history_cluster).await;
        let world =
            World { source_cluster, history_cluster, source, history, native, servers, disks, config };
        world.command(&["init", "--apply", "--allow-keyless"]).await.expect_success();
        HistoryLog::record_ends(&world.history).await;
        world.begin_decoder().await;
        world
    }

    /// The independent decoder tells what comes from now on.
    pub(crate) async fn begin_decoder(&self) {
        let slot = self.decoder_slot();
        let create = format!("SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'test_decoding')");
        self.source.query_text(&create).await;
    }

    /// A command of an operator, past all routes.
    pub(crate) async fn command(&self, words: &[&str]) -> Done {
        let mut args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        args.extend(self.options(self.source_cluster.port(), self.history_cluster.port()));
        let name = args[0].clone();
        let done = tokio::task::spawn_blocking(move || {
            Command::new(program()).args(args).env_remove("FAILPOINTS").output().unwrap()
        });
        let done = done.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { name, code: done.status.code(), output: text(&done.stdout), errors: text(&done.stderr) }
    }

    /// How a process of this role is started that reaches the two by these routes.
    pub(crate) fn run_options(&self, role: &str, to_source: &Route, to_history: &Route) -> ServiceOptions {
        ServiceOptions::new(["run"])
            .args(self.options(to_source.port(), to_history.port()))
            .args(["--role", role])
    }

    fn options(&self, source_port: u16, history_port: u16) -> Vec<String> {
        let url = |port: u16, name: &str| format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/{name}");
        let (source, history) =
            (url(source_port, self.source.name()), url(history_port, self.history.name()));
        let config = self.config.to_str().unwrap();
        ["--config", config, "--database-url", &source, "--history-url", &history, "--slot", &self.slot()]
            .map(str::to_owned)
            .into()
    }

    /// The slot of the program.
    pub(crate) fn slot(&self) -> String {
        self.source.slot("slot")
    }

    /// The slot of the independent decoder.
    pub(crate) fn decoder_slot(&self) -> String {
        self.source.slot("decoder")
    }

    /// One of the servers, the source's (0) or history's (1), up and for whoever holds it alone to bring down.
    pub(crate) async fn server(&self, to: usize) -> (TestCluster, MutexGuard<'_, ()>) {
        let held = self.servers[to].lock().await;
        (if to == 0 { &self.source_cluster } else { &self.history_cluster }.clone(), held)
    }

    /// What the WAL of the source (0), or all of history (1), lies on, if that can be filled.
    pub(crate) fn disk(&self, to: usize) -> Option<&SmallDisk> {
        self.disks[to].as_ref()
    }

    /// A new connection to the source, past all routes.
    pub(crate) async fn source_client(&self) -> Client {
        connect(self.source.url()).await
    }

    /// A new connection to history, past all routes.
    pub(crate) async fn history_client(&self) -> Client {
        connect(self.history.url()).await
    }

    /// Where history is, as a cursor.
    pub(crate) async fn head(&self) -> Position {
        let row = self.history.query("SELECT epoch, durable_end FROM waldelta.captures").await.remove(0);
        let [epoch, end] = [0, 1].map(|column: usize| row[column].clone().unwrap());
        Position::before(Epoch(epoch.parse().unwrap()), EndLsn(end.parse().unwrap()))
    }

    /// The last transaction in history that changed one of these tables.
    pub(crate) async fn last_of(&self, tables: &[&str]) -> Option<Position> {
        let names = tables.join("','");
        let sql = format!(
            "SELECT epoch, lsn FROM waldelta.change_history WHERE table_name IN ('{names}') AND operation <> 'baseline'
             ORDER BY epoch DESC, lsn DESC LIMIT 1"
        );
        let row = self.history.query(&sql).await.into_iter().next()?;
        let [epoch, lsn] = [0, 1].map(|column: usize| row[column].clone().unwrap());
        Some(Position::whole(Epoch(epoch.parse().unwrap()), lsn.parse().unwrap()))
    }
}

/// A command that was carried out, or not.
pub(crate) struct Done {
    name: String,
    pub code: Option<i32>,
    pub output: String,
    errors: String,
}

impl Done {
    /// Panics with what it said if it was not.
    #[track_caller]
    pub(crate) fn expect_success(&self) {
        assert_eq!(self.code, Some(0), "{self}");
    }
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { name, code, output, errors } = self;
        write!(formatter, "waldelta {name}: {code:?} {output}{errors}")
    }
}

fn disk(megabytes: u32) -> Option<SmallDisk> {
    let mounted = SmallDisk::mount(megabytes);
    mounted.inspect_err(|why| say(&format!("no disk will be full: {why}"))).ok()
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.config);
    }
}
