//! B10: thousands of clients that come back together, each from another place in the last minute, against as many sockets that
//! are accepted and told nothing.
//!
//! Once while the service has that minute in memory, as after a network was gone; and once by a fresh process that has to read it
//! from history, where it must not ask more often because more clients ask for the same.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::Bench;
use crate::bare::{Bare, Kind};
use crate::crowd::Crowd;
use crate::report::{Contest, Goal, line};
use crate::resume::cursor;
use crate::swarm::{Group, Swarm};
use crate::turns;

const TABLES: &str =
    "CREATE TABLE theirs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL);
     CREATE TABLE others (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)";
const THEIRS: &str = r#"{"id":"s","table":"public.theirs"}"#;
const CLIENTS: u64 = 5_000;
const FEW_CLIENTS: u64 = 500;
const CLIENTS_MIN: u64 = 50;
/// The minute: a transaction a second that concerns them, and nine that do not.
const SECONDS: usize = 60;
const OTHERS: usize = 9;
const AUTHOR: &str = "nobody of them";
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Measures and prints.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let crowd = Crowd::start(bench, "storm", TABLES).await?;
    let mut storm = Storm { bench, crowd, swarm: Swarm::start()?, cursors: Vec::new() };
    storm.write_a_minute().await?;
    let scaled = |full: u64| ((full as f64 * bench.scale) as u64).clamp(CLIENTS_MIN, full);
    let (many, few) = (scaled(CLIENTS), scaled(FEW_CLIENTS));
    let against = "as many bare sockets accepted";
    let new = |what: &str| {
        let of = format!("{many} clients come back within a minute, {what}");
        Contest::new("B10", of, "s", against, Some(Goal::AtMost(3.0)))
    };
    let mut contest = new("from memory");
    let swarm = &storm.swarm;
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| bare(swarm, many).await,
        async |_| storm.come_back(many).await,
    )
    .await?;
    bench.show(contest);
    let mut contest = new("from history");
    let storm = tokio::sync::Mutex::new(storm);
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| bare(&storm.lock().await.swarm, many).await,
        async |_| Ok(storm.lock().await.after_a_restart(many).await?.0),
    )
    .await?;
    bench.show(contest);
    let of = format!("{many} clients come back within a minute, from history");
    let goal = Some(Goal::AtMost(1.25));
    let mut contest = Contest::new("B10", of, "transactions on history", format!("{few} clients"), goal);
    turns::take(
        bench.pairs,
        &mut contest,
        async |_| Ok(storm.lock().await.after_a_restart(few).await?.1),
        async |_| Ok(storm.lock().await.after_a_restart(many).await?.1),
    )
    .await?;
    bench.show(contest);
    storm.into_inner().crowd.end().await
}

/// Seconds until as many have connected with what only accepts them.
async fn bare(swarm: &Swarm, clients: u64) -> anyhow::Result<f64> {
    // A fresh one, as the sockets of the turn before stay open in it.
    let bare = Bare::start(Kind::Raw).await?;
    let took = swarm.open(&Group::new("bare", bare.address, clients, THEIRS)).await?;
    swarm.close("bare").await?;
    Ok(took)
}

struct Storm<'a> {
    bench: &'a Bench,
    crowd: Crowd<'a>,
    swarm: Swarm,
    /// Where clients were in that minute, the earliest first.
    cursors: Vec<String>,
}

impl Storm<'_> {
    /// Writes it, and waits until it is in history.
    async fn write_a_minute(&mut self) -> anyhow::Result<()> {
        let insert = |table| format!("INSERT INTO {table} (note) VALUES (repeat('y', 100))");
        self.swarm.open(&self.crowd.group("first", 1, THEIRS)?).await?;
        // And one before, which all of them have.
        for _ in 0..=SECONDS {
            let mut statements = vec![insert("others"); OTHERS];
            statements.push(insert("theirs"));
            self.crowd.commit(AUTHOR, &statements).await?;
        }
        self.swarm.wait(SECONDS as u64 + 1).await?;
        self.swarm.close("first").await?;
        let history = self.bench.clusters.history(&self.crowd.history()).await?;
        let sql = "SELECT lsn::text, epoch FROM waldelta.change_history WHERE table_name = 'public.theirs' ORDER BY epoch, lsn";
        for row in history.query(sql, &[]).await? {
            self.cursors.push(cursor(row.get::<_, i32>(1).cast_unsigned(), row.get(0))?);
        }
        anyhow::ensure!(self.cursors.len() == SECONDS + 1, "history has {} of them", self.cursors.len());
        // Nobody has all of it.
        self.cursors.pop();
        Ok(())
    }

    /// Seconds until all are live, each with all that it missed.
    async fn come_back(&self, clients: u64) -> anyhow::Result<f64> {
        let before = self.swarm.counted().await?;
        let mut group = self.crowd.group("storm", clients, THEIRS)?;
        group.after.clone_from(&self.cursors);
        let missed: u64 = (0..clients).map(|number| SECONDS as u64 - number % SECONDS as u64).sum();
        let took = self.swarm.open(&group).await?;
        let got = self.swarm.counted().await?.since(before);
        if got.lost > 0 {
            let why = self.swarm.why().await?;
            line(&format!(
                "  {} connections ended before all were live, and came again; the last: {why}",
                got.lost
            ));
        }
        // Who had to come again was told some of it twice.
        anyhow::ensure!(got.transactions >= missed, "{} of {missed} transactions came", got.transactions);
        self.swarm.close("storm").await?;
        Ok(took)
    }

    /// The same with a service that has just begun, and the transactions in history's database from its start to its stop.
    async fn after_a_restart(&mut self, clients: u64) -> anyhow::Result<(f64, f64)> {
        self.crowd.stop().await?;
        let before = self.transactions().await?;
        self.crowd.restart().await?;
        let took = self.come_back(clients).await?;
        self.crowd.stop().await?;
        let done = self.transactions().await? - before;
        self.crowd.restart().await?;
        Ok((took, done as f64))
    }

    /// Transactions in the database of history so far; each read is one. Nobody may be connected: who leaves tells the last.
    async fn transactions(&self) -> anyhow::Result<i64> {
        let history = self.bench.clusters.history("postgres").await?;
        let (database, until) = (self.crowd.history(), Instant::now() + SETTLE_TIMEOUT);
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        while history.query_one(connected, &[&database]).await?.get::<_, i64>(0) > 0 {
            anyhow::ensure!(Instant::now() < until, "somebody stays connected to history");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = $1";
        history.query_one(sql, &[&database]).await?.try_get(0).context("read how many there were")
    }
}
