//! `waldelta skip`: orders that capture leave out what it stopped at, with a word on who says so and why.
//!
//! The order waits in history until capture comes to its place: a service that has stopped there sees it and goes on by itself.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use waldelta_history::{Error, History};
use waldelta_pgconn::{Environment, Target};
use waldelta_wal::{Code, Skip};

use super::Saying;
use crate::cli::SkipOptions;
use crate::config::Config;
use crate::failure::Failure;

const CURRENT_USER: &str = "SELECT current_user::text";

/// The order.
#[derive(Serialize)]
struct Report<'a> {
    /// Commit LSN of the transaction.
    lsn: String,
    /// The change's number in it; absent: all of it.
    seq: Option<u32>,
    by: &'a str,
    why: &'a str,
    /// Where history is.
    durable_lsn: String,
}

/// Writes the order, and says what will happen and when.
pub(crate) async fn run(options: &SkipOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let why = options.why.trim();
    if why.is_empty() {
        let message =
            "--why is empty: it is all that tells later readers what is missing and for what reason";
        return Err(Failure::error(Code::ConfigInvalid, message));
    }
    let target = config.history()?;
    let history = History::open(&target).await.context("open history")?;
    let by = match &options.by {
        Some(by) => by.trim().to_owned(),
        None => whoever_asks(&target.target).await.context("ask history's database who you are")?,
    };
    let skip = Skip { lsn: options.lsn, seq: options.seq, by, why: why.to_owned() };
    history.order_skip(&skip).await.map_err(|error| explained(error, &skip)).context("order the skip")?;
    let (_, head) =
        history.captured().await.context("read where history is")?.context("no history has been begun")?;
    let saying = Saying { json: options.json };
    saying.line(told(&skip, head.durable_end.0))?;
    saying.end(&Report {
        lsn: skip.lsn.to_string(),
        seq: skip.seq,
        by: &skip.by,
        why,
        durable_lsn: head.durable_end.to_string(),
    })
}

/// The role in history's database, and who that is at this machine where that is known.
async fn whoever_asks(target: &Target) -> anyhow::Result<String> {
    let client = target.connect("waldelta skip", &[]).await?;
    let role: String = client.query_one(CURRENT_USER, &[]).await?.get(0);
    Ok(match user_here() {
        Some(user) if user != role => format!("{role} ({user})"),
        _ => role,
    })
}

/// The user of this machine: who a connection string without a user is for.
fn user_here() -> Option<String> {
    let target = Target::parse("postgresql://localhost", &Environment::default()).ok()?;
    Some(target.user().to_owned())
}

/// What is durable cannot be left out any more: that is said with what can be done instead.
fn explained(error: Error, skip: &Skip) -> anyhow::Error {
    match &error {
        Error::SkipPassed { .. } => anyhow::Error::new(error)
            .context(format!("{} is in history already, or was left out before", what(skip))),
        _ => anyhow::Error::new(error),
    }
}

fn what(skip: &Skip) -> String {
    match skip.seq {
        Some(seq) => format!("change {seq} of the transaction that commits at {}", skip.lsn),
        None => format!("the whole transaction that commits at {}", skip.lsn),
    }
}

/// What will happen, and when.
fn told(skip: &Skip, durable: waldelta_wal::Lsn) -> String {
    let instead = match skip.seq {
        Some(_) => "a change \"skip\" is stored in its place, and its table needs repair from there on",
        None => "one change \"skip\" is stored in its place, and its tables need repair from there on",
    };
    format!(
        "{what} will be left out when capture comes there; history is at {durable}\n\
         {instead}\n\
         by: {by}\n\
         why: {why}\n\
         a service that has stopped there goes on by itself within seconds; one that streams reads orders when it connects anew\n\
         what needs repair is shown by `waldelta status`, and mended by `waldelta recover`",
        what = what(skip),
        by = skip.by,
        why = skip.why,
    )
}

#[cfg(test)]
mod tests {
    use waldelta_wal::Lsn;

    use super::*;

    #[test]
    fn says_what_is_left_out_and_what_follows() {
        let skip = |seq| Skip { lsn: Lsn(0x10), seq, by: "anna".into(), why: "lost".into() };
        let text = told(&skip(Some(3)), Lsn(0x8));
        assert!(
            text.starts_with("change 3 of the transaction that commits at 0/10 will be left out"),
            "{text}"
        );
        assert!(text.contains("history is at 0/8") && text.contains("by: anna\nwhy: lost"), "{text}");
        assert!(told(&skip(None), Lsn(8)).starts_with("the whole transaction that commits at 0/10 will"));
    }
}
