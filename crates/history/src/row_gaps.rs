//! The stretches of history in which rows of a table may be other than its changes say.
//!
//! What happened unseen happened somewhere between the place where a gap begins and the one where it was noticed. A change in
//! between tells the row as it was at that change, and not how long it stayed so; what committed behind tells rows as they are
//! again. Where it is not known where a gap was noticed, or that place did not survive the end of its epoch, the gap reaches as
//! far as it was open. What opens and ends gaps is not known here.

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use waldelta_wal::{EndLsn, Epoch, Position};

use crate::sql_row::{lsn_at, optional_lsn_at};
use crate::{Error, History, Lineage};

const ROW_GAPS: &str = include_str!("../../../sql/queries/row_gaps.sql");

/// Gaps of a table that are looked at, the newest. Where there are more, nothing is known of what was before these.
const GAPS_MAX: usize = 1_000;

/// The gaps that concern one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowGaps {
    /// In order, with something known between each two.
    stretches: Vec<GapStretch>,
}

/// From behind a position on rows may have changed unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GapStretch {
    /// What is at or before it is known.
    pub(crate) from: Position,
    /// What is at or before it may be wrong; `None`: all that comes.
    pub(crate) until: Option<Position>,
}

impl GapStretch {
    /// Whether a row as of this position is not known.
    pub(crate) fn covers(&self, at: Position) -> bool {
        self.from <= at && self.until.is_none_or(|until| at <= until)
    }
}

impl RowGaps {
    fn new(mut found: Vec<GapStretch>) -> Self {
        found.sort_unstable_by_key(|gap| gap.from);
        let mut stretches: Vec<GapStretch> = Vec::with_capacity(found.len());
        for gap in found {
            match stretches.last_mut() {
                Some(last) if last.covers(gap.from) => {
                    last.until = last.until.zip(gap.until).map(|(last, other)| last.max(other));
                }
                _ => stretches.push(gap),
            }
        }
        RowGaps { stretches }
    }

    /// The last that begins at or before a position.
    pub(crate) fn last(&self, upto: Position) -> Option<GapStretch> {
        let count = self.stretches.partition_point(|gap| gap.from <= upto);
        self.stretches[..count].last().copied()
    }

    /// Whether a change at this position lies in one.
    pub(crate) fn has(&self, change: Position) -> bool {
        self.last(change).is_some_and(|gap| gap.covers(change))
    }

    /// Those that begin after one position and at or before another.
    pub(crate) fn between(&self, after: Option<Position>, upto: Position) -> &[GapStretch] {
        let from = after.map_or(0, |after| self.stretches.partition_point(|gap| gap.from <= after));
        let to = self.stretches.partition_point(|gap| gap.from <= upto);
        &self.stretches[from..to.max(from)]
    }
}

impl History {
    pub(crate) async fn row_gaps(&self, table_oid: u32, lineage: &Lineage) -> Result<RowGaps, Error> {
        let failed = |source| Error::Read { what: "gaps of a table", source };
        let limit = i64::try_from(GAPS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let query = sqlx::query(ROW_GAPS).bind(Oid(table_oid)).bind(limit);
        let rows = query.fetch_all(self.pool()).await.map_err(failed)?;
        let stored = rows.iter().map(stored).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut gaps: Vec<_> = stored.iter().filter_map(|gap| gap.stretch(lineage)).collect();
        if stored.len() > GAPS_MAX {
            let until = gaps.iter().map(|gap| gap.from).min();
            gaps.push(GapStretch { from: Position::default(), until });
        }
        Ok(RowGaps::new(gaps))
    }
}

/// A gap as it is stored.
#[derive(Clone, Copy, Debug)]
struct StoredGap {
    from: (Epoch, EndLsn),
    /// Where it was noticed.
    found: Option<(Epoch, EndLsn)>,
    to: Option<(Epoch, EndLsn)>,
}

impl StoredGap {
    /// `None` for one of what did not survive.
    fn stretch(&self, lineage: &Lineage) -> Option<GapStretch> {
        let before = |(epoch, end)| Position::before(epoch, end);
        let has_survived =
            |position: &Position| lineage.last_position(position.epoch).is_none_or(|last| *position <= last);
        let from = Some(before(self.from)).filter(has_survived)?;
        let found = self.found.map(before).filter(has_survived);
        let until = found.or_else(|| self.to.map(before)).map(|until| until.max(from));
        Some(GapStretch { from, until })
    }
}

fn stored(row: &PgRow) -> Result<StoredGap, sqlx::Error> {
    let place = |epoch: Option<i32>, lsn| Some((Epoch(epoch?.cast_unsigned()), EndLsn(lsn?)));
    Ok(StoredGap {
        from: (Epoch(row.try_get::<i32, _>(0)?.cast_unsigned()), EndLsn(lsn_at(row, 1)?)),
        found: place(row.try_get(2)?, optional_lsn_at(row, 3)?),
        to: place(row.try_get(4)?, optional_lsn_at(row, 5)?),
    })
}

#[cfg(test)]
mod tests {
    use waldelta_wal::Lsn;

    use super::*;
    use crate::EpochSpan;

    fn at(lsn: u64) -> Position {
        Position::whole(Epoch(1), Lsn(lsn))
    }

    fn gap(from: u64, until: Option<u64>) -> GapStretch {
        GapStretch { from: at(from), until: until.map(at) }
    }

    #[test]
    fn gaps_that_touch_are_one() {
        let of = |gaps: &[(u64, Option<u64>)]| {
            RowGaps::new(gaps.iter().map(|(from, until)| gap(*from, *until)).collect()).stretches
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[(30, Some(40)), (10, Some(20))]), [gap(10, Some(20)), gap(30, Some(40))]);
        assert_eq!(of(&[(10, Some(20)), (20, Some(15)), (12, Some(30))]), [gap(10, Some(30))]);
        assert_eq!(
            of(&[(10, Some(40)), (20, Some(30)), (41, Some(41))]),
            [gap(10, Some(40)), gap(41, Some(41))]
        );
        assert_eq!(of(&[(10, None), (20, Some(30)), (5, Some(7))]), [gap(5, Some(7)), gap(10, None)]);
        assert_eq!(of(&[(10, Some(20)), (15, None)]), [gap(10, None)]);
    }

    #[test]
    fn a_place_is_in_a_gap_from_its_beginning_to_its_end() {
        let gaps = RowGaps::new(vec![gap(10, Some(20)), gap(30, Some(30)), gap(40, None)]);
        for (lsn, is_in, begun) in [
            (9, false, None),
            (10, true, Some(10)),
            (20, true, Some(10)),
            (21, false, Some(10)),
            (30, true, Some(30)),
            (31, false, Some(30)),
            (90, true, Some(40)),
        ] {
            assert_eq!(gaps.has(at(lsn)), is_in, "{lsn}");
            assert_eq!(gaps.last(at(lsn)).map(|gap| gap.from), begun.map(at), "{lsn}");
        }
        let between = |after: Option<u64>, upto| -> Vec<u64> {
            gaps.between(after.map(at), at(upto)).iter().map(|gap| gap.from.commit_lsn.0).collect()
        };
        assert_eq!(between(None, 30), [10, 30]);
        assert_eq!((between(Some(10), 40), between(Some(9), 9)), (vec![30, 40], vec![]));
        assert_eq!(between(Some(40), 20), [0; 0]);
    }

    #[test]
    fn a_gap_reaches_to_where_it_was_noticed_if_that_survived() {
        let span = |epoch, start, end: Option<u64>| EpochSpan {
            epoch: Epoch(epoch),
            previous: None,
            start: EndLsn(Lsn(start)),
            end: end.map(|end| EndLsn(Lsn(end))),
            continues: true,
            fork: None,
            reason: String::new(),
            started_at_us: 0,
        };
        let lineage = Lineage::new(vec![span(1, 0, Some(100)), span(2, 100, None)]);
        let in_epoch = |epoch, lsn| (Epoch(epoch), EndLsn(Lsn(lsn)));
        let until = |epoch, lsn: u64| Some(Position::whole(Epoch(epoch), Lsn(lsn - 1)));
        for (from, found, to, expected) in [
            ((1, 50), Some((1, 60)), None, Some(until(1, 60))),
            ((1, 50), Some((1, 60)), Some((2, 200)), Some(until(1, 60))),
            ((1, 50), Some((1, 100)), None, Some(until(1, 100))),
            // Noticed at a place that did not survive.
            ((1, 50), Some((1, 101)), None, Some(None)),
            ((1, 50), Some((1, 101)), Some((2, 200)), Some(until(2, 200))),
            ((2, 100), Some((1, 120)), None, Some(None)),
            // It is not known where.
            ((1, 50), None, None, Some(None)),
            ((1, 50), None, Some((1, 70)), Some(until(1, 70))),
            // Between two epochs: there is nothing in it but its ends.
            ((1, 100), None, Some((2, 100)), Some(until(2, 100))),
            ((1, 120), Some((1, 130)), None, None),
            ((2, 300), Some((2, 300)), None, Some(until(2, 300))),
        ] {
            let place = |(epoch, lsn)| in_epoch(epoch, lsn);
            let stored = StoredGap { from: place(from), found: found.map(place), to: to.map(place) };
            let stretch = stored.stretch(&lineage);
            assert_eq!(stretch.map(|gap| gap.until), expected, "{stored:?}");
            let begins = Position::before(Epoch(from.0), EndLsn(Lsn(from.1)));
            assert!(stretch.is_none_or(|gap| gap.from == begins), "{stored:?}");
        }
    }
}
