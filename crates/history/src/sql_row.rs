//! Reading columns of types that sqlx has no Rust type for, from their binary form: pg_lsn, xid8, timestamptz.

use bytes::Bytes;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{Postgres, Row, Type, ValueRef};
use waldelta_wal::Lsn;

use crate::encode::POSTGRES_EPOCH_US;

/// An LSN as a parameter.
pub(crate) struct SqlLsn(pub(crate) Lsn);

impl Type<Postgres> for SqlLsn {
    fn type_info() -> PgTypeInfo {
        // Fixed in pg_type.dat.
        PgTypeInfo::with_oid(Oid(3220))
    }
}

impl Encode<'_, Postgres> for SqlLsn {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.0.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// A timestamptz as a parameter, in microseconds since 1970.
pub(crate) struct SqlTime(pub(crate) i64);

impl Type<Postgres> for SqlTime {
    fn type_info() -> PgTypeInfo {
        // Fixed in pg_type.dat.
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl Encode<'_, Postgres> for SqlTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.saturating_sub(POSTGRES_EPOCH_US).to_be_bytes());
        Ok(IsNull::No)
    }
}

fn raw(row: &PgRow, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(None);
    }
    // Every statement with parameters is answered in binary.
    if value.format() != PgValueFormat::Binary {
        return Err(unexpected(at));
    }
    value.as_bytes().map(Some).map_err(|source| sqlx::Error::ColumnDecode { index: at.to_string(), source })
}

fn unexpected(at: usize) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: at.to_string(), source: "not of the expected form".into() }
}

fn fixed<const N: usize>(row: &PgRow, at: usize) -> Result<Option<[u8; N]>, sqlx::Error> {
    raw(row, at)?.map(|bytes| bytes.try_into().map_err(|_| unexpected(at))).transpose()
}

/// A 64-bit number: xid8.
pub(crate) fn u64_at(row: &PgRow, at: usize) -> Result<Option<u64>, sqlx::Error> {
    Ok(fixed(row, at)?.map(u64::from_be_bytes))
}

/// A pg_lsn that may be null.
pub(crate) fn optional_lsn_at(row: &PgRow, at: usize) -> Result<Option<Lsn>, sqlx::Error> {
    Ok(u64_at(row, at)?.map(Lsn))
}

/// A pg_lsn.
pub(crate) fn lsn_at(row: &PgRow, at: usize) -> Result<Lsn, sqlx::Error> {
    optional_lsn_at(row, at)?.ok_or_else(|| unexpected(at))
}

/// An oid that may be null.
pub(crate) fn optional_oid_at(row: &PgRow, at: usize) -> Result<Option<u32>, sqlx::Error> {
    Ok(fixed(row, at)?.map(u32::from_be_bytes))
}

/// A 32-bit number that is stored as a signed one and may be null.
pub(crate) fn optional_u32_at(row: &PgRow, at: usize) -> Result<Option<u32>, sqlx::Error> {
    optional_oid_at(row, at)
}

/// A 32-bit number that is stored as a signed one.
pub(crate) fn u32_at(row: &PgRow, at: usize) -> Result<u32, sqlx::Error> {
    optional_u32_at(row, at)?.ok_or_else(|| unexpected(at))
}

/// A timestamptz, in microseconds since 1970.
pub(crate) fn time_us_at(row: &PgRow, at: usize) -> Result<i64, sqlx::Error> {
    optional_time_us_at(row, at)?.ok_or_else(|| unexpected(at))
}

/// A timestamptz that may be null, in microseconds since 1970.
pub(crate) fn optional_time_us_at(row: &PgRow, at: usize) -> Result<Option<i64>, sqlx::Error> {
    let since_2000 = fixed(row, at)?.map(i64::from_be_bytes);
    Ok(since_2000.map(|us| us.saturating_add(POSTGRES_EPOCH_US)))
}

/// Length of a text in bytes; 0 for null.
pub(crate) fn length_at(row: &PgRow, at: usize) -> Result<usize, sqlx::Error> {
    Ok(raw(row, at)?.map_or(0, <[u8]>::len))
}

/// A text, as its bytes.
pub(crate) fn bytes_at(row: &PgRow, at: usize) -> Result<Option<Bytes>, sqlx::Error> {
    Ok(raw(row, at)?.map(Bytes::copy_from_slice))
}

/// A text that is looked at and not kept.
pub(crate) fn text_at(row: &PgRow, at: usize) -> Result<Option<&str>, sqlx::Error> {
    raw(row, at)?.map(|bytes| std::str::from_utf8(bytes).map_err(|_| unexpected(at))).transpose()
}
