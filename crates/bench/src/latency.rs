//! B3: from the moment a COMMIT is acknowledged until a WebSocket client has the change, which is durable in history
//! by then, against `pg_recvlogical` receiving the same commit.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use crate::Options;
use crate::clusters::Clusters;
use crate::report::{self, percentile};
use crate::service::Service;

const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures and prints.
pub(crate) async fn measure(options: &Options, binary: &Path, clusters: &Clusters) -> anyhow::Result<()> {
    let database = "latency";
    clusters.create_source(database).await?;
    clusters
        .source(database)
        .await?
        .batch_execute("CREATE TABLE beats (id int PRIMARY KEY, mark text NOT NULL)")
        .await?;
    clusters.initialise(binary, database, "latency_master").await?;

    let theirs = pg_recvlogical(options, clusters, database).await?;
    let ours = waldelta(options, binary, clusters, database).await?;
    report::line(&format!(
        "\ncommit acknowledged to received, {} commits at {} a second",
        options.commits, options.commits_per_second
    ));
    for (name, values) in [("pg_recvlogical", &theirs), ("waldelta, durable, WebSocket", &ours)] {
        report::line(&format!(
            "  {name:<30} p50 {:.3} ms, p99 {:.3} ms",
            percentile(values, 50.0),
            percentile(values, 99.0)
        ));
    }
    let ratio = |percent| percentile(&ours, percent) / percentile(&theirs, percent).max(0.001);
    report::line(&format!("  ratio                          p50 {:.1}, p99 {:.1}", ratio(50.0), ratio(99.0)));
    Ok(())
}

/// Commits at the asked rate while `receiver` collects when each mark arrived; latencies in milliseconds, sorted.
async fn commit_and_match(
    options: &Options,
    clusters: &Clusters,
    database: &str,
    prefix: &str,
    receiver: impl Future<Output = anyhow::Result<HashMap<u32, Instant>>>,
) -> anyhow::Result<Vec<f64>> {
    let writer = clusters.source(database).await?;
    writer.batch_execute("TRUNCATE beats").await?;
    let statement = writer.prepare("INSERT INTO beats VALUES ($1, $2)").await?;
    let committing = async {
        let mut committed = HashMap::new();
        let mut timer = tokio::time::interval(Duration::from_secs(1) / options.commits_per_second);
        for number in 0..options.commits {
            timer.tick().await;
            let id = i32::try_from(number).context("too many commits")?;
            writer.execute(&statement, &[&id, &format!("{prefix}{number:08};")]).await?;
            committed.insert(number, Instant::now());
        }
        anyhow::Ok(committed)
    };
    let (committed, received) = tokio::try_join!(committing, receiver)?;
    let mut latencies: Vec<f64> = committed
        .iter()
        .filter_map(|(number, at)| {
            Some(received.get(number)?.saturating_duration_since(*at).as_secs_f64() * 1e3)
        })
        .collect();
    anyhow::ensure!(latencies.len() == committed.len(), "{} of {} arrived", latencies.len(), committed.len());
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

async fn pg_recvlogical(options: &Options, clusters: &Clusters, database: &str) -> anyhow::Result<Vec<f64>> {
    clusters.copy_slot(database, "latency_master", "latency_theirs").await?;
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
    let mut output = child.stdout.take().context("its output")?;
    let commits = options.commits;
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
    let latencies = commit_and_match(options, clusters, database, "theirs", receiver).await?;
    child.kill().await?;
    clusters.drop_slot(database, "latency_theirs").await?;
    Ok(latencies)
}

async fn waldelta(
    options: &Options,
    binary: &Path,
    clusters: &Clusters,
    database: &str,
) -> anyhow::Result<Vec<f64>> {
    clusters.copy_slot(database, "latency_master", "latency_ours").await?;
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
    let commits = options.commits;
    let receiver = async move {
        let mut received = HashMap::new();
        while received.len() < commits as usize {
            let message = tokio::time::timeout(RECEIVE_TIMEOUT, socket.next()).await?.context("closed")??;
            let now = Instant::now();
            take_marks(&mut message.into_data().to_vec(), b"ours", now, &mut received);
        }
        Ok(received)
    };
    let latencies = commit_and_match(options, clusters, database, "ours", receiver).await?;
    service.stop().await?;
    clusters.drop_slot(database, "latency_ours").await?;
    clusters.drop_history("latency_history").await?;
    Ok(latencies)
}

/// Notes each mark `<prefix><8 digits>;` in the text as received now, and forgets the text up to the last of them.
fn take_marks(text: &mut Vec<u8>, prefix: &[u8], now: Instant, received: &mut HashMap<u32, Instant>) {
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
