//! The comparison of everything with everything, of a source that is at rest: history folded is the source's tables (I6), and so is
//! each client's copy (I8); what clients were told is what history has (I8 to I10); history is numbered without gaps (I3), has below
//! what was seen of it earlier exactly what it had there (I4), and has the transactions that PostgreSQL's own decoder tells (I7).

mod decoder;

use std::time::Duration;

use tokio::time::Instant;
use waldelta_testkit::fold::{assert_same, folded};
use waldelta_testkit::recorder::{Checked, HistoryLog, check};
use waldelta_testkit::{source_rows, wait_until};
use waldelta_wal::Position;

use crate::clients::{Clients, Store};
use crate::round::Stage;
use crate::tables::{ALL, RECORDED};

/// Everything is to have come everywhere by then, once nothing is broken any more.
const SETTLE_PATIENCE: Duration = Duration::from_secs(150);

/// Transactions whose changes are not numbered from 0 without gap, or which share an id.
const GAPS: &str =
    "SELECT epoch, lsn, min(seq), max(seq), count(*), count(DISTINCT id) FROM waldelta.change_history
    GROUP BY epoch, lsn HAVING min(seq) <> 0 OR max(seq) <> count(*) - 1 OR count(DISTINCT id) <> count(*)";

/// What one looks back to at the next one.
#[derive(Default)]
pub(crate) struct Before {
    decoded: decoder::Decoded,
    /// What history was up to a cursor.
    history: Option<(Position, String)>,
}

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub checked: Checked,
    pub transactions: usize,
    pub settled: Duration,
}

/// Waits until everything has come everywhere, and compares. Panics at the first difference.
pub(crate) async fn hold(stage: &Stage, clients: &Clients, before: &mut Before) -> Compared {
    let begun = Instant::now();
    durable(stage).await;
    ready(stage).await;
    let world = &stage.world;
    clients.arrive(world.last_of(&ALL).await.max(world.last_of(&RECORDED).await), SETTLE_PATIENCE).await;
    let settled = begun.elapsed();

    let (source, history) = (world.source_client().await, world.history_client().await);
    for table in ALL {
        let wanted = source_rows(&source, table).await;
        assert_same(&format!("history's {table}"), &folded(&history, table, None).await, &wanted);
        for client in clients.all() {
            if let Store::Copy(replica) = &*client.store.lock().await {
                assert_same(&format!("{}'s {table}", client.name), &replica.rows(table), &wanted);
            }
        }
    }
    let gaps = world.history.query(GAPS).await;
    assert!(gaps.is_empty(), "I3: transactions with gaps or doubles: {gaps:?}");
    unchanged(stage, before).await;
    before.decoded.compare(world).await;

    // They first: history goes on, by the canary alone.
    let recorders = clients.recorders().await;
    let log = HistoryLog::read_of(&world.history, &RECORDED).await;
    let checked = check(&recorders, &log).unwrap_or_else(|violations| {
        let folder = stage.folder();
        for (number, recorder) in recorders.iter().enumerate() {
            let _ = std::fs::write(folder.join(format!("recorder-{number}.txt")), recorder.text());
        }
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    let panics = stage.fleet.panics().await;
    assert!(panics.is_empty(), "a part panicked: {}", panics.join("\n"));
    Compared { checked, transactions: log.transactions(), settled }
}

/// Waits until everything that has committed is durable in history.
async fn durable(stage: &Stage) {
    let world = &stage.world;
    let end = world.source.query_text("SELECT pg_current_wal_insert_lsn()").await;
    let durable = format!("SELECT durable_end >= '{end}'::pg_lsn FROM waldelta.captures");
    // A quiet source writes no commit for capture to see: a message is one.
    world.source.exec("SELECT pg_logical_emit_message(true, 'waldelta.fence', 'settled')").await;
    wait_until(&format!("history has everything up to {end}"), SETTLE_PATIENCE, async || {
        world.history.query_text(&durable).await == "t"
    })
    .await;
}

/// Every process has come back to its duty.
async fn ready(stage: &Stage) {
    for number in 0..stage.fleet.len() {
        let member = stage.fleet.member(number).await;
        wait_until(&format!("{} is ready", member.name), SETTLE_PATIENCE, async || member.is_ready().await)
            .await;
    }
}

/// History below a cursor that was seen is what it was.
async fn unchanged(stage: &Stage, before: &mut Before) {
    let world = &stage.world;
    let digest = async |at: Position| {
        let sql = format!(
            "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(concat_ws('|', epoch, lsn, seq, operation, table_name, row_key, data), 0)), 0)
             FROM waldelta.change_history WHERE (epoch, lsn) <= ({}, '{}'::pg_lsn)",
            at.epoch.0, at.commit_lsn
        );
        world.history.query_text(&sql).await
    };
    if let Some((at, was)) = &before.history {
        assert_eq!(&digest(*at).await, was, "I4: history up to {at} (rows, digest)");
    }
    before.history = match world.last_of(&ALL).await {
        Some(at) => Some((at, digest(at).await)),
        None => None,
    };
}
