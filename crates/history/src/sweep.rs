//! Removing history that is not to be kept any longer: by the one process that writes history, beside the writer, in small steps.
//!
//! Each step is an SQL transaction of its own: a partition goes, and with it the floor moves. Nobody is kept waiting: who reads or
//! appends is waited for a tenth of a second at most, a few times, because whoever comes meanwhile waits too; and not at all where
//! a transaction is in the way that has lasted for longer. Then it is tried again with the next sweep. The last statement of
//! each step hits the one row that this writer left, or another writer has taken over and nothing is removed.
//!
//! How old what is stored is, is told by the clock of history's database alone: marks say which place was durable at which time.
//! What has to go is decided in `plan`. What the source does not show yet stays, whatever was decided: see `unseen`.

mod act;
mod holdings;
mod plan;
mod unseen;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{Position, chain_text};

use self::act::Step;
pub(crate) use self::holdings::LastTimes;
use self::plan::{Place, Plan};
pub use self::unseen::Shown;
use self::unseen::Unseen;
use crate::{Error, History, Retention, metrics};

/// How often orders are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what there is is looked at where all of it is kept, or a part by size.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Where it is kept for a time, a fortieth of that; at least and at most this.
const SWEEPS: u32 = 40;
const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);
const SWEEP_EVERY_MAX: Duration = Duration::from_secs(600);
/// Of an overdue partition, as many rows are removed at once, and as often in one sweep.
const ROWS_MAX: i64 = 5_000;
const ROUNDS_MAX: usize = 2_000;

const APPLICATION_NAME: &str = "waldelta-history-sweep";
/// A process that is stopped in the middle of a step holds up nobody for long.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("search_path", "waldelta,pg_catalog"),
    ("client_encoding", "UTF8"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "5s"),
    // Where there is an index it is used, whatever statistics a young partition lacks.
    ("enable_seqscan", "off"),
];

/// What removes history; see the module.
pub struct Sweeper {
    history: History,
    token: i64,
    shown: Arc<dyn Shown>,
}

/// What there is of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// How much is to be kept.
    pub retention: Retention,
    /// The oldest cursor that can be resumed.
    pub floor: Position,
    /// How long ago what follows it was stored, at most; `None` where that is not known.
    pub floor_age: Option<Duration>,
    /// Partitions of `change_history`.
    pub partitions: usize,
    /// Their bytes, with indexes.
    pub bytes: u64,
    /// When that was so, in microseconds since 1970, by the clock of history's database.
    pub at_us: i64,
    /// Something stays only because a client that was here of late has yet to read it.
    pub is_held: bool,
    /// Something stays only because a reader was in the way.
    pub is_busy: bool,
    /// Something stays only because the source does not show it yet, or could not be asked.
    pub is_unseen: bool,
}

/// What a sweep has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Partitions that were dropped.
    pub partitions: u64,
    /// Their bytes, with indexes.
    pub bytes: u64,
    /// Rows that were removed one by one, of a partition that could not go as a whole.
    pub rows: u64,
    /// The oldest cursor that can be resumed then, as text.
    pub floor: String,
    /// Something stays only because a client that was here of late has yet to read it.
    pub is_held: bool,
    /// Something stays only because a reader was in the way.
    pub is_busy: bool,
    /// Something stays only because the source does not show it yet, or could not be asked.
    #[serde(default)]
    pub is_unseen: bool,
}

/// What a sweep would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// Partitions that would be dropped, oldest first, with their bytes.
    pub partitions: Vec<(String, u64)>,
    /// The partition of which rows would be removed one by one.
    pub thinned: Option<String>,
    /// Something would stay only because a client that was here of late has yet to read it.
    pub is_held: bool,
    /// Partitions that there are.
    pub of_partitions: usize,
    /// Their bytes.
    pub of_bytes: u64,
}

impl History {
    /// What a sweep would remove now.
    pub async fn plan_prune(&self, retention: Retention, force: bool) -> Result<PrunePlan, Error> {
        let client = self.sweeping().await?;
        let holdings = holdings::read(self, &client, None, retention, Duration::ZERO).await?;
        let holdings = holdings.ok_or(Error::NotBegun)?.holdings;
        let plan = Plan::new(retention, force, &holdings);
        Ok(PrunePlan {
            partitions: plan.drops.iter().map(|(part, bytes)| (part.name(), *bytes)).collect(),
            thinned: plan.thins.map(|(part, _)| part.name()),
            is_held: plan.is_held,
            of_partitions: holdings.partitions.len(),
            of_bytes: holdings.partitions.iter().map(|(_, bytes)| bytes).sum(),
        })
    }

    async fn sweeping(&self) -> Result<Client, Error> {
        self.config().target.connect(APPLICATION_NAME, SETTINGS).await.map_err(Error::Connect)
    }
}

impl Sweeper {
    pub(crate) fn new(history: History, token: i64, shown: Arc<dyn Shown>) -> Self {
        Sweeper { history, token, shown }
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Works until told to stop. What fails is told in the log and tried again; only a lease that is another's now ends it early.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut policy = self.history.watch_retention();
        let (mut due, mut is_failing) = (tokio::time::Instant::now(), false);
        loop {
            let turn = async {
                self.carry_out_orders().await?;
                let retention = *policy.borrow_and_update();
                if tokio::time::Instant::now() >= due {
                    self.sweep(retention, false, Duration::ZERO).await?;
                    due = tokio::time::Instant::now() + sweep_every(retention);
                }
                Ok::<_, Error>(())
            };
            match stop.run_until_cancelled(turn).await {
                None => return Ok(()),
                Some(Err(error @ Error::Fenced { .. })) => return Err(error),
                Some(Err(error)) => {
                    // Told once: while history is away, capture says so.
                    if !is_failing {
                        let error = chain_text(&error);
                        tracing::warn!(error, "history could not be swept; trying again");
                    }
                    is_failing = true;
                    due = tokio::time::Instant::now() + LOOK_EVERY;
                }
                Some(Ok(())) => is_failing = false,
            }
            let pause = LOOK_EVERY.min(sweep_every(self.history.retention()));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
                changed = policy.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    due = tokio::time::Instant::now();
                }
            }
        }
    }

    /// Removes once what is not to be kept. `ahead` is added to the clock of history's database.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another writer has taken over: then this one has removed nothing more.
    pub async fn sweep(&self, retention: Retention, force: bool, ahead: Duration) -> Result<Sweep, Error> {
        let client = self.history.sweeping().await?;
        let read = holdings::read(&self.history, &client, Some(self.token), retention, ahead).await?;
        let fenced = || Error::Fenced { expected: self.history.feed().head().durable_end };
        let found = read.ok_or_else(fenced)?;
        if let Retention::Age(age) = retention {
            holdings::mark(&client, &found, age / SWEEPS).await?;
        }
        let plan = Plan::new(retention, force, &found.holdings);
        let step = Step { client: &client, history: &self.history, token: self.token };
        let mut swept = Sweep { is_held: plan.is_held, ..Sweep::default() };
        let mut floor = found.floor;
        let mut parts = found.holdings.partitions.clone();
        let is_told = self.history.retained().is_some_and(|before| before.is_unseen);
        let unseen = Unseen::new(&*self.shown, &client, found.holdings.head.epoch, is_told);
        for (part, bytes) in &plan.drops {
            if unseen.has(*part, part.end()).await? {
                swept.is_unseen = true;
                break;
            }
            let Some(moved) = step.drop_partition(*part, found.end_of(*part)).await? else {
                swept.is_busy = true;
                break;
            };
            (swept.partitions, swept.bytes, floor) = (swept.partitions + 1, swept.bytes + bytes, moved);
            parts.retain(|(known, _)| known != part);
        }
        if let Some((part, place)) = plan.thins.filter(|_| !swept.is_busy && !swept.is_unseen) {
            if unseen.has(part, place).await? {
                swept.is_unseen = true;
            } else if let Some(moved) = step.move_floor(part, place).await? {
                floor = moved;
            } else {
                swept.is_busy = true;
            }
        }
        swept.rows = step.remove_rows(&parts).await?;
        if swept.partitions > 0 || swept.rows > 0 || floor != found.floor {
            tracing::info!(
                partitions = swept.partitions,
                bytes = swept.bytes,
                rows = swept.rows,
                floor = %floor.cursor(),
                "history was pruned"
            );
        }
        if swept.is_busy {
            tracing::debug!("a reader is in the way of pruning history; trying again");
        }
        swept.floor = floor.cursor().to_string();
        self.note(retention, &found, &parts, floor, &swept);
        Ok(swept)
    }

    /// For the status, the metrics and the next partitions.
    fn note(
        &self,
        retention: Retention,
        found: &holdings::Found,
        parts: &[(crate::partition::Partition, u64)],
        floor: Place,
        swept: &Sweep,
    ) {
        if retention == self.history.retention()
            && let Some(bytes) = found.holdings.partition_bytes(retention)
        {
            self.history.set_partition_bytes(bytes);
        }
        let retained = Retained {
            retention,
            floor: floor.cursor(),
            floor_age: found.holdings.age(floor),
            partitions: parts.len(),
            bytes: parts.iter().map(|(_, bytes)| bytes).sum(),
            at_us: found.holdings.now_us,
            is_held: swept.is_held,
            is_busy: swept.is_busy,
            is_unseen: swept.is_unseen,
        };
        metrics::retained(&retained, swept);
        self.history.set_retained(retained);
    }
}

fn sweep_every(retention: Retention) -> Duration {
    match retention {
        Retention::Off | Retention::Size(_) => SWEEP_EVERY,
        Retention::Age(age) => (age / SWEEPS).clamp(SWEEP_EVERY_MIN, SWEEP_EVERY_MAX),
    }
}
