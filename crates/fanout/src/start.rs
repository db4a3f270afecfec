//! Where a session begins: decided from the cursor that the client names and from what history has.
//!
//! Every cursor gets a typed answer: resumed, begun anew with a reason, or refused. Never a silent gap.

use waldelta_wal::{EndLsn, Position};

/// Why a client has to drop what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// What follows its cursor is no longer in history.
    HistoryPruned,
    /// Its cursor belongs to another history of the source.
    EpochChanged,
}

impl Reset {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reset::HistoryPruned => "history_pruned",
            Reset::EpochChanged => "epoch_changed",
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The oldest cursor that can be resumed.
    pub floor: Position,
    /// The last durable position.
    pub head: Position,
}

impl Extent {
    /// Whether everything after `cursor` is there; the position to go on from.
    ///
    /// A cursor inside a transaction is where a frame was cut: the WebSocket sends that transaction again from its
    /// beginning when `whole_only` is asked for.
    pub(crate) fn resume(self, cursor: Position, whole_only: bool) -> Result<Position, Reset> {
        let from = match cursor.is_whole() || !whole_only {
            true => cursor,
            false => Position::before(cursor.epoch, EndLsn(cursor.commit_lsn)),
        };
        if cursor.epoch != self.head.epoch || cursor > self.head {
            Err(Reset::EpochChanged)
        } else if from < self.floor {
            Err(Reset::HistoryPruned)
        } else {
            Ok(from)
        }
    }

    /// Where a WebSocket session begins. `after` is the cursor that the client named, `Some(None)` when it named an LSN
    /// that lies in no epoch's known range.
    pub(crate) fn start(self, after: Option<Option<Position>>, snapshot: bool) -> Start {
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

    /// Every boundary: floor and head are themselves resumable, one beyond either is not.
    #[test]
    fn every_cursor_gets_a_typed_answer() {
        let cursor = |text: &str| text.parse::<Position>().unwrap();
        let extent = Extent {
            floor: cursor("00000002-0000000000000100-ffffffff"),
            head: cursor("00000002-0000000000000200-ffffffff"),
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
}
