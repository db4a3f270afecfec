//! What has to go: decided from how much is kept, what there is, how old it is, and what clients have yet to read. Purely.
//!
//! Whole partitions go, the oldest first. One that reaches into what is kept stays, unless it has become much too old: history that
//! has slowed down fills its last partition for a long time, and then what is old in it is removed row by row.

use std::time::Duration;

use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

use crate::Retention;
use crate::partition::Partition;
use crate::retention::{PARTITION_BYTES_MIN, PARTS, size_partition_bytes};

/// Of a partition that cannot go as a whole, rows are removed when the oldest have been there for an eighth longer than they should.
const OVERDUE_DIVISOR: i64 = 8;
/// What clients have yet to read stays for twice as long, or as much, as it would; then it goes nevertheless.
const HELD_FACTOR: u32 = 2;
/// A client holds for this long after it was here what it has not acknowledged.
pub(crate) const CLIENT_HOLDS: Duration = Duration::from_secs(60 * 60);
/// With more partitions than this, new ones get their full width.
const PARTITIONS_MAX: usize = 500;

/// A place: before it are all changes of earlier epochs, and those of its own that committed strictly below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: Epoch,
    pub(crate) lsn: Lsn,
}

impl Place {
    /// Behind a position, of which a client may have the transaction in part.
    fn behind(position: Position) -> Self {
        let lsn = match position.is_whole() {
            true => Lsn(position.commit_lsn.0.saturating_add(1)),
            false => position.commit_lsn,
        };
        Place { epoch: position.epoch, lsn }
    }

    /// The last position before it.
    pub(crate) fn cursor(self) -> Position {
        Position::before(self.epoch, EndLsn(self.lsn))
    }
}

/// At this time everything before this place was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) place: Place,
    pub(crate) at_us: i64,
}

/// What there is.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    pub(crate) now_us: i64,
    /// The durable end.
    pub(crate) head: Place,
    /// What lies before it was pruned.
    pub(crate) pruned: Option<Place>,
    /// Oldest first, each with its bytes.
    pub(crate) partitions: Vec<(Partition, u64)>,
    /// In order, the last at the head.
    pub(crate) marks: Vec<Mark>,
    /// The oldest cursor that a client which was here of late has acknowledged.
    pub(crate) oldest_ack: Option<Position>,
}

/// What has to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Oldest first.
    pub(crate) drops: Vec<(Partition, u64)>,
    /// What lies before this place in this partition.
    pub(crate) thins: Option<(Partition, Place)>,
    /// Something stays because a client has yet to read it.
    pub(crate) is_held: bool,
}

impl Plan {
    pub(crate) fn new(retention: Retention, force: bool, holdings: &Holdings) -> Self {
        let Some(wanted) = holdings.bound(retention, 1) else { return Plan::default() };
        let mut bound = wanted;
        if !force && let Some(ack) = holdings.oldest_ack.map(Place::behind) {
            bound = bound.min(ack);
            if let Some(anyway) = holdings.bound(retention, HELD_FACTOR) {
                bound = bound.max(anyway);
            }
        }
        let goes = |place: Place| {
            let parts = holdings.partitions.iter();
            parts.take_while(move |(part, _)| part.end() <= place).copied().collect::<Vec<_>>()
        };
        let drops = goes(bound);
        let is_held = drops.len() < goes(wanted).len();
        let next = holdings.partitions.get(drops.len()).map(|(part, _)| *part);
        let thins =
            next.filter(|part| holdings.is_overdue(*part, retention, bound)).map(|part| (part, bound));
        Plan { drops, thins, is_held }
    }
}

impl Partition {
    /// Where it begins.
    pub(crate) fn begin(self) -> Place {
        Place { epoch: self.epoch, lsn: self.low }
    }

    /// What is in it lies before this place.
    pub(crate) fn end(self) -> Place {
        Place { epoch: self.epoch, lsn: self.high }
    }
}

impl Holdings {
    /// What lies before it is not to be kept, by this much (`factor` times).
    fn bound(&self, retention: Retention, factor: u32) -> Option<Place> {
        match retention {
            Retention::Off => None,
            Retention::Age(age) => {
                self.stored_by(self.now_us.saturating_sub(micros(age.saturating_mul(factor))))
            }
            Retention::Size(bytes) => self.beyond(bytes.saturating_mul(factor.into())),
        }
    }

    /// Where what was stored by a time ends, as far as is known.
    fn stored_by(&self, time_us: i64) -> Option<Place> {
        self.marks.iter().take_while(|mark| mark.at_us <= time_us).last().map(|mark| mark.place)
    }

    /// Where the oldest partitions end that are too much. The one that is written stays.
    fn beyond(&self, bytes_max: u64) -> Option<Place> {
        let mut bytes: u64 = self.partitions.iter().map(|(_, bytes)| bytes).sum();
        let mut beyond = None;
        for (part, its_bytes) in &self.partitions {
            if bytes <= bytes_max || part.end() > self.head {
                break;
            }
            bytes = bytes.saturating_sub(*its_bytes);
            beyond = Some(part.end());
        }
        beyond
    }

    /// Whether a partition that cannot go has had what should not be kept for too long.
    fn is_overdue(&self, part: Partition, retention: Retention, bound: Place) -> bool {
        let Retention::Age(age) = retention else { return false };
        // What was there before the place up to which was pruned is gone, or as good as gone.
        let begin = self.pruned.map_or(part.begin(), |pruned| part.begin().max(pruned));
        let age_us = micros(age);
        let overdue =
            self.stored_by(self.now_us.saturating_sub(age_us.saturating_add(age_us / OVERDUE_DIVISOR)));
        begin < bound && overdue.is_some_and(|overdue| begin < overdue)
    }

    /// WAL bytes that a new partition should span at most.
    pub(crate) fn partition_bytes(&self, retention: Retention) -> Option<u64> {
        if self.partitions.len() > PARTITIONS_MAX {
            return Some(u64::MAX);
        }
        let age = match retention {
            Retention::Off => return Some(u64::MAX),
            Retention::Size(bytes) => return Some(size_partition_bytes(bytes)),
            Retention::Age(age) => age,
        };
        let part_us = micros(age / PARTS);
        // Of the last while, in this epoch.
        let since = self.now_us.saturating_sub(part_us.saturating_mul(2));
        let mut of_late = self.marks.iter().filter(|mark| mark.place.epoch == self.head.epoch);
        let first = of_late.find(|mark| mark.at_us >= since)?;
        let took_us = u128::try_from(self.now_us - first.at_us).ok().filter(|us| *us > 1_000_000)?;
        let wal_bytes = u128::from(self.head.lsn.0.saturating_sub(first.place.lsn.0));
        let bytes = wal_bytes * u128::try_from(part_us).unwrap_or_default() / took_us;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX).max(PARTITION_BYTES_MIN))
    }

    /// How long ago the oldest that is left was stored, at most; `None` where that is not known.
    pub(crate) fn age(&self, floor: Place) -> Option<Duration> {
        let first = self.marks.iter().find(|mark| mark.place >= floor)?;
        u64::try_from(self.now_us - first.at_us).ok().map(Duration::from_micros)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
