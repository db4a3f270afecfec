//! B11: one large transaction: from its COMMIT until it is durable, until a client has it, and the memory that it takes.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::backlog::emit_end;
use crate::drain::{Rows, until_durable};
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::growth::{self, Growth};
use crate::process::{forget_peak, peak_bytes, rss_bytes};
use crate::report::{Contest, Goal};
use crate::turns;

const DATABASE: &str = "large";
const TABLE: &str = "public.many";
const ROWS: u64 = 1_000_000;
const ROWS_MIN: u64 = 50_000;
/// Transactions whose memory is compared.
const SIZES: [u64; 3] = [10_000, 100_000, ROWS];
/// What a transaction may take beyond what the service has while idle, in MiB.
const MEMORY_MIB_MAX: f64 = 64.0;
/// What was allocated for the start is given back by then.
const SETTLE: Duration = Duration::from_secs(2);
/// The slowest that the goals allow: the slot is read with protocol 1, which sends nothing before the COMMIT.
const RATIO_MAX: f64 = 1.3;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    let create = "CREATE TABLE many (id bigint PRIMARY KEY, owner int NOT NULL, note text NOT NULL)";
    clusters.source(DATABASE).await?.batch_execute(create).await?;
    clusters.initialise(&bench.binary, DATABASE, "large_untouched").await?;
    times(bench, bench.part_of(ROWS, ROWS_MIN)).await?;
    memory(bench).await
}

async fn times(bench: &Bench, rows: u64) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    // What is in history then is what the other one copies.
    let model = "large_model";
    let fresh = begin(bench).await?;
    commit(bench, rows).await?.durable(&fresh).await?;
    fresh.leave(model).await?;
    let ready = Rows::export(clusters, model).await?;
    let against = "binary COPY of the same rows into history";
    let contest = |what: &str| {
        let of = format!("COMMIT of {rows} rows to {what}");
        Contest::new("B11", of, "s", against, Some(Goal::AtMost(RATIO_MAX)))
    };
    let mut durable = contest("durable");
    turns::take(
        bench.pairs,
        &mut durable,
        async |_| ready.copy_in(clusters, model).await,
        async |_| {
            let fresh = begin(bench).await?;
            let took = commit(bench, rows).await?.durable(&fresh).await?;
            fresh.end().await?;
            Ok(took)
        },
    )
    .await?;
    bench.show(durable);
    let mut received = contest("a client that has it");
    turns::take(
        bench.pairs,
        &mut received,
        async |_| ready.copy_in(clusters, model).await,
        async |_| {
            let fresh = begin(bench).await?;
            let mut follower = Follower::of(&fresh.service, TABLE).await?;
            let took = commit(bench, rows).await?.received(&mut follower, rows).await?;
            fresh.end().await?;
            Ok(took)
        },
    )
    .await?;
    bench.show(received);
    clusters.drop_history(model).await
}

/// With a client, as it has to be sent too.
async fn memory(bench: &Bench) -> anyhow::Result<()> {
    let most = bench.part_of(ROWS, ROWS_MIN);
    let mut sizes: Vec<u64> = SIZES.iter().map(|size| *size.min(&most)).collect();
    sizes.dedup();
    let mut growth = Growth::new("B11", "peak memory above idle", "MiB", "rows in one transaction", &sizes);
    growth::measure(bench.pairs, [&mut growth], async |rows| {
        let fresh = begin(bench).await?;
        let mut follower = Follower::of(&fresh.service, TABLE).await?;
        tokio::time::sleep(SETTLE).await;
        let pid = fresh.service.pid()?;
        let idle = rss_bytes(pid)?;
        forget_peak(pid)?;
        commit(bench, rows).await?.received(&mut follower, rows).await?;
        let peak = peak_bytes(pid)?;
        fresh.end().await?;
        Ok([peak.saturating_sub(idle) as f64 / f64::from(1 << 20)])
    })
    .await?;
    bench.draw(growth.curve());
    growth.within(MEMORY_MIB_MAX).into_iter().for_each(|contest| bench.show(contest));
    Ok(())
}

/// A service that has nothing to read yet.
async fn begin(bench: &Bench) -> anyhow::Result<Fresh<'_>> {
    let source = bench.clusters.source(DATABASE).await?;
    source.batch_execute("TRUNCATE many; CHECKPOINT").await?;
    Fresh::start(bench, DATABASE).await
}

/// A transaction that has just been committed.
struct Committed<'a> {
    bench: &'a Bench,
    acknowledged: Instant,
    /// A place behind it.
    end: String,
}

async fn commit(bench: &Bench, rows: u64) -> anyhow::Result<Committed<'_>> {
    let source = bench.clusters.source(DATABASE).await?;
    let insert = format!(
        "BEGIN; INSERT INTO many SELECT n, n % 1000, 'note ' || n || repeat('x', 60) FROM generate_series(1, {rows}) n"
    );
    source.batch_execute(&insert).await?;
    source.batch_execute("COMMIT").await?;
    let acknowledged = Instant::now();
    Ok(Committed { bench, acknowledged, end: emit_end(&source).await? })
}

impl Committed<'_> {
    /// Seconds until it is durable in history.
    async fn durable(&self, fresh: &Fresh<'_>) -> anyhow::Result<f64> {
        until_durable(&self.bench.clusters, fresh.history(), &self.end).await?;
        Ok(self.acknowledged.elapsed().as_secs_f64())
    }

    /// Seconds until a client has all of it.
    async fn received(&self, follower: &mut Follower, rows: u64) -> anyhow::Result<f64> {
        let last = loop {
            let frame = follower.frame().await?;
            // What stands behind it in the frame are changes, which may say anything.
            let head = frame.split(r#""changes":"#).next().unwrap_or_default();
            if head.contains(r#""last":true"#) {
                break frame;
            }
        };
        let took = self.acknowledged.elapsed().as_secs_f64();
        let last: serde_json::Value = serde_json::from_str(&last)?;
        let seq = last["changes"].as_array().and_then(|changes| changes.last()).map(|change| &change["seq"]);
        anyhow::ensure!(seq.is_some_and(|seq| *seq == rows - 1), "the last change is {seq:?} of {rows}");
        Ok(took)
    }
}
