//! Measures Waldelta against the programs that do a part of its work, in one run, as ratios.
//!
//! Times on a shared machine are noise; a ratio of two contenders that took turns in the same minutes is not. The real
//! binary is measured, from the outside.

mod clusters;
mod drain;
mod latency;
mod load;
mod report;
mod service;
mod swarm;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::load::LoadOptions;

/// Capture drain rate against pg_recvlogical, and commit-to-client latency
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub command: Option<Mode>,
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

/// What is measured instead
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Thousands of clients: memory, delivery, latency, filters
    Load {
        /// The binary to measure
        #[arg(long, default_value = "target/release/waldelta", value_name = "FILE")]
        binary: PathBuf,
        #[command(flatten)]
        options: LoadOptions,
    },
    /// The clients of a load run, in a process of their own
    #[command(hide = true)]
    Clients {
        /// Where the service listens
        address: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    match options.command.take() {
        None => on_all_cores(bench(options)),
        Some(Mode::Load { binary, options }) => on_all_cores(load(binary, options)),
        // One core at most, so that the service has the others.
        Some(Mode::Clients { address }) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(swarm::run(address))
        }
    }
}

fn on_all_cores(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run)
}

async fn bench(options: Options) -> anyhow::Result<()> {
    let binary = found(&options.binary)?;
    let clusters = clusters::Clusters::start()?;
    say_where(&clusters)?;
    drain::measure(&options, &binary, &clusters).await?;
    latency::measure(&options, &binary, &clusters).await
}

async fn load(binary: PathBuf, options: LoadOptions) -> anyhow::Result<()> {
    let binary = found(&binary)?;
    let files = swarm::raise_file_limit();
    let wanted = options.idle + options.active.max(options.hydrated);
    if let Some(files) = files.filter(|files| *files < wanted + 256) {
        anyhow::bail!(
            "{files} open files are too few for {wanted} clients: `--idle` and `--active` take less"
        );
    }
    let clusters = clusters::Clusters::start()?;
    say_where(&clusters)?;
    load::measure(&options, &binary, &clusters).await
}

fn found(binary: &std::path::Path) -> anyhow::Result<PathBuf> {
    binary.canonicalize().with_context(|| format!("find {}", binary.display()))
}

fn say_where(clusters: &clusters::Clusters) -> anyhow::Result<()> {
    report::line(&format!(
        "PostgreSQL {}, {} CPUs, fsync and synchronous_commit on, loopback TCP, history in a cluster of its own",
        clusters.version,
        std::thread::available_parallelism()?
    ));
    Ok(())
}
