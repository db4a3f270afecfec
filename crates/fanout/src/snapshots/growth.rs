//! How much history has grown since a snapshot was taken, and which tables were reset since.
//!
//! It counts what passes the feed of this process and asks nobody. What it says decides only which snapshot is handed out, never
//! what the stream tells: a client with an older snapshot reads past everything that came since. Where the feed does not say
//! whether a table was reset, it may have been.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waldelta_history::{Entry, Feed, Gap};
use waldelta_wal::{Epoch, Lsn, Position, TableName};

use crate::subscription::{Tables, reset_table};
use crate::wire::transaction::image_bytes;

/// Bytes of history that are read past without a second thought, however small the snapshot is.
const WORTH_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Entries are looked through in runs of about so many bytes.
const RUN_BYTES_MAX: usize = 1024 * 1024;
/// Tables whose resets are remembered.
const RESETS_MAX: usize = 1_000;
/// Where another instance writes history, this process hears of it later than its clients may; mostly much sooner than that.
const HEARING_MAX: Duration = Duration::from_secs(2);

/// What has passed.
#[derive(Debug, Default)]
pub(super) struct Growth {
    upto: Position,
    bytes: u64,
    /// Raised where it is not known what passed: every mark before is of the past then.
    missed: u64,
    /// Where each table was reset last.
    resets: BTreeMap<TableName, Position>,
    /// Where each table was last in a transaction that was not seen whole: it may have been reset there.
    doubts: BTreeMap<TableName, Position>,
    /// Up to here something passed of which nothing was seen.
    unseen: Position,
}

/// A moment to measure from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    bytes: u64,
    missed: u64,
}

impl Growth {
    pub(super) fn new(upto: Position) -> Self {
        Growth { upto, ..Growth::default() }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { bytes: self.bytes, missed: self.missed }
    }

    /// Counts what the feed has by now.
    pub(super) fn advance(&mut self, feed: &Feed) {
        loop {
            match feed.after(self.upto, RUN_BYTES_MAX) {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => entries.iter().for_each(|entry| self.count(entry)),
                Err(behind) => {
                    self.missed += 1;
                    self.upto = behind.floor;
                    self.unseen = self.upto;
                }
            }
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.upto = entry.position();
        match entry {
            Entry::Whole(transaction) => {
                for change in &transaction.changes {
                    self.bytes += image_bytes(change) as u64;
                    if let Some(table) = reset_table(change) {
                        self.resets.insert(table, self.upto);
                    }
                }
            }
            // As large as the feed, or larger: whoever goes on from before it has to read all of it from history.
            Entry::Large(large) => {
                self.missed += 1;
                match &large.touched {
                    Some(touched) => {
                        self.doubts.extend(touched.tables.iter().map(|table| (table.clone(), self.upto)));
                    }
                    None => self.unseen = self.upto,
                }
            }
        }
        if self.resets.len() + self.doubts.len() > RESETS_MAX {
            self.resets.clear();
            self.doubts.clear();
            self.missed += 1;
            self.unseen = self.upto;
        }
    }

    /// Whether a snapshot of this many bytes is still the shorter way: reading on from it costs what history has grown by, and
    /// another one costs what it holds.
    pub(super) fn is_worth(&self, mark: Mark, snapshot_bytes: u64) -> bool {
        self.missed == mark.missed && self.bytes - mark.bytes <= snapshot_bytes.max(WORTH_BYTES_MIN)
    }

    /// Whether one of the tables was reset after this position, as far as is known.
    pub(super) fn has_reset(&self, tables: &Tables, since: Position) -> bool {
        self.resets.iter().any(|(table, at)| *at > since && tables.has(table))
    }

    /// Whether one of the tables was reset after this position, or may have been.
    pub(super) fn may_have_reset(&self, tables: &Tables, since: Position) -> bool {
        self.unseen > since
            || self.has_reset(tables, since)
            || self.doubts.iter().any(|(table, at)| *at > since && tables.has(table))
    }
}

/// Waits until this process has heard of everything up to `head`, which a client may know of; not for long.
pub(crate) async fn hear_of(head: Position, feed: &Feed) {
    let mut heads = feed.watch();
    let heard = heads.wait_for(|known| known.cursor() >= head);
    // What it has not heard of by then it does not claim to know.
    let _ = tokio::time::timeout(HEARING_MAX, heard).await;
}

/// The gaps that are open at a moment. Rows changed in a gap that no change tells: a snapshot that may be older than a gap lacks
/// what another one would show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps(BTreeSet<(Epoch, Lsn, Option<u32>)>);

impl Gaps {
    pub(crate) fn of(open: &[Gap]) -> Self {
        Gaps(open.iter().map(|gap| (gap.epoch, gap.from, gap.table_oid)).collect())
    }

    /// Whether one of these is of such a table and was not known then.
    pub(super) fn are_new(&self, then: &Gaps, is_of: impl Fn(u32) -> bool) -> bool {
        self.0.difference(&then.0).any(|(_, _, table_oid)| table_oid.is_none_or(&is_of))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use waldelta_history::{Head, Large, Touched, Transaction};
    use waldelta_wal::{Change, EndLsn, Epoch, Lsn, Operation};

    use super::*;
    use crate::subscription::Part;
    use crate::testing::{change, head, position, reset_change, subscription, table};

    fn feed(bytes_max: usize) -> Feed {
        Feed::new(Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(1)) }, bytes_max)
    }

    fn publish(feed: &Feed, lsn: u64, changes: Vec<Change>) {
        let transaction = Transaction { head: head(lsn, lsn), changes };
        let end = Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(lsn + 1)) };
        feed.publish(vec![Entry::Whole(Arc::new(transaction))], end);
    }

    fn insert(bytes: usize) -> Change {
        let data = Some(Bytes::from(vec![b'x'; bytes]));
        Change { data, ..change(0, Operation::Insert, &Arc::new(table("t")), 1) }
    }

    #[test]
    fn a_snapshot_is_of_worth_until_history_has_grown_by_as_much() {
        let (feed, mut growth) = (feed(64 << 20), Growth::new(position(0)));
        let mark = growth.mark();
        publish(&feed, 10, vec![insert(4 << 20)]);
        growth.advance(&feed);
        assert!(growth.is_worth(mark, 0), "a little is always read past");
        publish(&feed, 20, vec![insert(1 << 20), insert(1)]);
        growth.advance(&feed);
        assert!(!growth.is_worth(mark, 0) && !growth.is_worth(mark, 5 << 20));
        assert!(growth.is_worth(mark, (5 << 20) + 1) && growth.is_worth(growth.mark(), 0));
    }

    #[test]
    fn what_was_not_seen_counts_as_too_much() {
        let (small, mut growth) = (feed(1_000), Growth::new(position(0)));
        let mark = growth.mark();
        for lsn in 1..20 {
            publish(&small, lsn * 10, vec![insert(500)]);
        }
        growth.advance(&small);
        assert!(!growth.is_worth(mark, u64::MAX), "the feed had dropped what came first");
        assert!(growth.is_worth(growth.mark(), 0));

        let (feed, mut growth) = (feed(1 << 20), Growth::new(position(0)));
        let mark = growth.mark();
        let large = Entry::Large(Arc::new(Large { head: head(10, 1), touched: None }));
        feed.publish(vec![large], Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(11)) });
        growth.advance(&feed);
        assert!(!growth.is_worth(mark, u64::MAX));
    }

    #[test]
    fn a_gap_counts_that_was_not_open_before_and_is_of_the_table() {
        let gaps = |all: &[(u64, Option<u32>)]| {
            Gaps(all.iter().map(|(from, oid)| (Epoch(1), Lsn(*from), *oid)).collect())
        };
        let before = gaps(&[(5, Some(1))]);
        let is_of_1 = |oid| oid == 1;
        assert!(!before.are_new(&before, is_of_1) && !gaps(&[]).are_new(&before, is_of_1));
        assert!(gaps(&[(5, Some(1)), (7, Some(1))]).are_new(&before, is_of_1));
        assert!(gaps(&[(7, None)]).are_new(&before, is_of_1));
        assert!(!gaps(&[(7, Some(2))]).are_new(&before, is_of_1));
    }

    #[test]
    fn a_reset_is_of_its_table_and_of_what_was_before() {
        let (feed, mut growth) = (feed(1 << 20), Growth::new(position(0)));
        publish(&feed, 10, vec![insert(1), reset_change(1, "t")]);
        growth.advance(&feed);
        let of = |name: &str| Tables {
            selection: crate::testing::everything(vec![subscription("s", name)]),
            part: Part::All,
        };
        assert!(growth.has_reset(&of("t"), position(9)) && growth.has_reset(&of("*"), position(9)));
        assert!(!growth.has_reset(&of("t"), position(10)) && !growth.has_reset(&of("u"), position(9)));
        assert!(
            growth.may_have_reset(&of("t"), position(9)) && !growth.may_have_reset(&of("u"), position(9))
        );
    }

    #[test]
    fn a_reset_that_was_not_seen_may_have_been() {
        let of = |name: &str| Tables {
            selection: crate::testing::everything(vec![subscription("s", name)]),
            part: Part::All,
        };
        let (feed, mut growth) = (feed(1 << 20), Growth::new(position(0)));
        let mut publish_large = |lsn, touched| {
            let large = Entry::Large(Arc::new(Large { head: head(lsn, 1), touched }));
            feed.publish(vec![large], Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(lsn + 1)) });
            growth.advance(&feed);
            let may = |name, since| growth.may_have_reset(&of(name), position(since));
            assert!(!growth.has_reset(&of("*"), position(0)), "it is not known");
            [may("t", lsn - 1), may("t", lsn), may("u", lsn - 1), may("u", lsn)]
        };
        let touched = Touched { tables: vec![table("t").name], authors: Vec::new() };
        assert_eq!(publish_large(10, Some(touched)), [true, false, false, false]);
        assert_eq!(publish_large(20, None), [true, false, true, false], "it may concern anybody");

        let (small, mut growth) = (self::feed(100), Growth::new(position(0)));
        for lsn in [10, 20] {
            publish(&small, lsn, vec![insert(500), reset_change(1, "t")]);
        }
        growth.advance(&small);
        assert!(
            growth.may_have_reset(&of("t"), position(19)) && growth.may_have_reset(&of("u"), position(19))
        );
        assert!(!growth.may_have_reset(&of("t"), position(20)));

        let (feed, mut growth) = (self::feed(64 << 20), Growth::new(position(0)));
        publish(&feed, 10, vec![reset_change(0, "t")]);
        let many = (0..1_000).map(|number| reset_change(number, &format!("t{number}")));
        publish(&feed, 20, many.collect());
        growth.advance(&feed);
        assert!(growth.may_have_reset(&of("t"), position(9)), "also where more are reset than it remembers");
        assert!(!growth.may_have_reset(&of("*"), position(20)));
    }

    #[tokio::test]
    async fn what_a_client_may_know_is_waited_for() {
        let feed = feed(1 << 20);
        assert!(hear_of(position(0), &feed).now_or_never().is_some(), "it is known");
        let mut heard = Box::pin(hear_of(position(10), &feed));
        assert!((&mut heard).now_or_never().is_none());
        publish(&feed, 9, vec![insert(1)]);
        assert!((&mut heard).now_or_never().is_none());
        publish(&feed, 10, vec![insert(1)]);
        assert!(heard.now_or_never().is_some());
    }
}
