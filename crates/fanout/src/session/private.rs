//! Reading for one session alone: from the feed where it reaches back far enough, else from history, in pages.

use std::sync::Arc;

use tokio::sync::Semaphore;
use waldelta_history::{Entry, History, Page, ReadLimit, Transaction};
use waldelta_wal::{Change, Position, TransactionHead};

use crate::metrics::Metrics;

/// Bounds of one page: it is in memory until it is written to the socket.
const PAGE: ReadLimit = ReadLimit { changes_max: 1_000, bytes_max: 128 * 1024 };

/// What a read gave.
#[derive(Debug)]
pub(crate) struct PrivateRead {
    /// Where it began.
    pub after: Position,
    /// Transactions or parts of them, in order.
    pub slices: Vec<Slice>,
    /// Everything up to here is in `slices`.
    pub through: Position,
    /// Whether that was all there is.
    pub exhausted: bool,
}

/// Changes of one transaction.
#[derive(Debug)]
pub(crate) struct Slice {
    pub head: TransactionHead,
    pub changes: Changes,
    /// Whether the transaction ends here.
    pub last: bool,
}

/// Changes, shared with the feed or read for this session.
#[derive(Debug)]
pub(crate) enum Changes {
    Shared(Arc<Transaction>),
    Read(Vec<Change>),
}

impl std::ops::Deref for Changes {
    type Target = [Change];

    fn deref(&self) -> &[Change] {
        match self {
            Changes::Shared(transaction) => &transaction.changes,
            Changes::Read(changes) => changes,
        }
    }
}

/// Reads what comes after `after`.
pub(crate) async fn read(
    history: &History,
    after: Position,
    reads: &Semaphore,
    metrics: &Metrics,
) -> Result<PrivateRead, waldelta_history::Error> {
    // Read before the entries: what is not among them then does not exist up to here.
    let head = history.feed().head().cursor();
    let upto = if after.is_whole() {
        match history.feed().after(after, PAGE.bytes_max) {
            Ok(entries) => match from_feed(after, head, entries) {
                Ok(read) => return Ok(read),
                Err(large) => large,
            },
            Err(_behind) => head,
        }
    } else {
        Position::whole(after.epoch, after.commit_lsn)
    };
    if upto <= after {
        return Ok(PrivateRead { after, slices: Vec::new(), through: after, exhausted: true });
    }
    let page = {
        // Bounds what catching up costs history and the memory of all sessions together.
        let _permit = reads.acquire().await;
        history.read_after(after, upto, PAGE).await?
    };
    metrics.catch_up_reads.increment(1);
    Ok(from_page(after, upto, upto == head, page))
}

/// The transactions of the feed up to the first that it does not hold; that one's position when it comes first.
fn from_feed(after: Position, head: Position, entries: Vec<Entry>) -> Result<PrivateRead, Position> {
    if entries.is_empty() {
        return Ok(PrivateRead { after, slices: Vec::new(), through: after.max(head), exhausted: true });
    }
    let mut slices = Vec::with_capacity(entries.len());
    let mut through = after;
    for entry in entries {
        match entry {
            Entry::Whole(transaction) => {
                through = transaction.head.position();
                slices.push(Slice {
                    head: transaction.head,
                    changes: Changes::Shared(transaction),
                    last: true,
                });
            }
            Entry::Large(large) if slices.is_empty() => return Err(large.position()),
            Entry::Large(_) => break,
        }
    }
    Ok(PrivateRead { after, slices, through, exhausted: false })
}

fn from_page(after: Position, upto: Position, upto_is_head: bool, page: Page) -> PrivateRead {
    let mut through = if page.has_more { after } else { upto };
    let slices: Vec<Slice> = page
        .parts
        .into_iter()
        .map(|part| Slice { head: part.head, changes: Changes::Read(part.changes), last: part.last })
        .collect();
    if let Some(slice) = slices.last().filter(|_| page.has_more) {
        let whole = slice.head.position();
        through = match slice.changes.last() {
            Some(change) if !slice.last => Position { index: change.seq, ..whole },
            _ => whole,
        };
    }
    PrivateRead { after, slices, through, exhausted: !page.has_more && upto_is_head }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, head, insert, position, table};
    use waldelta_history::Part;
    use waldelta_wal::Operation;

    #[test]
    fn takes_from_the_feed_up_to_what_it_does_not_hold() {
        let table = Arc::new(table("t"));
        let whole = |lsn| Entry::Whole(insert(&table, lsn, None));
        let read =
            from_feed(position(10), position(50), vec![whole(20), Entry::Large(head(30, 3)), whole(40)])
                .unwrap();
        assert_eq!((read.slices.len(), read.through, read.exhausted), (1, position(20), false));
        let large =
            from_feed(position(20), position(50), vec![Entry::Large(head(30, 3)), whole(40)]).unwrap_err();
        assert_eq!(large, position(30));
        let read = from_feed(position(40), position(50), Vec::new()).unwrap();
        assert_eq!((read.through, read.exhausted), (position(50), true));
        let read = from_feed(position(60), position(50), Vec::new()).unwrap();
        assert_eq!(read.through, position(60), "a position never goes back");
    }

    #[test]
    fn a_page_goes_on_inside_the_transaction_that_it_cuts() {
        let table = Arc::new(table("t"));
        let part = |last| Part {
            head: head(20, 2),
            changes: vec![change(0, Operation::Insert, &table, 1), change(1, Operation::Insert, &table, 2)],
            last,
        };
        let cut =
            from_page(position(10), position(50), true, Page { parts: vec![part(false)], has_more: true });
        assert_eq!((cut.through, cut.exhausted), (Position { index: 1, ..position(20) }, false));
        let between =
            from_page(position(10), position(50), true, Page { parts: vec![part(true)], has_more: true });
        assert_eq!((between.through, between.exhausted), (position(20), false));
        let end =
            from_page(position(10), position(50), true, Page { parts: vec![part(true)], has_more: false });
        assert_eq!((end.through, end.exhausted), (position(50), true));
        let large =
            from_page(position(10), position(20), false, Page { parts: vec![part(true)], has_more: false });
        assert_eq!((large.through, large.exhausted), (position(20), false));
    }
}
