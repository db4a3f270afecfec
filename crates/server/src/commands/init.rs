//! `waldelta init`: the SQL that prepares a database, printed for review or carried out; by the role of the URL, or by an
//! administrator for the role that the service will run as.

use std::process::ExitCode;

use anyhow::Context;
use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::setup::{self, Mode, Prospect, Way, Wish};

use super::answer;
use crate::cli::InitOptions;
use crate::config::Config;
use crate::service::try_open_history;

/// Prints the plan; with `--apply` or `--baseline` carries it out and begins history.
pub(crate) async fn run(options: &InitOptions) -> anyhow::Result<ExitCode> {
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
    if !options.apply && !options.baseline {
        answer(prospect.plan.to_sql())?;
        return Ok(ExitCode::SUCCESS);
    }
    carry_out(&client, &source, &prospect).await?;
    if prospect.is_for_another {
        // Its history, and its slot, are its own.
        answer(format_args!("then, as {}: waldelta init --apply", prospect.role))?;
        return Ok(ExitCode::SUCCESS);
    }
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

fn history_is_here(config: &Config, source: &Source) -> anyhow::Result<bool> {
    let history = config.history()?.target;
    let source = source.primary.as_ref().unwrap_or(&source.target);
    Ok(history.address() == source.address() && history.database() == source.database())
}

/// Runs what the role may do. The slot is made last, over a replication connection, so that history begins exactly where
/// the slot does.
async fn carry_out(client: &Client, source: &Source, prospect: &Prospect) -> anyhow::Result<()> {
    let plan = prospect.plan.clone().without_slot();
    let is_left_to_others = prospect.mode == Mode::Manual && !prospect.is_for_another;
    if is_left_to_others {
        // What it may not do may have been done in another way; what is missing for good shows when history begins.
        for step in &plan.steps {
            answer(format_args!("note: left to an administrator (waldelta init prints it): {}", step.why))?;
        }
        return Ok(());
    }
    for remark in &plan.remarks {
        answer(format_args!("note: {remark}"))?;
    }
    for step in &plan.steps {
        answer(format_args!("-- {}\n{}", step.why, step.sql))?;
    }
    for remark in setup::apply(client, source, &plan).await.context("carry the set-up out")? {
        answer(format_args!("note: {remark}"))?;
    }
    Ok(())
}
