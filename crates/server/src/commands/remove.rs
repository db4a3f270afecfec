//! `waldelta remove`: take everything away again that Waldelta has put into the database.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use waldelta_history::History;
use waldelta_source::setup::{self, Step};

use super::Saying;
use crate::cli::RemoveOptions;
use crate::config::Config;

/// What is shown.
#[derive(Serialize)]
struct Report {
    /// Statements in their order: those that were run, or would be.
    steps: Vec<Step>,
    /// Whether history goes too.
    history: bool,
    removed: bool,
}

/// Shows what would be dropped; with `--yes` drops it. History only goes with `--history`.
pub(crate) async fn run(options: &RemoveOptions) -> anyhow::Result<ExitCode> {
    let saying = Saying { json: options.json };
    let config = Config::load(&options.options)?;
    let source = config.source()?;
    let client = source.connect_primary().await.context("connect to the source")?;
    // The slot is on the standby, where one is captured; all else is on its primary.
    let standby = match &source.primary {
        Some(_) => Some(source.connect().await.context("connect to the standby")?),
        None => None,
    };
    // Planned before anything is dropped: a wrong URL or slot, or a slot in use, must not cost the history.
    let slot = match &standby {
        Some(standby) => {
            setup::removal(standby, &source, !options.yes).await.context("plan the removal")?.only_slot()
        }
        None => setup::Plan::default(),
    };
    let plan = setup::removal(&client, &source, !options.yes).await.context("plan the removal")?;
    // History goes first: whether the schema that both may share is empty then is for a new plan to say.
    let plan = if options.history && options.yes {
        let history = History::open(&config.history()?).await.context("open history")?;
        history.drop_everything().await.context("drop history")?;
        saying.line("-- history is dropped")?;
        setup::removal(&client, &source, !options.yes).await.context("plan the removal")?
    } else {
        plan
    };
    let plan = if standby.is_some() { plan.without_slot() } else { plan };
    if !slot.is_empty() {
        saying.line(slot.to_sql())?;
    }
    saying.line(plan.to_sql())?;
    let steps = slot.steps.iter().chain(&plan.steps).cloned().collect();
    let mut report = Report { steps, history: options.history, removed: false };
    if !options.yes {
        if options.history {
            saying.line("-- history, with every recorded change, is dropped too")?;
        }
        saying.line("-- nothing was done; repeat with --yes to do it")?;
        return saying.end(&report);
    }
    if let Some(standby) = &standby {
        setup::apply(standby, &source, &slot).await.context("drop the slot")?;
    }
    setup::apply(&client, &source, &plan).await.context("carry the removal out")?;
    saying.line(if options.history {
        "removed, history too"
    } else {
        "removed; history is kept (--history drops it)"
    })?;
    report.removed = true;
    saying.end(&report)
}
