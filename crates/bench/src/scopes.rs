//! B7: what a change costs that concerns one of many clients with filters of their own, against itself with ten of them.
//!
//! Changes come ten transactions at once, each for another client, so that what is done once for all that is there at once does not hide
//! the rest. With ten clients as with thousands each change goes to exactly one of them.

use std::cell::Cell;

use crate::Bench;
use crate::crowd::Crowd;
use crate::curve::Curve;
use crate::report::{Contest, Goal, Sample, Spread};
use crate::swarm::Swarm;
use crate::turns;

const TABLES: &str = "CREATE TABLE routed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, scope int NOT NULL, note text NOT NULL)";
/// What each of them follows: looked up, and evaluated by itself.
const EQUALITY: &str = r#"{"id":"s","table":"public.routed","where":"scope = {n}"}"#;
const PREDICATE: &str = r#"{"id":"s","table":"public.routed","where":"note like 'x{n};%'"}"#;
const TENANTS: [u64; 3] = [100, 1_000, 9_500];
const PREDICATES: [u64; 2] = [100, 1_000];
const FEW: u64 = 10;
/// Changes of a turn: less is not told from what the kernel's clock leaves out.
const CHANGES: f64 = 6_000.0;
const CHANGES_MIN: u64 = 1_000;
const AT_ONCE: u64 = 10;
const AUTHOR: &str = "nobody of them";

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let side = Side {
        crowd: Crowd::start(bench, "scopes", TABLES).await?,
        swarm: Swarm::start()?,
        changes: ((CHANGES * bench.scale) as u64).max(CHANGES_MIN) / AT_ONCE * AT_ONCE,
    };
    equality(bench, &side).await?;
    predicates(bench, &side).await?;
    side.crowd.end().await
}

async fn equality(bench: &Bench, side: &Side<'_>) -> anyhow::Result<()> {
    let title = "A change for one of so many tenants";
    let mut curve =
        Curve::new("B7", title, "tenants, a filter each", "CPU µs of the service for each change");
    for tenants in TENANTS.map(|tenants| scaled(bench, tenants)) {
        let of = format!("a change for one of {tenants} tenants");
        let against = format!("of {FEW}");
        let mut contest = Contest::new("B7", of, "CPU µs/change", against, Some(Goal::AtMost(1.3)));
        turns::take(
            bench.pairs,
            &mut contest,
            async |_| side.change(FEW, EQUALITY).await,
            async |_| side.change(tenants, EQUALITY).await,
        )
        .await?;
        if curve.points.is_empty() {
            curve.points.push((FEW as f64, median(&contest.reference)));
        }
        curve.points.push((tenants as f64, median(&contest.ours)));
        bench.show(contest);
    }
    bench.draw(curve);
    Ok(())
}

/// Here the goal is a number, and stands as the reference; the turn of ten is what is taken off.
async fn predicates(bench: &Bench, side: &Side<'_>) -> anyhow::Result<()> {
    const GOAL_US: f64 = 1.0;
    let title = "A change, against how many predicates no index helps with";
    let mut curve =
        Curve::new("B7", title, "predicates, none indexed", "CPU µs of the service for each change");
    for predicates in PREDICATES {
        let of = format!("a change, for each of {predicates} predicates that no index helps with");
        let against = format!("the goal; {FEW} predicates are taken off");
        let mut contest = Contest::new("B7", of, "CPU µs", against, Some(Goal::AtMost(1.0)));
        let (with_few, with_many) = (Cell::new(0.0), Cell::new(0.0));
        turns::take(
            bench.pairs,
            &mut contest,
            async |_| {
                with_few.set(side.change(FEW, PREDICATE).await?);
                Ok(GOAL_US)
            },
            async |_| {
                with_many.set(side.change(predicates, PREDICATE).await?);
                Ok((with_many.get() - with_few.get()).max(0.0) / (predicates - FEW) as f64)
            },
        )
        .await?;
        if curve.points.is_empty() {
            curve.points.push((FEW as f64, with_few.get()));
        }
        curve.points.push((predicates as f64, with_many.get()));
        bench.show(contest);
    }
    bench.draw(curve);
    Ok(())
}

fn scaled(bench: &Bench, full: u64) -> u64 {
    ((full as f64 * bench.scale) as u64).clamp(FEW * 2, full)
}

fn median(samples: &[Sample]) -> f64 {
    Spread::of(samples.iter().map(|sample| sample.value).collect()).median
}

/// The service and its clients.
struct Side<'a> {
    crowd: Crowd<'a>,
    swarm: Swarm,
    changes: u64,
}

impl Side<'_> {
    /// Microseconds of the service for each change, from the WAL to the socket, with so many clients that follow one each.
    async fn change(&self, clients: u64, subscription: &str) -> anyhow::Result<f64> {
        self.swarm.open(&self.crowd.group("scoped", clients, subscription)?).await?;
        // What is made once for a filter is made with the first change.
        self.write(0, AT_ONCE, clients).await?;
        let cpu = self.crowd.cpu_seconds()?;
        self.write(AT_ONCE, self.changes, clients).await?;
        let cpu = self.crowd.cpu_seconds()? - cpu;
        self.swarm.close("scoped").await?;
        Ok(cpu * 1e6 / self.changes as f64)
    }

    async fn write(&self, first: u64, changes: u64, clients: u64) -> anyhow::Result<()> {
        let before = self.swarm.counted().await?;
        for from in (first..first + changes).step_by(AT_ONCE as usize) {
            let statements: Vec<String> = (from..from + AT_ONCE)
                .map(|number| {
                    // Far from each other, so that none is favoured.
                    let client = number.wrapping_mul(7_919) % clients;
                    format!("INSERT INTO routed (scope, note) VALUES ({client}, 'x{client};')")
                })
                .collect();
            self.crowd.commit(AUTHOR, &statements).await?;
            self.swarm.wait(before.transactions + from - first + AT_ONCE).await?;
        }
        let got = self.swarm.counted().await?.since(before);
        self.swarm.ensure_all_stayed(got).await?;
        anyhow::ensure!(got.transactions == changes, "{changes} changes came as {}", got.transactions);
        Ok(())
    }
}
