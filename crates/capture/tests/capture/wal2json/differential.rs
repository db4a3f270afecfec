//! The same workload through both plugins gives the same keys, operations and values. What differs is in
//! docs/reference/wal2json.md: schema versions and their changes, how TRUNCATE is told, and what wal2json loses.

use waldelta_source::Plugin;
use waldelta_testkit::wait_until;
use waldelta_wal::{EndLsn, FENCE_PREFIX, Lsn};

use super::has_wal2json;
use crate::world::{PATIENCE, Running, World};

const SCHEMA: &str = include_str!("schema.sql");
/// Steps, separated by empty lines: both captures have caught up before the next. Where rows and the changes of their table
/// are read late, wal2json may have to stop.
const WORKLOAD: &str = include_str!("workload.sql");

/// Everything of a change but its place among those that tell a shape. What belongs to no transaction has no time but that
/// of its sending.
const CHANGES: &str = "
    SELECT concat_ws(' | ', lsn, row_number() OVER (PARTITION BY lsn ORDER BY seq), transaction_id,
        CASE WHEN transaction_id IS NOT NULL THEN to_char(\"timestamp\", 'YYYY-MM-DD HH24:MI:SS.US') END, table_oid, operation, table_name, row_key, data, old_data,
        nullif(metadata - 'truncate', '{}'), client_id)
    FROM waldelta.change_history WHERE operation <> 'schema' ORDER BY epoch, lsn, seq";

/// One source, read by two slots into two histories.
pub(super) struct Pair {
    pub(super) exact: World,
    pub(super) lossy: World,
}

impl Pair {
    /// `None` where the server has no wal2json.
    pub(super) async fn begun(hint: &str, sql: &str) -> Option<Self> {
        let mut exact = World::bare(hint, sql).await;
        if !has_wal2json(&exact.source_db).await {
            return None;
        }
        let mut lossy = World::bare(&format!("{hint}_w"), "").await;
        lossy.source.target = exact.source.target.clone();
        lossy.source.plugin = Plugin::Wal2json;
        // Partitions under their own names, as wal2json has them.
        exact.source.plugin = Plugin::Wal2json;
        exact.publish().await;
        exact.source.plugin = Plugin::Pgoutput;
        exact.begin().await;
        lossy.begin().await;
        Some(Pair { exact, lossy })
    }

    /// Runs statements one by one: what is not between BEGIN and COMMIT in transactions of their own.
    async fn exec(&self, step: &str) {
        for statement in step.split_inclusive(";\n") {
            self.exact.source_db.exec(statement).await;
        }
    }

    fn run(&self) -> [Running; 2] {
        [self.exact.run(), self.lossy.run()]
    }

    /// Waits until both histories hold all that has been committed.
    async fn wait_even(&self) {
        let emit = format!("SELECT pg_logical_emit_message(true, '{FENCE_PREFIX}', '')");
        let fence: Lsn = self.exact.source_db.query_text(&emit).await.parse().unwrap();
        for world in [&self.exact, &self.lossy] {
            let even = async || world.durable().await > EndLsn(fence);
            wait_until("all that was committed is stored", PATIENCE, even).await;
        }
    }

    async fn changes(&self) -> [Vec<String>; 2] {
        let listed = async |world: &World| -> Vec<String> {
            world.history_db.query(CHANGES).await.into_iter().filter_map(|mut row| row.remove(0)).collect()
        };
        [listed(&self.exact).await, listed(&self.lossy).await]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_plugins_give_the_same_changes() {
    let Some(pair) = Pair::begun("w2j_same", SCHEMA).await else { return };
    let running = pair.run();
    for step in WORKLOAD.split("\n\n") {
        pair.exec(step).await;
        pair.wait_even().await;
    }
    let [exact, lossy] = pair.changes().await;
    for (exact, lossy) in exact.iter().zip(&lossy) {
        assert_eq!(lossy, exact);
    }
    assert_eq!(lossy.len(), exact.len());
    let count = |operation: &str| {
        let text = format!(" | {operation} | ");
        exact.iter().filter(|change| change.contains(&text)).count()
    };
    let counts = ["insert", "update", "delete", "truncate", "message"].map(count);
    assert!(counts.iter().all(|count| *count >= 3), "the workload has some of each: {counts:?}");
    for capture in running {
        capture.stop().await;
    }
}

/// Nothing of the schema changes, so reading it all at once, later, gives the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_without_ddl_gives_the_same_changes() {
    let Some(pair) = Pair::begun("w2j_late", SCHEMA).await else { return };
    for step in WORKLOAD.split("\n\n").filter(|step| !step.contains("DDL")) {
        pair.exec(step).await;
    }
    let running = pair.run();
    pair.wait_even().await;
    let [exact, lossy] = pair.changes().await;
    for (exact, lossy) in exact.iter().zip(&lossy) {
        assert_eq!(lossy, exact);
    }
    assert!(lossy.len() == exact.len() && exact.len() > 50, "{} {}", lossy.len(), exact.len());
    for capture in running {
        capture.stop().await;
    }
}
