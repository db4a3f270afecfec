//! `waldelta recover`: what is the case, what it costs, and what lets capture go on; with `--yes` it is done.
//!
//! A new epoch begins while no service streams; one that has stopped sees it and goes on by itself. Tables are reset by a
//! message in the source's WAL, so that works while the service runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use waldelta_capture::recover::{self, Diagnosis, Remedy};
use waldelta_capture::reset_tables;
use waldelta_history::{Gap, History};
use waldelta_source::{Source, catalog};
use waldelta_wal::{Code, Reset, TableName};

use super::answer;
use super::progress::Progress;
use crate::cli::RecoverOptions;
use crate::config::Config;
use crate::failure::{EXIT_CAPTURE_STOPPED, EXIT_FAILED};
use crate::service::try_open_history;

/// How often it is looked whether capture has come to the resets.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is shown.
#[derive(Serialize)]
struct Report {
    /// Name of the state; `well`.
    state: &'static str,
    code: Option<&'static str>,
    message: String,
    /// `none`, `patience`, `new_epoch` or `person`.
    remedy: &'static str,
    consequences: Vec<String>,
    /// What is done with `--yes`, or has to be done by somebody.
    steps: Vec<String>,
    /// The tables that need repair, those that were asked for.
    tables: Vec<Broken>,
    done: Option<Done>,
}

/// A table that needs repair.
#[derive(Serialize)]
struct Broken {
    table: String,
    reason: String,
    since_lsn: String,
}

/// What was done.
#[derive(Serialize)]
struct Done {
    epoch: Option<u32>,
    from_lsn: Option<String>,
    tables_reset: usize,
}

/// Shows what lets capture go on; with `--yes` does it. Exit code 3 when something is left to be done.
pub(crate) async fn run(options: &RecoverOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let mut source = config.source()?;
    let history = try_open_history(&config.history()?, &mut source).await.context("open history")?;
    let mut capture = config.capture(source.clone());
    capture.holder = format!("waldelta recover (pid {})", std::process::id());
    let diagnosis = recover::diagnose(&capture, &history).await.context("find out what is the case")?;
    // A new epoch closes the gaps of tables, or what is left of them is seen after it.
    let resets = match diagnosis.remedy() {
        Remedy::None | Remedy::Patience => to_reset(&source, &history, &options.tables).await?,
        Remedy::NewEpoch | Remedy::Person => Vec::new(),
    };
    let mut report = Report::new(&diagnosis, &source, &resets);
    if options.yes {
        report.done = Box::pin(carry_out(&capture, &history, &diagnosis, &resets)).await?;
    }
    if options.json {
        answer(serde_json::to_string_pretty(&report)?)?;
    } else {
        show(&report, diagnosis.remedy(), options.yes)?;
        if options.yes && !resets.is_empty() {
            watch(&history, &resets).await?;
        }
    }
    let is_left = diagnosis.remedy().needs_somebody() || !resets.is_empty();
    Ok(match (is_left, options.yes) {
        (false, _) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(EXIT_CAPTURE_STOPPED),
        (true, true) if diagnosis.remedy() == Remedy::Person => ExitCode::from(EXIT_FAILED),
        (true, true) => ExitCode::SUCCESS,
    })
}

async fn carry_out(
    capture: &waldelta_capture::Config,
    history: &History,
    diagnosis: &Diagnosis,
    resets: &[(Gap, Reset)],
) -> anyhow::Result<Option<Done>> {
    let status = waldelta_capture::Status::new();
    let begun = Box::pin(recover::act(capture, history, &status, diagnosis))
        .await
        .with_context(|| format!("begin a new epoch, because {}", diagnosis.message()))?;
    if !resets.is_empty() {
        let client = capture.source.connect_primary().await.context("connect to the source")?;
        let tables: Vec<Reset> = resets.iter().map(|(_, reset)| reset.clone()).collect();
        reset_tables(&client, &tables).await.context("reset the tables")?;
    }
    if begun.is_none() && resets.is_empty() {
        return Ok(None);
    }
    Ok(Some(Done {
        epoch: begun.map(|head| head.epoch.0),
        from_lsn: begun.map(|head| head.durable_end.to_string()),
        tables_reset: resets.len(),
    }))
}

/// On a terminal: shows how many of the tables capture has come to, until it has come to all of them. Whoever does not want to wait
/// for that ends it; the resets are in the source's WAL.
async fn watch(history: &History, resets: &[(Gap, Reset)]) -> anyhow::Result<()> {
    let progress = Progress::of(Some(resets.len() as u64), "tables", "read afresh from here on");
    while progress.is_seen() {
        let open = history.open_gaps().await.context("read which tables need repair")?;
        let is_left = |(gap, _): &&(Gap, Reset)| {
            open.iter().any(|left| (left.table_oid, left.from) == (gap.table_oid, gap.from))
        };
        let left = resets.iter().filter(is_left).count();
        progress.at((resets.len() - left) as u64);
        if left == 0 {
            drop(progress);
            return answer("done: clients that follow them read them afresh");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The tables that need repair, of those with these names; without names all of them.
async fn to_reset(
    source: &Source,
    history: &History,
    names: &[TableName],
) -> anyhow::Result<Vec<(Gap, Reset)>> {
    let gaps = history.open_gaps().await.context("read which tables need repair")?;
    // Capture ends those of tables that join by itself.
    let gaps: Vec<Gap> = gaps.into_iter().filter(Gap::needs_repair).collect();
    if gaps.is_empty() {
        return Ok(Vec::new());
    }
    let client = source.connect().await.context("connect to the source")?;
    let mut resets = Vec::new();
    for gap in gaps {
        let Some(table_oid) = gap.table_oid else { continue };
        // By the name that it has now. One that is gone has no rows that could be read.
        let found = catalog::table_by_oid(&client, table_oid).await.context("look a table up")?;
        let Some(found) = found else { continue };
        if names.is_empty() || names.contains(&found.table.name) {
            let reset = Reset { table_oid, table: found.table.name.to_string(), reason: gap.reason.clone() };
            resets.push((gap, reset));
        }
    }
    Ok(resets)
}

impl Report {
    fn new(diagnosis: &Diagnosis, source: &Source, resets: &[(Gap, Reset)]) -> Self {
        let tables = resets.iter().map(|(gap, reset)| Broken {
            table: reset.table.clone(),
            reason: reset.reason.clone(),
            since_lsn: gap.from.to_string(),
        });
        Report {
            state: diagnosis.state(),
            code: diagnosis.code().map(|code| code.as_str()),
            message: diagnosis.message(),
            remedy: match diagnosis.remedy() {
                Remedy::None => "none",
                Remedy::Patience => "patience",
                Remedy::NewEpoch => "new_epoch",
                Remedy::Person => "person",
            },
            consequences: diagnosis.consequences(),
            steps: diagnosis.steps(&source.slot),
            tables: tables.collect(),
            done: None,
        }
    }
}

fn show(report: &Report, remedy: Remedy, yes: bool) -> anyhow::Result<()> {
    let code = report.code.map_or_else(String::new, |code| format!(" [{code}]"));
    answer(format_args!("state    {}{code}", report.state))?;
    answer(format_args!("         {}", report.message))?;
    if report.code == Some(Code::SlotActive.as_str()) && remedy == Remedy::Patience {
        answer("         (as it should be while a service runs)")?;
    }
    for line in &report.consequences {
        answer(format_args!("then     {line}"))?;
    }
    let who = if remedy == Remedy::Person { "you     " } else { "step    " };
    for step in &report.steps {
        for (number, line) in step.lines().enumerate() {
            answer(format_args!("{} {line}", if number == 0 { who } else { "        " }))?;
        }
    }
    for table in &report.tables {
        answer(format_args!("repair   {} ({}, since {})", table.table, table.reason, table.since_lsn))?;
    }
    if !report.tables.is_empty() {
        answer(
            "then     clients that follow these tables read them afresh, at the place of the reset in the stream",
        )?;
    }
    match (&report.done, remedy) {
        (Some(Done { epoch, from_lsn, tables_reset }), _) => {
            if let (Some(epoch), Some(from)) = (epoch, from_lsn) {
                answer(format_args!(
                    "done: epoch {epoch} begins at {from}; a service that waits goes on by itself"
                ))?;
            }
            if *tables_reset > 0 {
                answer(format_args!("done: {tables_reset} tables are reset as soon as capture comes to it"))?;
            }
            Ok(())
        }
        (None, Remedy::Person) => answer("nothing was done: this has to be done first; then run it again"),
        (None, Remedy::NewEpoch) if yes => answer("nothing was to be done any more"),
        (None, Remedy::Patience) if report.tables.is_empty() => {
            answer("nothing to do: this passes by itself")
        }
        (None, Remedy::None) if report.tables.is_empty() => answer(
            "nothing to do; where capture has stopped at a change, `waldelta status` names it, and `waldelta skip` leaves it out",
        ),
        (None, _) => answer("nothing was done; repeat with --yes to do it"),
    }
}

#[cfg(test)]
mod tests;
