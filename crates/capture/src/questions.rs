//! The few statements on the source that only capture needs.

use std::time::Duration;

use tokio_postgres::Client;
use waldelta_wal::Lsn;

use crate::Error;

/// What the catalog says of the publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    /// It is there, and publishes the canary.
    WithCanary,
    /// It is there.
    WithoutCanary,
}

/// Looks the publication up.
///
/// # Errors
/// [`Error::PublicationMissing`] when there is none of this name.
pub(crate) async fn publication(client: &Client, name: &str) -> Result<Publication, Error> {
    let rows = client
        .query(include_str!("../../../sql/source/publication_state.sql"), &[&name])
        .await
        .map_err(|source| Error::Query { what: "look the publication up", source })?;
    match rows.first().map(|row| row.get::<_, bool>(0)) {
        None => Err(Error::PublicationMissing { publication: name.to_owned() }),
        Some(true) => Ok(Publication::WithCanary),
        Some(false) => Ok(Publication::WithoutCanary),
    }
}

/// Whether anything was ever streamed from the slot, as far as the server remembers.
pub(crate) async fn slot_was_used(client: &Client, slot: &str) -> Result<bool, Error> {
    let sql = "SELECT total_txns > 0 FROM pg_catalog.pg_stat_replication_slots WHERE slot_name = $1";
    let rows = client
        .query(sql, &[&slot])
        .await
        .map_err(|source| Error::Query { what: "look up whether the slot was used", source })?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Whether a transaction that was decoded can be seen by every query from now on. It arrives as soon as its commit is in
/// the WAL, and is seen a moment later, or much later where it waits for a synchronous standby. Until then it holds the
/// lock on its id.
pub(crate) async fn transaction_has_ended(client: &Client, xid: u32) -> Result<bool, Error> {
    let row = client
        .query_one(include_str!("../../../sql/source/transaction_has_ended.sql"), &[&i64::from(xid)])
        .await
        .map_err(|source| Error::Query { what: "look up whether a transaction has ended", source })?;
    Ok(row.get(0))
}

/// The transactions that keep a slot from being created, as text for people.
pub(crate) async fn slot_blockers(client: &Client) -> Result<String, Error> {
    let row = client
        .query_one(include_str!("../../../sql/source/blockers.sql"), &[])
        .await
        .map_err(|source| Error::Query { what: "find out what keeps the slot from being created", source })?;
    Ok(row.get::<_, Option<String>>(0).unwrap_or_else(|| "transactions that this role cannot see".to_owned()))
}

/// Ends a backend of ours, and waits until it is gone or the patience is over.
pub(crate) async fn terminate(client: &Client, pid: i32, patience: Duration) -> Result<(), Error> {
    let patience_ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    client
        .execute("SELECT pg_catalog.pg_terminate_backend($1, $2)", &[&pid, &patience_ms])
        .await
        .map(drop)
        .map_err(|source| Error::Query { what: "end the connection that creates the slot", source })
}

/// Asks a primary to write which transactions run, for whoever creates a slot from its WAL.
pub(crate) async fn log_standby_snapshot(client: &Client) -> Result<(), Error> {
    client
        .execute("SELECT pg_catalog.pg_log_standby_snapshot()", &[])
        .await
        .map(drop)
        .map_err(|source| Error::Query { what: "ask for a snapshot of what runs", source })
}

/// Up to where a primary has written its WAL: everything that has committed lies below.
pub(crate) async fn written_end(client: &Client) -> Result<Lsn, Error> {
    const WHAT: &str = "read the end of the WAL";
    let row = client
        .query_one("SELECT pg_catalog.pg_current_wal_flush_lsn()::text", &[])
        .await
        .map_err(|source| Error::Query { what: WHAT, source })?;
    let unreadable = waldelta_source::Error::Unreadable { what: WHAT, column: "pg_current_wal_flush_lsn" };
    row.get::<_, &str>(0).parse().map_err(|_| unreadable.into())
}

/// Whether the slot is held by a walsender of ours: of our role, and under our name (`own_name`, or one that begins with
/// `waldelta`). Where `end` says so, that is ended.
pub(crate) async fn is_own_walsender(
    client: &Client,
    slot: &str,
    pid: i32,
    own_name: &str,
    end: bool,
) -> Result<bool, Error> {
    let sql = include_str!("../../../sql/source/own_walsender.sql");
    let rows = client
        .query(sql, &[&slot, &pid, &own_name, &end])
        .await
        .map_err(|source| Error::Query { what: "look who uses the slot", source })?;
    Ok(!rows.is_empty())
}

/// Whether commits wait for a walsender of ours.
pub(crate) async fn is_synchronous_standby(client: &Client, pid: i32, name: &str) -> Result<bool, Error> {
    let row = client
        .query_one(include_str!("../../../sql/source/synchronous_standby.sql"), &[&pid, &name])
        .await
        .map_err(|source| Error::Query { what: "look whether commits wait for us", source })?;
    Ok(row.get(0))
}

/// Drops a slot that nobody uses.
pub(crate) async fn drop_slot(client: &Client, slot: &str) -> Result<(), Error> {
    client
        .execute("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&slot])
        .await
        .map(drop)
        .map_err(|source| Error::Query { what: "drop the replication slot", source })
}
