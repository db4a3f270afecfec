//! `waldelta bench`: how fast what the slot holds can be read and decoded here, without history.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use waldelta_capture::Drained;
use waldelta_source::Plugin;
use waldelta_wal::Code;

use super::answer;
use crate::cli::BenchOptions;
use crate::config::Config;
use crate::failure::Failure;

/// What was measured.
#[derive(Serialize)]
struct Report {
    from: String,
    until: String,
    transactions: u64,
    changes: u64,
    image_bytes: u64,
    wal_bytes: u64,
    seconds: f64,
    changes_per_second: f64,
}

/// Reads a copy of the slot to the end of the WAL, and says how long it took. Nothing is stored, and the slot stays where it is.
pub(crate) async fn run(options: &BenchOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let capture = config.capture(config.source()?);
    if capture.source.plugin == Plugin::Wal2json {
        let message = "what is measured is pgoutput: give a slot of that plugin, and --plugin pgoutput";
        return Err(Failure::error(Code::ConfigInvalid, message));
    }
    let drained = waldelta_capture::drain(&capture).await.context("read what the slot holds")?;
    let report = Report::of(drained);
    match options.json {
        true => answer(serde_json::to_string_pretty(&report)?)?,
        false => answer(report.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn of(drained: Drained) -> Self {
        let Drained { from, until, transactions, changes, image_bytes, took } = drained;
        let seconds = took.as_secs_f64();
        Report {
            from: from.to_string(),
            until: until.to_string(),
            transactions,
            changes,
            image_bytes,
            wal_bytes: until.0.saturating_sub(from.0),
            seconds,
            changes_per_second: changes as f64 / seconds.max(1e-6),
        }
    }

    fn text(&self) -> String {
        let Report { from, until, transactions, changes, wal_bytes, seconds, changes_per_second, .. } = self;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        if *changes == 0 {
            return format!(
                "the slot holds nothing of captured tables from {from} to {until} ({:.1} MB of WAL): let a backlog grow while no \
                 service runs, and measure then",
                megabytes(*wal_bytes)
            );
        }
        format!(
            "{changes} changes in {transactions} transactions, {:.1} MB of rows from {:.1} MB of WAL, in {seconds:.2} s: {changes_per_second:.0} a second",
            megabytes(self.image_bytes),
            megabytes(*wal_bytes),
        )
    }
}
