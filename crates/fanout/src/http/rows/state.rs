//! The row as it was after each entry of its history: what the source did not send is taken from earlier entries.
//!
//! What is not known stays unknown: after a reset, a gap, or a change that was left out, nothing is carried over.

use std::borrow::Cow;

use waldelta_history::{RowChange, RowEntry, RowId};
use waldelta_wal::{EndLsn, Operation, Position};

use super::image::Image;
use crate::error::Error;
use crate::inner::Inner;

/// Earlier entries that are looked for at most to put one row together. Each tells a column that was missing, or an earlier key.
const STEPS_MAX: usize = 200;

/// A row at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no row with this key, as far as history knows.
    Absent,
    /// There is.
    Present(Image),
    /// The row, if there is one, changed in a way that history has no change of.
    Unknown,
}

impl State {
    /// The row, where it is there and known.
    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            State::Present(image) => Some(image),
            State::Absent | State::Unknown => None,
        }
    }

    /// After an entry. `before` is the state before it where the caller has that.
    pub(super) async fn after(
        inner: &Inner,
        row: &RowId,
        entry: &RowEntry,
        before: Option<&State>,
    ) -> Result<Self, Error> {
        let RowEntry::Change(it) = entry else { return Ok(State::Unknown) };
        match it.change.operation {
            Operation::Reset | Operation::Skip => Ok(State::Unknown),
            Operation::Insert | Operation::Baseline | Operation::Update if has_key(it, row) => {
                let mut image = told_by(it);
                match (&it.moved_from, before) {
                    (None, Some(before)) => before.image().into_iter().for_each(|older| image.fill(older)),
                    _ => fill(inner, row, entry, it, &mut image).await?,
                }
                Ok(State::Present(image))
            }
            // It left the key, or went away, alone or with all rows.
            _ => Ok(State::Absent),
        }
    }

    /// At a position, with the entry that made it so.
    pub(super) async fn at(
        inner: &Inner,
        row: &RowId,
        position: Position,
    ) -> Result<(Self, Option<RowEntry>), Error> {
        match inner.history.last_row_version(row, position, &[]).await? {
            None => Ok((State::Absent, None)),
            Some(entry) => Ok((State::after(inner, row, &entry, None).await?, Some(entry))),
        }
    }
}

/// Whether the row has this key after the change.
pub(super) fn has_key(it: &RowChange, row: &RowId) -> bool {
    it.change.row_key.as_deref() == Some(row.key.as_bytes())
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

/// Takes what is missing from earlier entries, newest first, also from under an earlier key.
async fn fill(
    inner: &Inner,
    row: &RowId,
    entry: &RowEntry,
    it: &RowChange,
    image: &mut Image,
) -> Result<(), Error> {
    let mut row = Cow::Borrowed(row);
    let mut before = just_before(entry.position());
    follow_key(&mut row, it);
    let mut goes_on = it.change.operation == Operation::Update;
    for _ in 0..STEPS_MAX {
        if !goes_on || image.missing().is_empty() {
            break;
        }
        let found = inner.history.last_row_version(&row, before, image.missing()).await?;
        let Some(older) = found else { break };
        let RowEntry::Change(it) = &older else { break };
        let tells =
            matches!(it.change.operation, Operation::Insert | Operation::Baseline | Operation::Update);
        if !tells || !has_key(it, &row) {
            break;
        }
        image.fill(&told_by(it));
        goes_on = it.change.operation == Operation::Update;
        before = just_before(older.position());
        follow_key(&mut row, it);
    }
    Ok(())
}

/// Before a change of the key, the row had another one.
fn follow_key(row: &mut Cow<'_, RowId>, it: &RowChange) {
    if let Some(key) = &it.moved_from {
        *row = Cow::Owned(RowId { table_oid: row.table_oid, key: key.clone() });
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
