//! Measures Waldelta against the programs that do a part of its work, in one run, as ratios.
//!
//! Times on a shared machine are noise; a ratio of two contenders that took turns in the same minutes is not. The real
//! binary is measured, from the outside. What is measured by which letter, and the goals, is said in docs/benchmarks.md.

mod backlog;
mod capture;
mod clusters;
mod curve;
mod latency;
mod load;
mod machine;
mod peers;
mod process;
mod report;
mod resume;
mod service;
mod swarm;
mod turns;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::clusters::Clusters;
use crate::curve::Curve;
use crate::load::LoadOptions;
use crate::peers::PeerOptions;
use crate::report::{Contest, Run};

/// All that can be measured, and what is when nothing is said.
const ALL: [&str; 4] = ["B1", "B2", "B3", "B9"];
const SHORT: [&str; 4] = ["B1", "B2", "B3", "B9"];

/// Waldelta and what it is compared with, in turn
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub command: Option<Mode>,
    /// The binary to measure
    #[arg(long, default_value = "target/release/waldelta", value_name = "FILE")]
    pub binary: PathBuf,
    /// What to measure; `all` is all of it
    #[arg(long, default_values_t = SHORT.map(str::to_owned), value_delimiter = ',', value_name = "B1,B2")]
    pub only: Vec<String>,
    /// Part of the full size of each backlog
    #[arg(long, default_value_t = 0.25, value_name = "PART")]
    pub scale: f64,
    /// Pairs of each contest
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub pairs: u32,
    /// Also write what was measured as JSON, after each measure
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Go on with a run that ended early: what the JSON file has already is not measured again
    #[arg(long, requires = "json")]
    pub resume: bool,
    /// Append a table of it to this page
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
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
    /// Another program on the same workload, in turn with Waldelta
    Peer(PeerOptions),
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
        Some(Mode::Peer(options)) => on_all_cores(peers::run(options)),
        // One core at most, so that the service has the others.
        Some(Mode::Clients { address }) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(swarm::run(address))
        }
    }
}

fn on_all_cores(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run)
}

/// A run: where, how much, and what came of it so far.
pub(crate) struct Bench {
    pub binary: PathBuf,
    pub clusters: Clusters,
    pub scale: f64,
    pub pairs: u32,
    json: Option<PathBuf>,
    run: RefCell<Run>,
}

impl Bench {
    /// Shows and keeps what came of a contest.
    pub(crate) fn show(&self, contest: Contest) {
        contest.show();
        self.run.borrow_mut().contests.push(contest);
    }

    /// Shows and keeps what grows with what.
    pub(crate) fn draw(&self, curve: Curve) {
        curve.show();
        self.run.borrow_mut().curves.push(curve);
    }
}

async fn bench(options: Options) -> anyhow::Result<()> {
    let wants = wanted(&options.only)?;
    let (binary, clusters) = (found(&options.binary)?, Clusters::start()?);
    say_where(&clusters)?;
    let run = match options.json.as_deref().filter(|file| options.resume && file.exists()) {
        Some(file) => Run::read(file)?,
        None => new_run(&clusters)?,
    };
    let Options { json, scale, pairs, .. } = options;
    let bench = Bench { binary, clusters, scale, pairs: pairs.max(1), json, run: RefCell::new(run) };
    for id in wants {
        if bench.run.borrow().measured.iter().any(|measured| measured == id) {
            report::line(&format!("\n{id} has been measured"));
            continue;
        }
        match id {
            "B1" => capture::read_and_decode(&bench).await?,
            "B2" => capture::store(&bench).await?,
            "B3" => latency::measure(&bench).await?,
            _ => resume::measure(&bench).await?,
        }
        let mut run = bench.run.borrow_mut();
        run.measured.push(id.to_owned());
        bench.json.iter().try_for_each(|file| run.write(file))?;
    }
    let run = bench.run.borrow();
    options.record.iter().try_for_each(|page| run.append(&said(&["date", "+%Y-%m-%d"]), page))
}

/// One in which nothing has been measured.
fn new_run(clusters: &Clusters) -> anyhow::Result<Run> {
    Ok(Run {
        commit: said(&["git", "describe", "--always", "--dirty=+"]),
        version: clusters.version.clone(),
        processors: std::thread::available_parallelism()?.get(),
        measured: Vec::new(),
        contests: Vec::new(),
        curves: Vec::new(),
    })
}

/// The measures that are asked for, in their order.
fn wanted(only: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if let Some(unknown) = only.iter().find(|name| *name != "all" && !ALL.contains(&name.as_str())) {
        anyhow::bail!("{unknown} is none of {}", ALL.join(", "));
    }
    let is_wanted = |id: &&str| only.iter().any(|name| name == "all" || name == id);
    Ok(ALL.into_iter().filter(is_wanted).collect())
}

/// What a command says in one line; empty where it cannot be run.
fn said(command: &[&str]) -> String {
    let done = std::process::Command::new(command[0]).args(&command[1..]).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
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
    let clusters = Clusters::start()?;
    say_where(&clusters)?;
    load::measure(&options, &binary, &clusters).await
}

fn found(binary: &std::path::Path) -> anyhow::Result<PathBuf> {
    binary.canonicalize().with_context(|| format!("find {}", binary.display()))
}

fn say_where(clusters: &Clusters) -> anyhow::Result<()> {
    report::line(&format!(
        "PostgreSQL {}, {} CPUs, fsync and synchronous_commit on, loopback TCP, history in a cluster of its own",
        clusters.version,
        std::thread::available_parallelism()?
    ));
    Ok(())
}
