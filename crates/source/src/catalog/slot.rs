//! The replication slot, as the catalog shows it.

use tokio_postgres::Client;
use waldelta_wal::{EndLsn, Lsn};

use crate::Error;
use crate::ask::ask;

/// A replication slot's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Output plugin; empty for a physical slot.
    pub plugin: String,
    /// Database it belongs to; empty for a physical slot.
    pub database: String,
    /// Pid of the walsender that uses it.
    pub active_pid: Option<i32>,
    /// `confirmed_flush_lsn`.
    pub confirmed: Option<EndLsn>,
    /// `restart_lsn`; `None` in a lost slot.
    pub restart: Option<Lsn>,
    /// `wal_status`: reserved, extended, unreserved, lost.
    pub wal_status: Option<String>,
    /// `safe_wal_size` in bytes.
    pub safe_wal_bytes: Option<i64>,
    /// WAL that the slot retains, in bytes.
    pub retained_bytes: i64,
}

impl Slot {
    /// Whether its WAL is gone, so that it can never be used again.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }
}

/// Reads the slot's row; `None` when there is no such slot.
///
/// # Errors
/// When the question fails.
pub async fn slot(client: &Client, name: &str) -> Result<Option<Slot>, Error> {
    let sql = include_str!("../../../../sql/source/slot.sql");
    let rows = ask(client, "read the slot", sql, &[&name]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Slot {
        plugin: row.read("plugin")?,
        database: row.read("database")?,
        active_pid: row.read("active_pid")?,
        confirmed: row.parse_nullable("confirmed")?.map(EndLsn),
        restart: row.parse_nullable("restart")?,
        wal_status: row.read("wal_status")?,
        safe_wal_bytes: row.read("safe_wal_bytes")?,
        retained_bytes: row.read("retained_bytes")?,
    }))
}
