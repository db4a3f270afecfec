//! Tables whose history begins anew, by a message that resets them: when it is time to emit it, and emitting it.
//!
//! A table that is added to the publication is not captured whole at once: publishing it does not wait for who writes to it,
//! so of a transaction that was open then a part can be missing. It is reset once every transaction has ended that was open
//! when the table was first seen; whoever writes to it later does so with the table published. Nothing is locked meanwhile and
//! nobody is held up. Tables that need repair are reset here too, where nobody is to be asked.
//!
//! The message is emitted once for each gap, after the gap is in history. If capture ends before the message is stored, the
//! gap is still open at the next start, and it is emitted again: to reset a table twice does no harm.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::Client;
use waldelta_history::Gap;
use waldelta_source::Source;
use waldelta_wal::{Position, Reset, TableName};

use crate::backoff::Backoff;
use crate::status::Status;
use crate::{Error, OnGap, reset_tables};

const OPEN_TRANSACTIONS: &str = include_str!("../../../sql/source/open_transactions.sql");
const OLDER_TRANSACTIONS: &str = include_str!("../../../sql/source/older_transactions.sql");

/// How often it is looked whether transactions have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The source may take this long for one look.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Waits after a look that failed are no longer than this.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);
/// A table that waits no longer than this is nothing to talk about.
const USUAL_WAIT: Duration = Duration::from_secs(1);
/// How often it is found out what is waited for, for status.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// And how often that is said in the log.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// A table with an open gap that its reset is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    table_oid: u32,
    table: TableName,
    reason: String,
    /// Tells this gap from others of the table.
    found_at_us: i64,
}

/// Which of these gaps are ended here. A table that is not published any more is not reset: nobody could read it.
///
/// One waits until a look at the catalog has shown what has happened to the table, and that is noted: else it would be found
/// after the reset, and call for another. `known_at` is where the last such look was, `knows` tells the tables that it showed.
pub(crate) fn due(
    gaps: &[Gap],
    names: &HashMap<u32, TableName>,
    on_gap: OnGap,
    known_at: Position,
    knows: impl Fn(u32) -> bool,
) -> Vec<Due> {
    let is_ours = |gap: &&Gap| match gap.needs_repair() {
        true => on_gap == OnGap::NewEpoch && Position::whole(gap.epoch, gap.from) < known_at,
        false => gap.table_oid.is_some_and(&knows),
    };
    let due = |gap: &Gap| {
        let table_oid = gap.table_oid?;
        let (table, reason) = (names.get(&table_oid)?.clone(), gap.reason.clone());
        Some(Due { table_oid, table, reason, found_at_us: gap.found_at_us })
    };
    gaps.iter().filter(is_ours).filter_map(due).collect()
}

/// How far a table is. Transactions are named by their 64-bit ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has looked yet.
    Seen,
    /// Transactions below this one have to end.
    Waits(u64),
    /// Its message was emitted.
    Reset,
}

/// The tables that are due, and how far each is. Pure.
#[derive(Debug, Default)]
struct Queue {
    tables: Vec<(Due, Stage)>,
}

impl Queue {
    /// What is due now. Who was due before is as far as it was.
    fn replace(&mut self, due: Vec<Due>) {
        let before = std::mem::take(&mut self.tables);
        let is_same =
            |due: &Due, known: &Due| known.table_oid == due.table_oid && known.found_at_us == due.found_at_us;
        let stage = |due: &Due| before.iter().find(|(known, _)| is_same(due, known)).map(|(_, stage)| *stage);
        let with_stage = |due| (stage(&due).unwrap_or(Stage::Seen), due);
        self.tables = due.into_iter().map(with_stage).map(|(stage, due)| (due, stage)).collect();
    }

    /// Whether nothing is left to be done.
    fn is_idle(&self) -> bool {
        self.tables.iter().all(|(_, stage)| *stage == Stage::Reset)
    }

    /// A look has shown that every transaction below `oldest` has ended, and that none from `next` on had begun. Returns the
    /// tables to be reset now.
    fn looked(&mut self, oldest: u64, next: u64) -> Vec<Reset> {
        for (due, stage) in &mut self.tables {
            if *stage == Stage::Seen {
                // Others are not captured in part.
                *stage = Stage::Waits(if due.reason == Gap::JOINING { next } else { 0 });
            }
        }
        let is_ready = |(_, stage): &&(Due, Stage)| matches!(stage, Stage::Waits(until) if *until <= oldest);
        self.tables.iter().filter(is_ready).map(|(due, _)| due.reset()).collect()
    }

    /// Their messages were emitted.
    fn emitted(&mut self, resets: &[Reset]) {
        for (due, stage) in &mut self.tables {
            if resets.iter().any(|reset| reset.table_oid == due.table_oid) {
                *stage = Stage::Reset;
            }
        }
    }

    /// Those that wait for transactions, and for which.
    fn waiting(&self) -> impl Iterator<Item = (&Due, u64)> {
        self.tables.iter().filter_map(|(due, stage)| match stage {
            Stage::Waits(until) => Some((due, *until)),
            Stage::Seen | Stage::Reset => None,
        })
    }
}

impl Due {
    fn reset(&self) -> Reset {
        Reset { table_oid: self.table_oid, table: self.table.to_string(), reason: self.reason.clone() }
    }
}

/// See the module.
pub(crate) struct Joining<'a> {
    source: &'a Source,
    status: &'a Status,
    due: watch::Receiver<Vec<Due>>,
    queue: Queue,
    client: Option<Client>,
    /// Since when there is something to wait for.
    since: Option<Instant>,
    asked_at: Option<Instant>,
    told_at: Option<Instant>,
    /// What the tables wait for, as it was found out last.
    waits: HashMap<u32, String>,
}

impl<'a> Joining<'a> {
    pub(crate) fn new(source: &'a Source, status: &'a Status, due: watch::Receiver<Vec<Due>>) -> Self {
        Joining {
            source,
            status,
            due,
            queue: Queue::default(),
            client: None,
            since: None,
            asked_at: None,
            told_at: None,
            waits: HashMap::new(),
        }
    }

    /// Resets what is due, for as long as it is polled. It ends nothing: what fails is tried again.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut backoff = Backoff::new();
        loop {
            self.queue.replace(self.due.borrow_and_update().clone());
            if self.queue.is_idle() {
                self.rest();
                if self.due.changed().await.is_err() {
                    return pending().await;
                }
                continue;
            }
            let wait = match tokio::time::timeout(LOOK_TIME_MAX, self.look()).await {
                Ok(Ok(())) => {
                    backoff.reset();
                    LOOK_INTERVAL
                }
                Ok(Err(error)) => self.failed(&error.chain(), &mut backoff),
                Err(_) => self.failed("the source does not answer", &mut backoff),
            };
            self.status.joining_waits_for(&self.waits);
            tokio::time::sleep(wait).await;
        }
    }

    /// Nothing is waited for.
    fn rest(&mut self) {
        (self.client, self.since, self.asked_at, self.told_at) = (None, None, None, None);
        self.waits.clear();
    }

    async fn look(&mut self) -> Result<(), Error> {
        if self.client.is_none() {
            self.client = Some(self.source.connect_primary().await?);
        }
        let Some(client) = &self.client else { return Ok(()) };
        let (oldest, next) = open_transactions(client).await?;
        let ready = self.queue.looked(oldest, next);
        if !ready.is_empty() {
            reset_tables(client, &ready).await?;
            self.queue.emitted(&ready);
            for Reset { table, reason, .. } in &ready {
                tracing::info!(table, reason, "a table is reset: readers begin anew with it");
            }
        }
        self.find_out().await
    }

    /// What the tables wait for, where that lasts.
    async fn find_out(&mut self) -> Result<(), Error> {
        let Some(client) = &self.client else { return Ok(()) };
        let now = Instant::now();
        self.waits.retain(|oid, _| self.queue.waiting().any(|(due, _)| due.table_oid == *oid));
        let rested = |at: Option<Instant>, time: Duration| at.is_none_or(|at| now.duration_since(at) >= time);
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < USUAL_WAIT || !rested(self.asked_at, ASK_INTERVAL) {
            return Ok(());
        }
        self.asked_at = Some(now);
        // Tables that were added together wait for the same.
        let mut found: HashMap<u64, String> = HashMap::new();
        for (due, until) in self.queue.waiting() {
            let older = match found.get(&until) {
                Some(older) => older.clone(),
                None => older_transactions(client, until).await?,
            };
            self.waits.insert(due.table_oid, older.clone());
            found.insert(until, older);
        }
        if rested(self.told_at, TELL_INTERVAL) {
            self.told_at = Some(now);
            for (due, _) in self.queue.waiting() {
                let waits_for = self.waits.get(&due.table_oid);
                tracing::warn!(table = %due.table, waits_for, "a table that was added waits for open transactions to end");
            }
        }
        Ok(())
    }

    /// Notes why a look failed, and returns how long to wait.
    fn failed(&mut self, why: &str, backoff: &mut Backoff) -> Duration {
        self.client = None;
        let now = Instant::now();
        if self.told_at.is_none_or(|at| now.duration_since(at) >= TELL_INTERVAL) {
            self.told_at = Some(now);
            tracing::warn!(why, "tables cannot be reset yet; trying again");
        }
        self.waits = self.queue.tables.iter().map(|(due, _)| (due.table_oid, why.to_owned())).collect();
        backoff.wait().clamp(LOOK_INTERVAL, RETRY_WAIT_MAX)
    }
}

/// The oldest transaction that has not ended, and the first that has not begun.
async fn open_transactions(client: &Client) -> Result<(u64, u64), Error> {
    const WHAT: &str = "look which transactions are open";
    let failed = |source| Error::Query { what: WHAT, source };
    let row = client.query_one(OPEN_TRANSACTIONS, &[]).await.map_err(failed)?;
    let id = |column| row.try_get::<_, i64>(column).map(i64::cast_unsigned).map_err(failed);
    Ok((id(0)?, id(1)?))
}

/// The open transactions that began before this one, as text for people.
async fn older_transactions(client: &Client, xid: u64) -> Result<String, Error> {
    let low = i64::try_from(xid & u64::from(u32::MAX)).unwrap_or_default();
    let row = client
        .query_one(OLDER_TRANSACTIONS, &[&low])
        .await
        .map_err(|source| Error::Query { what: "look which transactions a table waits for", source })?;
    Ok(row.get::<_, Option<String>>(0).unwrap_or_else(|| "transactions that have just ended".to_owned()))
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{Epoch, Lsn};

    use super::*;

    fn gap(table_oid: u32, reason: &str, found_at_us: i64) -> Gap {
        Gap {
            epoch: Epoch(1),
            table_oid: Some(table_oid),
            table: None,
            from: Lsn(1),
            to: None,
            reason: reason.into(),
            found_at_us,
        }
    }

    fn names(oids: &[u32]) -> HashMap<u32, TableName> {
        oids.iter().map(|oid| (*oid, format!("t{oid}").parse().unwrap())).collect()
    }

    fn oids(resets: &[Reset]) -> Vec<u32> {
        resets.iter().map(|reset| reset.table_oid).collect()
    }

    fn known_at(lsn: u64) -> Position {
        Position::whole(Epoch(1), Lsn(lsn))
    }

    #[test]
    fn what_was_added_is_due_and_what_needs_repair_only_where_nobody_is_asked() {
        let mut gaps =
            vec![gap(1, "added", 1), gap(2, "rewritten", 2), gap(3, "added", 3), gap(4, "added", 4)];
        gaps.push(Gap { table_oid: None, ..gap(0, "added", 4) });
        let due = |on_gap, known| {
            let due = due(&gaps, &names(&[1, 2, 4]), on_gap, known_at(known), |oid| oid < 4);
            due.iter().map(|due| due.table_oid).collect::<Vec<_>>()
        };
        assert_eq!(due(OnGap::Stop, 2), [1], "the third is not published any more, the fourth was not seen");
        assert_eq!(due(OnGap::NewEpoch, 2), [1, 2]);
        assert_eq!(due(OnGap::NewEpoch, 1), [1], "the catalog was not looked at since");
    }

    #[test]
    fn a_table_waits_for_the_transactions_of_its_first_look_alone() {
        let mut queue = Queue::default();
        let all = |gaps: &[Gap]| due(gaps, &names(&[1, 2, 3]), OnGap::NewEpoch, known_at(2), |_| true);
        queue.replace(all(&[gap(1, "added", 1)]));
        assert!(!queue.is_idle());
        assert_eq!(queue.looked(90, 100), []);
        queue.replace(all(&[gap(1, "added", 1), gap(2, "added", 2), gap(3, "rewritten", 3)]));
        let ready = queue.looked(95, 120);
        assert_eq!(oids(&ready), [3], "it was not captured in part");
        queue.emitted(&ready);
        assert_eq!(queue.looked(99, 130), []);
        assert_eq!(
            queue.waiting().map(|(due, until)| (due.table_oid, until)).collect::<Vec<_>>(),
            [(1, 100), (2, 120)]
        );
        let ready = queue.looked(100, 140);
        assert_eq!(ready, [Reset { table_oid: 1, table: "public.t1".into(), reason: "added".into() }]);
        queue.emitted(&ready);
        assert_eq!(oids(&queue.looked(120, 140)), [2], "one is reset once");
        queue.emitted(&ready_of(2));
        assert!(queue.is_idle());
        assert_eq!(queue.looked(200, 200), []);
        // The gap is closed, and the table gets another one.
        queue.replace(Vec::new());
        queue.replace(all(&[gap(2, "added", 7)]));
        assert_eq!(oids(&queue.looked(200, 200)), [2]);
    }

    #[test]
    fn another_gap_of_a_table_is_another_reset() {
        let mut queue = Queue::default();
        let one = |found_at_us| {
            due(&[gap(1, "added", found_at_us)], &names(&[1]), OnGap::Stop, known_at(2), |_| true)
        };
        queue.replace(one(1));
        let ready = queue.looked(5, 5);
        queue.emitted(&ready);
        queue.replace(one(2));
        assert_eq!(oids(&queue.looked(5, 5)), [1]);
    }

    fn ready_of(table_oid: u32) -> Vec<Reset> {
        vec![Reset { table_oid, table: String::new(), reason: String::new() }]
    }
}
