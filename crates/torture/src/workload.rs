//! Writers on the source. They survive a source that is gone for a while; they do not know whether their last commit succeeded, and
//! need not: the source's tables tell.

mod sql;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::dice::Dice;
use crate::round::fail;
use crate::tables::WRITERS;

/// A transaction that takes longer stands in a lock that nobody releases, or a server that never comes back.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(100);

/// Writers at work. They stop when this is dropped.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: JoinSet<()>,
}

impl Workload {
    /// Starts the writers. `url` leads straight to the source.
    pub(crate) fn start(url: &str, seed: u64, part: u64) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workload =
            Workload { stop: stop.clone(), committed: committed.clone(), writers: JoinSet::new() };
        for number in 0..WRITERS {
            let dice = Dice::of(seed, &format!("writer {number} of part {part}"));
            let writer = Writer { number, dice, stop: stop.clone(), committed: committed.clone() };
            workload.writers.spawn(writer.run(url.to_owned()));
        }
        workload
    }

    /// Lets each writer finish what it is at, and says how many transactions were committed.
    pub(crate) async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap_or_else(|error| fail(Err(error)));
        }
        self.committed.load(Ordering::Relaxed)
    }
}

struct Writer {
    number: u64,
    dice: Dice,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, url: String) {
        while !self.stopped() {
            let connecting = timeout(TRANSACTION_TIMEOUT, tokio_postgres::connect(&url, NoTls));
            let Ok(Ok((client, connection))) = connecting.await else {
                sleep(RECONNECT).await;
                continue;
            };
            tokio::select! {
                () = self.write(&client) => {}
                _ = connection => {}
            }
        }
    }

    async fn write(&mut self, client: &Client) {
        while !self.stopped() {
            let sql = sql::transaction(self.number, &mut self.dice);
            let done = timeout(TRANSACTION_TIMEOUT, client.batch_execute(&sql)).await;
            match done {
                Ok(Ok(())) => _ = self.committed.fetch_add(1, Ordering::Relaxed),
                // What collides with another writer is rolled back, and the connection goes on.
                Ok(Err(error)) if error.as_db_error().is_some() && !client.is_closed() => {
                    assert!(is_expected(&error), "{error:?} of {sql}");
                    if client.batch_execute("ROLLBACK").await.is_err() {
                        return;
                    }
                }
                Ok(Err(_)) | Err(_) => return,
            }
            sleep(Duration::from_millis(self.dice.between(10, 120))).await;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A collision, or the end of the server: not a mistake in what is written here.
fn is_expected(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map_or("", |code| code.code());
    // Unique violation, deadlock, lock timeout, and what a server says on its way down and up.
    matches!(code, "23505" | "40P01" | "55P03") || code.starts_with("57P")
}
