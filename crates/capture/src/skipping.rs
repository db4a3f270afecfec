//! Which tables may be in a transaction that was left out, where nothing of it could be read. What is left out is decided in
//! `waldelta_wal`.

use serde_json::Value;
use waldelta_wal::{Operation, Piece, Repair, RepairReason};

/// All of these tables may be in it.
pub(crate) fn of_all(tables: impl IntoIterator<Item = u32>) -> Vec<Repair> {
    let skipped = |table_oid| Repair { table_oid, reason: RepairReason::Skipped };
    let mut repairs: Vec<Repair> = tables.into_iter().map(skipped).collect();
    repairs.sort_unstable();
    repairs
}

/// Whether it stands for a whole transaction that was left out. wal2json names no tables by their object ids, so of such a
/// transaction it is not known which it was about.
pub(crate) fn is_of_a_whole_transaction(piece: &Piece) -> bool {
    let [change] = &piece.changes[..] else { return false };
    let told = change.data.as_ref().filter(|_| change.operation == Operation::Skip);
    let told = told.and_then(|data| serde_json::from_slice::<Value>(data).ok());
    told.is_some_and(|told| told["seq"].is_null())
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{Change, EndLsn, Epoch, Lsn, Skip, TransactionHead, TruncateOptions};

    use super::*;

    fn piece(seq: Option<u32>, operation: Operation) -> Piece {
        let skip = Skip { lsn: Lsn(7), seq, by: "me".into(), why: "test".into() };
        let change = Change {
            seq: 0,
            operation,
            table: None,
            row_key: None,
            data: Some(skip.to_json().into()),
            old_data: None,
            unchanged: Vec::new(),
            flagged: Vec::new(),
            truncate: TruncateOptions::default(),
            origin: None,
            author: None,
        };
        Piece {
            head: TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(7), xid: 1, committed_at_us: 0 },
            first: true,
            changes: vec![change],
            end: Some(EndLsn(Lsn(8))),
            new_tables: Vec::new(),
            repairs: Vec::new(),
            urgent: false,
        }
    }

    #[test]
    fn a_single_change_is_not_a_whole_transaction() {
        assert!(is_of_a_whole_transaction(&piece(None, Operation::Skip)));
        assert!(!is_of_a_whole_transaction(&piece(Some(0), Operation::Skip)));
        assert!(!is_of_a_whole_transaction(&piece(None, Operation::Message)));
    }
}
