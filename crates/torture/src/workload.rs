//! Writers on the source. They survive a source that is gone for a while; they do not know whether their last commit succeeded, and
//! need not: the source's tables tell.

pub(crate) mod owned;
mod prepared;
mod rows;
mod shapes;
mod sql;
mod twins;
pub(crate) mod values;

use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};
use waldelta_testkit::Dice;

use crate::round::fail;
use crate::tables::WRITERS;
use sql::Step;

/// A transaction that takes longer stands in a lock that nobody releases, or a server that never comes back.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
const RECONNECT: Duration = Duration::from_millis(100);
/// Whoever waits longer for a lock gives up: a prepared transaction, or DDL, may have it for a while.
const SESSION: &str = "SET lock_timeout = '5s'; SET application_name = 'torture writer'";
/// Moves the durable end, and is no row in history.
const FENCE: &str = "SELECT pg_logical_emit_message(true, 'waldelta.fence', 'rest')";
/// In one of so many parts, one transaction is of so many rows.
const BULK_PARTS: u64 = 5;
const BULK_ROWS: [u64; 8] = [10_000, 10_000, 10_000, 10_000, 10_000, 30_000, 30_000, 100_000];

/// Writers at work. They stop when this is dropped.
pub(crate) struct Workload {
    url: String,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: JoinSet<()>,
}

impl Workload {
    /// Starts the writers. `url` leads straight to the source. While they rest they write no rows.
    pub(crate) fn start(url: &str, seed: u64, part: u64, rest: &Arc<AtomicBool>) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        let mut bulk = Dice::of(seed, &format!("bulk of part {part}"));
        // Of parts that follow each other, so that a round has not many.
        let is_bulk = part % BULK_PARTS == Dice::of(seed, "bulk").roll(BULK_PARTS);
        for number in 0..WRITERS {
            let writer = Writer {
                number,
                part,
                dice: Dice::of(seed, &format!("writer {number} of part {part}")),
                bulk: (is_bulk && number == 0).then(|| *bulk.pick(&BULK_ROWS)),
                stop: stop.clone(),
                rest: rest.clone(),
                committed: committed.clone(),
            };
            writers.spawn(writer.run(url.to_owned()));
        }
        let dice = Dice::of(seed, &format!("prepared of part {part}"));
        writers.spawn(prepared::decide_some(url.to_owned(), dice, stop.clone()));
        let dice = Dice::of(seed, &format!("twins of part {part}"));
        writers.spawn(twins::commit_some(url.to_owned(), dice, stop.clone(), rest.clone()));
        Workload { url: url.to_owned(), stop, committed, writers }
    }

    /// Waits for ever, unless a writer fails.
    pub(crate) async fn failed(&mut self) {
        if let Some(ended) = self.writers.join_next().await {
            fail(ended)
        }
    }

    /// Lets each writer finish what it is at, and says how many transactions were committed. None is left prepared.
    pub(crate) async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.writers.join_next().await {
            ended.unwrap_or_else(|error| fail(Err(error)));
        }
        prepared::decide_all(&self.url).await;
        self.committed.load(Ordering::Relaxed)
    }
}

struct Writer {
    number: u64,
    part: u64,
    dice: Dice,
    /// Rows of a large transaction that is still to come.
    bulk: Option<u64>,
    stop: Arc<AtomicBool>,
    rest: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, url: String) {
        let mut begun: u64 = 0;
        while !self.stopped() {
            let connecting = timeout(TRANSACTION_TIMEOUT, tokio_postgres::connect(&url, NoTls));
            let Ok(Ok((client, connection))) = connecting.await else {
                sleep(RECONNECT).await;
                continue;
            };
            tokio::select! {
                () = self.write(&client, &mut begun) => {}
                _ = connection => {}
            }
        }
    }

    async fn write(&mut self, client: &Client, begun: &mut u64) {
        if client.batch_execute(SESSION).await.is_err() {
            return;
        }
        while !self.stopped() {
            if self.rest.load(Ordering::Relaxed) {
                if client.batch_execute(FENCE).await.is_err() {
                    return;
                }
                sleep(RECONNECT).await;
                continue;
            }
            *begun += 1;
            let gid = format!("part {} writer {} {begun}", self.part, self.number);
            // Not the first thing, so that it falls among the others.
            let steps = match self.bulk.take_if(|_| *begun > 20) {
                Some(rows) => sql::bulk(self.number, rows),
                None => sql::transaction(self.number, &gid, &mut self.dice),
            };
            for step in &steps {
                match timeout(TRANSACTION_TIMEOUT, step.perform(client)).await {
                    Ok(Ok(())) => {}
                    // What collides with another writer is rolled back, and the connection goes on.
                    Ok(Err(error)) if error.as_db_error().is_some() && !client.is_closed() => {
                        assert!(is_expected(&error), "{error:?} of {}", step.text());
                        if client.batch_execute("ROLLBACK").await.is_err() {
                            return;
                        }
                        break;
                    }
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            self.committed.fetch_add(1, Ordering::Relaxed);
            sleep(self.dice.ms(10, 250)).await;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Step {
    async fn perform(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        match self {
            Step::Run(sql) => client.batch_execute(sql).await,
            Step::CopyIn { sql, rows } => {
                let mut sink = pin!(client.copy_in(sql.as_str()).await?);
                // In pieces that end where they end.
                for piece in rows.as_bytes().chunks(1000) {
                    sink.send(Cursor::new(piece.to_vec())).await?;
                }
                sink.finish().await.map(|_| ())
            }
        }
    }

    fn text(&self) -> &str {
        let (Step::Run(sql) | Step::CopyIn { sql, .. }) = self;
        sql
    }
}

/// A collision, or the end of the server: not a mistake in what is written here.
fn is_expected(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map_or("", |code| code.code());
    // Unique and foreign keys, deadlock, lock timeout, an index that somebody else has just made, a prepared transaction that somebody
    // else has decided or is about to, and what a server says on its way down and up, and of what it has too little of.
    let collides = matches!(code, "23505" | "23503" | "40P01" | "55P03" | "42P07" | "42704" | "55000");
    // Two commands on one row of the catalog have no code of their own.
    let is_concurrent =
        code == "XX000" && error.as_db_error().is_some_and(|error| error.message().contains("concurrently"));
    collides || is_concurrent || code.starts_with("57P") || code.starts_with("53") || is_of_faults(code)
}

/// What a full disk and one that fails give, and limits of time that are short for a while.
fn is_of_faults(code: &str) -> bool {
    matches!(code, "53100" | "58030" | "57014" | "25P03" | "25P04")
}

#[cfg(test)]
mod tests {
    use waldelta_testkit::{Dice, TestDatabase};

    use super::values;
    use crate::tables::schema;

    #[tokio::test]
    async fn every_value_is_one_of_its_type() {
        let database = TestDatabase::create("torture_values").await;
        database.exec(&schema()).await;
        let mut dice = Dice::of(7, "values");
        for id in 0..25 {
            database.exec(&values::put(id, &mut dice)).await;
            database.exec(&values::set(id, &mut dice)).await;
            database.exec(&format!("INSERT INTO odd VALUES ({id}, {})", values::odd(&mut dice))).await;
        }
        assert_eq!(database.query_text("SELECT count(*) FROM every").await, "25");
    }
}
