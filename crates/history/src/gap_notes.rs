//! What the transactions under way do to the gaps of tables: a repair opens one, a reset ends it. Purely.
//!
//! It is stored with their commit, which is not done here.

use std::collections::HashMap;

use waldelta_wal::{EndLsn, Lsn, Operation, Piece, Reset};

use crate::NewGap;
use crate::gaps::FoundGap;

/// In the order of the transactions.
#[derive(Debug, Default)]
pub(crate) struct GapNotes {
    steps: Vec<GapStep>,
}

/// What is done at once: gaps are opened, one per table, and then ended.
#[derive(Debug, Default)]
pub(crate) struct GapStep {
    pub(crate) opened: HashMap<u32, FoundGap>,
    /// By table, the commit that resets it.
    pub(crate) closed: HashMap<u32, Lsn>,
}

impl GapNotes {
    /// Notes what this piece does. Pieces come in order, so the first of a table is the earliest: there its gap begins, and it
    /// reaches up to the end of the last.
    pub(crate) fn note(&mut self, piece: &Piece) {
        let commit_lsn = piece.head.commit_lsn;
        for repair in &piece.repairs {
            let (table_oid, reason) = (repair.table_oid, repair.reason.as_str().to_owned());
            let step =
                self.step(|step| step.closed.get(&table_oid).is_none_or(|closed| *closed == commit_lsn));
            let found = EndLsn(Lsn(commit_lsn.0.saturating_add(1)));
            let gap = NewGap { table_oid, from: commit_lsn, reason };
            step.opened
                .entry(table_oid)
                .and_modify(|known| known.found = found)
                .or_insert(FoundGap { gap, found });
        }
        for change in piece.changes.iter().filter(|change| change.operation == Operation::Reset) {
            // Who reads past the reset reads the table as it is after the whole transaction.
            if let Some(reset) = Reset::of(change) {
                self.step(|_| true).closed.entry(reset.table_oid).or_insert(commit_lsn);
            }
        }
    }

    /// Whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What was noted.
    pub(crate) fn steps(&self) -> &[GapStep] {
        &self.steps
    }

    /// The last step if it fits, else a new one.
    fn step(&mut self, fits: impl FnOnce(&GapStep) -> bool) -> &mut GapStep {
        let at = match self.steps.last() {
            Some(last) if fits(last) => self.steps.len() - 1,
            _ => {
                self.steps.push(GapStep::default());
                self.steps.len() - 1
            }
        };
        &mut self.steps[at]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waldelta_wal::{Change, EndLsn, Epoch, Repair, RepairReason, TransactionHead, TruncateOptions};

    use super::*;

    fn piece(commit_lsn: u64, repaired: &[u32], reset: &[u32]) -> Piece {
        let change = |table_oid: &u32| Change {
            seq: 0,
            operation: Operation::Reset,
            table: None,
            row_key: None,
            data: Some(Bytes::from(format!(
                r#"{{"oid":{table_oid},"name":"public.t","reason":"rewritten"}}"#
            ))),
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
            first: true,
            changes: reset.iter().map(change).collect(),
            end: Some(EndLsn(Lsn(commit_lsn + 1))),
            new_tables: Vec::new(),
            repairs: repaired
                .iter()
                .map(|table_oid| Repair { table_oid: *table_oid, reason: RepairReason::Rewritten })
                .collect(),
            urgent: false,
        }
    }

    /// Tables, and places where a gap of theirs begins or ends.
    type Places = Vec<(u32, u64)>;

    /// Of each step, where gaps begin and where they end.
    fn steps(pieces: &[Piece]) -> Vec<(Places, Places)> {
        of_steps(pieces, |found| found.gap.from.0)
    }

    fn of_steps(pieces: &[Piece], place: impl Fn(&FoundGap) -> u64) -> Vec<(Places, Places)> {
        let mut notes = GapNotes::default();
        pieces.iter().for_each(|piece| notes.note(piece));
        assert_eq!(notes.is_empty(), notes.steps().is_empty());
        let of_step = |step: &GapStep| {
            let mut opened: Vec<_> =
                step.opened.values().map(|found| (found.gap.table_oid, place(found))).collect();
            let mut closed: Vec<_> = step.closed.iter().map(|(table_oid, to)| (*table_oid, to.0)).collect();
            opened.sort_unstable();
            closed.sort_unstable();
            (opened, closed)
        };
        notes.steps().iter().map(of_step).collect()
    }

    #[test]
    fn a_reset_ends_what_came_before_it_and_not_what_comes_after() {
        assert_eq!(steps(&[piece(1, &[], &[])]), []);
        assert_eq!(steps(&[piece(1, &[7], &[]), piece(2, &[7, 8], &[])]), [(vec![(7, 1), (8, 2)], vec![])]);
        assert_eq!(
            steps(&[piece(1, &[7], &[]), piece(2, &[], &[7, 9])]),
            [(vec![(7, 1)], vec![(7, 2), (9, 2)])]
        );
        assert_eq!(
            steps(&[piece(1, &[], &[7]), piece(2, &[7], &[]), piece(3, &[], &[7]), piece(4, &[8], &[7])]),
            [(vec![], vec![(7, 1)]), (vec![(7, 2), (8, 4)], vec![(7, 3)])]
        );
    }

    #[test]
    fn a_gap_reaches_up_to_the_end_of_the_last_that_was_told_of_it() {
        let pieces = [piece(1, &[7, 8], &[]), piece(3, &[7], &[]), piece(5, &[], &[7]), piece(9, &[7], &[])];
        assert_eq!(
            of_steps(&pieces, |found| found.found.0.0),
            [(vec![(7, 4), (8, 2)], vec![(7, 5)]), (vec![(7, 10)], vec![])]
        );
    }

    #[test]
    fn in_one_transaction_the_reset_is_last_wherever_it_stands() {
        assert_eq!(steps(&[piece(1, &[7], &[7])]), [(vec![(7, 1)], vec![(7, 1)])]);
        // In pieces, the reset first.
        assert_eq!(steps(&[piece(1, &[], &[7]), piece(1, &[7], &[])]), [(vec![(7, 1)], vec![(7, 1)])]);
    }
}
