//! B15, clients: whether a delivery costs the same when there are ten times as many clients.

use super::{BUSY, LONE, Side, TABLES, WARM_UP, tick, transactions};
use crate::Bench;
use crate::crowd::Crowd;
use crate::curve::Curve;
use crate::report::{Contest, Goal, Spread};
use crate::swarm::Swarm;
use crate::turns;

/// Each against the one before; what one process may have of open files ends a little below the next decade.
const SIZES: [u64; 3] = [100, 1_000, 9_500];
const CLIENTS_MIN: u64 = 10;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let side = Side { crowd: Crowd::start(bench, "growth_clients", TABLES).await?, swarm: Swarm::start()? };
    side.follow(LONE, 1).await?;
    let sizes = SIZES.map(|size| ((size as f64 * bench.scale) as u64).clamp(CLIENTS_MIN, size));
    let mut curve = Curve::new(
        "B15",
        "A delivery, without what a single client costs",
        "clients",
        "CPU µs of the service for each delivery",
    );
    let median = |values: Vec<f64>| Spread::of(values).median;
    for pair in sizes.windows(2) {
        let (few, many) = (pair[0], pair[1]);
        let of = format!("a delivery to {many} clients, without what a single client costs");
        let against = format!("to {few} clients");
        let mut contest = Contest::new("B15", of, "CPU µs/delivery", against, Some(Goal::AtMost(1.25)));
        turns::take(
            bench.pairs,
            &mut contest,
            async |_| delivery(bench, &side, few).await,
            async |_| delivery(bench, &side, many).await,
        )
        .await?;
        if curve.points.is_empty() {
            let values = contest.reference.iter().map(|sample| sample.value).collect();
            curve.points.push((few as f64, median(values)));
        }
        curve.points.push((many as f64, median(contest.ours.iter().map(|sample| sample.value).collect())));
        bench.show(contest);
    }
    bench.draw(curve);
    side.crowd.end().await
}

/// Microseconds of the service for each delivery beyond a single one.
async fn delivery(bench: &Bench, side: &Side<'_>, clients: u64) -> anyhow::Result<f64> {
    side.follow(BUSY, clients).await?;
    side.write(BUSY, clients, 1, WARM_UP).await?;
    let transactions = transactions(bench, clients);
    let (alone, lone) = side.write(LONE, 1, 1, transactions).await?;
    let (cpu, all) = side.write(BUSY, clients, 1, transactions).await?;
    side.swarm.close(BUSY).await?;
    let deliveries = all.got.transactions - lone.got.transactions;
    Ok(tick(cpu - alone) * 1e6 / deliveries as f64)
}
