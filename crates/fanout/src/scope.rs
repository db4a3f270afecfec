//! A scope: what sessions with equal subscriptions share. It keeps the newest frames ready, in order, bounded in bytes.
//!
//! The tail is a cache. Whoever reads too late for it is told so and reads the feed or history instead. It knows no
//! sessions: each of them holds a position and comes for what is after it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use tokio::sync::watch;
use waldelta_wal::{Position, Table};

use crate::subscription::Selection;

/// Bytes that an item costs beside its frames, about.
const ITEM_BYTES: usize = 192;

/// The shared state of sessions with equal subscriptions.
pub(crate) struct Scope {
    /// What it selects.
    pub selection: Selection,
    tail: Mutex<Tail>,
    wake: watch::Sender<()>,
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
    /// What the authors get who were connected with this scope.
    pub own: Vec<(Arc<str>, Utf8Bytes)>,
    /// The shapes that its changes have or tell, each with its `schema` frame.
    pub schemas: Vec<SchemaFrame>,
    /// When it was found durable.
    pub routed_at: Instant,
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
    /// Schema frames by table, the newest version of each.
    schemas: Vec<SchemaFrame>,
}

impl Scope {
    /// A scope that gets everything that is routed after `floor`.
    pub(crate) fn new(selection: Selection, floor: Position, bytes_max: usize) -> Self {
        let tail =
            Tail { floor, newest: floor, items: VecDeque::new(), bytes: 0, bytes_max, schemas: Vec::new() };
        Scope { selection, tail: Mutex::new(tail), wake: watch::Sender::new(()) }
    }

    /// The position that the next frame names as the one before it.
    pub(crate) fn newest(&self) -> Position {
        self.lock().newest
    }

    /// The `schema` frame of a table's shape, made once per version.
    pub(crate) fn schema(&self, table: &Table) -> SchemaFrame {
        let mut tail = self.lock();
        let known = tail.schemas.iter().position(|schema| schema.oid == table.oid);
        if let Some(known) =
            known.map(|index| &tail.schemas[index]).filter(|known| known.version == table.version)
        {
            return known.clone();
        }
        let made =
            SchemaFrame { oid: table.oid, version: table.version, frame: crate::wire::server::schema(table) };
        match known {
            Some(index) => tail.schemas[index] = made.clone(),
            None => tail.schemas.push(made.clone()),
        }
        made
    }

    /// Adds the next transaction and evicts the oldest ones beyond the bound. Wakes the sessions if all are concerned.
    pub(crate) fn push(&self, item: Item) {
        let all_concerned = item.content != Content::AuthorsOnly;
        let tells_changes = all_concerned && item.content != Content::Shapes;
        {
            let mut tail = self.lock();
            debug_assert!(item.position > tail.newest, "transactions are routed in order");
            if tells_changes {
                tail.newest = item.position;
            }
            tail.bytes += item.bytes();
            tail.items.push_back(Arc::new(item));
            while tail.bytes > tail.bytes_max
                && let Some(evicted) = tail.items.pop_front()
            {
                tail.bytes -= evicted.bytes();
                tail.floor = evicted.position;
            }
        }
        if all_concerned {
            self.wake.send_replace(());
        }
    }

    /// Forgets all items: what was routed up to `floor` is not all here.
    pub(crate) fn cut(&self, floor: Position) {
        {
            let mut tail = self.lock();
            tail.items.clear();
            tail.bytes = 0;
            tail.floor = floor;
            tail.newest = tail.newest.max(floor);
        }
        self.wake.send_replace(());
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
mod tests {
    use super::*;
    use crate::testing::position;
    use proptest::prelude::*;

    fn item(lsn: u64, prev: Position) -> Item {
        Item {
            position: position(lsn),
            prev,
            content: Content::Frame(Utf8Bytes::from("x".repeat(100))),
            own: Vec::new(),
            schemas: Vec::new(),
            routed_at: Instant::now(),
        }
    }

    fn lsns(items: &[Arc<Item>]) -> Vec<u64> {
        items.iter().map(|item| item.position.commit_lsn.0).collect()
    }

    #[test]
    fn gives_what_is_after_and_says_when_it_cannot() {
        let scope = Scope::new(Selection::default(), position(10), 3 * (ITEM_BYTES + 100));
        assert_eq!(scope.read(position(9), 1 << 20).unwrap_err(), Behind);
        for lsn in [11, 12, 13] {
            scope.push(item(lsn, scope.newest()));
        }
        assert_eq!(lsns(&scope.read(position(10), 1 << 20).unwrap()), [11, 12, 13]);
        assert_eq!(lsns(&scope.read(position(11), 1).unwrap()), [12], "at least one");
        scope.push(item(14, scope.newest()));
        assert_eq!(scope.read(position(10), 1 << 20).unwrap_err(), Behind, "11 was evicted");
        assert_eq!(lsns(&scope.read(position(11), 1 << 20).unwrap()), [12, 13, 14]);
        scope.cut(position(20));
        assert_eq!(scope.read(position(14), 1 << 20).unwrap_err(), Behind);
        assert!(scope.read(position(20), 1 << 20).unwrap().is_empty());
        assert_eq!(scope.newest(), position(20));
    }

    #[test]
    fn what_no_frame_tells_is_no_predecessor() {
        let scope = Scope::new(Selection::default(), position(10), 1 << 20);
        let mut watch = scope.watch();
        scope.push(Item { content: Content::AuthorsOnly, ..item(11, scope.newest()) });
        assert!(!watch.has_changed().unwrap());
        assert_eq!(scope.newest(), position(10));
        scope.push(Item { content: Content::Shapes, ..item(12, scope.newest()) });
        assert!(watch.has_changed().unwrap(), "everybody is told of a shape");
        assert_eq!(scope.newest(), position(10), "but a client need not have seen its position");
        watch.mark_unchanged();
        scope.push(item(13, scope.newest()));
        assert!(watch.has_changed().unwrap());
    }

    proptest! {
        /// Whatever is published, evicted, cut and read in between: a reader gets exactly the items after its position, in
        /// order, or is told that it is behind and then reads them elsewhere.
        #[test]
        fn a_reader_misses_nothing(
            steps in prop::collection::vec((0u8..10, 1u64..5), 1..200),
            bytes_max in 1usize..2_000,
            page in 1usize..1_000,
        ) {
            let scope = Scope::new(Selection::default(), position(0), bytes_max);
            let (mut published, mut seen) = (Vec::new(), Vec::new());
            let (mut at, mut lsn) = (position(0), 0);
            for (step, gap) in steps {
                match step {
                    0..5 => {
                        lsn += gap;
                        scope.push(item(lsn, scope.newest()));
                        published.push(lsn);
                    }
                    5 => {
                        lsn += gap;
                        published.push(lsn);
                        scope.cut(position(lsn));
                    }
                    _ => match scope.read(at, page) {
                        Ok(items) => {
                            for item in &items {
                                prop_assert!(item.prev <= item.position);
                                seen.push(item.position.commit_lsn.0);
                                at = item.position;
                            }
                        }
                        Err(Behind) => {
                            let durable = published.iter().copied().filter(|lsn| position(*lsn) > at);
                            seen.extend(durable);
                            at = position(lsn);
                        }
                    },
                }
            }
            let upto = published.iter().copied().filter(|lsn| position(*lsn) <= at).collect::<Vec<_>>();
            prop_assert_eq!(seen, upto);
        }
    }
}
