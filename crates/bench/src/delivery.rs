//! B5: what it costs to tell everybody who follows the same, against a bare loop that writes frames that are ready.
//!
//! The service is charged with all that it does meanwhile: reading the WAL, making each transaction durable, and framing it. What that
//! is without the fan-out is seen by a transaction that a single client gets, and shown beside. The next is committed once
//! everybody has the one before, so that nothing piles up: how many frames are there at once is decided here.

mod growth;

pub(crate) use self::growth::measure as growth;

use std::time::Instant;

use crate::Bench;
use crate::bare::{Bare, Kind};
use crate::crowd::Crowd;
use crate::curve::Curve;
use crate::process;
use crate::report::{Contest, Goal, Spread};
use crate::swarm::{Counted, Group, Swarm};
use crate::turns;

const TABLES: &str =
    "CREATE TABLE busy (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL);
     CREATE TABLE lone (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)";
/// What the crowd follows, and what the single client does.
const BUSY: &str = "busy";
const LONE: &str = "lone";
const CLIENTS: u64 = 1_000;
/// Frames that are there at once, and what is to be reached of the bare loop.
const BURSTS: [(u64, f64); 2] = [(1, 0.9), (10, 0.75)];
/// Deliveries of a turn at full size, and transactions at least: processor time is told in hundredths of a second.
const DELIVERIES: f64 = 600_000.0;
const TRANSACTIONS_MIN: u64 = 50;
const TRANSACTIONS_MAX: u64 = 1_000;
/// The sizes of the curve.
const SIZES: [u64; 4] = [10, 100, 1_000, 5_000];
/// Before anything is measured: shapes are told, and it is seen how long frames are.
const WARM_UP: u64 = 20;

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let side = Side { crowd: Crowd::start(bench, "delivery", TABLES).await?, swarm: Swarm::start()? };
    let bare = Bare::start(Kind::Raw).await?;
    side.follow(LONE, 1).await?;
    side.follow(BUSY, CLIENTS).await?;
    side.swarm.open(&Group::new("bare", bare.address, CLIENTS, &subscription(BUSY))).await?;
    for (burst, goal) in BURSTS {
        contest(bench, &side, &bare, burst, goal).await?;
    }
    side.swarm.close("bare").await?;
    side.swarm.close(BUSY).await?;
    drop(bare);
    let mut curve = Curve::new(
        "B5",
        "Everybody gets each transaction, one at a time",
        "clients",
        "deliveries for each CPU second of the service",
    );
    for clients in SIZES {
        side.follow(BUSY, clients).await?;
        let (cpu, came) = side.write(BUSY, clients, 1, transactions(bench, clients)).await?;
        curve.points.push((clients as f64, came.got.transactions as f64 / tick(cpu)));
        side.swarm.close(BUSY).await?;
    }
    bench.draw(curve);
    side.crowd.end().await
}

/// So many frames at once to all clients.
async fn contest(bench: &Bench, side: &Side<'_>, bare: &Bare, burst: u64, goal: f64) -> anyhow::Result<()> {
    let rounds = transactions(bench, CLIENTS) / burst;
    let (_, warm) = side.write(BUSY, CLIENTS, burst, WARM_UP).await?;
    side.write(LONE, 1, burst, WARM_UP).await?;
    bare.make_ready(burst, warm.got.bytes / warm.got.transactions, CLIENTS).await?;
    let of = format!("{CLIENTS} clients, {burst} at once");
    let per_second = "deliveries/CPU s";
    let new = |what: &str, unit, goal| {
        Contest::new("B5", format!("{of}{what}"), unit, "raw write of ready frames", goal)
    };
    let mut contests = [
        new("", per_second, Some(Goal::AtLeast(goal))),
        new(", without what a single client costs", per_second, None),
        new(", the clients themselves", "CPU µs/delivery", None),
        new(", together at the client", "frames/read", None),
        new(", until the last client has it", "ms", None),
    ];
    turns::take_all(
        bench.pairs,
        contests.each_mut(),
        async |_| {
            let cpu = process::cpu_seconds(bare.pid())?;
            let came = side.rounds(rounds, burst * CLIENTS, async || {
                let began = Instant::now();
                bare.write().await?;
                Ok(began)
            });
            let Came { got, last_ms } = came.await?;
            let rate = got.transactions as f64 / tick(process::cpu_seconds(bare.pid())? - cpu);
            Ok([rate, rate, of_clients(got), got.transactions as f64 / got.reads as f64, last_ms])
        },
        async |_| {
            let (alone, lone) = side.write(LONE, 1, burst, rounds * burst).await?;
            let (cpu, Came { got, last_ms }) = side.write(BUSY, CLIENTS, burst, rounds * burst).await?;
            let delivered = got.transactions as f64;
            let rate = (delivered - lone.got.transactions as f64) / tick(cpu - alone);
            Ok([delivered / tick(cpu), rate, of_clients(got), delivered / got.reads as f64, last_ms])
        },
    )
    .await?;
    contests.into_iter().for_each(|contest| bench.show(contest));
    Ok(())
}

fn of_clients(got: Counted) -> f64 {
    got.cpu_seconds * 1e6 / got.transactions as f64
}

/// Less than the kernel tells is no time to divide by.
fn tick(cpu_seconds: f64) -> f64 {
    cpu_seconds.max(0.01)
}

/// How many make a turn with so many clients.
fn transactions(bench: &Bench, clients: u64) -> u64 {
    ((DELIVERIES * bench.scale) as u64 / clients).clamp(TRANSACTIONS_MIN, TRANSACTIONS_MAX)
}

fn subscription(table: &str) -> String {
    format!(r#"{{"id":"s","table":"public.{table}"}}"#)
}

/// The service and those who follow it.
struct Side<'a> {
    crowd: Crowd<'a>,
    swarm: Swarm,
}

/// What came to the clients.
struct Came {
    got: Counted,
    /// Milliseconds until the last of them had what was told at once: the median.
    last_ms: f64,
}

impl Side<'_> {
    /// Connects so many clients that follow a table, by whose name they are known.
    async fn follow(&self, table: &str, clients: u64) -> anyhow::Result<()> {
        self.swarm.open(&self.crowd.group(table, clients, &subscription(table))?).await.map(drop)
    }

    /// Commits transactions of one change, so many at once. Their author is one of the followers, who is told that it is. Seconds of
    /// the service, and what came.
    async fn write(
        &self,
        table: &str,
        followers: u64,
        burst: u64,
        transactions: u64,
    ) -> anyhow::Result<(f64, Came)> {
        let statement = format!("INSERT INTO {table} (note) VALUES (repeat('y', 100))");
        let (statements, author) = (vec![statement; burst as usize], format!("{table}-0"));
        let cpu = self.crowd.cpu_seconds()?;
        let came = self.rounds(transactions.div_ceil(burst), burst * followers, async || {
            self.crowd.commit(&author, &statements).await?;
            Ok(Instant::now())
        });
        let came = came.await?;
        Ok((self.crowd.cpu_seconds()? - cpu, came))
    }

    /// Has something told to clients so many times, each time that all frames of it have come. The clock runs from when it says.
    async fn rounds(
        &self,
        rounds: u64,
        frames: u64,
        mut tell: impl AsyncFnMut() -> anyhow::Result<Instant>,
    ) -> anyhow::Result<Came> {
        let before = self.swarm.counted().await?;
        let mut took = Vec::new();
        for round in 1..=rounds {
            let began = tell().await?;
            self.swarm.wait(before.transactions + round * frames).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let got = self.swarm.counted().await?.since(before);
        self.swarm.ensure_all_stayed(got).await?;
        Ok(Came { got, last_ms: Spread::of(took).median })
    }
}
