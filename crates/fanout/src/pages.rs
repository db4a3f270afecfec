//! Pages of history, read once for all sessions that catch up over the same stretch: those who come back together, and those
//! who follow one large transaction.
//!
//! What is durable does not change, so a page stays right: it is everything between two positions of one epoch. Where an epoch
//! ends below what a page holds, the reader's bound leaves out what did not survive.
//!
//! Behind a page that was asked for, the next one is read while the first is written to a socket: else history and the client would
//! wait for each other in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Counter;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use waldelta_history::{Page, ReadLimit, Transaction};
use waldelta_wal::{Change, Position, chain_text};

use crate::databases::Log;
use crate::session::private::{Changes, Slice};

/// Bounds of one page: it is in memory until it is written to the sockets.
const PAGE: ReadLimit = ReadLimit { changes_max: 1_000, bytes_max: 128 * 1024 };
/// Pages that are kept at most, whatever their size: all are looked through.
const PAGES_MAX: usize = 256;
/// Those who read from the same place take turns in a lane, and so do a few others.
const LANES: usize = 32;
/// Pages that wait to be read ahead. Whoever finds no room for one reads it when it is needed.
const AHEAD_MAX: usize = 16;

/// The pages that are kept, and the right to read others.
pub(crate) struct Pages {
    kept: Mutex<Kept>,
    lanes: [tokio::sync::Mutex<()>; LANES],
    reads: Arc<Semaphore>,
    /// Where to read ahead, and up to where at most.
    ahead: mpsc::Sender<(Position, Position)>,
    wanted_ahead: tokio::sync::Mutex<mpsc::Receiver<(Position, Position)>>,
    bytes_max: usize,
    /// Pages read from history.
    read: Counter,
    /// Pages that somebody else had read, or that were read ahead.
    shared: Counter,
}

#[derive(Default)]
struct Kept {
    pages: VecDeque<Arc<Stored>>,
    bytes: usize,
}

/// Everything after one position up to another one, of the same epoch.
struct Stored {
    after: Position,
    through: Position,
    parts: Vec<StoredPart>,
    bytes: usize,
}

/// Changes of one transaction that follow each other.
struct StoredPart {
    changes: Arc<Transaction>,
    last: bool,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Run {
    pub slices: Vec<Slice>,
    /// Everything up to here is in it.
    pub through: Position,
}

impl Pages {
    /// A read takes one of `reads`, which bounds them.
    pub(crate) fn new(bytes_max: usize, reads: Arc<Semaphore>, read: Counter, shared: Counter) -> Self {
        let (ahead, wanted_ahead) = mpsc::channel(AHEAD_MAX);
        Pages {
            kept: Mutex::default(),
            lanes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            reads,
            ahead,
            wanted_ahead: tokio::sync::Mutex::new(wanted_ahead),
            bytes_max,
            read,
            shared,
        }
    }

    /// Some of what lies after `after`, up to `upto` at most, which lies in the same epoch and beyond it.
    pub(crate) async fn read(
        &self,
        log: &dyn Log,
        after: Position,
        upto: Position,
    ) -> Result<Run, waldelta_history::Error> {
        let run = match self.shared(after, upto) {
            Some(run) => run,
            None => {
                // Whoever comes to the same place meanwhile waits here, and then finds it.
                let _turn = self.lanes[lane(after)].lock().await;
                // Bounds what catching up costs history, and the memory of all sessions together.
                let _permit = self.reads.acquire().await;
                match self.shared(after, upto) {
                    Some(run) => run,
                    None => self.fetch(log, after, upto).await?.run(after, upto),
                }
            }
        };
        if run.through < upto && self.find(run.through).is_none() {
            // Where there is no room for it, it is read when it is needed.
            let _ = self.ahead.try_send((run.through, upto));
        }
        Ok(run)
    }

    /// Reads pages before they are asked for, until `stop` is cancelled.
    pub(crate) async fn read_ahead(&self, log: &dyn Log, stop: &CancellationToken) {
        let mut wanted = self.wanted_ahead.lock().await;
        stop.run_until_cancelled(async {
            while let Some((after, upto)) = wanted.recv().await {
                let _turn = self.lanes[lane(after)].lock().await;
                // Readers come first.
                let Ok(_permit) = self.reads.try_acquire() else { continue };
                if self.find(after).is_some() {
                    continue;
                }
                if let Err(error) = self.fetch(log, after, upto).await {
                    // Whoever needs it asks again.
                    tracing::debug!(error = chain_text(&error), "read a page ahead");
                }
            }
        })
        .await;
    }

    async fn fetch(
        &self,
        log: &dyn Log,
        after: Position,
        upto: Position,
    ) -> Result<Arc<Stored>, waldelta_history::Error> {
        let page = log.read_after(after, upto, PAGE).await?;
        self.read.increment(1);
        let stored = Arc::new(Stored::new(after, upto, page));
        self.keep(stored.clone());
        Ok(stored)
    }

    fn shared(&self, after: Position, upto: Position) -> Option<Run> {
        let stored = self.find(after)?;
        self.shared.increment(1);
        Some(stored.run(after, upto))
    }

    fn find(&self, after: Position) -> Option<Arc<Stored>> {
        let kept = self.lock();
        // The newest first: where several overlap, it leads on furthest.
        kept.pages.iter().rev().find(|stored| stored.has(after)).cloned()
    }

    fn keep(&self, stored: Arc<Stored>) {
        if stored.through <= stored.after || stored.bytes > self.bytes_max {
            return;
        }
        let mut kept = self.lock();
        kept.bytes += stored.bytes;
        kept.pages.push_back(stored);
        while (kept.bytes > self.bytes_max || kept.pages.len() > PAGES_MAX)
            && let Some(oldest) = kept.pages.pop_front()
        {
            kept.bytes -= oldest.bytes;
        }
    }

    /// A panic while it was held cannot leave it half changed in a way that matters: at worst a page is counted twice.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn new(after: Position, upto: Position, page: Page) -> Self {
        let mut through = if page.has_more { after } else { upto };
        if let Some(part) = page.parts.last().filter(|_| page.has_more) {
            let whole = part.head.position();
            through = match part.changes.last() {
                Some(change) if !part.last => Position { index: change.seq, ..whole },
                _ => whole,
            };
        }
        let bytes = page.parts.iter().flat_map(|part| &part.changes).map(bytes_of).sum::<usize>();
        let parts = page.parts.into_iter().map(|part| {
            let changes = Arc::new(Transaction { head: part.head, changes: part.changes });
            StoredPart { changes, last: part.last }
        });
        Stored { after, through, parts: parts.collect(), bytes: size_of::<Self>() + bytes }
    }

    /// Whether it leads on from there.
    fn has(&self, after: Position) -> bool {
        after.epoch == self.through.epoch && self.after <= after && after < self.through
    }

    /// What it has after one position, up to another one.
    fn run(&self, after: Position, upto: Position) -> Run {
        let inside = Position::whole(after.epoch, after.commit_lsn);
        let slices = self.parts.iter().filter_map(|part| {
            let (position, changes) = (part.changes.head.position(), &part.changes.changes);
            if position <= after || position > upto {
                return None;
            }
            let from = match position == inside {
                true => changes.partition_point(|change| change.seq <= after.index),
                false => 0,
            };
            let rest = Changes::Shared(part.changes.clone(), from..changes.len());
            // Where nothing but the end of the transaction is left, that is told.
            (from < changes.len() || part.last).then(|| Slice {
                head: part.changes.head,
                changes: rest,
                last: part.last,
            })
        });
        Run { slices: slices.collect(), through: self.through.min(upto).max(after) }
    }
}

/// The lane of those who read from there. Whoever chooses places that share one waits for its like.
fn lane(after: Position) -> usize {
    // Fibonacci hashing: neighbours take different ones.
    let place = (after.commit_lsn.0 ^ u64::from(after.index)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(place).unwrap_or_default() % LANES
}

/// Memory that a change holds, about.
fn bytes_of(change: &Change) -> usize {
    let images = [&change.row_key, &change.data, &change.old_data];
    size_of::<Change>() + images.into_iter().flatten().map(bytes::Bytes::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, head, position, position_in, table};
    use waldelta_history::Part;
    use waldelta_wal::Operation;

    /// A part with changes of these numbers.
    fn part(lsn: u64, seqs: std::ops::Range<u32>, last: bool) -> Part {
        let table = Arc::new(table("t"));
        let changes = seqs.map(|seq| change(seq, Operation::Insert, &table, seq.into()));
        Part { head: head(lsn, 2), changes: changes.collect(), last }
    }

    fn stored(after: Position, upto: u64, parts: Vec<Part>, has_more: bool) -> Stored {
        Stored::new(after, position(upto), Page { parts, has_more })
    }

    /// Each slice as commit LSN, numbers of its changes, and whether it ends.
    fn seen(run: &Run) -> Vec<(u64, Vec<u32>, bool)> {
        let seqs = |slice: &Slice| slice.changes.iter().map(|change| change.seq).collect();
        run.slices.iter().map(|slice| (slice.head.commit_lsn.0, seqs(slice), slice.last)).collect()
    }

    #[test]
    fn a_page_goes_on_inside_the_transaction_that_it_cuts() {
        let cut = stored(position(10), 50, vec![part(20, 0..2, false)], true);
        assert_eq!(cut.through, Position { index: 1, ..position(20) });
        let between = stored(position(10), 50, vec![part(20, 0..2, true)], true);
        assert_eq!(between.through, position(20));
        let end = stored(position(10), 50, vec![part(20, 0..2, true)], false);
        assert_eq!(end.through, position(50));
        let nothing = stored(position(10), 50, Vec::new(), false);
        assert_eq!((seen(&nothing.run(position(10), position(50))), nothing.through), (vec![], position(50)));
    }

    #[test]
    fn whoever_is_near_gets_the_rest_of_a_page() {
        let page = stored(position(10), 50, vec![part(20, 0..2, true), part(30, 0..3, false)], true);
        let cut = Position { index: 2, ..position(30) };
        let run = |after, upto| {
            assert!(page.has(after), "{after}");
            let run = page.run(after, position(upto));
            (seen(&run), run.through)
        };
        let (first, second) = ((20, vec![0, 1], true), (30, vec![0, 1, 2], false));
        assert_eq!(run(position(10), 50), (vec![first.clone(), second.clone()], cut));
        assert_eq!(run(position(15), 50), (vec![first.clone(), second.clone()], cut));
        assert_eq!(run(position(20), 60), (vec![second.clone()], cut));
        let inside = Position { index: 0, ..position(20) };
        assert_eq!(run(inside, 50), (vec![(20, vec![1], true), second], cut));
        let at_its_end = Position { index: 1, ..position(20) };
        assert_eq!(run(at_its_end, 20), (vec![(20, vec![], true)], position(20)), "only its end is left");
        let inside = Position { index: 1, ..position(30) };
        assert_eq!(run(inside, 50), (vec![(30, vec![2], false)], cut));
        // What did not survive the end of an epoch, and what is beyond the reader's bound.
        assert_eq!(run(position(10), 29), (vec![first.clone()], position(29)));
        assert_eq!(run(position(10), 20), (vec![first], position(20)));
        assert_eq!(run(position(10), 15), (vec![], position(15)));
        for elsewhere in
            [position(9), cut, position(30), position(60), position_in(2, 15), position_in(0, 15)]
        {
            assert!(!page.has(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn pages_are_kept_up_to_their_bound_and_the_oldest_go() {
        let page = |lsn| Arc::new(stored(position(lsn), lsn + 1, vec![part(lsn + 1, 0..10, true)], false));
        let each = page(10).bytes;
        let reads = Arc::new(Semaphore::new(1));
        let pages = Pages::new(3 * each, reads, Counter::noop(), Counter::noop());
        for lsn in [10, 20, 30, 40] {
            pages.keep(page(lsn));
        }
        assert!(pages.shared(position(10), position(50)).is_none());
        let run = pages.shared(position(20), position(50)).unwrap();
        assert_eq!((run.slices.len(), run.through), (1, position(21)));
        assert!(pages.lock().bytes <= 3 * each);
        pages.keep(Arc::new(stored(position(50), 60, vec![part(60, 0..31, true)], false)));
        assert!(pages.find(position(50)).is_none(), "one that is larger than all is not kept");
        assert!(pages.find(position(20)).is_some());
        for lsn in 100..100 + PAGES_MAX as u64 {
            pages.keep(Arc::new(stored(position(lsn), lsn + 1, Vec::new(), false)));
        }
        assert!(pages.lock().pages.len() <= PAGES_MAX);
    }
}
