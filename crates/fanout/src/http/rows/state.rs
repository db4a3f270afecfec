//! The row as it was after each entry of its history: what the source did not send is taken from earlier entries.
//!
//! What is not known stays unknown: after a reset, a gap, or a change that was left out, nothing is carried over; nor in a gap. How
//! far it is looked for is bounded by the caller, for all that it asks together; where it ends, and how to go on, is told.

use std::borrow::Cow;

use waldelta_history::{Last, Reads, RowChange, RowEntry, RowHistory};
use waldelta_wal::{EndLsn, Operation, Position};

use super::image::Image;
use crate::error::Error;
use crate::http::lens::Sight;

/// What is read at most to put one row together, or all rows of an answer that do not follow from the one before them: earlier
/// entries that are looked for, each of which tells a column that was missing, or an earlier key; and the bytes of their images.
pub(super) const SEARCH: Reads = Reads { queries: 200, bytes: 4 * 1024 * 1024 };

/// The key of a row that never was: keys are JSON arrays.
pub(super) const NEVER: &str = "";

/// A row at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no row with this key, as far as history knows.
    Absent,
    /// There is. Where columns are missing: how far they were looked for, unless all was looked through.
    Present(Image, Option<Cut>),
    /// The row, if there is one, changed in a way that history has no change of.
    Unknown,
    /// It was not found as far as it was looked for.
    Unread(Cut),
}

/// Where a search ended before it was through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The row that is looked for, by the key that it had.
    pub(super) key: String,
    /// What was looked for lies at or before this place, if there is any: the row as of it has it.
    pub(super) at: Position,
}

impl State {
    /// The row, where it is there and known.
    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            State::Present(image, _) => Some(image),
            State::Absent | State::Unknown | State::Unread(_) => None,
        }
    }

    /// Where the search for what is missing of it ended before it was through.
    pub(super) fn cut(&self) -> Option<&Cut> {
        match self {
            State::Present(_, cut) => cut.as_ref(),
            State::Unread(cut) => Some(cut),
            State::Absent | State::Unknown => None,
        }
    }

    /// What is seen of it by who may not see all rows, and sees the row after the entry that made it so, or does not: then it is
    /// not there for them. How to go on with a search is not told: it would tell of what was found, which they may not see.
    pub(super) fn seen(&self, sight: &Sight) -> State {
        match self {
            State::Present(image, _) if sight.after => State::Present(image.seen(sight), None),
            State::Unknown if sight.after => State::Unknown,
            State::Present(..) | State::Absent | State::Unknown | State::Unread(_) => State::Absent,
        }
    }

    /// At an entry. `before` is the state before it where the caller has that.
    pub(super) async fn after(
        rows: &RowHistory<'_>,
        key: &str,
        entry: &RowEntry,
        before: Option<&State>,
        reads: &mut Reads,
    ) -> Result<Self, Error> {
        let RowEntry::Change(it) = entry else { return Ok(State::Unknown) };
        match it.change.operation {
            Operation::Reset | Operation::Skip => Ok(State::Unknown),
            Operation::Insert | Operation::Baseline | Operation::Update if has_key(it, key) => {
                let mut image = told_by(it);
                let cut = match before {
                    // What is not told may have changed unseen.
                    _ if it.in_gap => None,
                    Some(before) if !is_searched(it) => {
                        before.image().into_iter().for_each(|older| image.fill(older));
                        before.cut().filter(|_| !image.missing().is_empty()).cloned()
                    }
                    _ => fill(rows, key, it, entry.position(), &mut image, reads).await?,
                };
                Ok(State::Present(image, cut))
            }
            // It left the key, or went away, alone or with all rows.
            _ => Ok(State::Absent),
        }
    }

    /// Behind the entry at which it was this.
    pub(super) fn behind(self, entry: &RowEntry) -> Self {
        match entry {
            RowEntry::Change(it) if it.in_gap => State::Unknown,
            _ => self,
        }
    }

    /// At a position, with the entry that made it so.
    pub(super) async fn at(
        rows: &RowHistory<'_>,
        key: &str,
        position: Position,
        reads: &mut Reads,
    ) -> Result<(Self, Option<RowEntry>), Error> {
        match rows.last_version(key, position, &[], reads).await? {
            Last::Nothing => Ok((State::Absent, None)),
            Last::Unread(at) => Ok((State::Unread(Cut { key: key.to_owned(), at }), None)),
            Last::Entry(entry) => Ok((State::after(rows, key, &entry, None, reads).await?, Some(entry))),
        }
    }
}

/// Whether the row has this key after the change.
pub(super) fn has_key(it: &RowChange, key: &str) -> bool {
    it.change.row_key.as_deref() == Some(key.as_bytes())
}

/// Whether what the change does not tell of the row has to be looked for under another key.
pub(super) fn is_searched(it: &RowChange) -> bool {
    it.moved_from.is_some()
}

/// What the change itself tells of the row.
fn told_by(it: &RowChange) -> Image {
    let mut image =
        it.change.data.as_ref().map(|data| Image::new(data, &it.change.unchanged)).unwrap_or_default();
    if let Some(old) = it.change.old_data.as_ref().filter(|_| it.change.operation == Operation::Update) {
        image.fill(&Image::new(old, &[]));
    }
    image
}

/// Takes what is missing from earlier entries, newest first, also from under an earlier key; where that ended too early.
async fn fill(
    rows: &RowHistory<'_>,
    key: &str,
    it: &RowChange,
    position: Position,
    image: &mut Image,
    reads: &mut Reads,
) -> Result<Option<Cut>, Error> {
    let mut key = Cow::Borrowed(key);
    let mut before = just_before(position);
    follow_key(&mut key, it);
    let mut goes_on = it.change.operation == Operation::Update;
    while goes_on && !image.missing().is_empty() {
        let older = match rows.last_version(&key, before, image.missing(), reads).await {
            Ok(Last::Unread(at)) => return Ok(Some(Cut { key: key.into_owned(), at })),
            Ok(Last::Entry(RowEntry::Change(older))) => older,
            // What was pruned told it: that is not known any more, and the rest of the row is.
            Ok(Last::Entry(RowEntry::Gap { .. }) | Last::Nothing)
            | Err(waldelta_history::Error::Pruned { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        let tells =
            matches!(older.change.operation, Operation::Insert | Operation::Baseline | Operation::Update);
        if !tells || !has_key(&older, &key) {
            break;
        }
        image.fill(&told_by(&older));
        goes_on = older.change.operation == Operation::Update;
        before = just_before(Position { index: older.change.seq, ..older.head.position() });
        follow_key(&mut key, &older);
    }
    Ok(None)
}

/// Before a change of the key, the row had another one.
fn follow_key(key: &mut Cow<'_, str>, it: &RowChange) {
    if let Some(earlier) = &it.moved_from {
        *key = Cow::Owned(earlier.clone());
    }
}

/// The last position before a change.
pub(super) fn just_before(position: Position) -> Position {
    match position.index.checked_sub(1) {
        Some(index) => Position { index, ..position },
        None => Position::before(position.epoch, EndLsn(position.commit_lsn)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::position;

    #[test]
    fn before_the_first_change_of_a_transaction_is_the_end_of_the_one_before() {
        let inside = |index| Position { index, ..position(7) };
        assert_eq!(just_before(inside(3)), inside(2));
        assert_eq!(just_before(inside(0)), position(6));
    }
}
