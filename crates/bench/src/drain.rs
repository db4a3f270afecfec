//! Draining a backlog: by `pg_recvlogical`, by Waldelta, and what is in history then as ready rows for a COPY.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::Command;

use crate::backlog::Backlog;
use crate::clusters::Clusters;
use crate::machine::{Span, Stretch};
use crate::service::Service;

/// Longer than this no contender may take.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// The slot that the service drains.
pub(crate) const SLOT: &str = "ours";

/// `pg_recvlogical` on a slot; what becomes of its output, and where it ends, is to be said.
pub(crate) fn recvlogical_on(clusters: &Clusters, database: &str, slot: &str) -> Command {
    let mut command = Command::new(&clusters.pg_recvlogical);
    command
        .args(["--host=127.0.0.1", "--start", "--no-loop", "--status-interval=1"])
        .args(["-o", "proto_version=1", "-o", "publication_names=waldelta"])
        .arg(format!("--port={}", clusters.source_port))
        .arg(format!("--username={}", clusters.user))
        .arg(format!("--dbname={database}"))
        .arg(format!("--slot={slot}"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Changes a second.
pub(crate) async fn recvlogical(clusters: &Clusters, backlog: &Backlog, pair: u32) -> anyhow::Result<f64> {
    let slot = format!("theirs_{pair}");
    clusters.copy_slot(&backlog.database, &backlog.slot, &slot).await?;
    let began = Instant::now();
    let status = recvlogical_on(clusters, &backlog.database, &slot)
        .arg("--file=/dev/null")
        .arg(format!("--endpos={}", backlog.end))
        .status();
    let status =
        tokio::time::timeout(DRAIN_TIMEOUT, status).await.context("pg_recvlogical took too long")??;
    let took = began.elapsed().as_secs_f64();
    anyhow::ensure!(status.success(), "pg_recvlogical: {status}");
    clusters.drop_slot(&backlog.database, &slot).await?;
    Ok(backlog.changes as f64 / took)
}

/// Seconds from when the service begins to read until all of the backlog is durable in a history of this name, which stays.
pub(crate) async fn drain(
    binary: &Path,
    clusters: &Clusters,
    backlog: &Backlog,
    history: &str,
) -> anyhow::Result<f64> {
    clusters.copy_slot(&backlog.database, &backlog.slot, SLOT).await?;
    clusters.create_history(history).await?;
    Ok(drain_into(binary, clusters, backlog, history).await?.seconds)
}

/// The same with the slot [`SLOT`], which is gone then, and into a history that is there and may hold something.
/// It says what the machine worked meanwhile, too.
pub(crate) async fn drain_into(
    binary: &Path,
    clusters: &Clusters,
    backlog: &Backlog,
    history: &str,
) -> anyhow::Result<Span> {
    let (source, url) = (clusters.source_url(&backlog.database), clusters.history_url(history));
    // Before the service has been there for the first time it has no tables.
    let held = stored(clusters, history).await.unwrap_or(0);
    let service = Service::start(binary, &source, &url, SLOT).await?;
    service.says("capture streams").await?;
    let stretch = Stretch::begin()?;
    until_durable(clusters, history, &backlog.end)
        .await
        .with_context(|| service.log.display().to_string())?;
    let took = stretch.end()?;
    let rows = stored(clusters, history).await? - held;
    let wanted = i64::try_from(backlog.changes)?;
    anyhow::ensure!(rows == wanted, "history got {rows} changes of {wanted}: the measurement is void");
    service.stop().await?;
    clusters.drop_slot(&backlog.database, SLOT).await?;
    Ok(took)
}

/// Waits until everything before a place is durable in a history.
pub(crate) async fn until_durable(clusters: &Clusters, history: &str, end: &str) -> anyhow::Result<()> {
    let watcher = clusters.history(history).await?;
    let is_durable = "SELECT durable_end >= $1::text::pg_lsn FROM waldelta.captures";
    let waiting = async {
        while !watcher.query_one(is_durable, &[&end]).await?.get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(DRAIN_TIMEOUT, waiting).await.context("waldelta took too long")?
}

/// Changes of rows that a history holds.
async fn stored(clusters: &Clusters, history: &str) -> anyhow::Result<i64> {
    let sql =
        "SELECT count(*) FROM waldelta.change_history WHERE operation IN ('insert', 'update', 'delete')";
    Ok(clusters.history(history).await?.query_one(sql, &[]).await?.get(0))
}

/// The rows of a history, as the server writes them in binary.
pub(crate) struct Rows {
    file: PathBuf,
    partition: String,
}

impl Rows {
    pub(crate) async fn export(clusters: &Clusters, history: &str) -> anyhow::Result<Self> {
        let client = clusters.history(history).await?;
        let leaf = "SELECT min(inhrelid::regclass::text), count(*) FROM pg_inherits WHERE inhparent = 'waldelta.change_history'::regclass";
        let row = client.query_one(leaf, &[]).await?;
        anyhow::ensure!(row.get::<_, i64>(1) == 1, "the backlog spans more than one partition");
        let rows = Rows {
            file: std::env::temp_dir().join(format!("waldelta-bench-{}.copy", std::process::id())),
            partition: row.get(0),
        };
        let file = rows.file.display();
        clusters.psql(history, &format!("\\copy {} TO '{file}' BINARY", rows.partition)).await?;
        Ok(rows)
    }

    /// Seconds for all of them, into the table that they came from.
    pub(crate) async fn copy_in(&self, clusters: &Clusters, history: &str) -> anyhow::Result<f64> {
        let Rows { file, partition } = self;
        clusters.history(history).await?.batch_execute(&format!("TRUNCATE {partition}; CHECKPOINT")).await?;
        let began = Instant::now();
        clusters.psql(history, &format!("\\copy {partition} FROM '{}' BINARY", file.display())).await?;
        Ok(began.elapsed().as_secs_f64())
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
