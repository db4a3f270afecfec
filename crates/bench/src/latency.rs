//! B3: from the moment a COMMIT is acknowledged until a WebSocket client has the change, which is durable in history
//! by then, against `pg_recvlogical` receiving the same commit.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio_postgres::Client;
use tokio_tungstenite::tungstenite::Message;

use crate::Bench;
use crate::clusters::Clusters;
use crate::report::{Contest, Goal, Sample, percentile};
use crate::service::Service;
use crate::turns;

pub(crate) const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

const DATABASE: &str = "latency";
/// What is committed, each row with a mark of its own.
pub(crate) const TABLE: &str = "CREATE TABLE beats (id int PRIMARY KEY, mark text NOT NULL)";
/// Commits a second, and commits of one turn.
const RATES: [(u32, u32); 3] = [(10, 50), (100, 400), (1_000, 3_000)];
/// Whoever reads the WAL may have a commit before its own client is told; what is less than this says only which of two tasks ran first.
const LATENCY_MS_MIN: f64 = 0.05;
/// Commits that are not measured, first.
const WARM_UP: i32 = 10;
const WARM_UP_PAUSE: Duration = Duration::from_millis(50);
/// Connections that commit in turn.
const WRITERS: usize = 4;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let goals = [Goal::AtMost(5.0), Goal::AtMost(8.0)];
    let against = "pg_recvlogical, not durable";
    prepare(bench).await?;
    contend(bench, against, goals.map(Some), async |load| pg_recvlogical(load).await).await
}

/// The table that commits go to, published; a connection to where it is.
pub(crate) async fn prepare(bench: &Bench) -> anyhow::Result<Client> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source.batch_execute(TABLE).await?;
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
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    for (rate, commits) in RATES {
        let load = Load { clusters, database: DATABASE, rate, commits };
        let contest = |percent: u32, goal| {
            let of = format!("commit to client, {rate} a second, p{percent}");
            Contest::new("B3", of, "ms", against, goal)
        };
        let (mut middle, mut worst) = (contest(50, goals[0]), contest(99, goals[1]));
        // Both are of the same commits.
        let (mut theirs_worst, mut ours_worst) = (Vec::new(), Vec::new());
        turns::take(
            bench.pairs,
            &mut middle,
            async |_| {
                let latencies = theirs(&load).await?;
                theirs_worst.push(percentile(&latencies, 99.0));
                Ok(percentile(&latencies, 50.0))
            },
            async |_| {
                let latencies = waldelta(&load, binary).await?;
                ours_worst.push(percentile(&latencies, 99.0));
                Ok(percentile(&latencies, 50.0))
            },
        )
        .await?;
        worst.was_quiet = middle.was_quiet;
        let with = |samples: &[Sample], values: Vec<f64>| {
            samples.iter().zip(values).map(|(sample, value)| Sample { value, ..*sample }).collect()
        };
        worst.reference = with(&middle.reference, theirs_worst);
        worst.ours = with(&middle.ours, ours_worst);
        bench.show(middle);
        bench.show(worst);
    }
    Ok(())
}

/// How often what is committed.
pub(crate) struct Load<'a> {
    pub clusters: &'a Clusters,
    pub database: &'a str,
    rate: u32,
    pub commits: u32,
}

/// Commits at the asked rate while `receiver` collects when each mark arrived; latencies in milliseconds, sorted.
pub(crate) async fn commit_and_match(
    load: &Load<'_>,
    prefix: &str,
    receiver: impl Future<Output = anyhow::Result<HashMap<u32, Instant>>>,
) -> anyhow::Result<Vec<f64>> {
    load.clusters.source(load.database).await?.batch_execute("TRUNCATE beats").await?;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let writer = load.clusters.source(load.database).await?;
        let statement = writer.prepare("INSERT INTO beats VALUES ($1, $2)").await?;
        writers.push((writer, statement));
    }
    // What is done once for a table is not what a commit takes.
    for number in 1..=WARM_UP {
        let mark = "before all others".to_owned();
        writers[0].0.execute(&writers[0].1, &[&-number, &mark]).await?;
        tokio::time::sleep(WARM_UP_PAUSE).await;
    }
    let begins = Instant::now();
    let committing = writers.iter().enumerate().map(|(first, (writer, statement))| async move {
        let mut committed = Vec::new();
        for number in (first as u32..load.commits).step_by(WRITERS) {
            tokio::time::sleep_until((begins + Duration::from_secs(1) * number / load.rate).into()).await;
            let mark = format!("{prefix}{number:08};");
            writer.execute(statement, &[&number.cast_signed(), &mark]).await?;
            committed.push((number, Instant::now()));
        }
        anyhow::Ok(committed)
    });
    let committing = futures_util::future::try_join_all(committing);
    let (committed, received) = tokio::try_join!(committing, receiver)?;
    let committed: Vec<(u32, Instant)> = committed.into_iter().flatten().collect();
    let mut latencies: Vec<f64> = committed
        .iter()
        .filter_map(|(number, at)| {
            let took = received.get(number)?.saturating_duration_since(*at).as_secs_f64() * 1e3;
            Some(took.max(LATENCY_MS_MIN))
        })
        .collect();
    anyhow::ensure!(latencies.len() == committed.len(), "{} of {} arrived", latencies.len(), committed.len());
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

async fn pg_recvlogical(load: &Load<'_>) -> anyhow::Result<Vec<f64>> {
    let Load { clusters, database, commits, .. } = *load;
    clusters.create_slot(database, "latency_theirs").await?;
    let mut child = Command::new(&clusters.pg_recvlogical)
        .args(["--host=127.0.0.1", "--start", "--no-loop", "--file=-"])
        .args(["-o", "proto_version=1", "-o", "publication_names=waldelta", "--slot=latency_theirs"])
        .arg(format!("--port={}", clusters.source_port))
        .arg(format!("--username={}", clusters.user))
        .arg(format!("--dbname={database}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
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

async fn waldelta(load: &Load<'_>, binary: &Path) -> anyhow::Result<Vec<f64>> {
    let Load { clusters, database, commits, .. } = *load;
    clusters.create_slot(database, "latency_ours").await?;
    clusters.create_history("latency_history").await?;
    let service = Service::start(
        binary,
        &clusters.source_url(database),
        &clusters.history_url("latency_history"),
        "latency_ours",
    )
    .await?;
    service.ready().await?;
    let (mut socket, _) = tokio_tungstenite::connect_async(service.stream_url()).await.context("connect")?;
    let hello = r#"{"type":"hello","client_id":"bench","snapshot":false,"subscriptions":[{"id":"s","table":"public.beats"}]}"#;
    socket.send(Message::text(hello)).await?;
    loop {
        match tokio::time::timeout(RECEIVE_TIMEOUT, socket.next()).await?.context("closed")?? {
            Message::Text(text) if text.contains(r#""type":"live""#) => break,
            Message::Close(close) => anyhow::bail!("closed: {close:?}"),
            _ => {}
        }
    }
    let receiver = async move {
        let mut received = HashMap::new();
        while received.len() < commits as usize {
            let message = tokio::time::timeout(RECEIVE_TIMEOUT, socket.next()).await?.context("closed")??;
            let now = Instant::now();
            take_marks(&mut message.into_data().to_vec(), b"ours", now, &mut received);
        }
        Ok(received)
    };
    let latencies = commit_and_match(load, "ours", receiver).await?;
    service.stop().await?;
    clusters.drop_slot(database, "latency_ours").await?;
    clusters.drop_history("latency_history").await?;
    Ok(latencies)
}

/// Notes each mark `<prefix><8 digits>;` in the text as received now, and forgets the text up to the last of them.
pub(crate) fn take_marks(
    text: &mut Vec<u8>,
    prefix: &[u8],
    now: Instant,
    received: &mut HashMap<u32, Instant>,
) {
    let length = prefix.len() + 9;
    let mut from = 0;
    let mut done = 0;
    while from + length <= text.len() {
        let digits = &text[from + prefix.len()..from + length - 1];
        if text[from..].starts_with(prefix) && digits.iter().all(u8::is_ascii_digit) {
            let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
            received.entry(number).or_insert(now);
            from += length;
            done = from;
        } else {
            from += 1;
        }
    }
    text.drain(..done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_across_chunks() {
        let mut received = HashMap::new();
        let mut text = b"xxours00000001;yyours0000".to_vec();
        take_marks(&mut text, b"ours", Instant::now(), &mut received);
        text.extend_from_slice(b"0002;");
        take_marks(&mut text, b"ours", Instant::now(), &mut received);
        assert_eq!(received.len(), 2);
        assert!(received.contains_key(&2));
    }
}
