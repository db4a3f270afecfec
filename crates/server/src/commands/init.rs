//! `waldelta init`: the SQL that prepares a database, printed for review or carried out.

use std::process::ExitCode;

use anyhow::Context;
use waldelta_source::setup::{self, Wish};

use super::answer;
use crate::cli::InitOptions;
use crate::config::Config;
use crate::service::try_open_history;

/// Prints the plan; with `--apply` or `--baseline` carries it out and begins history.
pub(crate) async fn run(options: &InitOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let mut source = config.source()?;
    let client = source.connect().await.context("connect to the source")?;
    let wish = Wish { tables: options.tables.clone(), allow_keyless: options.allow_keyless };
    let plan = setup::plan(&client, &source, &wish).await.context("plan the set-up")?;
    if !options.apply && !options.baseline {
        answer(plan.to_sql())?;
        return Ok(ExitCode::SUCCESS);
    }
    for remark in &plan.remarks {
        answer(format_args!("note: {remark}"))?;
    }
    // The slot is made last, over a replication connection, so that history begins exactly where the slot does.
    let plan = plan.without_slot();
    for step in &plan.steps {
        answer(format_args!("-- {}\n{}", step.why, step.sql))?;
    }
    setup::apply(&client, &source, &plan).await.context("carry the set-up out")?;
    let history = try_open_history(&config.history()?, &mut source).await.context("open history")?;
    let begun = history.captured().await.context("read what is captured")?.is_some();
    let head =
        waldelta_capture::setup::begin(&source, &history, options.baseline).await.context("begin history")?;
    if begun {
        answer(format_args!("history has begun before; it is durable up to {}", head.durable_end))?;
    } else {
        answer(format_args!("slot {} created; history begins at {}", source.slot, head.durable_end))?;
    }
    answer("ready: waldelta run")?;
    Ok(ExitCode::SUCCESS)
}
