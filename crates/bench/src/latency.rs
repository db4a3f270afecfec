//! B3: from the moment a COMMIT is acknowledged until a WebSocket client has the change, which is durable in history
//! by then, against `pg_recvlogical` receiving the same commit.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_postgres::Client;

use crate::Bench;
use crate::drain::recvlogical_on;
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::marks::{self, Load, commit_and_match, take_marks};
use crate::report::{Contest, Goal, percentile};
use crate::turns;

const DATABASE: &str = "latency";
pub(crate) const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Commits a second, and commits of one turn.
const RATES: [(u32, u32); 3] = [(10, 50), (100, 400), (1_000, 3_000)];

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    prepare(bench).await?;
    let goals = [Goal::AtMost(5.0), Goal::AtMost(8.0)].map(Some);
    contend(bench, "pg_recvlogical, not durable", goals, async |load| pg_recvlogical(load).await).await
}

/// The table of the marks, published; a connection to where it is.
pub(crate) async fn prepare(bench: &Bench) -> anyhow::Result<Client> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source.batch_execute(marks::CREATE_TABLE).await?;
    clusters.initialise(&bench.binary, DATABASE, "latency_master").await?;
    Ok(source)
}

/// Waldelta against whoever gives sorted latencies of a load, at each rate; the goals are those of the median and of p99.
pub(crate) async fn contend(
    bench: &Bench,
    against: &str,
    goals: [Option<Goal>; 2],
    mut theirs: impl AsyncFnMut(&Load<'_>) -> anyhow::Result<Vec<f64>>,
) -> anyhow::Result<()> {
    for (rate, commits) in RATES {
        let load = Load { clusters: &bench.clusters, database: DATABASE, rate, commits };
        let contest = |percent: u32, goal| {
            let of = format!("commit to client, {rate} a second, p{percent}");
            Contest::new("B3", of, "ms", against, goal)
        };
        let (mut middle, mut worst) = (contest(50, goals[0]), contest(99, goals[1]));
        // Both are of the same commits.
        let both = |latencies: Vec<f64>| [percentile(&latencies, 50.0), percentile(&latencies, 99.0)];
        turns::take_all(
            bench.pairs,
            [&mut middle, &mut worst],
            async |_| Ok(both(theirs(&load).await?)),
            async |_| Ok(both(waldelta(bench, &load).await?)),
        )
        .await?;
        bench.show(middle);
        bench.show(worst);
    }
    Ok(())
}

async fn pg_recvlogical(load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
    let Load { clusters, database, commits, .. } = *load;
    clusters.create_slot(database, "latency_theirs").await?;
    let mut child = recvlogical_on(clusters, database, "latency_theirs")
        .arg("--file=-")
        .stdout(Stdio::piped())
        .spawn()
        .context("start pg_recvlogical")?;
    let output = child.stdout.take().context("its output")?;
    let receiver = marks_in(output, commits, "pg_recvlogical");
    let latencies = commit_and_match(load, "theirs", receiver).await?;
    child.kill().await?;
    clusters.drop_slot(database, "latency_theirs").await?;
    Ok(latencies)
}

/// Reads marks of theirs from what a process prints, until it had them all.
pub(crate) async fn marks_in(
    mut output: impl AsyncRead + Unpin,
    commits: u32,
    whose: &str,
) -> anyhow::Result<HashMap<u32, Instant>> {
    let (mut received, mut text) = (HashMap::new(), Vec::new());
    let mut chunk = vec![0; 1 << 16];
    while received.len() < commits as usize {
        let read = tokio::time::timeout(RECEIVE_TIMEOUT, output.read(&mut chunk)).await;
        let length = read.with_context(|| format!("{whose}: {} of {commits} came", received.len()))??;
        anyhow::ensure!(length > 0, "{whose} ended");
        let now = Instant::now();
        text.extend_from_slice(&chunk[..length]);
        take_marks(&mut text, b"theirs", now, &mut received);
    }
    Ok(received)
}

async fn waldelta(bench: &Bench, load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
    let fresh = Fresh::start(bench, load.database).await?;
    let mut follower = Follower::of(&fresh.service, marks::TABLE).await?;
    let receiver = marks::followed(&mut follower, load.commits);
    let latencies = commit_and_match(load, "ours", receiver).await?;
    fresh.end().await?;
    Ok(latencies)
}
