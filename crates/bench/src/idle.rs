//! B6: what a client costs in memory that is connected and gets nothing, against tokio-tungstenite by itself.

use std::time::Duration;

use crate::Bench;
use crate::bare::{Bare, Kind};
use crate::crowd::Crowd;
use crate::curve::Curve;
use crate::process;
use crate::report::{Contest, Goal, Sample, Spread};
use crate::swarm::{Group, Swarm};
use crate::turns;

const TABLES: &str = "CREATE TABLE quiet (id int PRIMARY KEY, note text NOT NULL);
     INSERT INTO quiet SELECT n, repeat('x', 100) FROM generate_series(1, 5000) n";
const QUIET: &str = r#"{"id":"s","table":"public.quiet"}"#;
/// How many there are, one after the other in the same process; what it may have of open files ends a little above.
const SIZES: [u64; 3] = [1_000, 5_000, 9_500];
const CLIENTS_MIN: u64 = 100;
/// What is used while they connect is given back before memory is read.
const SETTLE: Duration = Duration::from_secs(3);
const AGAINST: &str = "tokio-tungstenite, buffers of 4 KiB";
const UNIT: &str = "KiB/client";

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let mut crowd = Crowd::start(bench, "idle", TABLES).await?;
    let swarm = Swarm::start()?;
    let [few, more, most] = SIZES.map(|size| ((size as f64 * bench.scale) as u64).clamp(CLIENTS_MIN, size));
    let sizes = [few, more.max(few + 1), most.max(few + 2)];
    let contest = |count: u64, what: &str, goal| {
        Contest::new("B6", format!("{count} idle clients, {what}"), UNIT, AGAINST, goal)
    };
    let all = |count| contest(count, "all memory", Some(Goal::AtMost(2.0)));
    let anonymous = |count| contest(count, "heap and stacks", None);
    let [a, b, c] = sizes;
    let mut contests = [all(a), anonymous(a), all(b), anonymous(b), all(c), anonymous(c)];
    turns::take_all(
        bench.pairs,
        contests.each_mut(),
        async |_| {
            let bare = Bare::start(Kind::Tungstenite).await?;
            grown(&swarm, bare.pid(), Group::new("bare", bare.address, 0, QUIET), sizes).await
        },
        async |_| {
            // What was freed by those before would be used again.
            crowd.restart().await?;
            grown(&swarm, crowd.pid()?, crowd.group("idle", 0, QUIET)?, sizes).await
        },
    )
    .await?;
    let median = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.value).collect()).median;
    let mut curve = Curve::new("B6", "Memory of the service for each idle client", "idle clients", "KiB");
    curve.points = sizes
        .iter()
        .zip(contests.iter().step_by(2))
        .map(|(size, of)| (*size as f64, median(&of.ours)))
        .collect();
    contests.into_iter().for_each(|contest| bench.show(contest));
    bench.draw(curve);
    after_a_snapshot(bench, &mut crowd, &swarm, few).await?;
    crowd.end().await
}

/// KiB for each client that a process has got: all that is in RAM and what is no file's, with each number of clients.
async fn grown(swarm: &Swarm, pid: u32, group: Group, sizes: [u64; 3]) -> anyhow::Result<[f64; 6]> {
    let (all, anonymous) = (process::rss_bytes(pid)?, process::anonymous_bytes(pid)?);
    let (mut values, mut there) = (Vec::new(), 0);
    for size in sizes {
        let name = format!("{}{size}", group.name);
        swarm.open(&Group { name, count: size - there, ..group.clone() }).await?;
        there = size;
        tokio::time::sleep(SETTLE).await;
        for (now, before) in [(process::rss_bytes(pid)?, all), (process::anonymous_bytes(pid)?, anonymous)] {
            values.push(now.saturating_sub(before) as f64 / 1024.0 / size as f64);
        }
    }
    for size in sizes {
        swarm.close(&format!("{}{size}", group.name)).await?;
    }
    values.try_into().map_err(|_| anyhow::anyhow!("two values for each size"))
}

/// Whether those who began with a snapshot keep something of it.
async fn after_a_snapshot(
    bench: &Bench,
    crowd: &mut Crowd<'_>,
    swarm: &Swarm,
    clients: u64,
) -> anyhow::Result<()> {
    let of = format!("{clients} idle clients after a snapshot, all memory");
    let mut contest = Contest::new("B6", of, UNIT, "the same without a snapshot", None);
    let crowd = tokio::sync::Mutex::new(crowd);
    let turn = async |snapshot: bool| {
        let mut crowd = crowd.lock().await;
        crowd.restart().await?;
        let before = process::rss_bytes(crowd.pid()?)?;
        swarm.open(&Group { snapshot, ..crowd.group("idle", clients, QUIET)? }).await?;
        tokio::time::sleep(SETTLE).await;
        let grown = process::rss_bytes(crowd.pid()?)?.saturating_sub(before);
        swarm.close("idle").await?;
        Ok(grown as f64 / 1024.0 / clients as f64)
    };
    turns::take(bench.pairs, &mut contest, async |_| turn(false).await, async |_| turn(true).await).await?;
    bench.show(contest);
    Ok(())
}
