//! B2: from a backlog in the WAL to durable history, against `pg_recvlogical`, which only writes to a null device.
//!
//! One backlog, one untouched slot. Each contender drains a fresh copy of that slot to the same end; the contenders take
//! turns.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::Command;

use crate::Options;
use crate::clusters::Clusters;
use crate::report::{self, Spread};
use crate::service::Service;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Measures and prints.
pub(crate) async fn measure(options: &Options, binary: &Path, clusters: &Clusters) -> anyhow::Result<()> {
    let database = "drain";
    clusters.create_source(database).await?;
    let source = clusters.source(database).await?;
    source
        .batch_execute(
            "CREATE TABLE items (id bigint PRIMARY KEY, owner int NOT NULL, name text NOT NULL, price numeric(10,2) NOT NULL,
                                 active boolean NOT NULL, tags text[], created timestamptz NOT NULL, note text)",
        )
        .await?;
    clusters.initialise(binary, database, "drain_master").await?;
    let transactions = options.changes.div_ceil(options.rows_per_transaction);
    for number in 0..transactions {
        let (from, to) =
            (number * options.rows_per_transaction, (number + 1) * options.rows_per_transaction - 1);
        source
            .batch_execute(&format!(
                "INSERT INTO items SELECT n, n % 1000, 'item ' || n, (n % 10000) / 100.0, n % 2 = 0,
                        ARRAY['a','b'], now(), repeat('x', 60) FROM generate_series({from}, {to}) n"
            ))
            .await?;
    }
    let end: String = source.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
    let changes = f64::from(transactions * options.rows_per_transaction);

    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for pair in 0..options.pairs {
        theirs.push(changes / pg_recvlogical(clusters, database, &end, pair).await?.as_secs_f64());
        ours.push(
            changes / waldelta(binary, clusters, database, &end, pair, changes as i64).await?.as_secs_f64(),
        );
    }
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    let (ratio, theirs, ours) = (Spread::of(ratios), Spread::of(theirs), Spread::of(ours));
    report::line(&format!(
        "\ndrain {changes} changes, {} a transaction, {} pairs (start of the process included)",
        options.rows_per_transaction, options.pairs
    ));
    for (name, spread) in [("pg_recvlogical, discarded", theirs), ("waldelta, durable in history", ours)] {
        report::line(&format!(
            "  {name:<30} {:>9.0} changes/s  ({:.0} to {:.0})",
            spread.median, spread.low, spread.high
        ));
    }
    report::line(&format!(
        "  ratio                          {:>9.2}            ({:.2} to {:.2})",
        ratio.median, ratio.low, ratio.high
    ));
    Ok(())
}

async fn pg_recvlogical(
    clusters: &Clusters,
    database: &str,
    end: &str,
    pair: u32,
) -> anyhow::Result<Duration> {
    let slot = format!("drain_theirs_{pair}");
    clusters.copy_slot(database, "drain_master", &slot).await?;
    let started = Instant::now();
    let status = Command::new(&clusters.pg_recvlogical)
        .args(["--host=127.0.0.1", "--start", "--no-loop", "--file=/dev/null", "--status-interval=1"])
        .args(["-o", "proto_version=1", "-o", "publication_names=waldelta"])
        .arg(format!("--port={}", clusters.source_port))
        .arg(format!("--username={}", clusters.user))
        .arg(format!("--dbname={database}"))
        .arg(format!("--slot={slot}"))
        .arg(format!("--endpos={end}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status =
        tokio::time::timeout(DRAIN_TIMEOUT, status).await.context("pg_recvlogical took too long")??;
    let took = started.elapsed();
    anyhow::ensure!(status.success(), "pg_recvlogical: {status}");
    clusters.drop_slot(database, &slot).await?;
    Ok(took)
}

async fn waldelta(
    binary: &Path,
    clusters: &Clusters,
    database: &str,
    end: &str,
    pair: u32,
    changes: i64,
) -> anyhow::Result<Duration> {
    let (slot, history) = (format!("drain_ours_{pair}"), format!("drain_history_{pair}"));
    clusters.copy_slot(database, "drain_master", &slot).await?;
    clusters.create_history(&history).await?;
    let watcher = clusters.history(&history).await?;
    let started = Instant::now();
    let service =
        Service::start(binary, &clusters.source_url(database), &clusters.history_url(&history), &slot)
            .await?;
    let durable = "SELECT durable_end >= $1::text::pg_lsn FROM waldelta.captures";
    loop {
        anyhow::ensure!(
            started.elapsed() < DRAIN_TIMEOUT,
            "waldelta took too long; see {}",
            service.log.display()
        );
        // Until the service has made its tables the question is an error, and means no.
        let done = watcher.query_opt(durable, &[&end]).await.ok().flatten().is_some_and(|row| row.get(0));
        if done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    let rows: i64 = watcher.query_one("SELECT count(*) FROM waldelta.change_history", &[]).await?.get(0);
    anyhow::ensure!(rows == changes, "history holds {rows} changes of {changes}: the measurement is void");
    service.stop().await?;
    drop(watcher);
    clusters.drop_slot(database, &slot).await?;
    clusters.drop_history(&history).await?;
    Ok(took)
}
