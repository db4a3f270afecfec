//! Partitions of `change_history`: which one a commit LSN belongs to, its name, its bounds. Purely.
//!
//! An epoch's LSNs are cut into stretches of one width. Where history is to be removed sooner than such a stretch fills, a new
//! partition gets a part of it: a half, a quarter, and so on. How much that should be is not decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use waldelta_wal::{Epoch, Lsn};

const CREATE: &str = include_str!("../../../sql/queries/create_partition.sql");

/// Partitions of an epoch that are known at most, the newest: rows only come at the end.
const KNOWN_MAX: usize = 1_000;

/// One partition: the commit LSNs of an epoch from `low` on, below `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) epoch: Epoch,
    pub(crate) low: Lsn,
    pub(crate) high: Lsn,
}

impl Partition {
    /// Its table's name, without schema: `change_history_e1_0000000400000000`.
    pub(crate) fn name(self) -> String {
        format!("change_history_e{}_{:016x}", self.epoch.0, self.low.0)
    }

    /// The statements that make it.
    pub(crate) fn create_statements(self) -> String {
        CREATE
            .replace("{name}", &self.name())
            .replace("{epoch}", &self.epoch.0.to_string())
            .replace("{low}", &self.low.to_string())
            .replace("{high}", &self.high.to_string())
    }
}

/// How much a new partition spans at most.
#[derive(Debug)]
pub(crate) struct Width {
    bytes: AtomicU64,
    most: AtomicU64,
}

impl Default for Width {
    fn default() -> Self {
        Width { bytes: AtomicU64::new(u64::MAX), most: AtomicU64::new(u64::MAX) }
    }
}

impl Width {
    /// So much, and each one made after that twice as much as the one before it, as far as `most`: what was thought of before a
    /// burst does not cut that to pieces.
    pub(crate) fn set(&self, bytes: u64, most: u64) {
        self.most.store(most, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// One was made.
    fn made(&self, bytes: u64) {
        let next = bytes.saturating_mul(2).min(self.most.load(Ordering::Relaxed));
        self.bytes.fetch_max(next, Ordering::Relaxed);
    }
}

/// The partitions of one epoch: those that are there, and what the next ones will be.
#[derive(Debug)]
pub(crate) struct Partitions {
    epoch: Epoch,
    /// Width of an epoch's stretches, not 0.
    width: u64,
    /// A new partition should not span more.
    wanted: Arc<Width>,
    /// Ends by beginnings.
    known: BTreeMap<u64, u64>,
}

impl Partitions {
    /// Of an epoch of this width, with those that are there.
    pub(crate) fn new(
        epoch: Epoch,
        width: u64,
        wanted: Arc<Width>,
        known: impl IntoIterator<Item = (Lsn, Lsn)>,
    ) -> Self {
        let known = known.into_iter().map(|(low, high)| (low.0, high.0)).collect();
        Partitions { epoch, width, wanted, known }
    }

    /// The partition that holds a transaction committed at `commit_lsn`: the same one each time.
    pub(crate) fn of(&mut self, commit_lsn: Lsn) -> Partition {
        let lsn = commit_lsn.0;
        let before = self.known.range(..=lsn).next_back().map(|(low, high)| (*low, *high));
        if let Some((low, high)) = before.filter(|(_, high)| lsn < *high) {
            return self.partition(low, high);
        }
        let (low, bytes) = part_of(lsn, self.width, self.wanted.bytes());
        self.wanted.made(bytes);
        // The last partition before the end of all LSNs is a byte short: no commit record begins at the last byte.
        let high = low.saturating_add(bytes);
        let low = before.map_or(low, |(_, end)| low.max(end));
        let high = self.known.range(lsn..).next().map_or(high, |(next, _)| high.min(*next));
        self.known.insert(low, high);
        if self.known.len() > KNOWN_MAX {
            self.known.pop_first();
        }
        self.partition(low, high)
    }

    fn partition(&self, low: u64, high: u64) -> Partition {
        Partition { epoch: self.epoch, low: Lsn(low), high: Lsn(high) }
    }
}

/// The half, or the half of a half, and so on, of the stretch of this width around an LSN that spans no more than is wanted, as far
/// as it can be halved: where it begins and what it spans.
fn part_of(lsn: u64, width: u64, wanted: u64) -> (u64, u64) {
    let (mut low, mut bytes) = (lsn - lsn % width, width);
    while bytes > wanted && bytes.is_multiple_of(2) {
        bytes /= 2;
        if lsn - low >= bytes {
            low += bytes;
        }
    }
    (low, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const GIB_16: u64 = 16 * GIB;

    fn of(epoch: u32, wanted: u64, known: &[(u64, u64)]) -> Partitions {
        let known = known.iter().map(|(low, high)| (Lsn(*low), Lsn(*high)));
        let width = Width::default();
        width.set(wanted, u64::MAX);
        Partitions::new(Epoch(epoch), GIB_16, Arc::new(width), known)
    }

    fn bounds(partitions: &mut Partitions, lsn: u64) -> (u64, u64) {
        let Partition { low, high, .. } = partitions.of(Lsn(lsn));
        (low.0, high.0)
    }

    #[test]
    fn bounds_are_multiples_of_the_width() {
        let mut all = of(1, u64::MAX, &[]);
        assert_eq!(bounds(&mut all, 0), bounds(&mut all, GIB_16 - 1));
        assert_ne!(bounds(&mut all, GIB_16 - 1), bounds(&mut all, GIB_16));
        let second = all.of(Lsn(GIB_16 + 5));
        assert_eq!(second.name(), "change_history_e1_0000000400000000");
        let sql = second.create_statements();
        assert!(sql.contains("FROM (1, '4/0') TO (1, '8/0')"), "{sql}");
        assert!(!sql.contains('{'), "{sql}");
    }

    #[test]
    fn a_partition_spans_no_more_than_is_wanted_and_stays_what_it_is() {
        let mut all = of(1, 3 * GIB, &[]);
        assert_eq!(bounds(&mut all, 5 * GIB), (4 * GIB, 6 * GIB));
        all.wanted.set(u64::MAX, u64::MAX);
        assert_eq!(bounds(&mut all, 5 * GIB + 7), (4 * GIB, 6 * GIB));
        // What is there already is left out of the next.
        assert_eq!(bounds(&mut all, 7 * GIB), (6 * GIB, GIB_16));
        assert_eq!(bounds(&mut all, GIB), (0, 4 * GIB));
        assert_eq!(bounds(&mut all, GIB_16), (GIB_16, 2 * GIB_16));
    }

    /// After a quiet time little is wanted, and then much comes before anybody has looked again.
    #[test]
    fn a_burst_does_not_make_a_thousand_partitions() {
        let mut all = of(1, 16 << 20, &[]);
        let mut made = std::collections::BTreeSet::new();
        let mut fill = |all: &mut Partitions, from: u64| {
            made.clear();
            made.extend((0..100 * GIB / (8 << 20)).map(|n| all.of(Lsn(from + n * (8 << 20)))));
            made.len()
        };
        assert!(fill(&mut all, 0) <= 20);
        all.wanted.set(16 << 20, 64 << 20);
        assert!(fill(&mut all, 112 * GIB) > 1_000, "they do not get wider than they may");
        assert_eq!(all.of(Lsn(400 * GIB)).high.0, 400 * GIB + (64 << 20));
        all.wanted.set(16 << 20, u64::MAX);
        assert_eq!(all.of(Lsn(500 * GIB)).high.0, 500 * GIB + (16 << 20), "and begin anew");
    }

    /// A history from before partitions could be narrower.
    #[test]
    fn a_wide_partition_that_is_there_is_filled_first() {
        let mut all = of(1, GIB, &[(0, GIB_16)]);
        assert_eq!(bounds(&mut all, 5 * GIB), (0, GIB_16));
        assert_eq!(bounds(&mut all, GIB_16), (GIB_16, GIB_16 + GIB));
    }

    #[test]
    fn whatever_is_wanted_no_two_overlap() {
        let mut all = of(1, GIB, &[]);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..400_u64 {
            let lsn = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (4 * GIB_16);
            all.wanted.set((n % 7 + 1) * GIB / 3, u64::MAX);
            let (low, high) = bounds(&mut all, lsn);
            assert!(low <= lsn && lsn < high);
            seen.insert((low, high));
        }
        let seen: Vec<_> = seen.into_iter().collect();
        assert!(seen.windows(2).all(|two| two[0].1 <= two[1].0), "{seen:x?}");
    }

    /// PostgreSQL cuts longer names off, and then an index would not be found by its name.
    #[test]
    fn an_index_can_be_named_as_its_partition_with_an_ending() {
        let longest = of(u32::MAX, u64::MAX, &[]).of(Lsn(u64::MAX)).name() + "_transaction_idx";
        assert!(longest.len() <= 63, "{longest}");
    }

    #[test]
    fn the_last_partition_does_not_wrap_around() {
        let sql = of(2, u64::MAX, &[]).of(Lsn(u64::MAX - 1)).create_statements();
        assert!(sql.contains("TO (2, 'FFFFFFFF/FFFFFFFF')"), "{sql}");
    }
}
