//! Order of what is appended: pieces follow one another, and are cut into runs that become durable together. Purely.

use waldelta_wal::{EndLsn, Epoch, Lsn, Piece};

use crate::Error;
use crate::partition::{Partition, Partitions};

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    epoch: Epoch,
    end: EndLsn,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    commit_lsn: Lsn,
    next_seq: u32,
}

impl Sequence {
    /// After the durable end, outside a transaction.
    pub(crate) fn new(epoch: Epoch, end: EndLsn) -> Self {
        Sequence { epoch, end, open: None }
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What may come after these pieces, or why they may not come now.
    pub(crate) fn after(mut self, pieces: &[Piece]) -> Result<Self, Error> {
        for piece in pieces {
            self.take(piece).map_err(|why| Error::OutOfOrder {
                position: piece.head.position(),
                durable_end: self.end,
                why,
            })?;
        }
        Ok(self)
    }

    fn take(&mut self, piece: &Piece) -> Result<(), &'static str> {
        let head = &piece.head;
        if head.epoch != self.epoch {
            return Err("it belongs to another epoch");
        }
        let mut next_seq = match (piece.first, self.open) {
            (true, Some(_)) => return Err("the transaction before it has not ended"),
            (true, None) if self.end.includes(head.commit_lsn) => return Err("it is included already"),
            (true, None) => 0,
            (false, None) => return Err("its beginning is missing"),
            (false, Some(open)) if open.commit_lsn != head.commit_lsn => {
                return Err("the transaction before it has not ended");
            }
            (false, Some(open)) => open.next_seq,
        };
        for change in &piece.changes {
            // The column is a signed integer.
            if change.seq != next_seq || i32::try_from(change.seq).is_err() {
                return Err("its changes are not counted from 0 without a gap");
            }
            if change.table.as_ref().is_some_and(|table| table.version == 0) {
                return Err("the shape of a table in it was not numbered");
            }
            next_seq += 1;
        }
        self.open = None;
        match piece.end {
            Some(end) if end.0 <= head.commit_lsn => return Err("it ends before its commit record"),
            Some(end) => self.end = end,
            None => self.open = Some(Open { commit_lsn: head.commit_lsn, next_seq }),
        }
        Ok(())
    }
}

/// Pieces that go into one SQL transaction and one partition.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) pieces: Vec<Piece>,
    /// Where its rows go; `None` when it has none.
    pub(crate) partition: Option<Partition>,
}

impl Run {
    /// The durable end that its commit stores; `None` when its transaction goes on.
    pub(crate) fn end(&self) -> Option<EndLsn> {
        self.pieces.last().and_then(|piece| piece.end)
    }

    pub(crate) fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.changes.len()).sum()
    }
}

/// Cuts pieces that are in order into runs. Cuts are only made between transactions:
///
/// - where the partition changes, because a COPY goes into one;
/// - before a transaction that these pieces do not finish, so that what is whole does not wait for it.
pub(crate) fn cut_into_runs(pieces: Vec<Piece>, partitions: &mut Partitions) -> Vec<Run> {
    // Where the transaction begins that the last piece leaves open, if it begins here at all.
    let unfinished_from = match pieces.last() {
        Some(last) if last.end.is_none() => pieces.iter().rposition(|piece| piece.first),
        _ => None,
    };
    let mut runs: Vec<Run> = Vec::new();
    for (at, piece) in pieces.into_iter().enumerate() {
        // Pieces of a transaction that is more than one go where its COPY is, with rows or without.
        let copies = !piece.changes.is_empty() || piece.end.is_none() || !piece.first;
        let partition = copies.then(|| partitions.of(piece.head.commit_lsn));
        match runs.last_mut() {
            Some(run) if !cuts(run, &piece, partition, unfinished_from == Some(at)) => {
                run.partition = run.partition.or(partition);
                run.pieces.push(piece);
            }
            _ => runs.push(Run { partition, pieces: vec![piece] }),
        }
    }
    runs
}

fn cuts(run: &Run, piece: &Piece, partition: Option<Partition>, begins_unfinished: bool) -> bool {
    let elsewhere = matches!((run.partition, partition), (Some(a), Some(b)) if a != b);
    piece.first && (elsewhere || begins_unfinished)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use waldelta_wal::{Change, Operation, TransactionHead, TruncateOptions};

    use super::*;

    pub(super) const BYTES: u64 = 100;

    pub(super) fn piece(commit_lsn: u64, seqs: std::ops::Range<u32>, end: Option<u64>) -> Piece {
        let change = |seq| Change {
            seq,
            operation: Operation::Message,
            table: None,
            row_key: None,
            data: Some(Bytes::from_static(b"{}")),
            old_data: None,
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: None,
        };
        Piece {
            head: TransactionHead {
                epoch: Epoch(1),
                commit_lsn: Lsn(commit_lsn),
                xid: 1,
                committed_at_us: 0,
            },
            first: seqs.start == 0,
            changes: seqs.map(change).collect(),
            end: end.map(|end| EndLsn(Lsn(end))),
            new_tables: Vec::new(),
            repairs: Vec::new(),
            urgent: false,
        }
    }

    fn from(end: u64) -> Sequence {
        Sequence::new(Epoch(1), EndLsn(Lsn(end)))
    }

    #[test]
    fn a_commit_that_begins_at_the_durable_end_follows_it() {
        let next = from(50).after(&[piece(50, 0..2, Some(60)), piece(60, 0..1, Some(61))]).unwrap();
        assert_eq!(next, from(61));
    }

    #[test]
    fn refuses_what_does_not_follow() {
        let half = from(50).after(&[piece(50, 0..2, None)]).unwrap();
        assert!(half.is_open());
        for (sequence, pieces) in [
            (from(50), vec![piece(49, 0..1, Some(60))]),
            (from(50), vec![piece(50, 0..1, Some(50))]),
            (from(50), vec![piece(50, 0..1, Some(60)), piece(50, 0..1, Some(70))]),
            (from(50), vec![piece(50, 1..2, Some(60))]),
            (half, vec![piece(60, 0..1, Some(70))]),
            (half, vec![piece(50, 3..4, Some(70))]),
            (half, vec![piece(51, 2..3, Some(70))]),
            (Sequence::new(Epoch(2), EndLsn(Lsn(0))), vec![piece(50, 0..1, Some(60))]),
        ] {
            assert!(sequence.after(&pieces).is_err(), "{sequence:?} {pieces:?}");
        }
        assert_eq!(half.after(&[piece(50, 2..5, Some(70))]).unwrap(), from(70));
    }

    #[test]
    fn runs_end_at_partitions_and_before_what_is_unfinished() {
        let shape = |pieces: Vec<Piece>| -> Vec<(usize, Option<EndLsn>)> {
            let mut partitions = Partitions::new(Epoch(1), BYTES, Arc::default(), []);
            let runs = cut_into_runs(pieces, &mut partitions);
            runs.iter().map(|run| (run.pieces.len(), run.end())).collect()
        };
        let end = |lsn| Some(EndLsn(Lsn(lsn)));
        // Small transactions go together; empty ones need no partition.
        assert_eq!(
            shape(vec![piece(10, 0..1, Some(11)), piece(20, 0..0, Some(21)), piece(150, 0..0, Some(151))]),
            [(3, end(151))]
        );
        assert_eq!(
            shape(vec![piece(90, 0..1, Some(101)), piece(101, 0..1, Some(110))]),
            [(1, end(101)), (1, end(110))]
        );
        // A large one beginning does not hold back what is whole, and its end goes with what follows.
        assert_eq!(
            shape(vec![piece(10, 0..1, Some(11)), piece(20, 0..1, None), piece(20, 1..2, None)]),
            [(1, end(11)), (2, None)]
        );
        assert_eq!(shape(vec![piece(20, 1..2, None)]), [(1, None)]);
        assert_eq!(shape(vec![piece(20, 2..3, Some(30)), piece(40, 0..1, Some(50))]), [(2, end(50))]);
        let last = Piece { first: false, ..piece(20, 0..0, Some(30)) };
        assert_eq!(shape(vec![last, piece(110, 0..1, Some(120))]), [(1, end(30)), (1, end(120))]);
        assert_eq!(shape(Vec::new()), []);
    }
}
