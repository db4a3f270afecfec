//! One run: a process, or one after the other, over the model's databases, with clients that come and go while transactions commit.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_history::History;
use waldelta_pgconn::{Environment, Target};
use waldelta_testkit::Dice;
use waldelta_wal::Position;

use super::answers::Answers;
use super::client::{self, Report};
use super::model::Model;
use super::network::End;
use crate::clock::Clock;
use crate::config::Config;
use crate::inner::{Databases, Inner, Listed};
use crate::lock::lock;
use crate::parts;
use crate::session::actor;
use crate::session::socket::WebSocket;
use crate::wire::Subprotocol;

pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(4);
const DRAIN: Duration = Duration::from_secs(2);
/// When nothing commits any more everybody has everything within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// A process ends within this time: it drains, one that does not read may have something written to it, and each is told why
/// and may answer.
const STOPPED_WITHIN: Duration = Duration::from_secs(DRAIN.as_secs() + WRITE_TIMEOUT.as_secs() + 3 * 2 + 2);

thread_local! {
    /// When the run on this thread began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub report: Report,
    pub commits: u64,
    pub restarts: u64,
    pub ahead_of_snapshots: u64,
}

/// What clients know of the world.
pub(super) struct World {
    pub model: Arc<Model>,
    config: Config,
    process: Mutex<Option<Arc<Inner>>>,
    began: Instant,
    /// Nothing commits any more: clients stay.
    pub settles: CancellationToken,
    /// The last cursor that there is then.
    pub end: OnceLock<Position>,
    arrived: Mutex<BTreeSet<u64>>,
    stopped: CancellationToken,
    /// What happens is printed.
    is_told: bool,
}

impl World {
    /// Prints what happens, where somebody wants to know.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>10.3?} {}", self.time(), what());
        }
    }

    /// Time since it began.
    pub(super) fn time(&self) -> Duration {
        Instant::now() - self.began
    }

    /// Serves a connection, and gives what is cancelled when the process that does so stops; `None` where no process does.
    pub(super) fn serve(&self, connection: End) -> Option<CancellationToken> {
        let inner = lock(&self.process).clone()?;
        if inner.closing.is_cancelled() {
            return None;
        }
        let Ok(place) = inner.admit(None, None) else { return None };
        let subprotocol = Subprotocol::default();
        let listed = Listed::new(inner.clone(), inner.number(), place, subprotocol.name(), None);
        let (tracker, closing) = (inner.tracker.clone(), inner.closing.clone());
        tracker.spawn(async move {
            let socket = WebSocket::over(connection, 256 * 1024).await;
            actor::run(inner, socket, listed, None, subprotocol).await;
        });
        Some(closing)
    }

    pub(super) fn arrived(&self, client: u64) {
        lock(&self.arrived).insert(client);
    }

    /// The last process stops, or has stopped.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }
}

/// The parts of a process.
struct Process {
    inner: Arc<Inner>,
    stop: CancellationToken,
    parts: JoinSet<()>,
}

impl Process {
    /// One over what there is by now.
    fn start(world: &World, feed_bytes_max: usize) -> Self {
        let target = Target::parse("postgres://nobody@localhost/nothing", &Environment::default()).unwrap();
        let config =
            waldelta_history::Config { target, feed_bytes_max, connections_max: 1, partition_bytes: 1 << 34 };
        let history = {
            let mut state = lock(&world.model.state);
            let history = History::unopened(&config, state.head());
            state.feed = history.feed().clone();
            history
        };
        let answers = Arc::new(Answers(world.model.clone()));
        let databases = Databases { log: answers.clone(), clientele: answers.clone(), origin: answers };
        let access = Access::new(waldelta_access::Config::default(), history.clone());
        let clock = Clock::of(civil_time);
        let inner = Arc::new(Inner::over(world.config.clone(), databases, clock, history, access));
        let (stop, mut parts) = (CancellationToken::new(), JoinSet::new());
        for part in parts::of(&inner, stop.clone()) {
            parts.spawn(part.run);
        }
        *lock(&world.process) = Some(inner.clone());
        Process { inner, stop, parts }
    }

    /// It lets everybody go and gives everything back.
    async fn end(mut self, world: &World) -> Result<(), String> {
        self.stop.cancel();
        let all = async {
            while let Some(part) = self.parts.join_next().await {
                part.map_err(|error| format!("a part has failed: {error}"))?;
            }
            Ok::<(), String>(())
        };
        match tokio::time::timeout(STOPPED_WITHIN, all).await {
            Ok(ended) => ended?,
            Err(_) => return Err(format!("it does not stop: {:?}", self.inner.sessions.readings())),
        }
        *lock(&world.process) = None;
        self.inner.holds_nothing()?;
        match Arc::strong_count(&self.inner) {
            1 => Ok(()),
            count => Err(format!("{} hold on to a process that has ended", count - 1)),
        }
    }
}

fn civil_time() -> SystemTime {
    let began = BEGAN.get();
    let since = began.map_or(Duration::ZERO, |began| Instant::now() - began);
    UNIX_EPOCH + Duration::from_secs(1_700_000_000) + since
}

/// Simulates a run, with so many clients where that is said; what was wrong otherwise.
pub(super) fn simulate(seed: u64, clients: Option<u64>, is_told: bool) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(run(seed, clients, is_told))
}

async fn run(seed: u64, clients: Option<u64>, is_told: bool) -> Result<Outcome, String> {
    let mut dice = Dice::of(seed, "world");
    BEGAN.set(Some(Instant::now()));
    let drawn = 2 + dice.roll(4);
    let clients_count = clients.unwrap_or(drawn);
    let world = Arc::new(World {
        model: Arc::new(Model::new(seed)),
        config: config(&mut dice),
        process: Mutex::new(None),
        began: Instant::now(),
        settles: CancellationToken::new(),
        end: OnceLock::new(),
        arrived: Mutex::default(),
        stopped: CancellationToken::new(),
        is_told,
    });
    let feed_bytes_max = *dice.pick(&[600, 3_000, 20_000, 1 << 20]);
    let mut process = Process::start(&world, feed_bytes_max);
    let mut background = JoinSet::new();
    background.spawn(commits(world.clone(), clients_count));
    background.spawn(stores(world.clone()));
    let mut clients = JoinSet::new();
    for number in 0..clients_count {
        clients.spawn(client::run(world.clone(), number));
    }

    let mut outcome = Outcome::default();
    let restarts = dice.roll(5) / 3;
    for part in 0..=restarts {
        watched(&mut clients, tokio::time::sleep(dice.ms(1_500, 6_000))).await?;
        if part < restarts {
            watched(&mut clients, process.end(&world)).await??;
            tokio::time::sleep(dice.ms(0, 500)).await;
            process = Process::start(&world, feed_bytes_max);
            outcome.restarts += 1;
        }
    }

    world.settles.cancel();
    world.model.store(true);
    let _ = world.end.set(world.model.head().cursor());
    let all_arrive = async {
        while lock(&world.arrived).len() as u64 != clients_count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = tokio::time::timeout(SETTLED_WITHIN, all_arrive);
    if watched(&mut clients, settled).await?.is_err() {
        let readings = process.inner.sessions.readings();
        return Err(format!("not everybody has everything: {:?}, {readings:?}", lock(&world.arrived)));
    }
    world.stopped.cancel();
    let ((), reports) = tokio::try_join!(process.end(&world), collect(&mut clients))?;
    background.shutdown().await;
    reports.into_iter().for_each(|report| outcome.report.add(report));
    let state = lock(&world.model.state);
    (outcome.commits, outcome.ahead_of_snapshots) = (state.commits.len() as u64, state.ahead_of_snapshots);
    Ok(outcome)
}

/// Waits for something; for a client that ends before that, which is wrong.
async fn watched<T>(
    clients: &mut JoinSet<Result<Report, String>>,
    what: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        biased;
        Some(ended) = clients.join_next() => {
            let ended = ended.map_err(|error| format!("a client has failed: {error}"))?;
            Err(ended.err().unwrap_or_else(|| "a client has ended too early".to_owned()))
        }
        done = what => Ok(done),
    }
}

/// The reports of all clients, in an order that does not depend on who ends first.
async fn collect(clients: &mut JoinSet<Result<Report, String>>) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    while let Some(ended) = clients.join_next().await {
        reports.push(ended.map_err(|error| format!("a client has failed: {error}"))??);
    }
    reports.sort_by_key(|report| report.hash);
    Ok(reports)
}

fn config(dice: &mut Dice) -> Config {
    Config {
        heartbeat_interval: HEARTBEAT,
        write_timeout: WRITE_TIMEOUT,
        scope_bytes_max: *dice.pick(&[300, 2_000, 16_384, 1 << 20]),
        // Nobody waits for another's turn: whom a watch of tokio's wakes first is chance, and who comes first in the same moment
        // must not matter.
        catch_up_bytes_max: 1 << 20,
        catch_up_reads_max: 100,
        snapshots_max: 100,
        snapshot_age_max: dice.ms(0, 4_000),
        snapshot_bytes_max: *dice.pick(&[0, 1_000, 1 << 20]),
        drain: DRAIN,
        ..Config::default()
    }
}

/// Transactions begin and commit, in bursts and with pauses between them, and some of the log is pruned, until everything settles.
async fn commits(world: Arc<World>, clients: u64) {
    let mut dice = Dice::of(world.model.seed, "writers");
    let happening = async {
        loop {
            let (burst, pause) = match dice.roll(12) {
                0 => (1, dice.ms(1_000, 4_000)),
                1..4 => (1 + dice.roll(12), dice.ms(0, 100)),
                _ => (1, dice.ms(10, 150)),
            };
            for _ in 0..burst {
                if let Some(commit) = world.model.happen(clients) {
                    world.tell(|| commit);
                }
            }
            if dice.once_in(60) {
                world.model.prune();
            }
            tokio::time::sleep(pause).await;
        }
    };
    let _ = world.settles.run_until_cancelled(happening).await;
}

/// What commits becomes durable.
async fn stores(world: Arc<World>) {
    let mut dice = Dice::of(world.model.seed, "capture");
    loop {
        let pause = if dice.once_in(40) { dice.ms(500, 2_000) } else { dice.ms(1, 40) };
        tokio::time::sleep(pause).await;
        world.model.store(false);
    }
}
