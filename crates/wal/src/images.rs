//! What is known of a row before and after a change, as JSON: out of the tuples of an insert, update or delete.
//!
//! Three things are kept apart: a value, NULL, and not sent. A column that was not sent did not change, so where its old
//! value is known it is the new one too, whatever the replica identity.

use std::ops::Range;

use crate::open::Rows;
use crate::pgoutput::{OldTuple, Tuple};
use crate::row::{EncodeError, RowEncoder, RowNotes, Value};

/// A longer key is not worth its bytes where it only says which row it was.
const SHORT_KEY_BYTES_MAX: usize = 8 << 10;

/// Writes key, new and old row.
pub(crate) fn write(
    encoder: &RowEncoder,
    old: Option<OldTuple<'_>>,
    new: Option<Tuple<'_>>,
    arena: &mut Vec<u8>,
) -> Result<Rows, EncodeError> {
    let mut rows = Rows::default();
    let old_tuple = old.map(|(OldTuple::Key(tuple) | OldTuple::Full(tuple))| tuple);
    for tuple in [old_tuple, new].into_iter().flatten() {
        check_count(encoder, &tuple)?;
        // About what it takes: the wire has five bytes a value that JSON has not, JSON the key and what it escapes.
        arena.reserve(encoder.labels_bytes() + tuple.wire_bytes());
    }
    if let Some(old) = old {
        check_identity(encoder, old)?;
    }
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            rows.row_key = write_key(encoder, new.values(), arena)?;
            rows.data = Some(write_row(encoder, new.values(), arena, &mut rows, true)?);
        }
        (Some(old), None) => {
            rows.row_key = write_key(encoder, old_values(encoder, old), arena)?;
            rows.old_data = Some(write_row(encoder, old_values(encoder, old), arena, &mut rows, false)?);
        }
        (Some(old), Some(new)) => {
            let merged = filled(new, old);
            rows.row_key = write_key(encoder, merged.clone(), arena)?;
            rows.data = Some(write_row(encoder, merged, arena, &mut rows, true)?);
            rows.old_data = Some(write_row(encoder, old_values(encoder, old), arena, &mut rows, false)?);
        }
    }
    Ok(rows)
}

/// Writes the key alone, of a row that is written no further. Nothing where the key is long, or cannot be written either.
pub(crate) fn write_short_key(
    encoder: &RowEncoder,
    old: Option<OldTuple<'_>>,
    new: Option<Tuple<'_>>,
    arena: &mut Vec<u8>,
) -> Option<Range<usize>> {
    let start = arena.len();
    let written = match (old, new) {
        (None, None) => Ok(None),
        (None, Some(new)) => write_key(encoder, new.values(), arena),
        (Some(old), None) => write_key(encoder, old_values(encoder, old), arena),
        (Some(old), Some(new)) => write_key(encoder, filled(new, old), arena),
    };
    let key = written.ok().flatten().filter(|key| key.len() <= SHORT_KEY_BYTES_MAX);
    arena.truncate(key.as_ref().map_or(start, |key| key.end));
    key
}

fn check_count(encoder: &RowEncoder, tuple: &Tuple<'_>) -> Result<(), EncodeError> {
    let (expected, found) = (encoder.column_count(), tuple.len());
    if expected == found { Ok(()) } else { Err(EncodeError::ColumnCount { expected, found }) }
}

/// The new row, what was not sent of it taken from the old. That has a text only where it is the row's, even where its
/// nulls mean nothing.
fn filled<'a>(new: Tuple<'a>, old: OldTuple<'a>) -> impl Iterator<Item = Value<'a>> + Clone {
    let (OldTuple::Key(old) | OldTuple::Full(old)) = old;
    new.values().zip(old.values()).map(|values| match values {
        (Value::Unchanged, old @ Value::Text(_)) => old,
        (new, _) => new,
    })
}

/// Whether an old row tells all of its columns, or only those of the replica identity with nulls in place of the rest.
fn is_whole(encoder: &RowEncoder, old: OldTuple<'_>) -> bool {
    match old {
        OldTuple::Key(_) => false,
        OldTuple::Full(_) => !encoder.has_mixed_identity(),
    }
}

/// The values of an old row, as far as it tells them.
fn old_values<'a>(encoder: &RowEncoder, old: OldTuple<'a>) -> impl Iterator<Item = Value<'a>> + Clone {
    let whole = is_whole(encoder, old);
    let (OldTuple::Key(tuple) | OldTuple::Full(tuple)) = old;
    let known = move |(value, identity)| if whole || identity { value } else { Value::Unchanged };
    tuple.values().zip(encoder.identity_columns()).map(known)
}

/// No column of a replica identity can be NULL. Where one is, it was not sent: the row is of a partition that has another
/// identity than the partitioned table, as which it is published.
fn check_identity(encoder: &RowEncoder, old: OldTuple<'_>) -> Result<(), EncodeError> {
    if is_whole(encoder, old) {
        return Ok(());
    }
    match (0u16..).zip(old_values(encoder, old)).find(|(_, value)| *value == Value::Null) {
        Some((index, _)) => Err(EncodeError::IdentityNull { column: encoder.column_name(index).to_owned() }),
        None => Ok(()),
    }
}

fn write_key<'a>(
    encoder: &RowEncoder,
    values: impl Iterator<Item = Value<'a>>,
    arena: &mut Vec<u8>,
) -> Result<Option<Range<usize>>, EncodeError> {
    let start = arena.len();
    let has_key = encoder.encode_key(values, arena)?;
    Ok(has_key.then_some(start..arena.len()))
}

/// Writes a row and notes what its JSON does not say. What is absent is named for the new row only: there it is a value
/// that exists but was not sent.
fn write_row<'a>(
    encoder: &RowEncoder,
    values: impl Iterator<Item = Value<'a>> + Clone,
    arena: &mut Vec<u8>,
    rows: &mut Rows,
    new: bool,
) -> Result<Range<usize>, EncodeError> {
    let start = arena.len();
    let RowNotes { unchanged, flagged } = encoder.encode_object(values, arena)?;
    let name = |index: u16| encoder.column_name(index).to_owned();
    if new {
        rows.unchanged = unchanged.into_iter().map(name).collect();
    }
    for index in flagged {
        if !rows.flagged.iter().any(|known| known == encoder.column_name(index)) {
            rows.flagged.push(name(index));
        }
    }
    Ok(start..arena.len())
}
