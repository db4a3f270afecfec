//! Thousands of clients in one lean process of their own, driven by lines on its standard input: `waldelta-bench clients`.
//!
//! Each command is answered by one line. It decides nothing of what is measured: it connects, counts and takes times, and does
//! the same whether it is the service or a reference that it is connected with.

mod client;
mod handle;

pub(crate) use self::handle::{Counted, Swarm};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::report::line;

/// Clients that connect at the same time; less than what waits at a listener for its turn.
const CONNECTING_MAX: usize = 512;

/// A group of clients, by where they connect and what they follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub name: String,
    pub address: SocketAddr,
    pub count: u64,
    /// The subscription; `{n}` in it is the client's number.
    pub subscription: String,
    /// Whether they begin with a snapshot.
    pub snapshot: bool,
    /// Cursors that they come back with, in turn; none: they begin.
    pub after: Vec<String>,
}

/// What all clients add to.
#[derive(Default)]
struct Tally {
    /// Clients that said to be live.
    live: Count,
    /// `tx` frames.
    transactions: Count,
    bytes: AtomicU64,
    reads: AtomicU64,
    lost: AtomicU64,
    /// Why the last of these was.
    why: Mutex<String>,
}

impl Tally {
    fn why(&self) -> MutexGuard<'_, String> {
        // Nothing panics while it is held.
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that only grows, and who waits for one.
#[derive(Default)]
struct Count {
    now: AtomicU64,
    wanted: AtomicU64,
    reached: Notify,
}

impl Count {
    fn add(&self) {
        if self.now.fetch_add(1, Ordering::Relaxed) + 1 == self.wanted.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    fn get(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    async fn reach(&self, number: u64) {
        self.wanted.store(number, Ordering::Relaxed);
        // All of this process is one thread: nothing is added between the look and the wait.
        while self.get() < number {
            self.reached.notified().await;
        }
    }
}

/// Raises the limit of open files of this process as far as it may.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not be raised, it says so when files are too few.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Serves commands until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    raise_file_limit();
    let tally = Arc::new(Tally::default());
    let mut groups: Vec<(String, JoinSet<()>)> = Vec::new();
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        match verb {
            "open" => {
                let group: Group = serde_json::from_str(rest).context("a group")?;
                let began = Instant::now();
                let clients = open(&group, &tally).await;
                line(&began.elapsed().as_secs_f64().to_string());
                groups.push((group.name, clients));
            }
            "close" => {
                for (_, mut clients) in groups.extract_if(.., |(name, _)| name == rest) {
                    clients.shutdown().await;
                }
                line("closed");
            }
            "wait" => {
                tally.transactions.reach(rest.parse().context("a number of transactions")?).await;
                line("waited");
            }
            "counted" => {
                let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let (bytes, reads, lost) = (value(&tally.bytes), value(&tally.reads), value(&tally.lost));
                line(&format!("{} {bytes} {reads} {lost}", tally.transactions.get()));
            }
            "why" => line(&tally.why().replace('\n', " ")),
            other => anyhow::bail!("no command {other}"),
        }
    }
    Ok(())
}

/// Connects a group and waits until each of it is live.
async fn open(group: &Group, tally: &Arc<Tally>) -> JoinSet<()> {
    let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
    let wanted = tally.live.get() + group.count;
    let mut clients = JoinSet::new();
    for number in 0..group.count {
        clients.spawn(client::run(group.address, group.hello(number), tally.clone(), connecting.clone()));
    }
    tally.live.reach(wanted).await;
    clients
}

impl Group {
    /// Clients that begin now, without a snapshot.
    pub(crate) fn new(name: &str, address: SocketAddr, count: u64, subscription: &str) -> Self {
        Group {
            name: name.to_owned(),
            address,
            count,
            subscription: subscription.to_owned(),
            snapshot: false,
            after: Vec::new(),
        }
    }

    /// What one of them says first.
    fn hello(&self, number: u64) -> String {
        let subscription = self.subscription.replace("{n}", &number.to_string());
        let mut after = self.after.iter().cycle().skip(number as usize % self.after.len().max(1));
        let after = after.next().map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
        format!(
            r#"{{"type":"hello","client_id":"{}-{number}","after":{after},"snapshot":{},"subscriptions":[{subscription}]}}"#,
            self.name, self.snapshot
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_group_says_who_it_is_and_where_it_was() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut group = Group::new("a", address, 3, r#"{"id":"s","where":"x = {n}"}"#);
        assert_eq!(
            group.hello(2),
            r#"{"type":"hello","client_id":"a-2","after":null,"snapshot":false,"subscriptions":[{"id":"s","where":"x = 2"}]}"#
        );
        group.after = vec!["x".to_owned(), "y".to_owned()];
        assert!(group.hello(2).contains(r#""after":"x""#) && group.hello(3).contains(r#""after":"y""#));
    }

    #[tokio::test]
    async fn who_waits_for_a_number_is_woken_by_it() {
        let count = Arc::new(Count::default());
        let (adds, reaches) = (count.clone(), count.clone());
        tokio::join!(async move { reaches.reach(3).await }, async move {
            for _ in 0..3 {
                adds.add();
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(count.get(), 3);
    }
}
