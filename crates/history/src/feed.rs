//! The feed: an in-memory cache of history's tail, bounded in bytes, for readers in this process.
//!
//! A reader holds a position and asks for what is after it. A wake-up carries nothing: whoever misses one, or reads too
//! late for the cache, reads the table instead and loses nothing.
//!
//! Two rules make it correct. Nothing is published before the COMMIT that made it durable has returned, and entries
//! and head are published together, so that whoever sees a head finds everything up to it here or in the table.
//! And the **floor** is the position from which on nothing was left out: it begins at the head with which the feed
//! was made and rises to the position of each entry that is evicted. Transactions without changes move the head and leave
//! no entry; they need no floor, because nothing is left out with them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use waldelta_wal::{Change, Position, TransactionHead};

use crate::{Head, Large, metrics};

/// A whole committed transaction that is durable in history.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Commit LSN, id and time.
    pub head: TransactionHead,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

/// An entry of the feed.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The transaction itself.
    Whole(Arc<Transaction>),
    /// One too large to keep in memory: read it from history.
    Large(Arc<Large>),
}

impl Entry {
    /// Position of the whole transaction.
    pub fn position(&self) -> Position {
        match self {
            Entry::Whole(transaction) => transaction.head.position(),
            Entry::Large(large) => large.head.position(),
        }
    }

    /// Memory that it holds, about.
    fn bytes(&self) -> usize {
        const OWN: usize = size_of::<Entry>() + size_of::<Transaction>();
        match self {
            Entry::Whole(transaction) => OWN + transaction.changes.iter().map(change_bytes).sum::<usize>(),
            Entry::Large(large) => OWN + large.bytes(),
        }
    }
}

/// Memory that a change holds, about.
pub(crate) fn change_bytes(change: &Change) -> usize {
    let images = [&change.row_key, &change.data, &change.old_data];
    size_of::<Change>()
        + images.into_iter().flatten().map(|image| image.len()).sum::<usize>()
        + change
            .unchanged
            .iter()
            .chain(&change.flagged)
            .map(|name| size_of::<String>() + name.len())
            .sum::<usize>()
}

/// The feed no longer has what follows the position asked for: read the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The feed has everything after this position.
    pub floor: Position,
}

/// The cache.
pub struct Feed {
    tail: Mutex<Tail>,
    head: watch::Sender<Head>,
    bytes_max: usize,
}

struct Tail {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
    floor: Position,
}

impl Tail {
    /// Position up to which everything is known.
    fn last(&self) -> Position {
        self.entries.back().map_or(self.floor, |(entry, _)| entry.position())
    }

    fn evict_down_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((entry, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
            self.floor = entry.position();
        }
    }
}

impl Feed {
    /// An empty feed that holds `bytes_max` bytes of images at most and begins after `head`.
    pub fn new(head: Head, bytes_max: usize) -> Self {
        let tail = Tail { entries: VecDeque::new(), bytes: 0, floor: head.cursor() };
        Feed { tail: Mutex::new(tail), head: watch::Sender::new(head), bytes_max }
    }

    /// Adds transactions that have become durable, in order, and moves the head.
    ///
    /// Entries that it already has are left out, so that two who publish the same tail do no harm.
    pub fn publish(&self, entries: Vec<Entry>, head: Head) {
        let mut tail = self.lock();
        for entry in entries {
            if entry.position() > tail.last() {
                let bytes = entry.bytes();
                tail.bytes += bytes;
                tail.entries.push_back((entry, bytes));
            }
        }
        tail.evict_down_to(self.bytes_max);
        metrics::feed_bytes(tail.bytes);
        // Still under the lock: whoever sees the new head finds the entries.
        self.head.send_if_modified(|current| {
            let moved = head > *current;
            if moved {
                *current = head;
            }
            moved
        });
    }

    /// Forgets everything and begins anew after `head`: for when the tail moved without this feed being told.
    pub(crate) fn restart_at(&self, head: Head) {
        let mut tail = self.lock();
        *tail = Tail { entries: VecDeque::new(), bytes: 0, floor: head.cursor() };
        metrics::feed_bytes(0);
        self.head.send_replace(head);
    }

    /// What is durable.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Tells when the head moves.
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Entries after `after`, oldest first, at least one if there is one, about `bytes_max` bytes at most; empty when
    /// `after` is at or past the last.
    ///
    /// A position inside a transaction gives that transaction whole: the reader leaves out what it has.
    pub fn after(&self, after: Position, bytes_max: usize) -> Result<Vec<Entry>, Behind> {
        let tail = self.lock();
        if after < tail.floor {
            return Err(Behind { floor: tail.floor });
        }
        let from = tail.entries.partition_point(|(entry, _)| entry.position() <= after);
        let mut taken = 0;
        let entries = tail.entries.range(from..).take_while(|(_, bytes)| {
            let fits = taken == 0 || taken + bytes <= bytes_max;
            taken += bytes;
            fits
        });
        Ok(entries.map(|(entry, _)| entry.clone()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        // Nothing panics while holding it half-changed.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use waldelta_wal::{EndLsn, Epoch, Lsn, Operation, TruncateOptions};

    use super::*;

    fn transaction(commit_lsn: u64, image_bytes: usize) -> Entry {
        let head = TransactionHead {
            epoch: Epoch(1),
            commit_lsn: Lsn(commit_lsn),
            xid: commit_lsn,
            committed_at_us: 0,
        };
        let change = Change {
            seq: 0,
            operation: Operation::Insert,
            table: None,
            row_key: None,
            data: Some(Bytes::from(vec![b'x'; image_bytes])),
            old_data: None,
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: None,
        };
        Entry::Whole(Arc::new(Transaction { head, changes: vec![change] }))
    }

    fn head(end: u64) -> Head {
        Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(end)) }
    }

    fn whole(commit_lsn: u64) -> Position {
        Position::whole(Epoch(1), Lsn(commit_lsn))
    }

    #[test]
    fn a_reader_at_the_head_gets_nothing_and_an_older_one_is_behind() {
        let feed = Feed::new(head(100), 1 << 20);
        assert_eq!(feed.after(head(100).cursor(), 1), Ok(Vec::new()));
        assert_eq!(feed.after(whole(98), 1), Err(Behind { floor: whole(99) }));
    }

    #[test]
    fn a_commit_that_begins_at_the_durable_end_is_after_the_head() {
        let feed = Feed::new(head(100), 1 << 20);
        feed.publish(vec![transaction(100, 1)], head(110));
        assert_eq!(feed.after(whole(99), 1 << 20), Ok(vec![transaction(100, 1)]));
        assert_eq!(feed.after(whole(100), 1 << 20), Ok(Vec::new()));
    }

    #[test]
    fn one_entry_comes_whatever_its_size() {
        let feed = Feed::new(head(1), 1 << 20);
        feed.publish(vec![transaction(1, 5000), transaction(2, 5000)], head(3));
        assert_eq!(feed.after(whole(0), 1).unwrap(), vec![transaction(1, 5000)]);
        let inside = Position { epoch: Epoch(1), commit_lsn: Lsn(2), index: 0 };
        assert_eq!(feed.after(inside, 1).unwrap(), vec![transaction(2, 5000)]);
    }

    #[test]
    fn a_transaction_larger_than_the_feed_leaves_readers_behind_not_ahead() {
        let feed = Feed::new(head(1), 1000);
        feed.publish(vec![transaction(1, 5000)], head(2));
        assert_eq!(feed.head(), head(2));
        assert_eq!(feed.after(whole(0), 1), Err(Behind { floor: whole(1) }));
        assert_eq!(feed.after(whole(1), 1), Ok(Vec::new()));
    }

    #[test]
    fn publishing_twice_changes_nothing_and_the_head_never_goes_back() {
        let feed = Feed::new(head(1), 1 << 20);
        let mut watch = feed.watch();
        feed.publish(vec![transaction(1, 1), transaction(2, 1)], head(3));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        feed.publish(vec![transaction(1, 1)], head(2));
        assert!(!watch.has_changed().unwrap());
        assert_eq!(feed.head(), head(3));
        assert_eq!(feed.after(whole(0), 1 << 20).unwrap().len(), 2);
    }

    proptest! {
        /// The model is the whole log: whatever is asked, the feed answers with the log's next entries or says that it
        /// is behind, and it is never behind a position that everything evicted lies at or before.
        #[test]
        fn it_answers_like_the_whole_log(
            bytes_max in 0usize..5000,
            steps in proptest::collection::vec((1u64..5, 0usize..1200, any::<bool>()), 1..40),
            asked in proptest::collection::vec((0u64..200, 0usize..3000), 1..40),
        ) {
            let feed = Feed::new(head(1), bytes_max);
            let (mut log, mut end) = (Vec::new(), 1);
            for (step, image_bytes, empty) in steps {
                let commit_lsn = end + step - 1;
                end = commit_lsn + 1;
                let entries = if empty { Vec::new() } else { vec![transaction(commit_lsn, image_bytes)] };
                log.extend(entries.iter().cloned());
                feed.publish(entries, head(end));
            }
            prop_assert_eq!(feed.head(), head(end));
            for (lsn, page) in asked {
                let expected: Vec<_> = log.iter().filter(|entry| entry.position() > whole(lsn)).cloned().collect();
                match feed.after(whole(lsn), page) {
                    Ok(entries) => {
                        prop_assert_eq!(&expected[..entries.len()], &entries[..]);
                        prop_assert_eq!(entries.is_empty(), expected.is_empty());
                    }
                    Err(Behind { floor }) => {
                        prop_assert!(whole(lsn) < floor);
                        prop_assert!(feed.after(floor, page).is_ok());
                    }
                }
            }
            let held = feed.lock();
            prop_assert!(held.bytes <= bytes_max);
            prop_assert_eq!(held.bytes, held.entries.iter().map(|(_, bytes)| bytes).sum::<usize>());
        }
    }
}
