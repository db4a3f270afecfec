//! Reading for one session alone: from the feed where it reaches back far enough, else from history, in pages that it may
//! share with others.
//!
//! Live sessions come here too, for transactions that are too large for one frame that their scope keeps ready. Then they share
//! the rows, and each makes frames of its own. Frames of parts are rarely equal: they name the cursor that this client was told
//! last, leave out what it did itself and what its snapshot shows, and begin in the middle for one that was there already. To
//! share the others, the router would have to make them ahead, for one scope after the other, which sessions do beside each
//! other; or each part would have to be kept until the slowest session of its scope has come for it, for every scope at once,
//! which is more than the tails may hold. So a session makes a part when it has written the one before, and holds no more.

use std::ops::Range;
use std::sync::Arc;

use waldelta_history::{Entry, Transaction};
use waldelta_wal::{Change, Position, TransactionHead};

use crate::error::Error;
use crate::inner::Inner;
use crate::pages::Run;
use crate::rules::Grant;
use crate::shapes::Shapes;
use crate::start::Reset;
use crate::stretch::Stretch;
use crate::wire::oversize;
use crate::wire::transaction::image_bytes;

/// Bytes of images that are taken from the feed at once.
const FEED_BYTES_MAX: usize = 128 * 1024;
/// Bytes of images, about, that are taken at once of a transaction in the feed: frames of it are made and kept until they
/// are written, for each session anew.
const SLICE_BYTES_MAX: usize = 256 * 1024;

/// What a read gave.
#[derive(Debug)]
pub(crate) struct PrivateRead {
    /// Where it began.
    pub after: Position,
    /// Transactions or parts of them, in order, all of one epoch.
    pub slices: Vec<Slice>,
    /// Everything up to here is in `slices`. It may be the beginning of the next epoch.
    pub through: Position,
    /// Whether that was all there is.
    pub exhausted: bool,
    /// The session cannot go on: see [`Self::lost_because`].
    pub lost: bool,
    /// Of the tables that are reset in it, or get another shape.
    pub shapes: Shapes,
}

impl PrivateRead {
    /// Why the session cannot go on, and up to where what it begins anew with has to be: where it began is a place that did not
    /// survive, or from which there is a gap; or something after it was pruned, up to `through`.
    pub(crate) fn lost_because(&self) -> Option<(Reset, Position)> {
        self.lost.then(|| match self.through > self.after {
            true => (Reset::HistoryPruned, self.through),
            false => (Reset::EpochChanged, Position::default()),
        })
    }

    /// There is nothing between these positions.
    fn nothing(after: Position, through: Position, exhausted: bool) -> Self {
        PrivateRead { after, slices: Vec::new(), through, exhausted, lost: false, shapes: Shapes::default() }
    }
}

/// Changes of one transaction.
#[derive(Debug)]
pub(crate) struct Slice {
    pub head: TransactionHead,
    pub changes: Changes,
    /// Whether the transaction ends here.
    pub last: bool,
}

/// Changes, shared with the feed or with a page that was read.
#[derive(Debug)]
pub(crate) enum Changes {
    /// A run of what a transaction, or a part of it, holds.
    Shared(Arc<Transaction>, Range<usize>),
}

impl Changes {
    /// All changes of a transaction.
    #[cfg(test)]
    pub(crate) fn whole(transaction: Arc<Transaction>) -> Self {
        let all = 0..transaction.changes.len();
        Changes::Shared(transaction, all)
    }
}

impl std::ops::Deref for Changes {
    type Target = [Change];

    fn deref(&self) -> &[Change] {
        let Changes::Shared(transaction, range) = self;
        transaction.changes.get(range.clone()).unwrap_or_default()
    }
}

/// Reads what comes after `after`, for one who has this grant.
pub(crate) async fn read(inner: &Inner, after: Position, grant: &Grant) -> Result<PrivateRead, Error> {
    let mut read = read_all(inner, after).await?;
    let changes = read.slices.iter().flat_map(|slice| slice.changes.iter());
    read.shapes = Shapes::of_changed(inner, grant, changes).await?;
    Ok(read)
}

async fn read_all(inner: &Inner, after: Position) -> Result<PrivateRead, Error> {
    match read_on(inner, after).await {
        Err(error) => match error.pruned() {
            Some(floor) => Ok(PrivateRead { lost: true, ..PrivateRead::nothing(after, floor, false) }),
            None => Err(error),
        },
        read => read,
    }
}

async fn read_on(inner: &Inner, after: Position) -> Result<PrivateRead, Error> {
    // Read before the entries: what is not among them then does not exist up to here.
    let feed = inner.history.feed();
    let head = feed.head().cursor();
    if after.epoch < head.epoch {
        return read_older_epoch(inner, after, head).await;
    }
    let upto = match feed.after(after, FEED_BYTES_MAX) {
        Ok(entries) => match from_feed(after, head, entries) {
            Ok(read) => return Ok(read),
            Err(elsewhere) => elsewhere,
        },
        Err(_behind) if after.is_whole() => head,
        Err(_behind) => whole(after),
    };
    if upto <= after {
        return Ok(PrivateRead::nothing(after, after, true));
    }
    let run = inner.pages.read(&*inner.log, after, upto).await?;
    Ok(from_pages(after, run, head))
}

/// An older epoch is in history alone. What it has beyond its end did not survive, and is not read.
async fn read_older_epoch(inner: &Inner, after: Position, head: Position) -> Result<PrivateRead, Error> {
    match Stretch::in_older_epoch(after, &*inner.admission.lineage(head.epoch).await?) {
        Stretch::Upto(end) => {
            let run = inner.pages.read(&*inner.log, after, end).await?;
            Ok(from_pages(after, run, head))
        }
        Stretch::Seam(seam) => Ok(PrivateRead::nothing(after, seam, false)),
        Stretch::Lost => Ok(PrivateRead { lost: true, ..PrivateRead::nothing(after, after, false) }),
    }
}

fn from_pages(after: Position, run: Run, head: Position) -> PrivateRead {
    let exhausted = run.through == head;
    PrivateRead { slices: run.slices, ..PrivateRead::nothing(after, run.through, exhausted) }
}

/// The end of the transaction that a position lies in.
fn whole(position: Position) -> Position {
    Position::whole(position.epoch, position.commit_lsn)
}

/// The transactions of the feed up to the first that has to be read from history; that one's position when it comes first.
///
/// A large transaction comes in slices, so that a session holds frames of a part of it, not of all of it.
fn from_feed(after: Position, head: Position, entries: Vec<Entry>) -> Result<PrivateRead, Position> {
    let goes_on = entries.first().is_some_and(|entry| entry.position() == whole(after));
    if !after.is_whole() && !goes_on {
        return Err(whole(after));
    }
    if entries.is_empty() {
        return Ok(PrivateRead::nothing(after, after.max(head), true));
    }
    let mut slices = Vec::with_capacity(entries.len());
    let mut through = after;
    let mut room = SLICE_BYTES_MAX;
    for entry in entries {
        let position = entry.position();
        match entry {
            Entry::Whole(transaction) if !has_replaced(&transaction) => {
                let changes = &transaction.changes;
                let from = match position == whole(after) {
                    true => changes.partition_point(|change| change.seq <= after.index),
                    false => 0,
                };
                let to = from + slice_len(&changes[from..], &mut room);
                let last = to == changes.len();
                if !last && !slices.is_empty() {
                    break;
                }
                through = match changes[from..to].last() {
                    Some(change) if !last => Position { index: change.seq, ..position },
                    _ => position,
                };
                slices.push(Slice {
                    head: transaction.head,
                    changes: Changes::Shared(transaction, from..to),
                    last,
                });
                if !last {
                    break;
                }
            }
            Entry::Whole(_) | Entry::Large(_) if slices.is_empty() => return Err(position),
            Entry::Whole(_) | Entry::Large(_) => break,
        }
    }
    Ok(PrivateRead { slices, ..PrivateRead::nothing(after, through, false) })
}

/// Whether values in it are too large for a frame: they are told as history prints them.
fn has_replaced(transaction: &Transaction) -> bool {
    let images = transaction.changes.iter().flat_map(|change| [&change.data, &change.old_data]);
    images.flatten().any(oversize::is_replaced)
}

/// How many changes go into `room` bytes of images, and one more, so that it goes on whatever their size.
fn slice_len(changes: &[Change], room: &mut usize) -> usize {
    let taken = changes.iter().take_while(|change| {
        let fits = *room > 0;
        *room = room.saturating_sub(image_bytes(change));
        fits
    });
    taken.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, head, insert, position, table};
    use waldelta_history::Large;
    use waldelta_wal::Operation;

    #[test]
    fn takes_from_the_feed_up_to_what_it_does_not_hold() {
        let table = Arc::new(table("t"));
        let whole = |lsn| Entry::Whole(insert(&table, lsn, None));
        let large = |lsn| Entry::Large(Arc::new(Large { head: head(lsn, 3), touched: None }));
        let read = from_feed(position(10), position(50), vec![whole(20), large(30), whole(40)]).unwrap();
        assert_eq!((read.slices.len(), read.through, read.exhausted), (1, position(20), false));
        let first = from_feed(position(20), position(50), vec![large(30), whole(40)]).unwrap_err();
        assert_eq!(first, position(30));
        let read = from_feed(position(40), position(50), Vec::new()).unwrap();
        assert_eq!((read.through, read.exhausted), (position(50), true));
        let read = from_feed(position(60), position(50), Vec::new()).unwrap();
        assert_eq!(read.through, position(60), "a position never goes back");
        // A value too large for a frame is told as history prints it.
        let huge = Some(bytes::Bytes::from(vec![b'x'; 9 << 20]));
        let change = Change { old_data: huge, ..change(0, Operation::Update, &table, 1) };
        let huge = Entry::Whole(Arc::new(Transaction { head: head(30, 3), changes: vec![change] }));
        let read = from_feed(position(10), position(50), vec![whole(20), huge.clone()]).unwrap();
        assert_eq!((read.slices.len(), read.through), (1, position(20)));
        assert_eq!(from_feed(position(20), position(50), vec![huge]).unwrap_err(), position(30));
    }

    #[test]
    fn a_large_transaction_of_the_feed_is_taken_in_slices_of_bounded_size() {
        let table = Arc::new(table("t"));
        let data = |bytes: usize| Some(bytes::Bytes::from(vec![b'x'; bytes]));
        let large = |seq, bytes| Change { data: data(bytes), ..change(seq, Operation::Insert, &table, 1) };
        // The history's feed gives an entry whole, whatever its size.
        let changes: Vec<Change> = (0..100).map(|seq| large(seq, 40 * 1024)).collect();
        let transaction = Arc::new(Transaction { head: head(20, 2), changes });
        let (mut at, mut seen, mut reads) = (position(10), Vec::new(), 0);
        while !at.is_whole() || at < position(20) {
            let read = from_feed(at, position(50), vec![Entry::Whole(transaction.clone())]).unwrap();
            let [slice] = &read.slices[..] else { panic!("{} slices", read.slices.len()) };
            let bytes: usize = slice.changes.iter().map(|change| change.data.as_ref().unwrap().len()).sum();
            assert!(bytes <= SLICE_BYTES_MAX + 40 * 1024, "{bytes} bytes at once");
            assert_eq!((slice.last, read.exhausted), (read.through == position(20), false));
            seen.extend(slice.changes.iter().map(|change| change.seq));
            (at, reads) = (read.through, reads + 1);
        }
        assert_eq!((seen, reads), ((0..100).collect::<Vec<_>>(), 15));

        // After its last change only its end is left.
        let end = Position { index: 99, ..position(20) };
        let read = from_feed(end, position(50), vec![Entry::Whole(transaction.clone())]).unwrap();
        assert_eq!(
            (read.slices[0].changes.len(), read.slices[0].last, read.through),
            (0, true, position(20))
        );
        // Small ones before it come alone.
        let entries = vec![Entry::Whole(insert(&table, 15, None)), Entry::Whole(transaction.clone())];
        let read = from_feed(position(10), position(50), entries).unwrap();
        assert_eq!((read.slices.len(), read.through), (1, position(15)));
        // What the feed no longer has is read elsewhere.
        for entries in [Vec::new(), vec![Entry::Whole(insert(&table, 30, None))]] {
            assert_eq!(from_feed(end, position(50), entries).unwrap_err(), position(20));
        }
    }
}
