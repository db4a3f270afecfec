//! B8: how fast a client has the rows that were there before it, and what many who come at once cost the source.

use std::time::Instant;

use anyhow::Context;

use crate::Bench;
use crate::follower::Follower;
use crate::fresh::Fresh;
use crate::process::family_cpu_seconds;
use crate::report::{Contest, Goal};
use crate::service::Service;
use crate::swarm::{Group, Swarm};
use crate::turns;

const DATABASE: &str = "snapshot";
const TABLE: &str = "public.held";
/// Rows of about 270 bytes.
const ROWS: u64 = 1_000_000;
const ROWS_MIN: u64 = 50_000;
/// Clients that come at once.
const CLIENTS: u64 = 100;
/// Of so many rows fewer: a hundred times all of them are more bytes than one turn should move.
const SHARE_OF_MANY: u64 = 5;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    let source = clusters.source(DATABASE).await?;
    source
        .batch_execute(
            "CREATE TABLE held (id bigint PRIMARY KEY, owner int NOT NULL, price numeric(12,2), at timestamptz, note text, more text)",
        )
        .await?;
    clusters.initialise(&bench.binary, DATABASE, "snapshot_untouched").await?;
    let rows = bench.part_of(ROWS, ROWS_MIN);
    fill(bench, rows).await?;
    one(bench, rows).await?;
    let rows = (rows / SHARE_OF_MANY).max(ROWS_MIN);
    source.batch_execute("TRUNCATE held").await?;
    fill(bench, rows).await?;
    many(bench, rows).await
}

async fn fill(bench: &Bench, rows: u64) -> anyhow::Result<()> {
    let source = bench.clusters.source(DATABASE).await?;
    source
        .batch_execute(&format!(
            "INSERT INTO held SELECT n, n % 1000, n / 7.0, now(), md5(n::text) || repeat('n', 60), md5((-n)::text) || repeat('m', 60)
               FROM generate_series(1, {rows}) n"
        ))
        .await?;
    // Hint bits and statistics are there, and nothing of it is written any more.
    for settle in ["VACUUM ANALYZE held", "CHECKPOINT"] {
        source.batch_execute(settle).await?;
    }
    Ok(())
}

/// Each turn has a service of its own: one that took a snapshot would have it still.
async fn one(bench: &Bench, rows: u64) -> anyhow::Result<()> {
    let against = "psql, COPY TO STDOUT as text";
    let of = format!("snapshot of {rows} rows to one client");
    let mut contest = Contest::new("B8", of, "rows/s", against, Some(Goal::AtLeast(0.9)));
    let url = bench.clusters.source_url(DATABASE);
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| {
            let began = Instant::now();
            bench.clusters.psql_at(&url, "COPY held TO STDOUT").await?;
            Ok(rows as f64 / began.elapsed().as_secs_f64())
        },
        async |_| {
            let fresh = Fresh::start(bench, DATABASE).await?;
            let took = snapshot(&fresh.service, rows).await?;
            fresh.end().await?;
            Ok(rows as f64 / took)
        },
    )
    .await?;
    bench.show(contest);
    Ok(())
}

/// Seconds from the hello until the client is live and has had so many rows.
async fn snapshot(service: &Service, rows: u64) -> anyhow::Result<f64> {
    let mut follower = Follower::connect(service).await?;
    let began = Instant::now();
    follower.hello(TABLE, r#""snapshot":true"#).await?;
    let mut end = None;
    follower
        .until_live(|frame| {
            if frame.starts_with(r#"{"type":"snapshot_end""#) {
                end = Some(frame.to_owned());
            }
        })
        .await?;
    let took = began.elapsed().as_secs_f64();
    let end: serde_json::Value = serde_json::from_str(&end.context("no snapshot came")?)?;
    anyhow::ensure!(end["tables"][0]["rows"] == rows, "{end} instead of {rows} rows");
    Ok(took)
}

/// What the source does for all of them, against what it does for one.
async fn many(bench: &Bench, rows: u64) -> anyhow::Result<()> {
    let against = "the same for one client";
    let contest = |of: &str, unit: &str| {
        let of = format!("{CLIENTS} snapshots of {rows} rows at once: {of}");
        Contest::new("B8", of, unit, against, Some(Goal::AtMost(1.2)))
    };
    let mut processor = contest("processor time of the source", "ms");
    let mut read = contest("rows that the source reads", "rows");
    turns::take_all(
        bench.pairs,
        [&mut processor, &mut read],
        async |_| cost_of(bench, 1).await,
        async |_| cost_of(bench, CLIENTS).await,
    )
    .await?;
    bench.show(processor);
    bench.show(read);
    Ok(())
}

/// Milliseconds of the source's processes, and rows that they read, for so many clients at once.
async fn cost_of(bench: &Bench, clients: u64) -> anyhow::Result<[f64; 2]> {
    let source = bench.clusters.source(DATABASE).await?;
    let postmaster = bench.clusters.source_pid().await?;
    let sql =
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'held'";
    let fresh = Fresh::start(bench, DATABASE).await?;
    let swarm = Swarm::start()?;
    let read: i64 = source.query_one(sql, &[]).await?.get(0);
    let before = family_cpu_seconds(postmaster)?;
    let subscription = format!(r#"{{"id":"s","table":"{TABLE}"}}"#);
    let group = Group::new("hydrated", fresh.service.address(), clients, &subscription);
    swarm.open(&Group { snapshot: true, ..group }).await?;
    let took = family_cpu_seconds(postmaster)? - before;
    let lost = swarm.counted().await?.lost;
    anyhow::ensure!(lost == 0, "{lost} clients were let go: see {}", fresh.service.log.display());
    drop(swarm);
    // What a backend has read is told when it ends.
    fresh.end().await?;
    let now: i64 = source.query_one(sql, &[]).await?.get(0);
    Ok([took * 1e3, (now - read) as f64])
}
