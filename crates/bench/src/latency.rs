//! B3: from the moment a COMMIT is acknowledged until a WebSocket client has the change, which is durable in history
//! by then, against `pg_recvlogical` receiving the same commit.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncReadExt;

use crate::Bench;
use crate::drain::recvlogical_on;
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::marks::{self, Load, commit_and_match, take_marks};
use crate::report::{Contest, Goal, percentile};
use crate::turns;

const DATABASE: &str = "latency";
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Commits a second, and commits of one turn.
const RATES: [(u32, u32); 3] = [(10, 50), (100, 400), (1_000, 3_000)];

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    clusters.source(DATABASE).await?.batch_execute(marks::CREATE_TABLE).await?;
    clusters.initialise(&bench.binary, DATABASE, "latency_master").await?;
    for (rate, commits) in RATES {
        let load = Load { clusters, database: DATABASE, rate, commits };
        let against = "pg_recvlogical, not durable";
        let contest = |percent: u32, most| {
            let of = format!("commit to client, {rate} a second, p{percent}");
            Contest::new("B3", of, "ms", against, Some(Goal::AtMost(most)))
        };
        let (mut middle, mut worst) = (contest(50, 5.0), contest(99, 8.0));
        // Both are of the same commits.
        let both = |latencies: Vec<f64>| [percentile(&latencies, 50.0), percentile(&latencies, 99.0)];
        turns::take_all(
            bench.pairs,
            [&mut middle, &mut worst],
            async |_| Ok(both(pg_recvlogical(&load).await?)),
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
    let mut output = child.stdout.take().context("its output")?;
    let receiver = async move {
        let (mut received, mut text) = (HashMap::new(), Vec::new());
        let mut chunk = vec![0; 1 << 16];
        while received.len() < commits as usize {
            let length = tokio::time::timeout(RECEIVE_TIMEOUT, output.read(&mut chunk)).await??;
            anyhow::ensure!(length > 0, "pg_recvlogical ended");
            let now = Instant::now();
            text.extend_from_slice(&chunk[..length]);
            take_marks(&mut text, b"theirs", now, &mut received);
        }
        Ok(received)
    };
    let latencies = commit_and_match(load, "theirs", receiver).await?;
    child.kill().await?;
    clusters.drop_slot(database, "latency_theirs").await?;
    Ok(latencies)
}

async fn waldelta(bench: &Bench, load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
    let fresh = Fresh::start(bench, load.database).await?;
    let mut follower = Follower::of(&fresh.service, marks::TABLE).await?;
    let receiver = marks::followed(&mut follower, load.commits);
    let latencies = commit_and_match(load, "ours", receiver).await?;
    fresh.end().await?;
    Ok(latencies)
}
