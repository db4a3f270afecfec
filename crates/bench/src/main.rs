//! Measures Waldelta against the programs that do a part of its work, in one run, as ratios.
//!
//! Times on a shared machine are noise; a ratio of two contenders that took turns in the same minutes is not. The real
//! binary is measured, from the outside. What is measured by which letter, and the goals, is said in docs/benchmarks.md.

mod backlog;
mod bare;
mod capture;
mod clusters;
mod crash;
mod crowd;
mod curve;
mod decades;
mod delivery;
mod drain;
mod driven;
mod filling;
mod follower;
mod footprint;
mod fresh;
mod growth;
mod held;
mod idle;
mod large;
mod latency;
mod machine;
mod marks;
mod peers;
mod pressure;
mod process;
mod publisher;
mod report;
mod resume;
mod scopes;
mod service;
mod snapshot;
mod stages;
mod storm;
mod swarm;
mod turns;

use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::bare::Kind;
use crate::clusters::Clusters;
use crate::curve::Curve;
use crate::peers::PeerOptions;
use crate::report::{Contest, Run, Table};

/// All that can be measured, and what is when nothing is said.
const ALL: [&str; 15] =
    ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B13", "B14", "B15"];
const SHORT: [&str; 5] = ["B1", "B2", "B3", "B5", "B9"];

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

/// What else there is to run; the hidden ones are other processes of a measure, each with a thread of its own
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Another program on the same workload, in turn with Waldelta
    Peer(PeerOptions),
    /// Thousands of clients
    #[command(hide = true)]
    Clients,
    /// A reference: the least that a server does
    #[command(hide = true)]
    Bare { kind: Kind },
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    match options.command.take() {
        None => on_all_cores(bench(options)),
        Some(Mode::Peer(options)) => on_all_cores(peers::run(options)),
        Some(Mode::Clients) => on_one_core(swarm::run()),
        Some(Mode::Bare { kind }) => on_one_core(bare::run(kind)),
    }
}

fn on_all_cores(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run)
}

/// So that the service has the others.
fn on_one_core(run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)
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
    /// The part of a full size that was asked for, but not less than what can be measured.
    pub(crate) fn part_of(&self, full: u64, least: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(least)
    }

    /// Shows and keeps what came of a contest.
    pub(crate) fn show(&self, contest: Contest) {
        contest.show();
        self.run.borrow_mut().contests.push(contest);
    }

    /// Shows and keeps what is neither.
    pub(crate) fn tell(&self, table: Table) {
        table.show();
        self.run.borrow_mut().tables.push(table);
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
            "B3" => {
                latency::measure(&bench).await?;
                stages::measure(&bench).await?;
            }
            "B4" => pressure::measure(&bench).await?,
            "B5" => delivery::measure(&bench).await?,
            "B6" => idle::measure(&bench).await?,
            "B7" => scopes::measure(&bench).await?,
            "B8" => snapshot::measure(&bench).await?,
            "B10" => storm::measure(&bench).await?,
            "B11" => large::measure(&bench).await?,
            "B12" => footprint::measure(&bench).await?,
            "B13" => publisher::measure(&bench).await?,
            "B14" => crash::measure(&bench).await?,
            "B15" => {
                decades::measure(&bench).await?;
                delivery::growth(&bench).await?;
            }
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
        tables: Vec::new(),
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
