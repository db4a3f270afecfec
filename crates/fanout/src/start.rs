//! Where a session begins: decided from the cursor that the client names and from what history has.
//!
//! Every cursor gets a typed answer: resumed, begun anew with a reason, or refused. Never a silent gap.

use waldelta_history::Lineage;
use waldelta_wal::{EndLsn, Position};

/// Why a client has to drop what it has, or some tables of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// What follows its cursor is no longer in history.
    HistoryPruned,
    /// Its cursor belongs to another history of the source.
    EpochChanged,
    /// Rows of a table changed in a way that no change tells.
    Gap,
    /// What may be seen is something else than before.
    PermissionChanged,
}

impl Reset {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reset::HistoryPruned => "history_pruned",
            Reset::EpochChanged => "epoch_changed",
            Reset::Gap => "gap",
            Reset::PermissionChanged => "permission_changed",
        }
    }
}

/// Where a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// After this position.
    Resume(Position),
    /// With a snapshot; the client has nothing, or must drop what it has.
    Snapshot(Option<Reset>),
    /// The cursor cannot be resumed, and the client wants no snapshot.
    Refuse(Reset),
}

/// What history has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The oldest cursor that can be resumed.
    pub floor: Position,
    /// The last durable position.
    pub head: Position,
    /// How epochs follow each other: for a cursor of another one than the head's.
    pub lineage: Lineage,
}

impl Extent {
    /// Whether everything after `cursor` is there; the position to go on from. One of an older epoch is read on from there,
    /// over the seam, where nothing of what its client has was lost.
    ///
    /// A cursor inside a transaction is where a frame was cut: the WebSocket sends that transaction again from its
    /// beginning when `whole_only` is asked for.
    pub(crate) fn resume(&self, cursor: Position, whole_only: bool) -> Result<Position, Reset> {
        let from = match cursor.is_whole() || !whole_only {
            true => cursor,
            false => Position::before(cursor.epoch, EndLsn(cursor.commit_lsn)),
        };
        let is_ours = match cursor.epoch == self.head.epoch {
            true => cursor <= self.head,
            false => self.lineage.can_continue(cursor),
        };
        if !is_ours {
            Err(Reset::EpochChanged)
        } else if from < self.floor {
            Err(Reset::HistoryPruned)
        } else {
            Ok(from)
        }
    }

    /// Where a WebSocket session begins. `after` is the cursor that the client named, `Some(None)` when it named an LSN
    /// that lies in no epoch's known range.
    pub(crate) fn start(&self, after: Option<Option<Position>>, snapshot: bool) -> Start {
        let resumed = match after {
            None if snapshot => return Start::Snapshot(None),
            None => return Start::Resume(self.head),
            Some(None) => Err(Reset::EpochChanged),
            Some(Some(cursor)) => self.resume(cursor, true),
        };
        match resumed {
            Ok(position) => Start::Resume(position),
            Err(reason) if snapshot => Start::Snapshot(Some(reason)),
            Err(reason) => Start::Refuse(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lineage, position_in};

    /// Every boundary: floor and head are themselves resumable, one beyond either is not.
    #[test]
    fn every_cursor_gets_a_typed_answer() {
        let cursor = |text: &str| text.parse::<Position>().unwrap();
        let extent = Extent {
            floor: cursor("00000002-0000000000000100-ffffffff"),
            head: cursor("00000002-0000000000000200-ffffffff"),
            lineage: Lineage::default(),
        };
        let resume = |text: &str| Start::Resume(cursor(text));
        let reset = |reason| Start::Snapshot(Some(reason));
        for (after, expected) in [
            ("00000002-0000000000000100-ffffffff", resume("00000002-0000000000000100-ffffffff")),
            ("00000002-0000000000000150-ffffffff", resume("00000002-0000000000000150-ffffffff")),
            ("00000002-0000000000000200-ffffffff", resume("00000002-0000000000000200-ffffffff")),
            // Inside a transaction: it is sent again from its beginning.
            ("00000002-0000000000000150-00000007", resume("00000002-000000000000014f-ffffffff")),
            ("00000002-0000000000000101-00000000", resume("00000002-0000000000000100-ffffffff")),
            ("00000002-0000000000000100-00000007", reset(Reset::HistoryPruned)),
            ("00000002-00000000000000ff-ffffffff", reset(Reset::HistoryPruned)),
            ("00000002-0000000000000000-00000000", reset(Reset::HistoryPruned)),
            ("00000002-0000000000000201-00000000", reset(Reset::EpochChanged)),
            ("00000002-0000000000000201-ffffffff", reset(Reset::EpochChanged)),
            ("00000002-ffffffffffffffff-ffffffff", reset(Reset::EpochChanged)),
            ("00000001-0000000000000150-ffffffff", reset(Reset::EpochChanged)),
            ("00000003-0000000000000150-ffffffff", reset(Reset::EpochChanged)),
            ("00000000-0000000000000000-00000000", reset(Reset::EpochChanged)),
        ] {
            assert_eq!(extent.start(Some(Some(cursor(after))), true), expected, "{after}");
            let refused = match expected {
                Start::Snapshot(Some(reason)) => Start::Refuse(reason),
                other => other,
            };
            assert_eq!(extent.start(Some(Some(cursor(after))), false), refused, "{after}, no snapshot");
        }
        assert_eq!(extent.start(Some(None), true), reset(Reset::EpochChanged), "an LSN of no known range");
        assert_eq!(extent.start(Some(None), false), Start::Refuse(Reset::EpochChanged));
        assert_eq!(extent.start(None, true), Start::Snapshot(None));
        assert_eq!(
            extent.start(None, false),
            Start::Resume(extent.head),
            "without a snapshot it begins at the head"
        );
        assert_eq!(
            extent.resume(cursor("00000002-0000000000000150-00000007"), false),
            Ok(cursor("00000002-0000000000000150-00000007")),
            "HTTP goes on inside the transaction"
        );
    }

    /// Epoch 5 goes on where epoch 2 ends; between 5 and 6 there is a gap, so that the floor has moved to 6.
    #[test]
    fn a_cursor_of_an_older_epoch_is_resumed_where_it_survived() {
        let continued = &[(2, 0x80, None), (5, 0x180, Some(true))];
        let mut extent = Extent {
            floor: position_in(2, 0x100),
            head: position_in(5, 0x1000),
            lineage: lineage(continued),
        };
        let whole = position_in;
        let inside = |epoch, lsn| Position { index: 7, ..whole(epoch, lsn) };
        for (cursor, from) in [
            (whole(2, 0x17f), Ok(whole(2, 0x17f))),
            (whole(2, 0x100), Ok(whole(2, 0x100))),
            (inside(2, 0x150), Ok(whole(2, 0x14f))),
            (whole(5, 0x17f), Ok(whole(5, 0x17f))),
            (whole(2, 0xff), Err(Reset::HistoryPruned)),
            // What did not survive, whole or in part.
            (whole(2, 0x180), Err(Reset::EpochChanged)),
            (inside(2, 0x180), Err(Reset::EpochChanged)),
            (whole(2, 0xffff), Err(Reset::EpochChanged)),
            (whole(5, 0x1001), Err(Reset::EpochChanged)),
            (whole(3, 0x120), Err(Reset::EpochChanged)),
            (whole(6, 0x120), Err(Reset::EpochChanged)),
        ] {
            assert_eq!(extent.resume(cursor, true), from, "{cursor}");
        }
        extent.lineage = lineage(&[continued[0], continued[1], (6, 0x2000, Some(false))]);
        (extent.floor, extent.head) = (whole(6, 0x1fff), whole(6, 0x3000));
        for cursor in [whole(2, 0x17f), whole(5, 0x17f), whole(5, 0x1fff)] {
            assert_eq!(extent.resume(cursor, true), Err(Reset::EpochChanged), "{cursor}");
        }
    }
}
