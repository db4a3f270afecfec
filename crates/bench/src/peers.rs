//! Other programs that carry changes out of PostgreSQL, on the workloads of B2 and B3, in turn with Waldelta.
//!
//! They are no references: none does the same job. What each leaves out is said in docs/benchmarks.md. The measured time begins
//! when somebody reads the slot, not when a process starts: machines that run virtual machines would lose by it.

mod debezium;
mod driver;
mod subscription;
mod zero;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use tokio_postgres::Client;

use crate::Bench;
use crate::backlog::{Backlog, KINDS, Kind};
use crate::clusters::Clusters;
use crate::drain;
use crate::latency;
use crate::machine::Span;
use crate::marks::Load;
use crate::report::{Contest, Goal, Sample};
use crate::turns;

/// The table whose only row is the last of a backlog: who has it has all of it.
const END_TABLE: &str = "backlog_end";
/// Waldelta's history in a turn.
const OURS: &str = "peers_ours";
/// What peers follow: Waldelta's publication has a table of its own beside.
const PUBLICATION: &str = "peers";
const PUBLISH: &str = "CREATE PUBLICATION peers FOR TABLES IN SCHEMA public";

/// Which, and what of it.
#[derive(Debug, clap::Args)]
pub(crate) struct PeerOptions {
    /// Who
    pub name: Name,
    /// The folder that it was installed into by scripts/peers/fetch, whose name says its version
    #[arg(long, value_name = "FOLDER", required_if_eq_any([("name", "debezium"), ("name", "zero")]))]
    pub installed: Option<PathBuf>,
    /// The binary to measure
    #[arg(long, default_value = "target/release/waldelta", value_name = "FILE")]
    pub binary: PathBuf,
    /// What to measure: B2 is the throughput of a backlog, B3 the time from commit to client
    #[arg(long, default_values_t = ["B2", "B3"].map(str::to_owned), value_parser = ["B2", "B3"], value_delimiter = ',')]
    pub only: Vec<String>,
    /// Backlogs of B2
    #[arg(long, default_values_t = ["bulk", "tpcb", "upd"].map(str::to_owned), value_parser = ["bulk", "tpcb", "upd"], value_delimiter = ',')]
    pub backlogs: Vec<String>,
    /// Part of the full size of each backlog
    #[arg(long, default_value_t = 0.25, value_name = "PART")]
    pub scale: f64,
    /// Pairs of each contest
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub pairs: u32,
    /// Also write what was measured as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Append a table of it to this page
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Who can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// PostgreSQL's own subscription
    Subscription,
    /// Debezium's engine in a Java process, without a sink
    Debezium,
    /// Zero's cache, to its replica
    Zero,
}

/// What a contest asks of a peer.
trait Peer {
    /// As the report names it where a backlog is drained.
    fn name(&self) -> String;

    /// The same where commits are timed.
    fn name_of_receiver(&self) -> String {
        self.name()
    }

    /// How many times its throughput ours is to be at least.
    fn goal(&self) -> Option<f64>;

    /// Called once for each backlog, when its tables are there and nothing is in the slot.
    async fn prepare(&mut self, clusters: &Clusters, kind: Kind) -> anyhow::Result<()>;

    /// From when it reads a fresh copy of the backlog's slot until it has the row at the end.
    async fn drain(&self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<Span>;

    /// Leaves nothing behind in the backlog's clusters.
    async fn clean(&mut self, clusters: &Clusters, backlog: &Backlog) -> anyhow::Result<()>;

    /// Milliseconds from each commit of the load until it is received, sorted.
    async fn latencies(&self, load: &Load<'_>) -> anyhow::Result<Vec<f64>>;
}

/// Measures one of them.
pub(crate) async fn run(options: PeerOptions) -> anyhow::Result<()> {
    let installed = || {
        let folder = options.installed.as_deref().context("--installed says where it is")?;
        folder.canonicalize().with_context(|| format!("find {}", folder.display()))
    };
    std::fs::create_dir_all(scratch()).context("make a folder for what a peer writes")?;
    match options.name {
        Name::Subscription => measure(&mut subscription::Subscription, &options).await?,
        Name::Zero => measure(&mut zero::Zero::new(&installed()?)?, &options).await?,
        Name::Debezium => measure(&mut debezium::Debezium::new(&installed()?)?, &options).await?,
    }
    std::fs::remove_dir_all(scratch()).context("remove what the peer wrote")
}

async fn measure(peer: &mut impl Peer, options: &PeerOptions) -> anyhow::Result<()> {
    let clusters = Clusters::start()?;
    crate::say_where(&clusters)?;
    let run = RefCell::new(crate::new_run(&clusters)?);
    let (binary, json) = (crate::found(&options.binary)?, options.json.clone());
    let bench = Bench { binary, clusters, scale: options.scale, pairs: options.pairs.max(1), json, run };
    let keep = || bench.json.iter().try_for_each(|file| bench.run.borrow().write(file));
    if options.only.iter().any(|id| id == "B2") {
        for kind in KINDS.into_iter().filter(|kind| options.backlogs.iter().any(|name| name == kind.name())) {
            throughput(&bench, peer, kind).await?;
            keep()?;
        }
    }
    if options.only.iter().any(|id| id == "B3") {
        latency::prepare(&bench).await?.batch_execute(PUBLISH).await?;
        let (name, no_goals) = (peer.name_of_receiver(), [None, None]);
        latency::contend(&bench, &name, no_goals, async |load| peer.latencies(load).await).await?;
        keep()?;
    }
    let run = bench.run.borrow();
    options.record.iter().try_for_each(|page| run.append(&crate::said(&["date", "+%Y-%m-%d"]), page))
}

/// Both drain the same backlog to its last row.
async fn throughput(bench: &Bench, peer: &mut impl Peer, kind: Kind) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    let backlog = write(bench, peer, kind).await?;
    let goal = peer.goal().map(Goal::AtLeast);
    let mut contest = Contest::new("B2", kind.name(), "changes/s", peer.name(), goal);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let keep = |spans: &mut Vec<Span>, span: Span| {
        spans.push(span);
        backlog.changes as f64 / span.seconds
    };
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| Ok(keep(&mut theirs, peer.drain(clusters, &backlog).await?)),
        async |_| {
            clusters.copy_slot(&backlog.database, &backlog.slot, drain::SLOT).await?;
            clusters.create_history(OURS).await?;
            let span = drain::drain_into(&bench.binary, clusters, &backlog, OURS).await?;
            clusters.drop_history(OURS).await?;
            Ok(keep(&mut ours, span))
        },
    )
    .await?;
    only_of(&mut contest.reference, &theirs);
    only_of(&mut contest.ours, &ours);
    bench.show(contest);
    peer.clean(clusters, &backlog).await?;
    backlog.drop(clusters).await
}

/// A backlog that a peer follows too, whose last row is one of a table of its own.
async fn write(bench: &Bench, peer: &mut impl Peer, kind: Kind) -> anyhow::Result<Backlog> {
    let (clusters, database) = (&bench.clusters, kind.database());
    let create = async |source: &Client| {
        kind.create(clusters, &clusters.source_url(&database), source).await?;
        // A reader stops at a change from before its publication was there.
        Ok(source.batch_execute(&format!("{}; {PUBLISH}", end_table())).await?)
    };
    let work = async |source: &Client| {
        peer.prepare(clusters, kind).await?;
        let changes = kind.work(clusters, source, bench.scale).await?;
        source.batch_execute(&format!("INSERT INTO {END_TABLE} VALUES (1)")).await?;
        Ok(changes + 1)
    };
    Backlog::of(&bench.binary, clusters, &database, create, work).await
}

fn end_table() -> String {
    format!("CREATE TABLE {END_TABLE} (id int PRIMARY KEY)")
}

/// The work of the measured stretch only: to set a peer up may be more than to drain a backlog.
fn only_of(samples: &mut [Sample], spans: &[Span]) {
    for (sample, span) in samples.iter_mut().zip(spans) {
        sample.cpu_seconds = span.cpu_seconds;
    }
}

/// What the name of the folder says behind its last hyphen.
fn version(installed: &Path) -> anyhow::Result<String> {
    let name = installed.file_name().and_then(|name| name.to_str());
    let (_, version) =
        name.and_then(|name| name.rsplit_once('-')).context("a folder named <peer>-<version>")?;
    Ok(version.to_owned())
}

/// Where a peer writes what it has to; it is there still when the run has failed.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("waldelta-bench-{}-peer", std::process::id()))
}
