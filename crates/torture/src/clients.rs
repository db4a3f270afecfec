//! Clients of a round, and what each has: some keep a copy of all tables, of parts of them, or of what a tenant may see; some keep what
//! they were told; one reads pages over HTTP. They come and go by themselves, stop reading, begin anew, and come back with what they
//! had a while ago. Others come with what is wrong, or never read.

mod deaf;
pub(crate) mod follower;
mod pages;
mod selection;
mod visitor;
mod wrong;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waldelta_testkit::recorder::{Archive, Recorder};
use waldelta_testkit::{Dice, Replica};
use waldelta_wal::Position;

use self::selection::Selection;
use crate::access::TENANTS;
use crate::round::Stage;

/// Followers with a copy of every table.
const COPIES: u64 = 4;
/// Followers that keep what they were told.
const RECORDERS: u64 = 5;
/// The follower that comes later than the others.
const LATE: &str = "copy 3";
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What a client keeps.
pub(crate) enum Store {
    Copy(Box<Replica>),
    Notes(Box<Recorder>),
}

impl Store {
    /// How far it goes.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Store::Copy(replica) => replica.position(),
            Store::Notes(recorder) => recorder.position(),
        }
    }

    fn again(&self) -> Self {
        match self {
            Store::Copy(replica) => Store::Copy(replica.clone()),
            Store::Notes(recorder) => Store::Notes(recorder.clone()),
        }
    }
}

/// A client as others see it.
pub(crate) struct Client {
    pub name: String,
    pub selection: Arc<Selection>,
    pub store: Mutex<Store>,
    /// Whether it is live now.
    is_live: AtomicBool,
}

impl Client {
    /// Whether it is live and has everything up to here.
    async fn has(&self, goal: Option<Position>) -> bool {
        let store = self.store.lock().await;
        let is_consistent = match &*store {
            Store::Copy(replica) => replica.is_consistent(),
            Store::Notes(_) => true,
        };
        self.is_live.load(Ordering::Relaxed) && is_consistent && store.position() >= goal
    }

    fn set_live(&self, is_live: bool) {
        self.is_live.store(is_live, Ordering::Relaxed);
    }
}

/// What all clients of a round share.
struct Shared {
    stage: Arc<Stage>,
    archive: Arc<Archive>,
    /// Recorders whose client went on from an earlier state or anew: what they were told counts all the same.
    retired: Mutex<Vec<Recorder>>,
    sessions: AtomicU64,
}

/// All clients of a round.
pub(crate) struct Clients {
    all: Vec<Arc<Client>>,
    shared: Arc<Shared>,
    /// Whether they are to stay where they are, and to take in everything.
    calm: watch::Sender<bool>,
}

impl Clients {
    /// Starts all of them as tasks of `tasks`. Those that begin without a snapshot begin at `start`, where all tables are empty.
    pub(crate) fn start(stage: &Arc<Stage>, start: Position, tasks: &mut JoinSet<()>) -> Self {
        let shared = Arc::new(Shared {
            stage: stage.clone(),
            archive: Arc::default(),
            retired: Mutex::default(),
            sessions: AtomicU64::new(0),
        });
        let calm = watch::Sender::new(false);
        let mut all = Vec::new();
        let everything = Selection::everything();
        let mut followers = Vec::new();
        for number in 0..COPIES {
            followers.push((format!("copy {number}"), everything.clone(), None));
        }
        for number in 0..RECORDERS {
            let begins_at = (number % 2 == 0).then_some(start);
            followers.push((format!("recorder {number}"), everything.clone(), Some(begins_at)));
        }
        let [one, other] = Selection::of_filters();
        followers.push(("copy of a union".to_owned(), Selection::union(), None));
        let parts = [("parts".to_owned(), one), ("other parts".to_owned(), other)];
        let tenants = (0..TENANTS).map(|tenant| (format!("tenant {tenant}"), Selection::of_tenant(tenant)));
        for (number, (name, selection)) in parts.into_iter().chain(tenants).enumerate() {
            let begins_at = (number % 2 == 0).then_some(start);
            followers.push((format!("copy of {name}"), selection.clone(), None));
            followers.push((format!("recorder of {name}"), selection, Some(begins_at)));
        }
        for (name, selection, notes) in followers {
            let store = match notes {
                None => Store::Copy(Box::new(Replica::new())),
                Some(begins_at) => {
                    let recorder = selection.recorder(&name, &shared.archive);
                    Store::Notes(Box::new(match begins_at {
                        Some(start) => recorder.starting_at(start),
                        None => recorder,
                    }))
                }
            };
            let client = client(name, selection, store, &mut all);
            let dice = Dice::of(stage.seed, &client.name);
            let comes_late = client.name == LATE;
            tasks.spawn(follower::run(client, shared.clone(), dice, calm.subscribe(), comes_late));
        }
        let name = "pages".to_owned();
        let mut recorder = everything.recorder(&name, &shared.archive).starting_at(start);
        // All of its pages are one session.
        recorder.hello();
        let client = client(name, everything, Store::Notes(Box::new(recorder)), &mut all);
        tasks.spawn(pages::run(client, shared.clone(), Dice::of(stage.seed, "pages"), start));
        let dice = |name| Dice::of(stage.seed, name);
        tasks.spawn(deaf::run(shared.clone(), dice("deaf"), start));
        tasks.spawn(visitor::run(shared.clone(), dice("visitor"), start));
        Clients { all, shared, calm }
    }

    /// Has them stay and take in everything, or come and go again.
    pub(crate) fn be_calm(&self, is_calm: bool) {
        self.calm.send_replace(is_calm);
    }

    /// Waits until every client is live and has everything up to here. Panics with who has not.
    pub(crate) async fn arrive(&self, goal: Option<Position>, patience: Duration) {
        let deadline = Instant::now() + patience;
        for client in &self.all {
            while !client.has(goal).await {
                let at = client.store.lock().await.position();
                let is_live = client.is_live.load(Ordering::Relaxed);
                assert!(
                    Instant::now() < deadline,
                    "{} is at {at:?} (live: {is_live}) and should have come to {goal:?} in {patience:?}",
                    client.name
                );
                sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<Client>] {
        &self.all
    }

    /// Everything that was told to those who keep it. Those that have ended are given once: what was found right stays right, because
    /// history below it stays what it was (I4).
    pub(crate) async fn recorders(&self) -> Vec<Recorder> {
        let mut recorders = std::mem::take(&mut *self.shared.retired.lock().await);
        for client in &self.all {
            if let Store::Notes(recorder) = &*client.store.lock().await {
                recorders.push((**recorder).clone());
            }
        }
        recorders
    }

    /// How many sessions there were.
    pub(crate) fn sessions(&self) -> u64 {
        self.shared.sessions.load(Ordering::Relaxed)
    }
}

fn client(name: String, selection: Arc<Selection>, store: Store, all: &mut Vec<Arc<Client>>) -> Arc<Client> {
    let (store, is_live) = (Mutex::new(store), AtomicBool::new(false));
    let client = Arc::new(Client { name, selection, store, is_live });
    all.push(client.clone());
    client
}
