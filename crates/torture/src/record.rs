//! A line for each run in a page that people read. Only real runs write there.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub seed: u64,
    /// Nothing but kills went wrong.
    pub kills_only: bool,
    pub minutes: f64,
    pub kills: u64,
    pub transactions: u64,
    pub checkpoints: u64,
    pub result: &'static str,
}

/// Adds the run as the last line of the page, which ends with a table of runs.
pub(crate) fn append(page: &Path, run: &Run) -> anyhow::Result<()> {
    let Run { seed, kills_only, minutes, kills, transactions, checkpoints, result } = run;
    let faults = if *kills_only { "kills" } else { "all" };
    let line = format!(
        "| {seed} | {faults} | {} | {minutes:.1} | {kills} | {transactions} | {checkpoints} | {result} |",
        commit(page)
    );
    let file = std::fs::File::options().append(true).open(page);
    let mut file = file.with_context(|| format!("open {}", page.display()))?;
    writeln!(file, "{line}").with_context(|| format!("write to {}", page.display()))
}

/// What was tortured, as git names it; with a plus where other files than the page are not those of the commit.
fn commit(page: &Path) -> String {
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).output().ok().filter(|done| done.status.success())?;
        Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "?".to_owned() };
    let but_the_page = format!(":(exclude){}", page.display());
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", &but_the_page])
        .is_none_or(|list| !list.is_empty());
    if is_changed { format!("{commit}+") } else { commit }
}
