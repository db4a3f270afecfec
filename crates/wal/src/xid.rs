//! Transaction ids: widening the 32 bits that the WAL has, and which transactions a snapshot sees.

use std::fmt;
use std::str::FromStr;

/// Widens 32-bit transaction ids to 64 bits (`xid8`), by nearness to the newest one known.
///
/// PostgreSQL never lets transactions that still matter lie 2^31 or more apart, so the nearest id with these low bits is
/// the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XidWidener {
    reference: u64,
}

impl XidWidener {
    /// Starts from an id of the source's own, such as `pg_snapshot_xmax(pg_current_snapshot())`.
    pub fn new(reference: u64) -> Self {
        XidWidener { reference }
    }

    /// The 64-bit id, and moves the reference on to it if it is newer.
    pub fn widen(&mut self, xid: u32) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are what is compared")]
        let low = self.reference as u32;
        let distance = i64::from(xid.wrapping_sub(low).cast_signed());
        // Below zero there was no transaction: then the id is of the very first 2^32.
        let wide = self.reference.checked_add_signed(distance).unwrap_or_else(|| xid.into());
        self.reference = self.reference.max(wide);
        wide
    }

    /// The newest id known.
    pub fn reference(&self) -> u64 {
        self.reference
    }
}

/// A snapshot as `pg_current_snapshot()` prints it: `xmin:xmax:xip,xip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSnapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted, without duplicates, all in `xmin..xmax`.
    in_progress: Vec<u64>,
}

impl PgSnapshot {
    /// Every transaction below was over when the snapshot was taken.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// No transaction at or above is visible.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// The transactions below `xmax` that are not visible, in ascending order.
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Whether the snapshot sees a committed transaction of this id, as `pg_visible_in_snapshot` answers it.
    pub fn visible(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.in_progress.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

/// The text is not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot: expected xmin:xmax:xip,xip with ascending ids from xmin to below xmax")]
pub struct ParseSnapshotError;

impl FromStr for PgSnapshot {
    type Err = ParseSnapshotError;

    fn from_str(text: &str) -> Result<Self, ParseSnapshotError> {
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseSnapshotError);
        };
        let (xmin, xmax) = (parse_xid(xmin)?, parse_xid(xmax)?);
        let mut in_progress = Vec::new();
        for xid in list.split(',').filter(|_| !list.is_empty()) {
            let xid = parse_xid(xid)?;
            match in_progress.last() {
                Some(&last) if xid < last => return Err(ParseSnapshotError),
                Some(&last) if xid == last => {}
                _ => in_progress.push(xid),
            }
        }
        let in_range = in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
        if xmin == 0 || xmax < xmin || !in_range {
            return Err(ParseSnapshotError);
        }
        Ok(PgSnapshot { xmin, xmax, in_progress })
    }
}

fn parse_xid(digits: &str) -> Result<u64, ParseSnapshotError> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().map_err(|_| ParseSnapshotError) } else { Err(ParseSnapshotError) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn widens_across_the_wrap_both_ways() {
        let mut widener = XidWidener::new(0x1_0000_0005);
        assert_eq!(widener.widen(0xFFFF_FFF0), 0xFFFF_FFF0, "an older transaction of the epoch before");
        assert_eq!(widener.reference(), 0x1_0000_0005, "an older one does not move the reference back");
        assert_eq!(widener.widen(10), 0x1_0000_000A);
        let mut widener = XidWidener::new(0x1_FFFF_FFFF);
        assert_eq!(widener.widen(3), 0x2_0000_0003);
        assert_eq!(XidWidener::new(5).widen(0xFFFF_FFFF), 0xFFFF_FFFF, "there is nothing below zero");
    }

    #[test]
    fn sees_what_postgres_says_it_sees() {
        // select pg_visible_in_snapshot(x::text::xid8, '10:20:12,15') from generate_series(8, 21) x
        let snapshot: PgSnapshot = "10:20:12,15".parse().unwrap();
        let seen: Vec<u64> = (8..22).filter(|xid| snapshot.visible(*xid)).collect();
        assert_eq!(seen, [8, 9, 10, 11, 13, 14, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:12,15");
    }

    #[test]
    fn a_snapshot_without_transactions_in_progress() {
        let snapshot: PgSnapshot = "731:731:".parse().unwrap();
        assert!(snapshot.visible(730) && !snapshot.visible(731));
    }

    #[test]
    fn refuses_what_is_not_a_snapshot() {
        for text in [
            "", "1", "1:2", "1:2:3:4", "0:1:", "2:1:", "1:5:5", "2:5:1", "1:9:4,3", "1:9:,", "1:9:3,",
            "+1:2:", "a:b:", "1:2: ",
        ] {
            assert_eq!(text.parse::<PgSnapshot>(), Err(ParseSnapshotError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_id_within_half_the_range_is_found(reference in (1u64 << 32)..(1 << 60), offset: i32) {
            let wide = reference.checked_add_signed(offset.into()).unwrap();
            let mut widener = XidWidener::new(reference);
            #[expect(clippy::cast_possible_truncation, reason = "what the WAL has")]
            let narrow = wide as u32;
            prop_assert_eq!(widener.widen(narrow), wide);
            prop_assert_eq!(widener.reference(), wide.max(reference));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text.parse::<PgSnapshot>();
        }
    }
}
