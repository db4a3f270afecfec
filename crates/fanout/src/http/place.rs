//! Places in history that a request names: a cursor, an LSN or a time; and the positions that they stand for.

use std::str::FromStr;

use waldelta_wal::{Code, Epoch, Lsn, Position};

use super::problem::Problem;
use super::time;
use crate::error::Error;
use crate::inner::Inner;
use crate::start::{Extent, Reset};
use crate::wire::client::After;

/// A place as it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Everything up to and including a cursor, or everything strictly before an LSN.
    After(After),
    /// A time, in microseconds since 1970-01-01 UTC.
    Time(i64),
}

impl FromStr for Place {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Some(us) = time::parse(text) {
            return Ok(Place::Time(us));
        }
        text.parse().map(Place::After).map_err(|_| {
            let detail = "neither a cursor, nor an LSN such as \"0/16B3748\", nor a time such as \"2026-11-03T12:00:00Z\"";
            Problem::bad_request(Code::CursorInvalid, detail)
        })
    }
}

/// Which of two sides of a time is meant: commit times do not rise with positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Nothing that committed at the time or later is before the position.
    From,
    /// Everything before the position committed at the time or earlier.
    To,
}

impl Place {
    /// The position that it stands for, with what history has then. It lies in what is known and has survived.
    pub(super) async fn resolve(self, inner: &Inner, edge: Edge) -> Result<(Position, Extent), Problem> {
        let cursor = match self {
            Place::After(After::Cursor(cursor)) => Some(cursor),
            Place::After(After::Lsn(lsn)) => {
                let cursor = inner.history.cursor_of_lsn(lsn).await.map_err(unavailable)?;
                Some(cursor.ok_or_else(|| not_resumable(Reset::EpochChanged))?)
            }
            Place::Time(_) => None,
        };
        let extent = inner.extent(cursor).await.map_err(|error| Problem::unavailable(&error))?;
        let position = match (self, cursor) {
            (Place::Time(us), _) => {
                let us = if edge == Edge::To { us.saturating_add(1) } else { us };
                let floor = Position { epoch: Epoch(0), commit_lsn: Lsn(0), index: 0 };
                inner.history.position_before_time(us, floor, extent.head).await.map_err(unavailable)?
            }
            (_, Some(cursor)) => cursor,
            (_, None) => extent.head,
        };
        let survived = match position.epoch == extent.head.epoch {
            true => position <= extent.head,
            // Also from before a gap: what was stored then is still there.
            false => inner
                .history
                .lineage()
                .await
                .map_err(unavailable)?
                .last_position(position.epoch)
                .is_some_and(|last| position <= last),
        };
        match survived {
            true => Ok((position, extent)),
            false => Err(not_resumable(Reset::EpochChanged)),
        }
    }
}

/// The answer to a cursor that cannot be gone on from.
pub(super) fn not_resumable(reason: Reset) -> Problem {
    let detail = format!("the cursor cannot be resumed: {}", reason.as_str());
    Problem::new(axum::http::StatusCode::GONE, Code::CursorNotResumable, detail)
}

pub(super) fn unavailable(error: waldelta_history::Error) -> Problem {
    Problem::unavailable(&Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_cursor_an_lsn_or_a_time() {
        let place = |text: &str| text.parse::<Place>().map_err(|problem| problem.code);
        let cursor = "00000001-00000000016b3748-ffffffff";
        assert_eq!(place(cursor), Ok(Place::After(After::Cursor(cursor.parse().unwrap()))));
        assert_eq!(place("0/16B3748"), Ok(Place::After(After::Lsn(Lsn(0x16b_3748)))));
        assert_eq!(place("1970-01-01T00:00:01Z"), Ok(Place::Time(1_000_000)));
        for text in ["", "now", "1970-01-01", "7"] {
            assert_eq!(place(text), Err(Code::CursorInvalid), "{text}");
        }
    }
}
