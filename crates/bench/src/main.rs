//! Measures Waldelta against the programs that do a part of its work, in one run, as ratios.
//!
//! Times on a shared machine are noise; a ratio of two contenders that took turns in the same minutes is not. The real
//! binary is measured, from the outside.

mod clusters;
mod drain;
mod latency;
mod report;
mod service;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

/// Capture drain rate against pg_recvlogical, and commit-to-client latency
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// The binary to measure
    #[arg(long, default_value = "target/release/waldelta", value_name = "FILE")]
    pub binary: PathBuf,
    /// Changes in the backlog that is drained
    #[arg(long, default_value_t = 500_000, value_name = "N")]
    pub changes: u32,
    /// Rows of one transaction of the backlog
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub rows_per_transaction: u32,
    /// Pairs of drains
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub pairs: u32,
    /// Commits whose latency is measured
    #[arg(long, default_value_t = 500, value_name = "N")]
    pub commits: u32,
    /// Commits a second while latency is measured
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub commits_per_second: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let binary =
        options.binary.canonicalize().with_context(|| format!("find {}", options.binary.display()))?;
    let clusters = clusters::Clusters::start()?;
    report::line(&format!(
        "PostgreSQL {}, {} CPUs, fsync and synchronous_commit on, loopback TCP, history in a cluster of its own",
        clusters.version,
        std::thread::available_parallelism()?
    ));
    drain::measure(&options, &binary, &clusters).await?;
    latency::measure(&options, &binary, &clusters).await?;
    Ok(())
}
