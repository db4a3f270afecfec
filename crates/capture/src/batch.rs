//! Which pieces go into one append. Pure.
//!
//! One append is in flight; what arrives meanwhile collects here and is the next. So at low rates a transaction is an
//! append of its own and waits for nothing, and under load appends grow by themselves. Nothing is held back to make an
//! append larger; what is urgent is therefore never late. The bounds keep memory and the time of one append in check.

use std::collections::VecDeque;

use waldelta_wal::Piece;

/// Bounds of one append. One piece always goes, whatever its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Changes at most.
    pub(crate) rows_max: usize,
    /// Bytes of images at most.
    pub(crate) bytes_max: usize,
}

/// Pieces that wait, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    limits: Limits,
    waiting: VecDeque<(Piece, Size)>,
    size: Size,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    rows: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn new(limits: Limits) -> Self {
        Batch { limits, waiting: VecDeque::new(), size: Size::default() }
    }

    /// Adds a piece behind the others.
    pub(crate) fn push(&mut self, piece: Piece) {
        let size = Size::of(&piece);
        self.size.rows += size.rows;
        self.size.bytes += size.bytes;
        self.waiting.push_back((piece, size));
    }

    /// Whether enough waits, so that nothing more shall be decoded for now.
    pub(crate) fn is_full(&self) -> bool {
        // Pieces count too: transactions without rows cost memory as well.
        self.size.bytes >= self.limits.bytes_max
            || self.size.rows >= self.limits.rows_max
            || self.waiting.len() >= self.limits.rows_max
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the pieces of the next append: in order, at least one if there is one.
    pub(crate) fn take(&mut self) -> Vec<Piece> {
        let mut taken = Vec::new();
        let mut size = Size::default();
        while let Some((_, next)) = self.waiting.front() {
            let fits = size.rows + next.rows <= self.limits.rows_max
                && size.bytes + next.bytes <= self.limits.bytes_max;
            if !fits && !taken.is_empty() {
                break;
            }
            size.rows += next.rows;
            size.bytes += next.bytes;
            taken.extend(self.waiting.pop_front().map(|(piece, _)| piece));
        }
        self.size.rows -= size.rows;
        self.size.bytes -= size.bytes;
        taken
    }
}

impl Size {
    fn of(piece: &Piece) -> Self {
        let image = |image: &Option<bytes::Bytes>| image.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = piece
            .changes
            .iter()
            .map(|change| image(&change.data) + image(&change.old_data) + image(&change.row_key))
            .sum();
        Size { rows: piece.changes.len(), bytes }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use waldelta_wal::{Change, EndLsn, Epoch, Lsn, Operation, TransactionHead};

    use super::*;

    fn piece(lsn: u64, rows: usize, bytes: usize) -> Piece {
        let change = |seq| Change {
            seq,
            operation: Operation::Insert,
            table: None,
            row_key: None,
            data: Some(Bytes::from(vec![b'x'; bytes])),
            old_data: None,
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: waldelta_wal::TruncateOptions::default(),
            origin: None,
            author: None,
        };
        Piece {
            head: TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(lsn), xid: lsn, committed_at_us: 0 },
            first: true,
            changes: (0..u32::try_from(rows).unwrap()).map(change).collect(),
            end: Some(EndLsn(Lsn(lsn + 1))),
            new_tables: Vec::new(),
            repairs: Vec::new(),
            urgent: false,
        }
    }

    #[test]
    fn one_piece_goes_at_once_whatever_its_size() {
        let mut batch = Batch::new(Limits { rows_max: 2, bytes_max: 10 });
        batch.push(piece(1, 5, 100));
        assert!(batch.is_full());
        assert_eq!(batch.take().len(), 1);
        assert!(batch.is_empty() && !batch.is_full());
    }

    /// What waits, as a list of sizes: how many go together, and whether that is enough.
    fn together(waiting: &[(usize, usize)], limits: Limits) -> (usize, bool) {
        let sum =
            |count: usize| waiting[..count].iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let fits = |count: &usize| sum(*count).0 <= limits.rows_max && sum(*count).1 <= limits.bytes_max;
        let most = (2..=waiting.len()).rev().find(fits).unwrap_or(waiting.len().min(1));
        let (rows, bytes) = sum(waiting.len());
        (most, rows.max(waiting.len()) >= limits.rows_max || bytes >= limits.bytes_max)
    }

    proptest! {
        /// Whatever arrives while others go: in order, as many together as fit, and at least one.
        #[test]
        fn appends_keep_order_and_bounds(
            steps in proptest::collection::vec(
                prop_oneof![2 => (0usize..6, 0usize..6).prop_map(Some), 1 => Just(None)], 0..60),
        ) {
            let limits = Limits { rows_max: 8, bytes_max: 20 };
            let mut batch = Batch::new(limits);
            let (mut waiting, mut pushed, mut seen) = (Vec::new(), 0u64, 0u64);
            for step in steps {
                match step {
                    Some((rows, bytes)) => {
                        batch.push(piece(pushed, rows, bytes));
                        // Each of its rows has so many.
                        waiting.push((rows, rows * bytes));
                        pushed += 1;
                    }
                    None => {
                        let (count, _) = together(&waiting, limits);
                        let lsns: Vec<Lsn> = batch.take().iter().map(|piece| piece.head.commit_lsn).collect();
                        let expected: Vec<Lsn> = (seen..seen + count as u64).map(Lsn).collect();
                        prop_assert_eq!(lsns, expected);
                        seen += count as u64;
                        waiting.drain(..count);
                    }
                }
                prop_assert_eq!(batch.is_empty(), waiting.is_empty());
                prop_assert_eq!(batch.is_full(), together(&waiting, limits).1);
            }
        }
    }
}
