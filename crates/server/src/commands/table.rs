//! `waldelta table`: what is captured, table by table, while capture runs.
//!
//! Only the publication is altered. A running capture sees that by itself, and the clients with it.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use waldelta_source::Error;
use waldelta_source::setup::{self, Membership, Plan, Step, Wish};
use waldelta_wal::Code;

use super::Saying;
use crate::cli::{TableCommand, TableOptions};
use crate::config::Config;
use crate::failure::Failure;

const ADDED: &str = "a running capture brings them as soon as the transactions that are open now have ended: their changes from \
                     then on, and to each client that follows them a snapshot of their own";
const REMOVED: &str = "history keeps what it has of them, and gets no more; clients that follow them keep their rows as they are";
const BY_APPLY: &str = "nothing was done; repeat with --apply to do it";

/// What is shown.
#[derive(Serialize)]
struct Report<'a> {
    /// Statements in their order: those that were run, or would be.
    steps: &'a [Step],
    /// Statements for the owners of tables: they are not run.
    suggestions: &'a [Step],
    remarks: &'a [String],
    /// Who has to run them, where the asking role may not.
    owner: Option<&'a str>,
    applied: bool,
}

/// Prints the statements; with `--apply` runs them.
pub(crate) async fn run(command: &TableCommand) -> anyhow::Result<ExitCode> {
    let (options, outcome) = match command {
        TableCommand::Add(options) => (options, ADDED),
        TableCommand::Remove(options) => (options, REMOVED),
    };
    let saying = Saying { json: options.json };
    let source = Config::load(&options.options)?.source()?;
    // What is published is the primary's to say, also where a standby is captured.
    let client = source.connect_primary().await.context("connect to the source")?;
    let membership = match command {
        TableCommand::Add(_) => {
            let wish = Wish { tables: options.tables.clone(), allow_keyless: options.allow_keyless };
            setup::add_tables(&client, &source, &wish).await
        }
        TableCommand::Remove(_) => setup::remove_tables(&client, &source, &options.tables).await,
    };
    if let Err(Error::NotCapturable { mends, .. }) = &membership {
        for mend in mends {
            saying.line(format_args!("-- by the table's owner:\n-- {}", mend.replace('\n', "\n-- ")))?;
        }
    }
    let membership = membership.context("plan the change")?;
    saying.line(membership.plan.to_sql().trim_end())?;
    let Plan { steps, suggestions, remarks, .. } = &membership.plan;
    let owner = membership.owner.as_deref();
    let mut report = Report { steps, suggestions, remarks, owner, applied: false };
    if membership.plan.is_empty() {
        return saying.end(&report);
    }
    tell_owner(&membership, options, source.target.user(), &saying)?;
    if !options.apply {
        saying.line(format_args!("-- {outcome}"))?;
        saying.line(format_args!("-- {BY_APPLY}"))?;
        return saying.end(&report);
    }
    setup::change(&client, &source, &membership).await.context("alter the publication")?;
    saying.line(format_args!("done; {outcome}"))?;
    report.applied = true;
    saying.end(&report)
}

/// Where the role may not do it: the statements are there, and this says for whom.
fn tell_owner(
    membership: &Membership,
    options: &TableOptions,
    role: &str,
    saying: &Saying,
) -> anyhow::Result<()> {
    let Some(owner) = &membership.owner else { return Ok(()) };
    if options.apply {
        let message =
            format!("{role} may not do it; a role that is {owner}, or a superuser, can run the SQL above");
        return Err(Failure::error(Code::NotAllowed, message));
    }
    saying
        .line(format_args!("-- to be run by a role that is {owner}, or by a superuser: {role} may not do it"))
}
