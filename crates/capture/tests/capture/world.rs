//! A source, a history, and capture between them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use waldelta_capture::recover::{self, Diagnosis};
use waldelta_capture::{Config, Error, State, Status, setup};
use waldelta_history::{Head, History};
use waldelta_pgconn::{Environment, Target};
use waldelta_source::Source;
use waldelta_source::setup::Wish;
use waldelta_testkit::{TestCluster, TestDatabase, connect, wait_until};
use waldelta_wal::{Code, EndLsn, Lsn, ValuePolicy};

/// More than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const TELLS_A_CHANGE: &str = "operation NOT IN ('schema', 'reset')";

pub(crate) struct World {
    pub(crate) source_db: TestDatabase,
    pub(crate) history_db: TestDatabase,
    pub(crate) source: Source,
    pub(crate) history: History,
}

/// Capture at work.
pub(crate) struct Running {
    pub(crate) status: Arc<Status>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

pub(crate) fn target(url: &str) -> Target {
    Target::parse(url, &Environment::default()).unwrap()
}

impl World {
    /// Both databases on the shared server, with the tables that `sql` makes; nothing is set up.
    pub(crate) async fn bare(hint: &str, sql: &str) -> Self {
        let source_db = TestDatabase::create(hint).await;
        let history_db = TestDatabase::create(&format!("{hint}_h")).await;
        Self::of(source_db, history_db, sql).await
    }

    /// The source on a server of its own.
    pub(crate) async fn bare_on(cluster: &TestCluster, hint: &str, sql: &str) -> Self {
        let source_db = TestDatabase::create_on(cluster, hint).await;
        let history_db = TestDatabase::create(&format!("{hint}_h")).await;
        Self::of(source_db, history_db, sql).await
    }

    /// The source on a server of its own, its database in an encoding other than UTF8.
    pub(crate) async fn bare_encoded(cluster: &TestCluster, hint: &str, encoding: &str, sql: &str) -> Self {
        let source_db = TestDatabase::create_on(cluster, hint).await;
        let (name, admin) = (source_db.name(), connect(&cluster.url("postgres")).await);
        admin.batch_execute(&format!("DROP DATABASE {name}")).await.unwrap();
        let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        admin.batch_execute(&create).await.unwrap();
        let history_db = TestDatabase::create(&format!("{hint}_h")).await;
        Self::of(source_db, history_db, sql).await
    }

    async fn of(source_db: TestDatabase, history_db: TestDatabase, sql: &str) -> Self {
        source_db.exec(sql).await;
        let source = Source {
            target: target(source_db.url()),
            publication: "waldelta".to_owned(),
            slot: source_db.slot("s"),
            plugin: waldelta_source::Plugin::default(),
            values: ValuePolicy::default(),
            primary: None,
        };
        let history = History::open(&history_config(history_db.url())).await.unwrap();
        World { source_db, history_db, source, history }
    }

    /// Publication and own tables set up as `waldelta init` does, without the slot.
    pub(crate) async fn publish(&self) {
        let client = self.source.connect().await.unwrap();
        let plan = waldelta_source::setup::plan(&client, &self.source, &Wish::default()).await.unwrap();
        waldelta_source::setup::apply(&client, &self.source, &plan.without_slot()).await.unwrap();
    }

    /// All set up and history begun.
    pub(crate) async fn begun(hint: &str, sql: &str) -> Self {
        let world = Self::bare(hint, sql).await;
        world.publish().await;
        world.begin().await;
        world
    }

    pub(crate) async fn begin(&self) -> Head {
        setup::begin(&self.source, &self.history, false).await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            source: self.source.clone(),
            holder: "test".to_owned(),
            stall_timeout: Duration::from_secs(5),
            feedback_interval: Duration::from_secs(1),
            canary_interval: Duration::ZERO,
            batch_rows_max: 10_000,
            batch_bytes_max: 8 << 20,
            on_gap: waldelta_capture::OnGap::default(),
            takeover_after: Duration::from_secs(20),
        }
    }

    pub(crate) fn run(&self) -> Running {
        self.run_with(self.config())
    }

    /// Capture that looks at the catalog often.
    pub(crate) fn run_looking(&self) -> Running {
        self.run_with(Config { canary_interval: Duration::from_millis(100), ..self.config() })
    }

    #[expect(clippy::disallowed_methods, reason = "the server's part is played by the test")]
    pub(crate) fn run_with(&self, config: Config) -> Running {
        let (status, stop) = (Arc::new(Status::new()), CancellationToken::new());
        let task =
            tokio::spawn(waldelta_capture::run(config, self.history.clone(), status.clone(), stop.clone()));
        Running { status, stop, task }
    }

    /// Capture that is expected to stop.
    pub(crate) async fn run_to_error(&self) -> (Error, State) {
        self.run().error().await
    }

    /// As `waldelta recover --yes` does: what was the case, and the new epoch.
    pub(crate) async fn recover(&self) -> (Diagnosis, Head) {
        let diagnosis = self.diagnose().await;
        let begun = recover::act(&self.config(), &self.history, &Status::new(), &diagnosis).await.unwrap();
        (diagnosis, begun.expect("a new epoch"))
    }

    pub(crate) async fn diagnose(&self) -> Diagnosis {
        recover::diagnose(&self.config(), &self.history).await.unwrap()
    }

    /// So many epochs are in history, and so many gaps of all tables.
    pub(crate) async fn assert_epochs(&self, epochs: u64, gaps: u64) {
        assert_eq!(self.stored("SELECT count(*) FROM waldelta.epochs").await, epochs.to_string());
        let gaps_of_all = "SELECT count(*) FROM waldelta.gaps WHERE table_oid IS NULL AND to_lsn IS NOT NULL";
        assert_eq!(self.stored(gaps_of_all).await, gaps.to_string());
    }

    pub(crate) async fn drop_slot(&self) {
        self.source_db.exec(&format!("SELECT pg_drop_replication_slot('{}')", self.source.slot)).await;
    }

    /// What a query on history says, as text.
    pub(crate) async fn stored(&self, sql: &str) -> String {
        self.history_db.query_text(sql).await
    }

    pub(crate) async fn stored_count(&self, condition: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM waldelta.change_history WHERE {condition}");
        self.stored(&sql).await.parse().unwrap()
    }

    /// What history says of each change, in order, those left out that tell a shape or reset a table.
    pub(crate) async fn told(&self, what: &str) -> Vec<String> {
        self.listed(what, TELLS_A_CHANGE).await
    }

    /// What history says of each change of a kind, in order.
    pub(crate) async fn listed(&self, what: &str, condition: &str) -> Vec<String> {
        let sql =
            format!("SELECT {what} FROM waldelta.change_history WHERE {condition} ORDER BY epoch, lsn, seq");
        let rows = self.history_db.query(&sql).await;
        rows.into_iter().map(|row| row[0].clone().unwrap_or_else(|| "-".to_owned())).collect()
    }

    /// Waits until so many changes are stored, those not counted that tell a shape or reset a table.
    pub(crate) async fn wait_told(&self, count: u64) {
        self.wait_stored(TELLS_A_CHANGE, count).await;
    }

    /// Waits until so many changes are stored.
    pub(crate) async fn wait_stored(&self, condition: &str, count: u64) {
        let what = format!("{count} changes with {condition} are stored");
        wait_until(&what, PATIENCE, async || self.stored_count(condition).await == count).await;
    }

    /// Waits until the catalog was looked at and what was found is stored, by a column that is added to say so.
    pub(crate) async fn wait_looked(&self, table: &str, column: &str) {
        self.source_db.exec(&format!("ALTER TABLE {table} ADD COLUMN {column} int")).await;
        let sql = format!(
            "SELECT count(*) FROM waldelta.source_fingerprints WHERE fingerprint::jsonb->>'name' = '{table}' \
             AND fingerprint LIKE '%\"{column}\"%'"
        );
        wait_until("the catalog was looked at", PATIENCE, async || self.stored(&sql).await == "1").await;
    }

    /// As where the role that set all up may not create event triggers.
    pub(crate) async fn drop_triggers(&self) {
        for trigger in ["changed", "dropped", "rewritten"] {
            self.source_db.exec(&format!("DROP EVENT TRIGGER waldelta_ddl_{trigger}")).await;
        }
    }

    /// A: what the slot was told.
    pub(crate) async fn confirmed(&self) -> EndLsn {
        let sql = format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
            self.source.slot
        );
        EndLsn(self.source_db.query_text(&sql).await.parse::<Lsn>().unwrap())
    }

    /// D.
    pub(crate) async fn durable(&self) -> EndLsn {
        EndLsn(self.stored("SELECT durable_end FROM waldelta.captures").await.parse::<Lsn>().unwrap())
    }

    /// Every transaction once, its changes numbered from 0 without a gap.
    pub(crate) async fn assert_gapless(&self) {
        let sql = "SELECT count(*) FROM (SELECT FROM waldelta.change_history WHERE operation <> 'baseline' \
                   GROUP BY epoch, lsn HAVING min(seq) <> 0 OR max(seq) + 1 <> count(*)) broken";
        assert_eq!(self.stored(sql).await, "0");
    }
}

impl Running {
    pub(crate) async fn wait_state(&self, what: &str, is: impl Fn(&State) -> bool) {
        wait_until(what, PATIENCE, async || is(&self.status.read().state)).await;
    }

    pub(crate) async fn wait_streaming(&self) {
        self.wait_state("capture streams", |state| *state == State::Streaming).await;
    }

    /// Waits until it has stopped, and ends it: why, and the state that it was in.
    pub(crate) async fn error(self) -> (Error, State) {
        self.wait_stopped().await;
        let state = self.status.read().state;
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("capture does not end").unwrap();
        (ended.unwrap_err(), state)
    }

    /// Waits until it has stopped: by which failure.
    pub(crate) async fn wait_stopped(&self) -> Code {
        self.wait_state("capture has stopped", |state| matches!(state, State::Stopped { .. })).await;
        self.status.read().state.code().unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("capture does not stop").unwrap().unwrap();
    }

    /// As when the process is killed: nothing more is said to anybody.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

pub(crate) fn history_config(url: &str) -> waldelta_history::Config {
    waldelta_history::Config {
        target: target(url),
        feed_bytes_max: 16 << 20,
        connections_max: 4,
        partition_bytes: 16 << 30,
    }
}
