//! An append of few rows: one statement that is a transaction of its own, and so one round trip instead of two.
//!
//! The rows are encoded as for COPY. A field of a COPY in binary and an element of an array in binary are the same bytes,
//! so each column's array is made of the fields as they are. A value that the database refuses is not traced back to its change
//! here, because nothing says which element it was: the rows are then sent by COPY, which says it.

use std::error::Error as StdError;

use bytes::{Buf, BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use waldelta_wal::Change;

use crate::encode::COLUMNS;
use crate::partition::Partition;
use crate::sequence::Run;

const APPEND: &str = include_str!("../../../sql/queries/append_short.sql");

/// More rows than this, or more bytes of images, go by COPY, which takes them in faster and without copying them once more.
const ROWS_MAX: usize = 64;
const IMAGE_BYTES_MAX: usize = 32 * 1024;

/// The columns' types, in the order of [`COLUMNS`].
const TYPES: [Type; 15] = [
    Type::PG_LSN,
    Type::XID8,
    Type::TIMESTAMPTZ,
    Type::INT4,
    Type::INT4,
    Type::OID,
    Type::INT4,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::JSONB,
    Type::JSONB,
    Type::JSONB,
    Type::TEXT,
];
/// Bytes before an array's elements: dimensions, whether there may be nulls, type, length, first index.
const HEADER_BYTES: usize = 20;

/// The statement for a partition.
pub(crate) fn statement(partition: Partition) -> String {
    APPEND.replace("{name}", &partition.name()).replace("{columns}", COLUMNS)
}

/// Whether it is whole transactions of few rows.
pub(crate) fn is_short(run: &Run) -> bool {
    let is_whole = run.end().is_some() && run.pieces.first().is_some_and(|piece| piece.first);
    let changes = || run.pieces.iter().flat_map(|piece| &piece.changes);
    is_whole
        && (1..=ROWS_MAX).contains(&run.rows())
        && changes().map(image_bytes).fold(0, usize::saturating_add) <= IMAGE_BYTES_MAX
}

fn image_bytes(change: &Change) -> usize {
    [&change.row_key, &change.data, &change.old_data].into_iter().flatten().map(|image| image.len()).sum()
}

/// Rows turned into an array for each column.
#[derive(Debug)]
pub(crate) struct Arrays([Array; TYPES.len()]);

/// An array in binary.
#[derive(Debug)]
pub(crate) struct Array(BytesMut);

impl Arrays {
    /// Of rows as they are in a binary COPY, without its header and end. `None`: these are none.
    pub(crate) fn of(mut rows: &[u8]) -> Option<Self> {
        let mut arrays = TYPES.map(|kind| {
            let mut array = BytesMut::with_capacity(HEADER_BYTES + rows.len() / TYPES.len());
            array.put_i32(1);
            array.put_i32(1);
            array.put_u32(kind.oid());
            array.put_i32(0);
            array.put_i32(1);
            array
        });
        let mut length = 0;
        while !rows.is_empty() {
            length += 1;
            if usize::try_from(rows.try_get_i16().ok()?).ok()? != TYPES.len() {
                return None;
            }
            for array in &mut arrays {
                let bytes = (&rows[..]).try_get_i32().ok()?;
                let field = size_of::<i32>() + usize::try_from(bytes.max(0)).ok()?;
                array.put_slice(rows.get(..field)?);
                rows.advance(field);
            }
        }
        Some(Arrays(arrays.map(|mut array| {
            array[12..16].copy_from_slice(&i32::to_be_bytes(length));
            Array(array)
        })))
    }

    /// As parameters of a statement.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &(dyn ToSql + Sync)> {
        self.0.iter().map(|array| array as &(dyn ToSql + Sync))
    }
}

impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(value: Option<&[u8]>, out: &mut Vec<u8>) {
        match value {
            Some(value) => {
                out.put_i32(i32::try_from(value.len()).unwrap());
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }

    fn row(values: [Option<&[u8]>; TYPES.len()]) -> Vec<u8> {
        let mut row = Vec::new();
        row.put_i16(15);
        values.into_iter().for_each(|value| field(value, &mut row));
        row
    }

    #[test]
    fn each_column_becomes_an_array_of_its_fields() {
        let mut first = [None; TYPES.len()];
        first[14] = Some(&b"one"[..]);
        let mut second = [None; TYPES.len()];
        second[14] = Some(&b""[..]);
        let rows = [row(first), row(second)].concat();
        let Arrays(arrays) = Arrays::of(&rows).unwrap();
        let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1];
        expected.extend_from_slice(b"\0\0\0\x03one\0\0\0\0");
        assert_eq!(arrays[14].0, expected);
        assert_eq!(arrays[0].0[HEADER_BYTES..], [0xff; 8]);
    }

    #[test]
    fn what_is_no_row_is_told_apart() {
        let whole = row([Some(b"value"); TYPES.len()]);
        assert!(Arrays::of(&whole).is_some());
        for end in 1..whole.len() {
            assert!(Arrays::of(&whole[..end]).is_none(), "{end}");
        }
        assert!(Arrays::of(&[0, 3]).is_none());
    }
}
