//! A scope: what sessions with equal subscriptions share. It keeps the newest frames ready, in order, bounded in bytes.
//!
//! The tail is a cache. Whoever reads too late for it is told so and reads the feed or history instead. It knows no
//! sessions: each of them holds a position and comes for what is after it.

mod budget;
pub(crate) mod cost;
mod packed;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

pub(crate) use budget::Budget;
pub(crate) use packed::Packed;
use tokio::sync::{OwnedSemaphorePermit, watch};
use waldelta_wal::{Position, Table};

use crate::subscription::{Misfit, Route, Selection};
use crate::wire::Utf8Bytes;
use crate::wire::server;

/// Bytes that an item costs beside its frames, about.
const ITEM_BYTES: usize = 192;
/// Tables whose looks are kept; beyond that they are made anew.
const LOOKS_MAX: usize = 64;
/// Bytes that a look costs beside its route and its frame, about.
const LOOK_BYTES: usize = 256;

/// The shared state of sessions with equal subscriptions.
pub(crate) struct Scope {
    /// What it selects.
    pub selection: Arc<Selection>,
    tail: Mutex<Tail>,
    /// How tables look to it in the shape that each had last; messages are without a table.
    looks: Mutex<HashMap<Option<u32>, Known>>,
    budget: Arc<Budget>,
    wake: watch::Sender<()>,
}

/// How a table of one shape looks to a scope, or messages.
#[derive(Debug)]
pub(crate) struct Look {
    pub route: Route,
    /// Bytes of the route, about: also how long it took to make.
    pub cost: usize,
    /// What is told of the shape; messages have none.
    pub schema: Option<SchemaFrame>,
}

struct Known {
    table: Option<Arc<Table>>,
    /// Nothing where the table is not selected.
    look: Option<Arc<Look>>,
    /// It may be kept.
    _room: OwnedSemaphorePermit,
}

/// One transaction that concerns the scope, or one of its authors.
#[derive(Debug)]
pub(crate) struct Item {
    /// The whole transaction.
    pub position: Position,
    /// The transaction before it of which the scope was told changes, or where the scope began.
    pub prev: Position,
    /// What everybody gets who is not an author.
    pub content: Content,
    /// What the authors get who were connected with this scope, by their keys.
    pub own: Vec<(Arc<str>, Utf8Bytes)>,
    /// The shapes that its changes have or tell, each with its `schema` frame.
    pub schemas: Vec<SchemaFrame>,
    /// When it was found durable.
    pub routed_at: Instant,
    /// By the source's clock, in microseconds since 1970.
    pub committed_at_us: i64,
    /// The frame of `content` in its smaller form, once a session has come that takes it; see [`Scope::pack`].
    pub packed: OnceLock<Option<Packed>>,
}

/// What a transaction is to a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A ready frame.
    Frame(Utf8Bytes),
    /// Too large to keep ready: sessions read it from history in parts.
    Large,
    /// Nothing but the shapes that tables have from here on.
    Shapes,
    /// Nothing: only its authors are told.
    AuthorsOnly,
}

/// A table's shape, ready to be told.
#[derive(Clone, Debug)]
pub(crate) struct SchemaFrame {
    pub oid: u32,
    pub version: u32,
    pub frame: Utf8Bytes,
}

/// The tail no longer has what follows the position asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind;

struct Tail {
    /// Everything after this position is in `items`.
    floor: Position,
    /// The newest transaction of which the scope was told changes, or where it began: `prev` of the next.
    newest: Position,
    items: VecDeque<Arc<Item>>,
    bytes: usize,
    bytes_max: usize,
    budget: Arc<Budget>,
}

impl Scope {
    /// A scope that gets everything that is routed after `floor`. It keeps `bytes_max` bytes ready, and with others what
    /// `budget` allows.
    pub(crate) fn new(
        selection: Arc<Selection>,
        floor: Position,
        bytes_max: usize,
        budget: &Arc<Budget>,
    ) -> Self {
        let items = VecDeque::new();
        let tail = Tail { floor, newest: floor, items, bytes: 0, bytes_max, budget: budget.clone() };
        Scope {
            selection,
            tail: Mutex::new(tail),
            looks: Mutex::default(),
            budget: budget.clone(),
            wake: watch::Sender::new(()),
        }
    }

    /// The position that the next frame names as the one before it.
    pub(crate) fn newest(&self) -> Position {
        self.lock().newest
    }

    /// How a table looks, made once for its shape while there is room; without a table, how messages do. `None` where it is not selected.
    ///
    /// # Errors
    /// Where a subscription does not fit the shape: its sessions end when they find that out.
    pub(crate) fn look(&self, table: Option<&Arc<Table>>) -> Result<Option<Arc<Look>>, Misfit> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let oid = table.map(|table| table.oid);
        // Shapes that are the same one are not compared.
        if let Some(known) = looks.get(&oid).filter(|known| known.table.as_ref() == table) {
            return Ok(known.look.clone());
        }
        let route = self.selection.route(table.map(Arc::as_ref))?;
        let cost = cost::of_route(&self.selection, table.map(Arc::as_ref));
        let look = route.map(|route| {
            let schema = table.map(|table| SchemaFrame {
                oid: table.oid,
                version: table.version,
                frame: server::schema(table, route.projection()),
            });
            Arc::new(Look { route, cost, schema })
        });
        if looks.len() >= LOOKS_MAX {
            looks.clear();
        }
        let frame = look.iter().filter_map(|look| look.schema.as_ref()).map(|schema| schema.frame.len());
        let bytes = LOOK_BYTES + cost + frame.sum::<usize>();
        // Where all scopes together keep too many, this one forgets its own; what then still finds no room is made anew each
        // time.
        let room = self.budget.room_for_look(bytes).or_else(|| {
            looks.clear();
            self.budget.room_for_look(bytes)
        });
        if let Some(room) = room {
            looks.insert(oid, Known { table: table.cloned(), look: look.clone(), _room: room });
        }
        Ok(look)
    }

    /// Adds the next transaction and evicts the oldest ones beyond the bounds. Whether all sessions are concerned: then they are to be
    /// woken.
    pub(crate) fn push(self: &Arc<Self>, item: Item) -> bool {
        let all_concerned = item.content != Content::AuthorsOnly;
        let tells_changes = all_concerned && item.content != Content::Shapes;
        let position = item.position;
        {
            let mut tail = self.lock();
            debug_assert!(position > tail.newest, "transactions are routed in order");
            if tells_changes {
                tail.newest = position;
            }
            tail.push(item);
            while tail.bytes > tail.bytes_max && tail.evict() {}
        }
        self.budget.note(self, position);
        all_concerned
    }

    /// Wakes the sessions.
    pub(crate) fn wake(&self) {
        self.wake.send_replace(());
    }

    /// Forgets the items up to a position.
    fn evict(&self, upto: Position) {
        let mut tail = self.lock();
        while tail.items.front().is_some_and(|oldest| oldest.position <= upto) {
            tail.evict();
        }
    }

    /// Bytes of frames that it keeps ready.
    pub(crate) fn held_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Everything after this position is there.
    fn floor(&self) -> Position {
        self.lock().floor
    }

    /// Forgets all items: what was routed up to `floor` is not all here.
    pub(crate) fn cut(&self, floor: Position) {
        {
            let mut tail = self.lock();
            while tail.evict() {}
            tail.floor = floor;
            tail.newest = tail.newest.max(floor);
        }
        self.wake();
    }

    /// The items after `after`, oldest first, about `bytes_max` bytes of them.
    pub(crate) fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Arc<Item>>, Behind> {
        let tail = self.lock();
        if after < tail.floor {
            return Err(Behind);
        }
        let from = tail.items.partition_point(|item| item.position <= after);
        let mut bytes = 0;
        let within = |item: &&Arc<Item>| {
            let fits = bytes < bytes_max;
            bytes += item.bytes();
            fits
        };
        Ok(tail.items.range(from..).take_while(within).cloned().collect())
    }

    /// Tells when there is something new for everybody.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// A panic while the lock was held cannot leave the tail half changed in a way that matters: at worst an item is
    /// missing from the byte count.
    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn push(&mut self, item: Item) {
        let bytes = item.bytes();
        self.bytes += bytes;
        self.budget.take(bytes);
        self.items.push_back(Arc::new(item));
    }

    /// Forgets the oldest item; false when there is none.
    fn evict(&mut self) -> bool {
        let Some(evicted) = self.items.pop_front() else { return false };
        let bytes = evicted.bytes();
        self.bytes -= bytes;
        self.budget.give_back(bytes);
        self.floor = evicted.position;
        true
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Item {
    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Frame(frame) => frame.len(),
            Content::Large | Content::Shapes | Content::AuthorsOnly => 0,
        };
        ITEM_BYTES + content + self.own.iter().map(|(_, frame)| frame.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
