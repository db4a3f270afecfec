//! The row as of a place as whoever asks sees it.
//!
//! What they see follows from what they are told of alone: a row that was never told is as one that never was, also in what is not
//! known of that; and one that was told to go is gone, whatever befell it since.

use waldelta_history::{RowEntry, RowHistory};
use waldelta_wal::Position;

use super::state::{NEVER, SEARCH, State, has_key};
use super::turn::Turn;
use super::versions::{ENTRIES_AT_ONCE, PAGE, is_seen};
use crate::error::Error;
use crate::http::lens::{Lens, Sight};
use crate::http::place::unavailable;
use crate::http::problem::Problem;

/// A row as of a place.
pub(super) struct Found {
    /// As history has it.
    pub(super) state: State,
    /// As it is seen.
    pub(super) seen: State,
    /// What made it as it is seen, and what of that is seen. `None`: nothing did, as far as is told.
    pub(super) entry: Option<RowEntry>,
    pub(super) sight: Sight,
}

pub(super) async fn at(
    rows: &RowHistory<'_>,
    key: &str,
    at: Position,
    lens: &mut Lens,
    turn: &mut Turn<'_>,
) -> Result<Found, Problem> {
    let failed = |error: Error| Problem::unavailable(&error);
    let mut reads = SEARCH;
    let (state, entry) = State::at(rows, key, at, &mut reads).await.map_err(failed)?;
    let sight = lens.look_at(entry.as_ref());
    if !lens.hides() {
        return Ok(Found { seen: state.clone(), state, entry, sight });
    }
    let seen = state.seen(&sight);
    if seen.image().is_some() {
        return Ok(Found { state, seen, entry, sight });
    }
    let mut reads = SEARCH;
    let (never, nothing) = State::at(rows, NEVER, at, &mut reads).await.map_err(failed)?;
    // From there on nothing befell all rows.
    let since = match (&never, &nothing) {
        (State::Unread(cut), _) => Some(cut.at),
        (_, Some(RowEntry::Gap { until, .. })) => Some(until.unwrap_or(at)),
        (_, Some(entry @ RowEntry::Change(_))) => Some(entry.position()),
        (_, None) => rows.pruned(),
    };
    // Where it is known that there was no row, it plays no role whether one was told to go.
    let is_known = never == State::Absent && (nothing.is_some() || since.is_none());
    let went = match is_known {
        true => None,
        false => went(rows, key, since, at, lens, turn).await?,
    };
    Ok(match went {
        Some(entry) => Found { state, seen: State::Absent, entry: Some(entry), sight },
        None => Found { state, seen: never, entry: nothing, sight },
    })
}

/// The last that was told of the row after `since`, where that is that it went.
async fn went(
    rows: &RowHistory<'_>,
    key: &str,
    since: Option<Position>,
    at: Position,
    lens: &mut Lens,
    turn: &mut Turn<'_>,
) -> Result<Option<RowEntry>, Problem> {
    let (mut from, mut went) = (since, None);
    loop {
        turn.again().await?;
        let mut reads = PAGE;
        let page = rows.versions(key, from, at, ENTRIES_AT_ONCE, &mut reads).await.map_err(unavailable)?;
        for entry in page.entries {
            let sight = lens.look_at(Some(&entry));
            if let RowEntry::Change(it) = &entry
                && is_seen(it, key, &sight)
            {
                let stays = has_key(it, key) && sight.after;
                went = (!stays).then_some(entry);
            }
        }
        if !page.has_more {
            return Ok(went);
        }
        from = Some(page.through);
    }
}
