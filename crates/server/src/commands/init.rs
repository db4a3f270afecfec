//! `waldelta init`: the SQL that prepares a database, printed for review or carried out; by the role of the URL, or by an
//! administrator for the role that the service will run as.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::Serialize;
use tokio_postgres::Client;
use waldelta_capture::setup::{Baselining, SLOT_TIME_MAX, begin_telling};
use waldelta_source::Source;
use waldelta_source::setup::{self, Mode, Prospect, Step, Way, Wish};

use super::Saying;
use super::progress::Progress;
use crate::cli::InitOptions;
use crate::config::Config;
use crate::service::try_open_history;

/// What is shown.
#[derive(Default, Serialize)]
struct Report {
    /// Statements in their order: those that were run, or would be.
    steps: Vec<Step>,
    /// Statements for the owner of what they change: they are not run.
    suggestions: Vec<Step>,
    remarks: Vec<String>,
    applied: bool,
    /// Who goes on from here with `waldelta init --apply`; absent where nobody has to.
    left_to: Option<String>,
    /// Whether history was there before; absent where it was not begun.
    begun_before: Option<bool>,
    /// Up to where it is durable.
    durable_lsn: Option<String>,
}

/// Prints the plan; with `--apply` or `--baseline` carries it out and begins history.
pub(crate) async fn run(options: &InitOptions) -> anyhow::Result<ExitCode> {
    let saying = Saying { json: options.json };
    let config = Config::load(&options.options)?;
    let mut source = config.source()?;
    // Where a standby is captured, all but the slot is set up on its primary.
    let client = source.connect_primary().await.context("connect to the source")?;
    let wish = Wish { tables: options.tables.clone(), allow_keyless: options.allow_keyless };
    let way = Way {
        mode: options.mode,
        provider: options.provider,
        role: options.role.clone(),
        history_is_here: history_is_here(&config, &source)?,
    };
    let mut prospect = setup::prospect(&client, &source, &wish, &way).await.context("plan the set-up")?;
    if source.primary.is_some() {
        prospect.plan = prospect.plan.without_slot();
        prospect.plan.remarks.push("the slot is made on the standby, by `waldelta init --apply`".to_owned());
    }
    let mut report = Report {
        steps: prospect.plan.steps.clone(),
        suggestions: prospect.plan.suggestions.clone(),
        remarks: prospect.plan.remarks.clone(),
        ..Report::default()
    };
    if !options.apply && !options.baseline {
        saying.line(prospect.plan.to_sql())?;
        return saying.end(&report);
    }
    report.remarks.extend(carry_out(&client, &source, &prospect, &saying).await?);
    report.applied = true;
    if prospect.is_for_another {
        // Its history, and its slot, are its own.
        saying.line(format_args!("then, as {}: waldelta init --apply", prospect.role))?;
        report.left_to = Some(prospect.role);
        return saying.end(&report);
    }
    let history = try_open_history(&config.history()?, &mut source).await.context("open history")?;
    let begun = history.captured().await.context("read what is captured")?.is_some();
    let drawn = Mutex::new(Drawn::default());
    let tell = |at: &Baselining| drawn.lock().unwrap_or_else(PoisonError::into_inner).show(at);
    let head = begin_telling(&source, &history, options.baseline, SLOT_TIME_MAX, &tell).await;
    drop(drawn);
    let head = head.context("begin history")?;
    (report.begun_before, report.durable_lsn) = (Some(begun), Some(head.durable_end.to_string()));
    if begun {
        saying.line(format_args!("history has begun before; it is durable up to {}", head.durable_end))?;
    } else {
        saying.line(format_args!("slot {} created; history begins at {}", source.slot, head.durable_end))?;
    }
    saying.line("ready: waldelta run")?;
    saying.end(&report)
}

/// The baseline on the terminal, a line for one table after the other.
#[derive(Default)]
struct Drawn(Option<(usize, Progress)>);

impl Drawn {
    fn show(&mut self, at: &Baselining) {
        if self.0.as_ref().is_none_or(|(number, _)| *number != at.number) {
            // The line of the table before makes room first.
            self.0 = None;
            let what = format!("{} ({} of {} tables)", at.table, at.number, at.tables);
            self.0 = Some((at.number, Progress::of(at.rows_expected, "rows", &what)));
        }
        if let Some((_, progress)) = &self.0 {
            progress.at(at.rows);
        }
    }
}

fn history_is_here(config: &Config, source: &Source) -> anyhow::Result<bool> {
    let history = config.history()?.target;
    let source = source.primary.as_ref().unwrap_or(&source.target);
    Ok(history.address() == source.address() && history.database() == source.database())
}

/// Runs what the role may do. The slot is made last, over a replication connection, so that history begins exactly where
/// the slot does.
async fn carry_out(
    client: &Client,
    source: &Source,
    prospect: &Prospect,
    saying: &Saying,
) -> anyhow::Result<Vec<String>> {
    let plan = prospect.plan.clone().without_slot();
    let is_left_to_others = prospect.mode == Mode::Manual && !prospect.is_for_another;
    if is_left_to_others {
        // What it may not do may have been done in another way; what is missing for good shows when history begins.
        for step in &plan.steps {
            saying.line(format_args!(
                "note: left to an administrator (waldelta init prints it): {}",
                step.why
            ))?;
        }
        return Ok(Vec::new());
    }
    for remark in &plan.remarks {
        saying.line(format_args!("note: {remark}"))?;
    }
    for step in &plan.steps {
        saying.line(format_args!("-- {}\n{};", step.why, step.sql))?;
    }
    let remarks = setup::apply(client, source, &plan).await.context("carry the set-up out")?;
    for remark in &remarks {
        saying.line(format_args!("note: {remark}"))?;
    }
    Ok(remarks)
}
