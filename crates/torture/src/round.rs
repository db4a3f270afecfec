//! One round: some parts of work under faults, each with everything at rest and compared at its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep};
use waldelta_testkit::Dice;
use waldelta_wal::Position;

use crate::access::Tokens;
use crate::bounds;
use crate::checkpoint::{self, Before};
use crate::chronicle::Chronicle;
use crate::clients::Clients;
use crate::era;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::sampler;
use crate::workload::Workload;
use crate::world::World;

/// How often the processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// About so many parts are played until somebody does what the stream cannot go over.
const PARTS_OF_AN_ERA: u64 = 6;

/// What everybody who takes part in a round uses.
pub(crate) struct Stage {
    pub seed: u64,
    pub fleet: Fleet,
    pub world: World,
    pub chronicle: Arc<Chronicle>,
    pub tokens: Tokens,
    /// Nothing but kills goes wrong.
    pub kills_only: bool,
    /// Whether the writers rest.
    pub rest: Arc<AtomicBool>,
    transactions: AtomicU64,
    checkpoints: AtomicU64,
}

/// What a round was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Played {
    pub kills: u64,
    pub transactions: u64,
    pub checkpoints: u64,
}

impl Stage {
    /// Databases, and processes at work between them.
    pub(crate) async fn new(seed: u64, kills_only: bool, chronicle: Arc<Chronicle>) -> Self {
        let world = World::new(seed).await;
        let fleet = Fleet::start(&world, seed, &chronicle).await;
        let tokens = Tokens::create(&world).await;
        Stage {
            seed,
            tokens,
            fleet,
            world,
            chronicle,
            kills_only,
            rest: Arc::default(),
            transactions: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
        }
    }

    /// Where it is left what was found.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("waldelta-torture-{}", self.seed));
        let _ = std::fs::create_dir_all(&folder);
        folder
    }

    /// Counts what writers have committed.
    pub(crate) fn add_transactions(&self, committed: u64) {
        self.transactions.fetch_add(committed, Ordering::Relaxed);
    }

    /// Counts a time at which everything was compared.
    pub(crate) fn count_checkpoint(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    /// What the round was up to now.
    pub(crate) fn played(&self) -> Played {
        Played {
            kills: self.fleet.kills(),
            transactions: self.transactions.load(Ordering::Relaxed),
            checkpoints: self.checkpoints.load(Ordering::Relaxed),
        }
    }
}

/// Plays for about so long, or until there were so many kills. Panics at the first broken promise.
pub(crate) async fn play(stage: Arc<Stage>, length: Duration, kills_max: u64) {
    let end = End { at: Instant::now() + length, kills_max };
    let mut dice = Dice::of(stage.seed, "parts");
    let mut tasks = JoinSet::new();
    tasks.spawn(bounds::run(stage.clone()));
    tasks.spawn(look_after(stage.clone()));
    let since = stage.world.head().await;
    let (mut part, mut before) = (0, Before::new(since));
    let mut since = Some(since);
    while let Some(begun_at) = since {
        since = tokio::select! {
            since = play_era(&stage, begun_at, &end, &mut dice, &mut part, &mut before) => since,
            Some(ended) = tasks.join_next() => fail(ended),
        };
    }
}

/// When a round is to end.
struct End {
    at: Instant,
    kills_max: u64,
}

impl End {
    /// The time that is left; none where it is to end now.
    fn left(&self, stage: &Stage) -> Option<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        (!left.is_zero() && stage.fleet.kills() < self.kills_max).then_some(left)
    }
}

/// Parts of a round over which the stream goes unbroken, by the same clients. Where the next such parts begin, if there are any.
async fn play_era(
    stage: &Arc<Stage>,
    since: Position,
    end: &End,
    dice: &mut Dice,
    part: &mut u64,
    before: &mut Before,
) -> Option<Position> {
    let mut tasks = JoinSet::new();
    let clients = Clients::start(stage, since, &mut tasks);
    tasks.spawn(sampler::run(stage.clone()));
    while let Some(left) = end.left(stage) {
        let length = dice.ms(20_000, 50_000).min(left);
        let compared = tokio::select! {
            compared = run_part(stage, &clients, *part, length, before) => compared,
            Some(ended) = tasks.join_next() => fail(ended),
        };
        stage.count_checkpoint();
        let Played { kills, transactions, .. } = stage.played();
        stage.chronicle.note(format!(
            "part {part} is right, settled in {:.1} s; so far {kills} kills, {transactions} transactions ({} in history), {} sessions, {} MB; {:?}",
            compared.settled.as_secs_f64(),
            compared.transactions,
            clients.sessions(),
            stage.fleet.memory_mb_peak(),
            compared.checked
        ));
        *part += 1;
        if !stage.kills_only && end.left(stage).is_some() && dice.once_in(PARTS_OF_AN_ERA) {
            tasks.shutdown().await;
            return Some(era::end(stage, &clients, *part, before).await);
        }
    }
    None
}

/// Work under faults, then rest and comparison.
async fn run_part(
    stage: &Arc<Stage>,
    clients: &Clients,
    part: u64,
    length: Duration,
    before: &mut Before,
) -> checkpoint::Compared {
    clients.be_calm(false);
    let mut workload = Workload::start(stage.world.source.url(), stage.seed, part, &stage.rest);
    let mut faults = Faults::begin(stage, part);
    tokio::select! {
        () = sleep(length) => {}
        () = faults.failed() => {}
        () = workload.failed() => {}
    }
    faults.end().await;
    stage.add_transactions(workload.stop().await);
    stage.fleet.disarm(&stage.chronicle).await;
    stage.chronicle.note("everything is whole; wait for rest");
    clients.be_calm(true);
    checkpoint::hold(stage, clients, before).await
}

async fn look_after(stage: Arc<Stage>) {
    let mut ticks = interval(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        stage.fleet.look_after(&stage.chronicle);
    }
}

/// A task that has ended has failed: none of them ends by itself. It fails here with what it said.
pub(crate) fn fail<T>(ended: Result<(), JoinError>) -> T {
    match ended {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        other => panic!("a task of the round ended: {other:?}"),
    }
}
