//! Partitions of `change_history`: which one a commit LSN belongs to, its name, its bounds. Purely.

use waldelta_wal::{Epoch, Lsn};

const CREATE: &str = include_str!("../../../sql/queries/create_partition.sql");

/// One partition: the commit LSNs of an epoch from `low` on, up to the next multiple of the epoch's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    epoch: Epoch,
    low: Lsn,
    bytes: u64,
}

impl Partition {
    /// The partition that holds a transaction committed at `commit_lsn`; `bytes`, the width, is not 0.
    pub(crate) fn of(epoch: Epoch, commit_lsn: Lsn, bytes: u64) -> Self {
        Partition { epoch, low: Lsn(commit_lsn.0 - commit_lsn.0 % bytes), bytes }
    }

    /// Its table's name, without schema: `change_history_e1_0000000400000000`.
    pub(crate) fn name(self) -> String {
        format!("change_history_e{}_{:016x}", self.epoch.0, self.low.0)
    }

    /// The statements that make it.
    pub(crate) fn create_statements(self) -> String {
        // The last partition before the end of all LSNs is a byte short: no commit record begins at the last byte.
        let high = Lsn(self.low.0.saturating_add(self.bytes));
        CREATE
            .replace("{name}", &self.name())
            .replace("{epoch}", &self.epoch.0.to_string())
            .replace("{low}", &self.low.to_string())
            .replace("{high}", &high.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB_16: u64 = 16 << 30;

    #[test]
    fn bounds_are_multiples_of_the_width() {
        let partition = |lsn| Partition::of(Epoch(1), Lsn(lsn), GIB_16);
        assert_eq!(partition(0), partition(GIB_16 - 1));
        assert_ne!(partition(GIB_16 - 1), partition(GIB_16));
        assert_eq!(partition(GIB_16 + 5).name(), "change_history_e1_0000000400000000");
        let sql = partition(GIB_16 + 5).create_statements();
        assert!(sql.contains("FROM (1, '4/0') TO (1, '8/0')"), "{sql}");
        assert!(!sql.contains('{'), "{sql}");
    }

    /// PostgreSQL cuts longer names off, and then an index would not be found by its name.
    #[test]
    fn an_index_can_be_named_as_its_partition_with_an_ending() {
        let longest = Partition::of(Epoch(u32::MAX), Lsn(u64::MAX), GIB_16).name() + "_transaction_idx";
        assert!(longest.len() <= 63, "{longest}");
    }

    #[test]
    fn the_last_partition_does_not_wrap_around() {
        let sql = Partition::of(Epoch(2), Lsn(u64::MAX - 1), GIB_16).create_statements();
        assert!(sql.contains("TO (2, 'FFFFFFFF/FFFFFFFF')"), "{sql}");
    }
}
