//! `waldelta prune`: what of history is older, or more, than is to be kept; with `--yes` it is removed.
//!
//! Only whoever writes history removes anything: the running service, which is given an order, or this command where none runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use waldelta_capture::ShownAt;
use waldelta_history::{History, PruneOrder, PrunePlan, Pruner, Retention, Shown, Sweep};
use waldelta_wal::Code;

use super::answer;
use crate::cli::PruneOptions;
use crate::config::Config;
use crate::failure::{EXIT_FAILED, Failure};

/// A service that runs carries an order out within seconds, mostly. Nobody waits for longer; the order stays.
const PATIENCE: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What is shown.
#[derive(Serialize)]
struct Report {
    keep: String,
    /// What goes; before anything is done.
    plan: PrunePlan,
    /// The oldest cursor that can be resumed before it.
    floor: String,
    done: Option<Sweep>,
}

/// Shows what would go; with `--yes` removes it. Exit code 1 where something of it is left because a reader was in the way, or because
/// the source does not show it yet.
pub(crate) async fn run(options: &PruneOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let keep = options.keep.unwrap_or(config.history.retain.0);
    if keep == Retention::Off {
        let message = "nothing says how much to keep: give --keep, such as --keep 30d, or set history.retain";
        return Err(Failure::error(Code::ConfigInvalid, message));
    }
    let target = config.history()?;
    let history = match options.yes {
        true => History::open(&target).await,
        false => History::open_as_it_is(&target).await,
    };
    let history = history.context("open history")?;
    let floor = history.floor().await.context("read how far history goes back")?.to_string();
    let plan = history.plan_prune(keep, options.force).await.context("find out what is to go")?;
    let mut report = Report { keep: keep.to_string(), plan, floor, done: None };
    if options.yes {
        let shown = Arc::new(ShownAt(config.source()?));
        report.done = Some(carry_out(&history, shown, keep, options.force).await?);
    }
    match options.json {
        true => answer(serde_json::to_string_pretty(&report)?)?,
        false => answer(text(&report))?,
    }
    let is_left = report.done.as_ref().is_some_and(|done| done.is_busy || done.is_unseen);
    Ok(if is_left { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

async fn carry_out(
    history: &History,
    shown: Arc<dyn Shown>,
    keep: Retention,
    force: bool,
) -> anyhow::Result<Sweep> {
    let holder = format!("waldelta prune (pid {})", std::process::id());
    match history.pruner(&holder).await.context("find out who writes history")? {
        Pruner::Here(writer) => {
            let swept = writer.sweeper(shown).sweep(keep, force, Duration::ZERO).await;
            // Also of what failed: a service that starts meanwhile is not to wait until it expires.
            let released = writer.release().await;
            let swept = swept.context("prune history")?;
            released.context("release the writer's lease")?;
            Ok(swept)
        }
        Pruner::Elsewhere => {
            let order = history.order_prune(keep, force).await.context("order the service to prune")?;
            outcome(history, order, PATIENCE).await
        }
    }
}

/// What came of an order that another process carries out.
async fn outcome(history: &History, order: PruneOrder, patience: Duration) -> anyhow::Result<Sweep> {
    let until = Instant::now() + patience;
    loop {
        if let Some(swept) = history.prune_outcome(order).await.context("ask what came of it")? {
            return Ok(swept);
        }
        if Instant::now() >= until {
            // What may be half done cannot be taken back.
            let message = "the order is under way: the process that writes history carries it out, and has not said yet what came of it";
            return Err(Failure::error(Code::HistoryPruneWaits, message));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn text(report: &Report) -> String {
    let Report { keep, plan, floor, done } = report;
    let bytes: u64 = plan.partitions.iter().map(|(_, bytes)| bytes).sum();
    let mut lines = vec![format!(
        "history: {} partitions, {}; the oldest cursor that can be resumed is {floor}",
        plan.of_partitions,
        megabytes(plan.of_bytes)
    )];
    if let Some(done) = done {
        lines.push(format!(
            "to keep {keep}: {} partitions were dropped, {}, and {} rows removed; the oldest cursor is {} now",
            done.partitions,
            megabytes(done.bytes),
            done.rows,
            done.floor
        ));
        if done.is_busy {
            lines.push("something is left: a reader was in the way; try again".to_owned());
        }
        if done.is_unseen {
            lines.push(
                "something is left: the source does not show a transaction yet (does its commit wait for a standby?), or could not be \
                 asked; try again"
                    .to_owned(),
            );
        }
    } else {
        lines.push(format!(
            "to keep {keep}: {} partitions would be dropped, {}",
            plan.partitions.len(),
            megabytes(bytes)
        ));
        lines.extend(plan.partitions.iter().map(|(name, bytes)| format!("  {name}  {}", megabytes(*bytes))));
        lines.extend(plan.thinned.iter().map(|name| format!("  {name}  rows of it")));
    }
    if done.as_ref().map_or(plan.is_held, |done| done.is_held) {
        lines.push(
            "some is held for a client that was here within the last hour and has yet to read it; --force removes it"
                .to_owned(),
        );
    }
    if done.is_none() {
        lines.push("nothing was removed; --yes does it".to_owned());
    }
    lines.join("\n")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use futures_util::future::BoxFuture;
    use waldelta_pgconn::{Environment, Target};
    use waldelta_testkit::TestDatabase;
    use waldelta_wal::PgSnapshot;

    use super::*;
    use crate::cli::Cli;
    use crate::commands::dispatch;
    use crate::failure;

    /// Nobody is to ask it.
    struct Nothing;

    impl Shown for Nothing {
        fn now(&self) -> BoxFuture<'_, Result<PgSnapshot, Box<dyn std::error::Error + Send + Sync>>> {
            Box::pin(async { Err("nothing is asked".into()) })
        }
    }

    /// A service that starts then does not find somebody who writes.
    #[tokio::test]
    async fn the_lease_is_given_back_also_when_nothing_could_be_removed() {
        let database = TestDatabase::create("prune_fails").await;
        database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
        let slot = database.slot("s");
        let init = ["waldelta", "init", "--apply", "--database-url", database.url(), "--slot", &slot];
        dispatch(Cli::parse_from(init).command).await.unwrap();
        let config = waldelta_history::Config {
            target: Target::parse(database.url(), &Environment::default()).unwrap(),
            feed_bytes_max: 1 << 20,
            connections_max: 2,
            partition_bytes: 1 << 30,
        };
        let history = History::open(&config).await.unwrap();
        database.exec("ALTER TABLE waldelta.retention_marks RENAME TO elsewhere").await;
        let keep = Retention::Age(Duration::from_secs(86_400));
        let error = carry_out(&history, Arc::new(Nothing), keep, false).await.unwrap_err();
        assert!(format!("{error:#}").starts_with("prune history"), "{error:#}");
        let given_back = "SELECT count(*) FROM waldelta.leases WHERE backend_pid IS NULL";
        assert_eq!(database.query_text(given_back).await, "1");
    }

    #[tokio::test]
    async fn an_order_that_takes_long_is_said_to_be_under_way() {
        let database = TestDatabase::create("prune_waits").await;
        let config = waldelta_history::Config {
            target: Target::parse(database.url(), &Environment::default()).unwrap(),
            feed_bytes_max: 1 << 20,
            connections_max: 2,
            partition_bytes: 1 << 30,
        };
        let history = History::open(&config).await.unwrap();
        let order = history.order_prune(Retention::Size(1), false).await.unwrap();
        let waits = outcome(&history, order, Duration::ZERO).await.unwrap_err();
        assert_eq!(failure::code_of(&waits), Some(Code::HistoryPruneWaits));
        let done = "UPDATE waldelta.prune_orders SET done_at = now(), outcome =
            '{\"partitions\": 1, \"bytes\": 2, \"rows\": 3, \"floor\": \"f\", \"is_held\": false, \"is_busy\": false}'";
        database.exec(done).await;
        // As a process of an older version tells it.
        let swept = outcome(&history, order, Duration::ZERO).await.unwrap();
        assert_eq!((swept.partitions, swept.is_unseen), (1, false));
    }

    #[test]
    fn says_what_would_go_and_what_went() {
        let plan = PrunePlan {
            partitions: vec![("change_history_e1_0".into(), 3 << 20)],
            thinned: None,
            is_held: true,
            of_partitions: 4,
            of_bytes: 9 << 20,
        };
        let mut report = Report { keep: "30d".into(), plan, floor: "f".into(), done: None };
        let shown = text(&report);
        assert!(
            shown.contains("1 partitions would be dropped, 3.0 MB\n  change_history_e1_0  3.0 MB"),
            "{shown}"
        );
        assert!(shown.contains("--force removes it") && shown.ends_with("--yes does it"), "{shown}");
        report.done = Some(Sweep { partitions: 1, floor: "g".into(), is_busy: true, ..Sweep::default() });
        let shown = text(&report);
        assert!(
            shown.contains("is g now") && shown.contains("in the way") && !shown.contains("held"),
            "{shown}"
        );
    }
}
