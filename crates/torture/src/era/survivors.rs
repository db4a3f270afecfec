//! Clients with a copy of everything that live through the end of an era: they come and go like any other, are told to begin anew, and
//! have the source's rows in the end. One of them is away meanwhile and comes back with what it had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use waldelta_testkit::{ConnectOptions, Frame, Replica, WsClient, source_rows};
use waldelta_testkit::{Dice, fold::assert_same};
use waldelta_wal::Position;

use super::deed::Deed;
use crate::access::Who;
use crate::checkpoint::SETTLE_PATIENCE;
use crate::clients::follower::{COMES_BACK, CONNECT_TIMEOUT, LOOK_INTERVAL, REPLACED, SILENCE_MAX};
use crate::clients::{Clients, Store};
use crate::round::{Stage, fail};
use crate::tables::{ALL, source_of};

/// All of them.
pub(super) struct Survivors {
    all: Vec<Arc<Survivor>>,
    tasks: JoinSet<()>,
    calm: watch::Sender<bool>,
}

struct Survivor {
    name: String,
    copy: Mutex<Copy>,
    is_live: AtomicBool,
}

struct Copy {
    replica: Replica,
    /// Why it was told to begin anew, in order.
    resets: Vec<String>,
    /// It came back without a cursor by itself, as who has half a snapshot does: it need not be told then.
    began_anew: bool,
}

impl Survivors {
    /// The copies of these clients.
    pub(super) async fn of(stage: &Arc<Stage>, clients: &Clients, part: u64) -> Self {
        let (calm, mut tasks, mut all) = (watch::Sender::new(false), JoinSet::new(), Vec::new());
        for client in clients.all().iter().filter(|client| client.selection.who == Who::Everything) {
            let Store::Copy(replica) = &*client.store.lock().await else { continue };
            // Those of parts of tables have other subscriptions.
            if client.selection.subscriptions.len() != 1 || client.selection.subscriptions[0]["table"] != "*"
            {
                continue;
            }
            let mut replica = (**replica).clone();
            replica.disconnected();
            let known = replica.resets().len();
            let name = format!("survivor {}", all.len());
            let copy = Copy { replica, resets: Vec::new(), began_anew: false };
            let survivor =
                Arc::new(Survivor { name, copy: Mutex::new(copy), is_live: AtomicBool::new(false) });
            let dice = Dice::of(stage.seed, &format!("{} of part {part}", survivor.name));
            // One of them is away until everything is over.
            let is_away = all.is_empty();
            tasks.spawn(run(stage.clone(), survivor.clone(), dice, calm.subscribe(), is_away, known));
            all.push(survivor);
        }
        assert!(!all.is_empty(), "nobody has a copy of everything");
        Survivors { all, tasks, calm }
    }

    /// Does this, unless one of them fails.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            Some(ended) = self.tasks.join_next() => fail(ended),
        }
    }

    /// Has them stay and take in everything.
    pub(super) fn be_calm(&self) {
        self.calm.send_replace(true);
    }

    /// Waits until each is live and has everything up to here.
    pub(super) async fn arrive(&mut self, goal: Option<Position>) {
        let deadline = Instant::now() + SETTLE_PATIENCE;
        for survivor in self.all.clone() {
            while !survivor.has(goal).await {
                let at = survivor.copy.lock().await.replica.position();
                assert!(
                    Instant::now() < deadline,
                    "{} is at {at:?} and should have come to {goal:?} in {SETTLE_PATIENCE:?}",
                    survivor.name
                );
                self.meanwhile(sleep(LOOK_INTERVAL)).await;
            }
        }
    }

    /// Each copy is the source's tables, and nobody came over the gap without being told.
    pub(super) async fn compare(&self, stage: &Stage, deed: Deed) {
        let source = stage.world.source_client().await;
        for table in ALL {
            let wanted = source_rows(&source, source_of(table)).await;
            for survivor in &self.all {
                let rows = survivor.copy.lock().await.replica.rows(table);
                assert_same(&format!("{}'s {table}", survivor.name), &rows, &wanted);
            }
        }
        for (number, survivor) in self.all.iter().enumerate() {
            let copy = survivor.copy.lock().await;
            let (name, resets) = (&survivor.name, &copy.resets);
            let is_told = copy.began_anew || resets.iter().any(|reason| reason == deed.reason());
            // The first was away.
            let need_not = number > 0 && deed == Deed::Prune;
            assert!(is_told || need_not, "{name} came over {deed:?} without a reset: {resets:?}");
            let epochs = resets.iter().filter(|reason| *reason == "epoch_changed").count();
            assert!(epochs <= usize::from(deed.begins_epoch()), "{name} after {deed:?}: {resets:?}");
            // Of tables whose rows changed unseen, too.
            assert!(
                resets.iter().all(|reason| [deed.reason(), "gap"].contains(&reason.as_str())),
                "{name}: {resets:?}"
            );
        }
    }
}

impl Survivor {
    async fn has(&self, goal: Option<Position>) -> bool {
        let copy = self.copy.lock().await;
        self.is_live.load(Ordering::Relaxed)
            && copy.replica.is_consistent()
            && copy.replica.position() >= goal
    }
}

/// Follows until the task is ended.
async fn run(
    stage: Arc<Stage>,
    survivor: Arc<Survivor>,
    mut dice: Dice,
    mut calm: watch::Receiver<bool>,
    is_away: bool,
    mut known: usize,
) {
    if is_away {
        _ = calm.wait_for(|is_calm| *is_calm).await;
    }
    loop {
        session(&stage, &survivor, &mut dice, &calm, &mut known).await;
        survivor.is_live.store(false, Ordering::Relaxed);
        sleep(dice.ms(0, 700)).await;
    }
}

/// One connection, to its end.
async fn session(
    stage: &Stage,
    survivor: &Survivor,
    dice: &mut Dice,
    calm: &watch::Receiver<bool>,
    known: &mut usize,
) {
    let url = stage.fleet.stream(stage.fleet.any_serving(dice));
    let options = ConnectOptions::default();
    let Ok(Ok(mut socket)) = timeout(CONNECT_TIMEOUT, WsClient::try_connect(url, &options)).await else {
        return;
    };
    let mut hello = survivor.copy.lock().await.hello(&survivor.name, known);
    hello["token"] = stage.tokens.of(Who::Everything).into();
    if !socket.try_send(&hello).await {
        return;
    }
    let leaves_at = Instant::now() + dice.ms(500, 25_000);
    let mut heard_at = Instant::now();
    while *calm.borrow() || Instant::now() < leaves_at {
        match socket.frame_within(LOOK_INTERVAL).await {
            None if heard_at.elapsed() > SILENCE_MAX => return,
            None => {}
            Some(Frame::Text(text)) => {
                heard_at = Instant::now();
                let mut copy = survivor.copy.lock().await;
                if let Err(violation) = copy.take(&text, known) {
                    let text = text.get(..text.floor_char_boundary(2000)).unwrap_or(&text);
                    panic!("{}, at {:?}: {violation} by {text}", survivor.name, copy.replica.position());
                }
                survivor.is_live.store(copy.replica.is_live(), Ordering::Relaxed);
            }
            Some(Frame::Closed { code, reason }) => {
                let comes_back = COMES_BACK.contains(&code) || code == REPLACED;
                assert!(comes_back, "{} is closed with {code}: {reason}", survivor.name);
                return;
            }
        }
    }
}

impl Copy {
    fn hello(&mut self, name: &str, known: &mut usize) -> serde_json::Value {
        self.replica.disconnected();
        // As a client of a table without key does.
        if self.replica.position().is_some() && !self.replica.is_consistent() {
            (self.replica, self.began_anew, *known) = (Replica::new(), true, 0);
        }
        self.replica.hello(name, &[json!({"id": "all", "table": "*"})])
    }

    fn take(&mut self, frame: &str, known: &mut usize) -> Result<(), String> {
        self.replica.apply(frame).map_err(|violation| violation.0)?;
        let resets = self.replica.resets();
        self.resets.extend_from_slice(&resets[*known..]);
        *known = resets.len();
        Ok(())
    }
}
