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
    /// Whether prepared transactions are decoded when they are prepared.
    pub two_phase: bool,
    /// `invalidation_reason`, from PostgreSQL 17 on: `wal_removed`, `rows_removed`, `wal_level_insufficient`, `idle_timeout`.
    pub invalidation_reason: Option<String>,
    /// Whether it was invalidated by a conflict with recovery, from 16 on.
    pub conflicting: Option<bool>,
    /// Whether standbys are to keep it too, from 17 on.
    pub failover: Option<bool>,
    /// Whether it is a standby's copy of the primary's, from 17 on.
    pub synced: Option<bool>,
    /// For how long nobody has used it, in seconds, from 17 on; `None` while somebody does.
    pub inactive_seconds: Option<i64>,
}

impl Slot {
    /// Whether it can never be used again.
    pub fn is_lost(&self) -> bool {
        self.loss().is_some()
    }

    /// Why it can never be used again, in the words of `invalidation_reason` where the server has them; `None` when it can.
    pub fn loss(&self) -> Option<&str> {
        // One that is just being created has no restart_lsn either.
        let has_no_wal = self.restart.is_none() && self.active_pid.is_none();
        let is_lost = self.wal_status.as_deref() == Some("lost") || has_no_wal;
        // 16 calls every invalidated slot of a database conflicting. Only one whose WAL is gone has no restart_lsn.
        let conflicts = self.conflicting == Some(true);
        match &self.invalidation_reason {
            Some(reason) => Some(reason),
            None if conflicts && self.restart.is_some() => Some("conflicting"),
            None => (is_lost || conflicts).then_some("wal_removed"),
        }
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
        two_phase: row.read("two_phase")?,
        invalidation_reason: row.read("invalidation_reason")?,
        conflicting: row.read("conflicting")?,
        failover: row.read("failover")?,
        synced: row.read("synced")?,
        inactive_seconds: row.read("inactive_seconds")?,
    }))
}
