//! The comparison of everything with everything, of a source that is at rest: history folded is the source's tables (I6), and so is
//! each client's copy (I8); what clients were told is what history has (I8 to I10); history is numbered without gaps (I3), has below
//! what was seen of it earlier exactly what it had there (I4), and has the transactions that PostgreSQL's own decoder tells (I7).

mod decoder;
pub(crate) mod native;
mod repair;

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use waldelta_testkit::fold::{assert_same, folded_since};
use waldelta_testkit::recorder::{Checked, HistoryLog, check};
use waldelta_testkit::{source_rows, wait_until};
use waldelta_wal::Position;

use crate::access::Who;
use crate::clients::{Clients, Store};
use crate::http::get_as;
use crate::round::Stage;
use crate::tables::{ALL, MAY_BE_RESET, RECORDED, REPAIRED, source_of};
use crate::world::World;

/// Everything is to have come everywhere by then, once nothing is broken any more.
pub(crate) const SETTLE_PATIENCE: Duration = Duration::from_secs(150);

/// What operators look at.
const SHOWN: [&str; 5] = ["/metrics", "/v1/status", "/v1/clients", "/readyz?verbose", "/livez"];

/// Transactions whose changes are not numbered from 0 without gap, or which share an id.
const GAPS: &str =
    "SELECT epoch, lsn, min(seq), max(seq), count(*), count(DISTINCT id) FROM waldelta.change_history
    GROUP BY epoch, lsn HAVING min(seq) <> 0 OR max(seq) <> count(*) - 1 OR count(DISTINCT id) <> count(*)";

/// What one looks back to at the next one.
pub(crate) struct Before {
    /// The era began here, with tables that had no rows.
    since: Position,
    decoded: decoder::Decoded,
    /// What history was up to a cursor.
    history: Option<(Position, String)>,
}

impl Before {
    /// The first era of a round.
    pub(crate) fn new(since: Position) -> Self {
        Before { since, decoded: decoder::Decoded::since(since), history: None }
    }

    /// The next one, whose stream is compared with nothing before it. What history has of that is still looked back to.
    pub(crate) fn begin_anew(&mut self, since: Position) {
        (self.since, self.decoded) = (since, decoder::Decoded::since(since));
    }

    /// What was there of history is not looked back to: some of it was removed.
    pub(crate) fn forget_history(&mut self) {
        self.history = None;
    }
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
    settle(stage, None).await;
    let world = &stage.world;
    clients.arrive(world.last_of(&[&ALL[..], &REPAIRED].concat()).await, SETTLE_PATIENCE).await;
    let settled = begun.elapsed();

    let (source, history) = (world.source_client().await, world.history_client().await);
    for table in ALL {
        if MAY_BE_RESET.contains(&table) && is_reset(world, table, before.since).await {
            continue;
        }
        let wanted = source_rows(&source, source_of(table)).await;
        assert_same(
            &format!("history's {table}"),
            &folded_since(&history, table, before.since).await,
            &wanted,
        );
    }
    copies(clients, &source).await;
    sound(stage, before).await;
    before.decoded.compare(world).await;
    world.native.compare(&world.source).await;

    // They first: history goes on, by the canary alone.
    let recorders = clients.recorders().await;
    let log = HistoryLog::read_since(&world.history, &RECORDED, before.since).await;
    let checked = check(&recorders, &log).unwrap_or_else(|violations| {
        let folder = stage.folder();
        for (number, recorder) in recorders.iter().enumerate() {
            let _ = std::fs::write(folder.join(format!("recorder-{number}.txt")), recorder.text());
        }
        let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    secrets(stage).await;
    let panics = stage.fleet.panics().await;
    assert!(panics.is_empty(), "a part panicked: {}", panics.join("\n"));
    Compared { checked, transactions: log.transactions(), settled }
}

/// Everything that has committed is durable, every process is ready, and no table needs repair; of one whose changes were
/// missed, that is never a mere suspicion.
pub(crate) async fn settle(stage: &Stage, missed: Option<&str>) {
    durable(stage).await;
    ready(stage).await;
    repair::run(stage, missed).await;
}

/// History is numbered as it must be, over all eras, and what was seen of it is what it was.
pub(crate) async fn sound(stage: &Stage, before: &mut Before) {
    let gaps = stage.world.history.query(GAPS).await;
    assert!(gaps.is_empty(), "I3: transactions with gaps or doubles: {gaps:?}");
    let went_back = HistoryLog::went_back(&stage.world.history).await;
    assert!(went_back.is_empty(), "I2: the durable end went back to {went_back:?}");
    unchanged(stage, before).await;
}

/// Each copy is what SQL selects from the source as the client's part, and nothing else.
async fn copies(clients: &Clients, source: &Client) {
    let mut selected: HashMap<&str, Vec<String>> = HashMap::new();
    for client in clients.all() {
        let Store::Copy(replica) = &*client.store.lock().await else { continue };
        for (table, query) in &client.selection.wanted {
            if !selected.contains_key(query.as_str()) {
                selected.insert(query, source_rows(source, query).await);
            }
            assert_same(
                &format!("{}'s {query}", client.name),
                &replica.rows(table),
                &selected[query.as_str()],
            );
        }
        let wanted = |table: &str| client.selection.wanted.iter().any(|(wanted, _)| *wanted == table);
        for table in ALL.iter().filter(|table| !wanted(table)) {
            assert_eq!(replica.rows(table), [""; 0], "{} has rows of {table}, which is not its", client.name);
        }
    }
}

/// Nothing that is secret is in a log, or in what operators are shown.
async fn secrets(stage: &Stage) {
    for (name, log) in stage.fleet.logs().await {
        stage.tokens.check_public(&format!("the log of {name}"), &log);
    }
    let token = stage.tokens.of(Who::Everything);
    for number in 0..stage.fleet.len() {
        for path in SHOWN {
            let answer = get_as(token, stage.fleet.address(number), path, SETTLE_PATIENCE).await;
            let (code, body) = answer.unwrap_or_else(|| panic!("GET {path}: no answer"));
            assert!([200, 404, 503].contains(&code), "GET {path}: {code} {body}");
            stage.tokens.check_public(path, &body);
        }
    }
}

/// Whether its rows came afresh, past its changes: these do not add up to its rows then.
async fn is_reset(world: &World, table: &str, since: Position) -> bool {
    let sql = format!(
        "SELECT count(*) > 0 FROM waldelta.change_history
         WHERE operation = 'reset' AND table_name = '{table}' AND (epoch, lsn) > ({}, '{}'::pg_lsn)",
        since.epoch.0, since.commit_lsn
    );
    world.history.query_text(&sql).await == "t"
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
