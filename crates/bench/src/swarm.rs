//! Thousands of clients in one lean process of their own, driven by lines on its standard input: `waldelta-bench clients`.
//!
//! Each command is answered by one line. It decides nothing of what is measured: it connects, counts and takes times.

mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

use crate::report::{line, percentile};

/// How often it is looked whether all are there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Clients that connect at the same time.
const CONNECTING_MAX: usize = 256;

/// What all clients add to.
#[derive(Default)]
pub(crate) struct Tally {
    /// Times that a client said to be live.
    live: AtomicU64,
    /// `tx` frames.
    transactions: AtomicU64,
    bytes: AtomicU64,
    /// Connections that ended before they were to.
    lost: AtomicU64,
    timed: AtomicBool,
    /// Marks with the time at which they came, in microseconds.
    arrivals: Mutex<Vec<(u32, u64)>>,
}

/// A group of clients, by what they follow.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    count: u64,
    /// The subscription; `{n}` in it is the client's number.
    subscription: String,
    snapshot: bool,
}

/// Raises the limit of open files of this process as far as it may; what it is then, if there is one.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Microseconds since 1970: the same clock in the processes of one machine.
pub(crate) fn now_us() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "times of two processes are compared")]
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// Serves commands until standard input ends.
pub(crate) async fn run(address: SocketAddr) -> anyhow::Result<()> {
    raise_file_limit();
    let tally = Arc::new(Tally::default());
    let mut groups: Vec<(String, JoinSet<()>)> = Vec::new();
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        match verb {
            "open" => {
                let group = Group::parse(rest)?;
                groups.push((group.name.clone(), open(address, &group, &tally).await));
                line("opened");
            }
            "close" => {
                groups.retain(|(name, _)| name != rest);
                line("closed");
            }
            "time" => {
                tally.arrivals().clear();
                tally.timed.store(rest == "on", Ordering::Relaxed);
                line("timed");
            }
            "wait" => {
                let wanted: u64 = rest.parse().context("a number of transactions")?;
                while tally.transactions.load(Ordering::Relaxed) < wanted {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                line("waited");
            }
            "counted" => {
                let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let (transactions, bytes) = (value(&tally.transactions), value(&tally.bytes));
                line(&format!("{transactions} {bytes} {}", value(&tally.lost)));
            }
            "latency" => line(&tally.latency(rest)),
            other => anyhow::bail!("no command {other}"),
        }
    }
    Ok(())
}

/// Connects a group and waits until each of it is live.
async fn open(address: SocketAddr, group: &Group, tally: &Arc<Tally>) -> JoinSet<()> {
    let connecting = Arc::new(tokio::sync::Semaphore::new(CONNECTING_MAX));
    let wanted = tally.live.load(Ordering::Relaxed) + group.count;
    let mut clients = JoinSet::new();
    for number in 0..group.count {
        let subscription = group.subscription.replace("{n}", &number.to_string());
        let hello = format!(
            r#"{{"type":"hello","client_id":"{}-{number}","snapshot":{},"subscriptions":[{subscription}]}}"#,
            group.name, group.snapshot
        );
        clients.spawn(client::run(address, hello, tally.clone(), connecting.clone()));
    }
    while tally.live.load(Ordering::Relaxed) < wanted {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    clients
}

impl Group {
    /// `<name> <count> <snapshot> <subscription>`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut words = text.splitn(4, ' ');
        let mut next = || words.next().context("open <name> <count> <snapshot> <subscription>");
        Ok(Group {
            name: next()?.to_owned(),
            count: next()?.parse().context("a number of clients")?,
            snapshot: next()? == "true",
            subscription: next()?.to_owned(),
        })
    }
}

impl Tally {
    fn arrivals(&self) -> std::sync::MutexGuard<'_, Vec<(u32, u64)>> {
        // Nothing panics while it is held.
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// p50, p99 and how many, of the time from each mark's commit, given in the order of the marks, to each client.
    fn latency(&self, committed: &str) -> String {
        let committed: Vec<u64> = committed.split(' ').filter_map(|time| time.parse().ok()).collect();
        let arrivals = self.arrivals();
        let mut latencies: Vec<f64> = arrivals
            .iter()
            .filter_map(|(mark, at)| {
                let committed = committed.get(usize::try_from(*mark).ok()?)?;
                Some(at.saturating_sub(*committed) as f64 / 1e3)
            })
            .collect();
        latencies.sort_by(f64::total_cmp);
        if latencies.is_empty() {
            return "0 0 0".to_owned();
        }
        format!("{} {} {}", percentile(&latencies, 50.0), percentile(&latencies, 99.0), latencies.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_from_each_marks_commit() {
        let tally = Tally::default();
        tally.arrivals().extend([(0, 1_500), (1, 3_000), (0, 2_000), (7, 9_000)]);
        assert_eq!(tally.latency("1000 2000"), "1 1 3");
        assert_eq!(tally.latency(""), "0 0 0");
        let group = Group::parse(r#"a 3 false {"id":"s","where":"x = {n}"}"#).unwrap();
        assert_eq!((group.count, &*group.subscription), (3, r#"{"id":"s","where":"x = {n}"}"#));
    }
}
