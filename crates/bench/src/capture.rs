//! B1 and B2: how fast a backlog is read and decoded, and how fast it is durable in history.
//!
//! One backlog, one untouched slot. Each contender drains a fresh copy of that slot to the same end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::Command;

use crate::Bench;
use crate::backlog::{Backlog, KINDS, Kind};
use crate::clusters::Clusters;
use crate::machine::{Span, Stretch};
use crate::process;
use crate::report::{Contest, Goal};
use crate::service::Service;
use crate::turns;

pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
const UNIT: &str = "changes/s";

/// B1.
pub(crate) async fn read_and_decode(bench: &Bench) -> anyhow::Result<()> {
    for kind in KINDS {
        let backlog = Backlog::write(&bench.binary, &bench.clusters, kind, bench.scale).await?;
        decoded(bench, &backlog).await?;
        backlog.drop(&bench.clusters).await?;
    }
    Ok(())
}

/// B2.
pub(crate) async fn store(bench: &Bench) -> anyhow::Result<()> {
    for kind in KINDS {
        let backlog = Backlog::write(&bench.binary, &bench.clusters, kind, bench.scale).await?;
        stored(bench, &backlog).await?;
        backlog.drop(&bench.clusters).await?;
    }
    Ok(())
}

async fn decoded(bench: &Bench, backlog: &Backlog) -> anyhow::Result<()> {
    let goal = match backlog.kind {
        Kind::Tpcb => 1.8,
        Kind::Bulk => 1.4,
        Kind::Updates => 1.2,
    };
    let against = "pg_recvlogical, discarded";
    let mut contest = Contest::new("B1", backlog.kind.name(), UNIT, against, Some(Goal::AtLeast(goal)));
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    turns::take(
        bench.pairs,
        &mut contest,
        async |pair| recvlogical(clusters, backlog, pair).await,
        async |_| {
            let began = Instant::now();
            let mut drain = Command::new(binary);
            drain
                .args(["bench", "--json", "--slot", &backlog.slot])
                .args(["--database-url", &clusters.source_url(&backlog.database)]);
            let drained = tokio::time::timeout(DRAIN_TIMEOUT, process::run("waldelta bench", &mut drain));
            let told = drained.await.context("waldelta bench took too long")??;
            let told: serde_json::Value = serde_json::from_slice(&told)?;
            anyhow::ensure!(
                told["changes"] == backlog.changes,
                "{told} instead of {} changes",
                backlog.changes
            );
            Ok(backlog.changes as f64 / began.elapsed().as_secs_f64())
        },
    )
    .await?;
    bench.show(contest);
    Ok(())
}

/// Against a COPY of the same rows into the same table, in one transaction: alone, and beside `pg_recvlogical`.
async fn stored(bench: &Bench, backlog: &Backlog) -> anyhow::Result<()> {
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    // What the table has in the end is what the other one gets.
    let model = "b2_model";
    drain(binary, clusters, backlog, model).await?;
    let rows = Rows::export(clusters, model).await?;
    let against = "binary COPY of the same rows, one transaction";
    let mut contest = Contest::new("B2", backlog.kind.name(), UNIT, against, Some(Goal::AtLeast(0.9)));
    let ours = async |_| {
        let took = drain(binary, clusters, backlog, "b2_ours").await?;
        clusters.drop_history("b2_ours").await?;
        Ok(backlog.changes as f64 / took.seconds)
    };
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| Ok(backlog.changes as f64 / rows.copy_in(clusters, model).await?),
        ours,
    )
    .await?;
    // Processors that share what they have slow each other down: what is left of the COPY beside somebody who reads the slot.
    let against = "the same COPY beside pg_recvlogical";
    let mut beside = Contest::new("B2", format!("{}, beside", backlog.kind.name()), UNIT, against, None);
    turns::take(
        bench.pairs,
        &mut beside,
        async |pair| {
            let reading = recvlogical(clusters, backlog, pair);
            let (took, _) = tokio::try_join!(rows.copy_in(clusters, model), reading)?;
            Ok(backlog.changes as f64 / took)
        },
        ours,
    )
    .await?;
    clusters.drop_history(model).await?;
    bench.show(contest);
    bench.show(beside);
    Ok(())
}

/// Changes a second.
async fn recvlogical(clusters: &Clusters, backlog: &Backlog, pair: u32) -> anyhow::Result<f64> {
    let slot = format!("theirs_{pair}");
    clusters.copy_slot(&backlog.database, &backlog.slot, &slot).await?;
    let began = Instant::now();
    let status = Command::new(&clusters.pg_recvlogical)
        .args(["--host=127.0.0.1", "--start", "--no-loop", "--file=/dev/null", "--status-interval=1"])
        .args(["-o", "proto_version=1", "-o", "publication_names=waldelta"])
        .arg(format!("--port={}", clusters.source_port))
        .arg(format!("--username={}", clusters.user))
        .arg(format!("--dbname={}", backlog.database))
        .arg(format!("--slot={slot}"))
        .arg(format!("--endpos={}", backlog.end))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status =
        tokio::time::timeout(DRAIN_TIMEOUT, status).await.context("pg_recvlogical took too long")??;
    let took = began.elapsed().as_secs_f64();
    anyhow::ensure!(status.success(), "pg_recvlogical: {status}");
    clusters.drop_slot(&backlog.database, &slot).await?;
    Ok(backlog.changes as f64 / took)
}

/// From when the service begins to read until all of the backlog is durable in a history of this name, which stays.
pub(crate) async fn drain(
    binary: &Path,
    clusters: &Clusters,
    backlog: &Backlog,
    history: &str,
) -> anyhow::Result<Span> {
    let slot = "ours";
    clusters.copy_slot(&backlog.database, &backlog.slot, slot).await?;
    clusters.create_history(history).await?;
    let watcher = clusters.history(history).await?;
    let service =
        Service::start(binary, &clusters.source_url(&backlog.database), &clusters.history_url(history), slot)
            .await?;
    service.says("capture streams").await?;
    let stretch = Stretch::begin()?;
    let durable = "SELECT durable_end >= $1::text::pg_lsn FROM waldelta.captures";
    loop {
        anyhow::ensure!(
            stretch.elapsed() < DRAIN_TIMEOUT,
            "waldelta took too long; see {}",
            service.log.display()
        );
        let done: bool = watcher.query_one(durable, &[&backlog.end]).await?.get(0);
        if done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = stretch.end()?;
    let rows: i64 = watcher
        .query_one(
            "SELECT count(*) FROM waldelta.change_history WHERE operation IN ('insert', 'update', 'delete')",
            &[],
        )
        .await?
        .get(0);
    let wanted = i64::try_from(backlog.changes)?;
    anyhow::ensure!(rows == wanted, "history holds {rows} changes of {wanted}: the measurement is void");
    service.stop().await?;
    drop(watcher);
    clusters.drop_slot(&backlog.database, slot).await?;
    Ok(took)
}

/// The rows of a history, as the server writes them in binary.
struct Rows {
    file: PathBuf,
    partition: String,
}

impl Rows {
    async fn export(clusters: &Clusters, history: &str) -> anyhow::Result<Self> {
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
    async fn copy_in(&self, clusters: &Clusters, history: &str) -> anyhow::Result<f64> {
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
