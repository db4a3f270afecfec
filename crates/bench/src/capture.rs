//! B1 and B2: how fast a backlog is read and decoded, and how fast it is durable in history.
//!
//! One backlog, one untouched slot. Each contender drains a fresh copy of that slot to the same end.

use std::time::Instant;

use anyhow::Context;
use tokio::process::Command;

use crate::Bench;
use crate::backlog::{Backlog, KINDS, Kind};
use crate::drain::{DRAIN_TIMEOUT, Rows, drain, recvlogical};
use crate::process;
use crate::report::{Contest, Goal};
use crate::turns;

const UNIT: &str = "changes/s";

/// B1.
pub(crate) async fn read_and_decode(bench: &Bench) -> anyhow::Result<()> {
    for kind in KINDS {
        let backlog = Backlog::write(&bench.binary, &bench.clusters, kind, bench.scale).await?;
        decoded(bench, kind, &backlog).await?;
        backlog.drop(&bench.clusters).await?;
    }
    Ok(())
}

/// B2.
pub(crate) async fn store(bench: &Bench) -> anyhow::Result<()> {
    for kind in KINDS {
        let backlog = Backlog::write(&bench.binary, &bench.clusters, kind, bench.scale).await?;
        stored(bench, kind, &backlog).await?;
        backlog.drop(&bench.clusters).await?;
    }
    Ok(())
}

async fn decoded(bench: &Bench, kind: Kind, backlog: &Backlog) -> anyhow::Result<()> {
    let goal = match kind {
        Kind::Tpcb => 1.8,
        Kind::Bulk => 1.4,
        Kind::Updates => 1.2,
    };
    let against = "pg_recvlogical, discarded";
    let mut contest = Contest::new("B1", kind.name(), UNIT, against, Some(Goal::AtLeast(goal)));
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
async fn stored(bench: &Bench, kind: Kind, backlog: &Backlog) -> anyhow::Result<()> {
    let (binary, clusters) = (&bench.binary, &bench.clusters);
    // What the table has in the end is what the other one gets.
    let model = "b2_model";
    drain(binary, clusters, backlog, model).await?;
    let rows = Rows::export(clusters, model).await?;
    let against = "binary COPY of the same rows, one transaction";
    let mut contest = Contest::new("B2", kind.name(), UNIT, against, Some(Goal::AtLeast(0.9)));
    let ours = async |_| {
        let took = drain(binary, clusters, backlog, "b2_ours").await?;
        clusters.drop_history("b2_ours").await?;
        Ok(backlog.changes as f64 / took)
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
    let mut beside = Contest::new("B2", format!("{}, beside", kind.name()), UNIT, against, None);
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
