//! Faults of what the two servers write to: a disk that is full, and one that fails to keep what it was given.
//!
//! A server ends for some of these. When the fault is over it is up again, and writes.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};
use waldelta_testkit::{Shutdown, TestCluster};

use super::Hand;
use super::databases::NAMES;

/// What is full, by the numbers of the servers.
const FULL: [&str; 2] = ["the disk of the source's WAL", "history's disk"];
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const MEND_PATIENCE: Duration = Duration::from_secs(90);
const MEND_INTERVAL: Duration = Duration::from_millis(100);
/// A server has a few segments of WAL in advance.
const SEGMENTS_MAX: u32 = 20;
/// Writes something, so that there is something to leave behind; the restore point means nothing to a slot.
pub(crate) const NEXT_SEGMENT: &str = "SELECT pg_create_restore_point('full'), pg_switch_wal()";
/// Whose fsync fails: what they are, and how `pg_stat_activity` knows them.
const SYNCING: [(&str, &str); 4] = [
    ("its checkpointer", "backend_type = 'checkpointer'"),
    ("its WAL writer", "backend_type = 'walwriter'"),
    ("all who are connected", "backend_type IN ('client backend', 'walsender')"),
    ("all of it", "true"),
];

/// Breaks until the end.
pub(super) async fn run(mut hand: Hand) {
    while hand.pause(4000, 20_000).await {
        let to = hand.dice.index(2);
        if hand.dice.once_in(2) {
            fill(&mut hand, to).await;
        } else {
            lose_syncs(&mut hand, to).await;
        }
    }
}

async fn fill(hand: &mut Hand, to: usize) {
    let stage = hand.stage.clone();
    let Some(disk) = stage.world.disk(to) else { return };
    let (cluster, _held) = stage.world.server(to).await;
    let panics = panics(&cluster);
    hand.note(format!("{} is full", FULL[to]));
    disk.fill();
    if hand.dice.once_in(2) {
        // Otherwise it may well go on for as long as this takes.
        for _ in 0..SEGMENTS_MAX {
            if ask(&cluster, NEXT_SEGMENT).await.is_none() {
                break;
            }
        }
    }
    hand.pause(1000, 10_000).await;
    disk.clear();
    hand.note(format!("{} has room again", FULL[to]));
    mend(hand, to, &cluster, panics).await;
}

/// Has fsync fail, for which a server that cannot know any more what is on its disk has to go down.
async fn lose_syncs(hand: &mut Hand, to: usize) {
    let stage = hand.stage.clone();
    let (cluster, _held) = stage.world.server(to).await;
    let panics = panics(&cluster);
    let (who, which) = *hand.dice.pick(&SYNCING);
    let passes = hand.dice.roll(10);
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE {which} AND pid <> pg_backend_pid()");
    let rows = ask(&cluster, &sql).await.unwrap_or_default();
    let mut processes: Vec<String> = rows.iter().filter_map(first).collect();
    if which == "true" {
        // It has new ones made, which then are like it.
        processes.extend(cluster.pid().map(|pid| pid.to_string()));
    }
    hand.note(format!("{}: fsync fails after {passes} times for {who}", NAMES[to]));
    let mut injection = match Injection::begin(&processes, passes) {
        Ok(injection) => injection,
        Err(error) => return hand.note(format!("it does not, there is no strace ({error})")),
    };
    let until = Instant::now() + hand.dice.ms(1000, 8000);
    while Instant::now() < until {
        // Nobody else asks for checkpoints in so short a time.
        if ask(&cluster, "CHECKPOINT").await.is_none() || !hand.pause(100, 1000).await {
            break;
        }
    }
    if let Some(refused) = injection.end() {
        hand.note(format!("it did not: {refused}"));
    }
    hand.note(format!("{}: fsync is as it was", NAMES[to]));
    mend(hand, to, &cluster, panics).await;
}

/// Brings a server back that has ended, and waits until it writes.
async fn mend(hand: &mut Hand, to: usize, cluster: &TestCluster, panics_before: usize) {
    let deadline = Instant::now() + MEND_PATIENCE;
    let mut has_ended = false;
    loop {
        if cluster.has_ended() {
            hand.note(format!("{} has ended by itself, and is started again", NAMES[to]));
            has_ended = true;
            cluster.down(Shutdown::Immediate).await;
            cluster.up().await;
        }
        // One that is about to go down comes to no end with this.
        if ask(cluster, "CHECKPOINT").await.is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "{} does not come back:\n{}", NAMES[to], cluster.log());
        sleep(MEND_INTERVAL).await;
    }
    if has_ended || panics(cluster) > panics_before {
        hand.stage.fleet.count_kill();
        hand.note(format!("{} went down for it, and is back", NAMES[to]));
    }
}

/// How often it went down for what went wrong, as far as its log had room for it.
fn panics(cluster: &TestCluster) -> usize {
    cluster.log().matches("PANIC:").count()
}

/// What a server answers, which may be down, and whose limits may be short.
pub(super) async fn ask(cluster: &TestCluster, sql: &str) -> Option<Vec<SimpleQueryMessage>> {
    let mut config: Config = cluster.url("postgres").parse().unwrap();
    config.options("-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0");
    let asked = async {
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::select! {
            answer = client.simple_query(sql) => answer.ok(),
            _ = connection => None,
        }
    };
    timeout(ANSWER_PATIENCE, asked).await.ok()?
}

fn first(message: &SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }
}

/// strace, which has the system calls of some processes fail until this ends.
struct Injection {
    strace: Child,
}

impl Injection {
    /// After each of them has passed so many times.
    fn begin(processes: &[String], passes: u64) -> std::io::Result<Self> {
        let mut strace = Command::new("strace");
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={}+", passes + 1);
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &inject]);
        strace.args(processes.iter().flat_map(|process| ["-p", process]));
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Injection { strace: strace.spawn()? })
    }

    /// Ends it; what it had to say if it was not let do this.
    fn end(&mut self) -> Option<String> {
        // As a user ends it: it lets go of those that it holds.
        let pid = self.strace.id().to_string();
        if self.strace.try_wait().ok()?.is_none() {
            Command::new("kill").args(["-TERM", &pid]).status().ok()?;
        }
        let mut said = String::new();
        self.strace.stderr.take()?.read_to_string(&mut said).ok()?;
        self.strace.wait().ok()?;
        said.lines().find(|line| line.contains("not permitted")).map(str::to_owned)
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.end();
    }
}
