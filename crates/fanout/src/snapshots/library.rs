//! The readings there are: found by what they are of, or begun; kept in bounded memory while they are of worth.
//!
//! What a kept reading is handed out for: whoever may begin at its position, in the same epoch, with no table in it reset since,
//! no gap opened since in which rows changed unseen, and with less history to read past than another reading would bring. One
//! that is under way is joined only while most of its time is left. See docs/decisions/0003-shared-snapshots.md.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use waldelta_history::Feed;
use waldelta_wal::{Code, Position};

use super::chunk::Holdings;
use super::extract;
use super::follow::Follower;
use super::growth::{Gaps, Growth};
use super::tape::Tape;
use crate::clock;
use crate::config::Config;
use crate::session::hydrate::{Failure, Order};
use crate::subscription::Tables;

/// All readings, and who may make more of them.
pub(crate) struct Library {
    shelf: Mutex<Shelf>,
    ordered: mpsc::Sender<Arc<Tape>>,
    orders: tokio::sync::Mutex<mpsc::Receiver<Arc<Tape>>>,
    /// Readings that hold the source at the same time.
    turns: Semaphore,
    /// Answers over HTTP that are on their way.
    pub downloads: Arc<Semaphore>,
    pub(super) holdings: Holdings,
    cache_bytes_max: usize,
    tape_bytes_max: usize,
    wait_timeout: Duration,
    timeout: Duration,
}

struct Shelf {
    tapes: HashMap<Tables, Vec<Arc<Tape>>>,
    growth: Growth,
    uses: u64,
    age_max: Duration,
    /// For so long after it was begun a reading is joined: whoever comes later could have too little of its time left.
    join_max: Duration,
}

impl Library {
    pub(crate) fn new(config: &Config, head: Position) -> Self {
        // As many as can wait for one.
        let (ordered, orders) = mpsc::channel(config.sessions_max.clamp(1, Semaphore::MAX_PERMITS));
        Library {
            shelf: Mutex::new(Shelf {
                tapes: HashMap::new(),
                growth: Growth::new(head),
                uses: 0,
                age_max: config.snapshot_age_max,
                join_max: config.snapshot_timeout / 2,
            }),
            ordered,
            orders: tokio::sync::Mutex::new(orders),
            turns: Semaphore::new(config.snapshots_max.max(1)),
            downloads: Arc::new(Semaphore::new(config.sessions_max)),
            holdings: Holdings::default(),
            cache_bytes_max: config.snapshot_cache_bytes_max,
            tape_bytes_max: config.snapshot_bytes_max.min(config.snapshot_cache_bytes_max),
            wait_timeout: config.snapshot_wait_timeout,
            timeout: config.snapshot_timeout,
        }
    }

    /// Begins to follow what is ordered: from where the client was interrupted, if that is there still; else a reading that is
    /// there or under way; else a new one.
    pub(crate) fn follow(&self, order: &Order, feed: &Feed, gaps: &Gaps) -> Result<Follower, Failure> {
        let tables = extract::anonymous(&order.tables);
        // Its turn has to come first.
        let until = clock::now() + self.wait_timeout + self.timeout;
        let mut shelf = self.lock();
        shelf.growth.advance(feed);
        shelf.uses += 1;
        let used = shelf.uses;
        let follower = |tape: &Arc<Tape>, place| {
            Follower::new(tape.clone(), place, order.tables.selection.clone(), until, self.timeout)
        };
        let there = shelf.tapes.get(&tables).map_or(&[][..], Vec::as_slice);
        if let Some(from) = &order.from {
            let next = from.n.saturating_add(1);
            let named = there.iter().find(|tape| tape.begun().is_some_and(|begun| begun.id == from.id));
            let same = named.filter(|tape| shelf.is_sound(tape, feed));
            if let Some((tape, place)) =
                same.and_then(|tape| Some((tape, tape.resume(order, next, until, used)?)))
            {
                return Ok(follower(tape, place));
            }
        }
        let mut found = there.iter().rev().filter(|tape| shelf.is_current(tape, order, feed, gaps));
        if let Some((tape, place)) = found.find_map(|tape| Some((tape, tape.join(order, until, used)?))) {
            return Ok(follower(tape, place));
        }
        let tape = Arc::new(Tape::new(tables.clone(), order, gaps, &self.holdings));
        let place = tape.join(order, until, used).ok_or_else(busy)?;
        self.ordered.try_send(tape.clone()).map_err(|_full| busy())?;
        let new = follower(&tape, place);
        shelf.tapes.entry(tables).or_default().push(tape);
        Ok(new)
    }

    /// The snapshot that an order would get now without reading the source.
    pub(crate) fn current(&self, order: &Order, feed: &Feed, gaps: &Gaps) -> Option<String> {
        let tables = extract::anonymous(&order.tables);
        let mut shelf = self.lock();
        shelf.growth.advance(feed);
        let mut there = shelf.tapes.get(&tables)?.iter().rev();
        let is_it = |tape: &&Arc<Tape>| {
            let is_new = tape.standing().is_some_and(|(position, ..)| position >= order.at_least);
            is_new && tape.is_whole() && shelf.is_current(tape, order, feed, gaps)
        };
        Some(there.find(is_it)?.begun()?.id.clone())
    }

    /// Those that wait to be read; for one at a time.
    pub(super) async fn orders(&self) -> tokio::sync::MutexGuard<'_, mpsc::Receiver<Arc<Tape>>> {
        self.orders.lock().await
    }

    /// Waits for a turn to read the source.
    pub(super) async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Failure> {
        match tokio::time::timeout(self.wait_timeout, self.turns.acquire()).await {
            // Nobody closes the semaphore.
            Ok(permit) => permit.map_err(|_closed| busy()),
            Err(_elapsed) => Err(busy()),
        }
    }

    /// Fixes the position of a reading that begins. Nobody joins it meanwhile: whoever finds that it has none yet has raised it
    /// to what it needs.
    pub(super) fn fix(&self, tape: &Tape, feed: &Feed) -> Position {
        let mut shelf = self.lock();
        // The mark comes first: what history grows by after the position is counted whole.
        shelf.growth.advance(feed);
        tape.fix(feed.head().cursor(), shelf.growth.mark())
    }

    /// Looks at what has passed, and lets those go whose time is up.
    pub(super) fn look(&self, feed: &Feed) {
        let mut shelf = self.lock();
        shelf.growth.advance(feed);
        let now = clock::now();
        shelf.tapes.values().flatten().for_each(|tape| tape.let_late_go(now));
    }

    /// Bytes that snapshots hold.
    pub(crate) fn held(&self) -> usize {
        self.holdings.bytes()
    }

    /// Whether a chunk of this many bytes, which is held already, may stay; if need be in place of readings that nobody follows.
    /// One of each reading always may.
    pub(super) fn has_room(&self, tape: &Tape, bytes: usize) -> bool {
        if !tape.fits(bytes, self.tape_bytes_max) {
            return false;
        }
        if self.held() > self.cache_bytes_max {
            self.make_room();
        }
        self.held() <= self.cache_bytes_max || tape.fits(bytes, 0)
    }

    /// Lets go of readings that nobody follows, those first that were not used for longest. A little more than is needed, so
    /// that this is not done for each frame.
    fn make_room(&self) {
        let wanted = self.cache_bytes_max - self.cache_bytes_max / 8;
        let mut shelf = self.lock();
        let mut idle: Vec<_> = shelf.tapes.values().flatten().cloned().collect();
        idle.retain(|tape| tape.is_whole() && !tape.has_followers());
        idle.sort_by_key(|tape| tape.used());
        for tape in idle {
            if self.held() <= wanted {
                break;
            }
            shelf.remove(&tape);
            tape.clear();
        }
    }

    /// A reading has ended: it is kept where it is whole.
    pub(super) fn ended(&self, tape: &Arc<Tape>) {
        if !tape.is_whole() {
            self.lock().remove(tape);
        } else if self.held() > self.cache_bytes_max {
            self.make_room();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // Nothing panics while holding it half-changed.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Whether a client that has a part of it may have the rest. Where it is not known whether a table was reset since, the
    /// stream will tell it: the client goes on from before that.
    fn is_sound(&self, tape: &Tape, feed: &Feed) -> bool {
        let Some((position, ..)) = tape.standing() else { return true };
        position.epoch >= feed.head().epoch && !self.growth.has_reset(&tape.tables, position)
    }

    /// Whether somebody who has nothing is to have it.
    fn is_current(&self, tape: &Tape, order: &Order, feed: &Feed, gaps: &Gaps) -> bool {
        let Some((position, mark, bytes)) = tape.standing() else { return true };
        let is_worth = match tape.is_whole() {
            // Nothing tells here that a table was dropped, or is no longer published.
            true => self.growth.is_worth(mark, bytes) && tape.age() <= self.age_max,
            // While it is read, nobody knows what it will hold.
            false => tape.age() < self.join_max,
        };
        // The client may know of a reset that this process has not heard of.
        let is_known = position >= order.head || feed.head().cursor() >= order.head;
        let may_lack = !is_known || self.growth.may_have_reset(&tape.tables, position) || tape.lacks(gaps);
        is_worth && self.is_sound(tape, feed) && !may_lack
    }

    fn remove(&mut self, tape: &Arc<Tape>) {
        if let Some(there) = self.tapes.get_mut(&tape.tables) {
            there.retain(|other| !Arc::ptr_eq(other, tape));
            if there.is_empty() {
                self.tapes.remove(&tape.tables);
            }
        }
    }
}

/// Too many snapshots are read or wait already.
fn busy() -> Failure {
    let code = Code::SnapshotsBusy;
    Failure::ForNow { code, message: code.explanation().title.to_owned() }
}
