//! The orders to leave something out, by their places.

use crate::lsn::Lsn;
use crate::skip::Skip;

/// More orders than this wait for the next connection.
const ORDERS_MAX: usize = 10_000;

/// Orders, sorted: those of a transaction together, first the one for all of it.
#[derive(Default)]
pub(crate) struct Orders {
    skips: Vec<Skip>,
}

impl Orders {
    pub(crate) fn new(mut skips: Vec<Skip>) -> Self {
        skips.sort_by_key(|skip| (skip.lsn, skip.seq));
        skips.dedup_by_key(|skip| (skip.lsn, skip.seq));
        skips.truncate(ORDERS_MAX);
        Orders { skips }
    }

    /// Those for the transaction that commits here.
    pub(crate) fn of(&self, commit_lsn: Lsn) -> &[Skip] {
        let from = self.skips.partition_point(|skip| skip.lsn < commit_lsn);
        let of_it = self.skips[from..].partition_point(|skip| skip.lsn == commit_lsn);
        &self.skips[from..from + of_it]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_found_by_their_transaction_in_order() {
        let skip = |lsn, seq| Skip { lsn: Lsn(lsn), seq, by: "me".into(), why: "test".into() };
        let orders = Orders::new(vec![skip(9, Some(1)), skip(7, None), skip(9, None), skip(9, Some(1))]);
        assert_eq!(orders.of(Lsn(9)), [skip(9, None), skip(9, Some(1))]);
        assert_eq!(orders.of(Lsn(7)), [skip(7, None)]);
        assert_eq!(orders.of(Lsn(8)), []);
        assert_eq!(Orders::default().of(Lsn(8)), []);
    }
}
