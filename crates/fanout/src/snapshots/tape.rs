//! What one reading of the source has brought so far, and who follows it how far.
//!
//! The reading adds at the end, followers take from where they are. What is too large to be kept whole loses its beginning
//! once everybody has had that. It waits for nobody: who has nothing to take is told by a watch, and so is the reading when
//! it wants room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use waldelta_wal::{Position, Table, TableName};

use super::chunk::{Chunk, Held, Holdings};
use super::growth::{Gaps, Mark};
use super::places::{Places, out_of_time};
use crate::clock;
use crate::session::delivery::Shows;
use crate::session::hydrate::{Failure, Order};
use crate::shapes::Shown;
use crate::subscription::Tables;
use crate::wire::Utf8Bytes;
use crate::wire::server::TableSum;

/// Bytes that a tape costs beside its chunks and its name, about.
const TAPE_BYTES: usize = 4 * 1024;

/// One reading of the source.
pub(crate) struct Tape {
    /// What it is of, however its followers call that.
    pub tables: Tables,
    state: Mutex<State>,
    grown: watch::Sender<()>,
    followers_changed: watch::Sender<()>,
    _held: Held,
}

#[derive(Default)]
struct State {
    at_least: Position,
    head: Position,
    /// The position of the snapshot once it is fixed, and what history had grown to then.
    fixed: Option<(Position, Mark)>,
    fixed_at: Option<Instant>,
    /// The gaps that were open before anything of it was taken.
    ordered_with: Gaps,
    begun: Option<Arc<Begun>>,
    /// Each table's shape, with the number of the first frame that comes after it.
    shapes: Vec<(u64, Arc<Table>)>,
    /// The frames that are there, and the number of the first of them.
    chunks: VecDeque<Arc<Chunk>>,
    first: u64,
    bytes: usize,
    plain_bytes: u64,
    rows: u64,
    /// The newest frame as it is: who follows closely need not open its chunk.
    newest: Option<Arc<Utf8Bytes>>,
    end: Option<End>,
    places: Places,
    /// The reading waits until somebody has taken more.
    wants_room: bool,
    used: u64,
}

/// How a snapshot begins.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Names it for good: no other has it.
    pub id: String,
    pub cursor: Position,
    pub tables: Vec<(TableName, i64)>,
    /// The gaps that were open before it was taken.
    pub gaps: Gaps,
}

/// How a snapshot ends.
pub(crate) struct Whole {
    pub consistent_at: Position,
    pub sums: Vec<TableSum>,
    /// The tables that it left out.
    pub without: Vec<TableName>,
    pub shows: Shows,
    /// What it says of tables whose rules may not fit them.
    pub shown: Shown,
}

enum End {
    Whole(Arc<Whole>),
    Failed(Failure),
    /// Nobody wanted it any more.
    Abandoned,
}

/// What a follower takes.
pub(super) enum Taken {
    Begun(Arc<Begun>),
    Shape(Arc<Table>),
    Rows(Arc<Chunk>),
    Whole(Arc<Begun>, Arc<Whole>),
    Failed(Failure),
}

/// How far a follower is in what it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At {
    pub has_begun: bool,
    shape: usize,
    /// The frame that it takes next.
    pub next: u64,
}

impl Tape {
    /// `gaps` are those that were open when it was ordered.
    pub(super) fn new(tables: Tables, order: &Order, gaps: &Gaps, holdings: &Holdings) -> Self {
        let state = State {
            at_least: order.at_least,
            head: order.head,
            ordered_with: gaps.clone(),
            ..State::default()
        };
        let named = format!("{tables:?}").len();
        Tape {
            tables,
            state: Mutex::new(state),
            grown: watch::Sender::new(()),
            followers_changed: watch::Sender::new(()),
            _held: holdings.take(TAPE_BYTES + named),
        }
    }

    /// Begins to follow from the beginning; `None` where this is no longer there, or is too old for the order, or where those who
    /// follow already hold the reading up.
    pub(super) fn join(&self, order: &Order, until: Instant, used: u64) -> Option<(u64, At)> {
        let mut state = self.lock();
        if state.first > 0 || state.wants_room || matches!(state.end, Some(End::Failed(_) | End::Abandoned)) {
            return None;
        }
        match state.fixed {
            Some((position, _)) if position < order.at_least => return None,
            Some(_) => {}
            None => {
                state.at_least = state.at_least.max(order.at_least);
                state.head = state.head.max(order.head);
            }
        }
        Some((state.enter(0, until, used), At::default()))
    }

    /// Begins to follow after a frame that the client has.
    pub(super) fn resume(&self, order: &Order, next: u64, until: Instant, used: u64) -> Option<(u64, At)> {
        let mut state = self.lock();
        let is_old = state.fixed.is_none_or(|(position, _)| position < order.at_least);
        let is_there = (state.first..=state.there()).contains(&next);
        if is_old || !is_there || matches!(state.end, Some(End::Failed(_) | End::Abandoned)) {
            return None;
        }
        // The shape of the table that it has a part of is told again, on its new connection.
        let shape = state.shapes.partition_point(|(first, _)| *first < next).saturating_sub(1);
        let at = At { has_begun: false, shape, next };
        Some((state.enter(next, until, used), at))
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    /// What comes next for a follower; `None`: nothing yet.
    pub(super) fn take(&self, follower: u64, at: &mut At) -> Option<Taken> {
        let mut state = self.lock();
        if let Some(failure) = state.places.failure(follower) {
            return Some(Taken::Failed(failure));
        }
        if let Some(End::Failed(failure)) = &state.end {
            return Some(Taken::Failed(failure.clone()));
        }
        let begun = state.begun.clone()?;
        if !at.has_begun {
            at.has_begun = true;
            return Some(Taken::Begun(begun));
        }
        if let Some((first, table)) = state.shapes.get(at.shape)
            && *first <= at.next
        {
            at.shape += 1;
            return Some(Taken::Shape(table.clone()));
        }
        let index = at.next.checked_sub(state.first).and_then(|index| usize::try_from(index).ok());
        if let Some(chunk) = index.and_then(|index| state.chunks.get(index)).cloned() {
            at.next += 1;
            state.places.moved(follower, at.next);
            if state.wants_room {
                self.followers_changed.send_replace(());
            }
            return Some(Taken::Rows(chunk));
        }
        match &state.end {
            Some(End::Whole(whole)) => Some(Taken::Whole(begun, whole.clone())),
            _ => None,
        }
    }

    /// A follower has until then.
    pub(super) fn extend(&self, follower: u64, until: Instant) {
        self.lock().places.extend(follower, until);
    }

    /// A follower goes. A reading that nobody follows goes on only if most of it is done.
    pub(super) fn leave(&self, follower: u64) {
        let mut state = self.lock();
        state.places.leave(follower);
        if state.places.is_empty() && state.end.is_none() && !state.is_half_done() {
            state.end = Some(End::Abandoned);
        }
        self.followers_changed.send_replace(());
    }

    /// Lets go of those whose time is up.
    pub(super) fn let_late_go(&self, now: Instant) {
        let mut state = self.lock();
        let (has_ended, there) = (state.end.is_some(), state.there());
        if state.places.let_late_go(now, |next| has_ended || next < there) {
            drop(state);
            self.grown.send_replace(());
            self.followers_changed.send_replace(());
        }
    }

    /// Fixes the position that is read, given what is durable and what history has grown to. From now on nobody joins who needs
    /// a later one.
    pub(super) fn fix(&self, durable: Position, mark: Mark) -> Position {
        let mut state = self.lock();
        let position = durable.max(state.at_least).max(state.head);
        state.fixed = Some((position, mark));
        state.fixed_at = Some(clock::now());
        position
    }

    pub(super) fn begin(&self, begun: Begun) {
        self.lock().begun = Some(Arc::new(begun));
        self.grown.send_replace(());
    }

    pub(super) fn add_shape(&self, table: Arc<Table>) {
        let mut state = self.lock();
        let next = state.there();
        state.shapes.push((next, table));
        drop(state);
        self.grown.send_replace(());
    }

    /// The number of the frame that is added next.
    pub(super) fn next_frame(&self) -> u64 {
        self.lock().there()
    }

    pub(super) fn add(&self, chunk: Arc<Chunk>, frame: Arc<Utf8Bytes>, rows: u64) {
        let mut state = self.lock();
        state.bytes += chunk.bytes();
        state.plain_bytes += chunk.plain_bytes() as u64;
        state.rows += rows;
        state.wants_room = false;
        state.chunks.push_back(chunk);
        state.newest = Some(frame);
        drop(state);
        self.grown.send_replace(());
    }

    pub(super) fn finish(&self, whole: Whole) {
        self.end(End::Whole(Arc::new(whole)));
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.end(End::Failed(failure));
    }

    /// The time of the reading is up. Those whom it waits for had theirs; all others may come back.
    pub(super) fn run_out(&self) {
        let mut state = self.lock();
        if state.wants_room {
            let first = state.first;
            state.places.let_holders_go(first);
        }
        drop(state);
        self.fail(out_of_time());
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        state.newest = None;
        drop(state);
        self.grown.send_replace(());
    }

    /// Comes back when nobody wants it any more.
    pub(super) async fn abandoned(&self) {
        let mut changed = self.followers_changed.subscribe();
        while !matches!(self.lock().end, Some(End::Abandoned)) {
            // The sender is part of `self`.
            let _ = changed.changed().await;
        }
    }

    /// Whether as many bytes as that fit into `bytes_max`.
    pub(super) fn fits(&self, bytes: usize, bytes_max: usize) -> bool {
        let state = self.lock();
        state.chunks.is_empty() || state.bytes + bytes <= bytes_max
    }

    /// Drops the first frame, if all followers have had it. Without followers nobody is there to have it.
    pub(super) fn drop_first(&self) -> bool {
        let mut state = self.lock();
        let Some(slowest) = state.places.slowest() else {
            state.end.get_or_insert(End::Abandoned);
            self.followers_changed.send_replace(());
            return false;
        };
        if slowest <= state.first {
            return false;
        }
        let Some(chunk) = state.chunks.pop_front() else { return false };
        state.bytes -= chunk.bytes();
        state.first += 1;
        true
    }

    /// Waits until a follower has taken something or gone, or so long.
    pub(super) async fn followers_move(&self, at_most: Duration) {
        let mut changed = self.followers_changed.subscribe();
        self.lock().wants_room = true;
        let _ = tokio::time::timeout(at_most, changed.changed()).await;
    }

    /// Lets those go who are behind all others, if there are others.
    pub(super) fn let_slowest_go(&self) -> bool {
        let were_any = self.lock().places.let_slowest_go();
        if were_any {
            self.grown.send_replace(());
        }
        were_any
    }

    /// Whether it is there from its beginning to its end.
    pub(super) fn is_whole(&self) -> bool {
        let state = self.lock();
        state.first == 0 && matches!(state.end, Some(End::Whole(_)))
    }

    pub(super) fn has_followers(&self) -> bool {
        !self.lock().places.is_empty()
    }

    /// A number that is higher, the later it was used.
    pub(super) fn used(&self) -> u64 {
        self.lock().used
    }

    /// Its position, what history had grown to then, and its bytes; `None` before it is fixed.
    pub(super) fn standing(&self) -> Option<(Position, Mark, u64)> {
        let state = self.lock();
        state.fixed.map(|(position, mark)| (position, mark, state.plain_bytes))
    }

    /// Whether one of these gaps, which are open, may hold what the snapshot does not show. In a gap that is open already more can
    /// happen unseen. While it is read, nobody knows all of its tables.
    pub(super) fn lacks(&self, gaps: &Gaps) -> bool {
        let state = self.lock();
        match (&state.end, &state.begun) {
            (Some(_), _) => {
                gaps.are_new(&Gaps::default(), |oid| state.shapes.iter().any(|(_, table)| table.oid == oid))
            }
            (None, Some(begun)) => gaps.are_new(&begun.gaps, |_| true),
            (None, None) => gaps.are_new(&state.ordered_with, |_| true),
        }
    }

    /// How long ago its position was fixed.
    pub(super) fn age(&self) -> Duration {
        self.lock().fixed_at.map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at))
    }

    pub(super) fn begun(&self) -> Option<Arc<Begun>> {
        self.lock().begun.clone()
    }

    /// Gives its memory back, whoever still knows it.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.first += state.chunks.len() as u64;
        state.chunks.clear();
        state.bytes = 0;
        state.newest = None;
        state.places.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, next: u64, until: Instant, used: u64) -> u64 {
        self.used = used;
        // Its time runs from here on.
        let came_late = self.fixed.is_some() && self.end.is_none();
        self.places.enter(next, until, came_late)
    }

    /// The number of the frame that comes next.
    fn there(&self) -> u64 {
        self.first + self.chunks.len() as u64
    }

    fn is_half_done(&self) -> bool {
        let estimate =
            self.begun.as_ref().map_or(0, |begun| begun.tables.iter().map(|(_, rows)| rows).sum::<i64>());
        u64::try_from(estimate).is_ok_and(|estimate: u64| estimate > 0 && self.rows * 2 > estimate)
    }
}
