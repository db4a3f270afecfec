//! B13: what the publisher notices: how many transactions it does beside who reads its slot, and what the service costs
//! while hardly anything happens.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use crate::Bench;
use crate::drain::recvlogical_on;
use crate::fresh::Fresh;
use crate::process;
use crate::report::{Contest, Goal};
use crate::swarm::{Group, Swarm};
use crate::turns;

const DATABASE: &str = "publisher";
const PGBENCH_SCALE: &str = "10";
/// Seconds of pgbench in one turn.
const SECONDS: u64 = 20;
const SECONDS_MIN: u64 = 5;

const IDLE_DATABASE: &str = "quiet";
const IDLE_CLIENTS: u64 = 5_000;
/// One change comes in this time; of a shorter one its part is measured, but at least one of all regular things that are done.
const BETWEEN_CHANGES: u64 = 60;
const HEARTBEAT: u64 = 15;
/// Of a core, in percent.
const IDLE_MAX: f64 = 0.5;
/// The clients are there, and have had a heartbeat.
const SETTLE: Duration = Duration::from_secs(HEARTBEAT);

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    transactions(bench).await?;
    idle(bench).await
}

async fn transactions(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(DATABASE).await?;
    pgbench(bench, &["--initialize", "--quiet", "--scale", PGBENCH_SCALE]).await?;
    // A table without key is not captured unless that is asked for.
    let key = "ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY";
    clusters.source(DATABASE).await?.batch_execute(key).await?;
    clusters.initialise(&bench.binary, DATABASE, "publisher_untouched").await?;
    let seconds = bench.part_of(SECONDS, SECONDS_MIN).to_string();
    let run = ["--client", "4", "--jobs", "2", "--time", &seconds];
    let against = "with pg_recvlogical, discarded";
    let of = "pgbench's standard transactions while they are read";
    let mut contest = Contest::new("B13", of, "transactions/s", against, Some(Goal::AtLeast(1.0)));
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| {
            let slot = "publisher_theirs";
            clusters.create_slot(DATABASE, slot).await?;
            let mut reader = recvlogical_on(clusters, DATABASE, slot)
                .arg("--file=/dev/null")
                .stderr(Stdio::null())
                .spawn()
                .context("start pg_recvlogical")?;
            let rate = pgbench_rate(bench, &run).await?;
            reader.kill().await?;
            clusters.drop_slot(DATABASE, slot).await?;
            Ok(rate)
        },
        async |_| {
            let fresh = Fresh::start(bench, DATABASE).await?;
            let rate = pgbench_rate(bench, &run).await?;
            fresh.end().await?;
            Ok(rate)
        },
    )
    .await?;
    bench.show(contest);
    Ok(())
}

/// Transactions a second, without the time that connecting took.
async fn pgbench_rate(bench: &Bench, run: &[&str]) -> anyhow::Result<f64> {
    let said = pgbench(bench, run).await?;
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench says no rate")?;
    Ok(rate.split(' ').next().unwrap_or_default().parse()?)
}

async fn pgbench(bench: &Bench, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(&bench.clusters.pgbench);
    let said = process::run("pgbench", command.args(args).arg(bench.clusters.source_url(DATABASE))).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Processor time of the service with many clients to whom nothing happens.
async fn idle(bench: &Bench) -> anyhow::Result<()> {
    let clusters = &bench.clusters;
    clusters.create_source(IDLE_DATABASE).await?;
    let source = clusters.source(IDLE_DATABASE).await?;
    let tables = "CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE changed (id int PRIMARY KEY, n int);
                  INSERT INTO changed VALUES (1, 0)";
    source.batch_execute(tables).await?;
    clusters.initialise(&bench.binary, IDLE_DATABASE, "quiet_untouched").await?;
    let fresh = Fresh::start(bench, IDLE_DATABASE).await?;
    let pid = fresh.service.pid()?;
    let swarm = Swarm::start()?;
    let quiet = r#"{"id":"s","table":"public.quiet"}"#;
    swarm.open(&Group::new("idle", fresh.service.address(), IDLE_CLIENTS, quiet)).await?;
    tokio::time::sleep(SETTLE).await;
    // Whole rounds of heartbeats.
    let seconds = bench.part_of(BETWEEN_CHANGES, HEARTBEAT).min(BETWEEN_CHANGES) / HEARTBEAT * HEARTBEAT;
    let of = format!("the service with {IDLE_CLIENTS} idle clients and a change in {seconds} s");
    let mut contest = Contest::new("B13", of, "% of a core", "what is allowed", Some(Goal::AtMost(1.0)));
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| Ok(IDLE_MAX),
        async |_| {
            let before = process::cpu_seconds(pid)?;
            source.batch_execute("UPDATE changed SET n = n + 1").await?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok((process::cpu_seconds(pid)? - before) / seconds as f64 * 100.0)
        },
    )
    .await?;
    bench.show(contest);
    let lost = swarm.counted().await?.lost;
    anyhow::ensure!(lost == 0, "{lost} clients were let go: see {}", fresh.service.log.display());
    drop(swarm);
    fresh.end().await
}
