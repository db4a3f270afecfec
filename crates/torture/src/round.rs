//! One round: some parts of work under faults, each with everything at rest and compared at its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep};

use crate::checkpoint::{self, Before};
use crate::chronicle::Chronicle;
use crate::clients::Clients;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::sampler;
use crate::workload::Workload;
use crate::world::World;

/// How often the processes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What everybody who takes part in a round uses.
pub(crate) struct Stage {
    pub seed: u64,
    pub fleet: Fleet,
    pub world: World,
    pub chronicle: Arc<Chronicle>,
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
    pub(crate) async fn new(seed: u64, chronicle: Arc<Chronicle>) -> Self {
        let world = World::new(seed).await;
        let fleet = Fleet::start(&world).await;
        Stage {
            seed,
            fleet,
            world,
            chronicle,
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

    /// What the round was up to now.
    pub(crate) fn played(&self) -> Played {
        Played {
            kills: self.fleet.kills(),
            transactions: self.transactions.load(Ordering::Relaxed),
            checkpoints: self.checkpoints.load(Ordering::Relaxed),
        }
    }
}

/// Plays for about so long. Panics at the first broken promise.
pub(crate) async fn play(stage: Arc<Stage>, length: Duration) {
    let ends_at = Instant::now() + length;
    let mut dice = Dice::of(stage.seed, "parts");
    let mut tasks = JoinSet::new();
    let clients = Clients::start(&stage, stage.world.head().await, &mut tasks);
    tasks.spawn(sampler::run(stage.clone()));
    tasks.spawn(look_after(stage.clone()));
    let (mut part, mut before) = (0, Before::default());
    while Instant::now() < ends_at {
        let left = ends_at.saturating_duration_since(Instant::now());
        let length = Duration::from_millis(dice.between(20_000, 50_000)).min(left);
        let compared = tokio::select! {
            compared = run_part(&stage, &clients, part, length, &mut before) => compared,
            Some(ended) = tasks.join_next() => fail(ended),
        };
        stage.checkpoints.fetch_add(1, Ordering::Relaxed);
        let Played { kills, transactions, .. } = stage.played();
        stage.chronicle.note(format!(
            "part {part} is right, settled in {:.1} s; so far {kills} kills, {transactions} transactions ({} in history), {} sessions, {} MB; {:?}",
            compared.settled.as_secs_f64(),
            compared.transactions,
            clients.sessions(),
            stage.fleet.memory_mb_peak(),
            compared.checked
        ));
        part += 1;
    }
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
    let workload = Workload::start(stage.world.source.url(), stage.seed, part);
    let mut faults = Faults::begin(stage, part);
    tokio::select! {
        () = sleep(length) => {}
        () = faults.failed() => {}
    }
    faults.end().await;
    stage.transactions.fetch_add(workload.stop().await, Ordering::Relaxed);
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
