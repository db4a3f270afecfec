//! B4: from COMMIT to a client while changes come at half of the rate that can be stored, against the same while nothing
//! else comes.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::Bench;
use crate::backlog::{Backlog, Kind};
use crate::drain::drain;
use crate::filling::{self, Filling, filled};
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::marks::{self, Load, commit_and_match};
use crate::report::{Contest, Goal, line, percentile};
use crate::turns;

const DATABASE: &str = "pressure";
/// Marks a second, and of one turn.
const MARKS: (u32, u32) = (100, 500);
/// Part of the bulk backlog by which the rate is found, at least.
const RATE_SCALE_MIN: f64 = 0.2;
/// The load runs evenly by then.
const SETTLE: Duration = Duration::from_secs(1);
/// Less than this part of the load that was wanted is another measurement.
const REACHED_MIN: f64 = 0.5;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    let rate = stored_a_second(bench).await? / 2.0;
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source.batch_execute(marks::CREATE_TABLE).await?;
    source.batch_execute(filling::CREATE_TABLE).await?;
    clusters.initialise(&bench.binary, DATABASE, "pressure_untouched").await?;
    let against = "the same while nothing else comes";
    let of = format!("commit to client while {rate:.0} changes a second come, p99");
    let mut contest = Contest::new("B4", of, "ms", against, Some(Goal::AtMost(5.0)));
    let mut reached = Vec::new();
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| Ok(marked(bench, &source, None).await?.0),
        async |_| {
            let (latency, part) = marked(bench, &source, Some(rate)).await?;
            reached.push(part);
            Ok(latency)
        },
    )
    .await?;
    bench.show(contest);
    let parts: Vec<String> = reached.iter().map(|part| format!("{part:.2}")).collect();
    line(&format!("  {:<44} {}", "of the load came", parts.join(", ")));
    Ok(())
}

/// The latency of marks, in milliseconds, and how much of the load came: the service is live before any of it does.
async fn marked(bench: &Bench, source: &Client, rate: Option<f64>) -> anyhow::Result<(f64, f64)> {
    source.batch_execute("TRUNCATE filler; CHECKPOINT").await?;
    let (clusters, (marks_rate, commits)) = (&bench.clusters, MARKS);
    let fresh = Fresh::start(bench, DATABASE).await?;
    let mut follower = Follower::of(&fresh.service, marks::TABLE).await?;
    let filling = rate.map(|rate| Filling::start(clusters, DATABASE, rate)).transpose()?;
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (filled(source).await?, Instant::now());
    let load = Load { clusters, database: DATABASE, rate: marks_rate, commits };
    let latencies = commit_and_match(&load, "ours", marks::followed(&mut follower, commits)).await?;
    let came = (filled(source).await? - before) / began.elapsed().as_secs_f64();
    if let Some(filling) = filling {
        filling.end().await?;
    }
    fresh.end().await?;
    let part = came / rate.unwrap_or(f64::MAX);
    anyhow::ensure!(
        rate.is_none() || part > REACHED_MIN,
        "{part:.2} of the load came: the measurement is void"
    );
    Ok((percentile(&latencies, 99.0), part))
}

/// Changes a second that become durable while a backlog is drained.
async fn stored_a_second(bench: &Bench) -> anyhow::Result<f64> {
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    let backlog = Backlog::write(binary, clusters, Kind::Bulk, bench.scale.max(RATE_SCALE_MIN)).await?;
    let took = drain(binary, clusters, &backlog, "pressure_rate").await?;
    clusters.drop_history("pressure_rate").await?;
    let rate = backlog.changes as f64 / took;
    backlog.drop(clusters).await?;
    Ok(rate)
}
