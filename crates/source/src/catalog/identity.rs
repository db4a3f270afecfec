//! Who the source is.

use tokio_postgres::Client;
use waldelta_wal::Lsn;

use crate::Error;
use crate::ask::ask_one;

/// Who the source is: compared with the progress row before every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `system_identifier` of the cluster.
    pub system_id: u64,
    /// Timeline of the cluster: the one that it writes now, or that a standby followed at its last restart point.
    pub timeline: u32,
    /// Object id of the database.
    pub database_oid: u32,
    /// Name of the database.
    pub database: String,
    /// Its encoding (`server_encoding`): `UTF8`, `LATIN1`; `SQL_ASCII` where it has none, so that text is any bytes.
    pub encoding: String,
    /// `server_version_num`.
    pub version: u32,
    /// `wal_level`.
    pub wal_level: String,
    /// Whether it is a standby. Then `timeline` may be that of a while ago, and only a replication connection knows better.
    pub is_standby: bool,
    /// `pg_snapshot_xmax(pg_current_snapshot())`: reference for widening transaction ids.
    pub next_xid: u64,
    /// Where the WAL ends now (`pg_current_wal_insert_lsn`); on a standby, up to where it is replayed.
    pub wal_end: Lsn,
}

/// Reads who the source is.
///
/// The functions asked are open to every role unless somebody has revoked that; then this fails with SQLSTATE 42501,
/// and `IDENTIFY_SYSTEM` on a replication connection still tells system and timeline.
///
/// # Errors
/// When the question fails.
pub async fn identity(client: &Client) -> Result<Identity, Error> {
    const WHAT: &str = "identify the source";
    let answer = ask_one(client, WHAT, include_str!("../../../../sql/source/identity.sql"), &[]).await?;
    let unsigned = |column: &'static str, value: i64| {
        u32::try_from(value).map_err(|_| Error::Unreadable { what: WHAT, column })
    };
    Ok(Identity {
        // SQL has no unsigned numbers: the bits are the same.
        system_id: answer.read::<i64>("system_identifier")?.cast_unsigned(),
        timeline: unsigned("timeline", answer.read("timeline")?)?,
        database_oid: answer.read("database_oid")?,
        database: answer.read("database")?,
        encoding: answer.read("encoding")?,
        version: unsigned("version", answer.read::<i32>("version")?.into())?,
        wal_level: answer.read("wal_level")?,
        is_standby: answer.read("is_standby")?,
        next_xid: answer.parse("next_xid")?,
        wal_end: answer.parse("wal_end")?,
    })
}
