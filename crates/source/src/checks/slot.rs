//! The slot and the WAL that it keeps.

use tokio_postgres::Client;
use waldelta_wal::Code;

use super::Check;
use crate::ask::ask_one;
use crate::catalog::{self, Slot};
use crate::setup::ours;
use crate::{Error, Source};

/// More than this without a reader is worth a word.
const IDLE_RETAINED_BYTES_MAX: i64 = 1 << 30;

pub(super) async fn slot(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "slot";
    let name = &source.slot;
    let Some(slot) = catalog::slot(client, name).await? else {
        let found = format!("there is no slot {name}");
        return Ok(Check::failed(NAME, Code::SlotMissing, found, "waldelta init --apply"));
    };
    match ours(client, source, &slot).await {
        Err(error @ Error::SlotForeign { .. }) => {
            let code = error.code();
            return Ok(Check::failed(NAME, code, error.to_string(), code.explanation().fix));
        }
        ours => ours?,
    }
    if slot.is_lost() {
        let fix =
            format!("SELECT pg_drop_replication_slot('{name}');\n-- then let capture begin a new epoch");
        return Ok(Check::failed(
            NAME,
            Code::SlotLost,
            format!("slot {name} has lost WAL that it needs"),
            fix,
        ));
    }
    let use_ =
        slot.active_pid.map_or_else(|| "nobody reads it now".into(), |pid| format!("read by pid {pid}"));
    let confirmed = slot.confirmed.map_or_else(|| "nowhere".into(), |end| end.to_string());
    Ok(Check::ok(NAME, format!("slot {name} is there, confirmed up to {confirmed}; {use_}")))
}

pub(super) async fn retained_wal(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "retained_wal";
    let Some(slot) = catalog::slot(client, &source.slot).await? else {
        return Ok(Check::beside_the_point(NAME, "no slot keeps WAL"));
    };
    let retained = megabytes(slot.retained_bytes);
    let limit = limit(client).await?;
    let found = format!("the slot keeps {retained} of WAL, of at most {limit} (max_slot_wal_keep_size)");
    let is_endangered = slot.wal_status.as_deref() == Some("unreserved");
    let is_forgotten = slot.active_pid.is_none() && slot.retained_bytes > IDLE_RETAINED_BYTES_MAX;
    if is_endangered || is_forgotten {
        let code = Code::SlotRetention;
        return Ok(Check::warning(NAME, code, room(&slot, found), code.explanation().fix));
    }
    Ok(Check::ok(NAME, room(&slot, found)))
}

/// With what is left until the slot is lost, where there is a limit.
fn room(slot: &Slot, found: String) -> String {
    match slot.safe_wal_bytes {
        Some(bytes) => format!("{found}; lost after {} more", megabytes(bytes)),
        None => found,
    }
}

async fn limit(client: &Client) -> Result<String, Error> {
    let sql = "SELECT current_setting('max_slot_wal_keep_size') AS limit";
    let limit: String = ask_one(client, "ask how much WAL slots may keep", sql, &[]).await?.read("limit")?;
    Ok(if limit == "-1" { "all that the disk holds".into() } else { limit })
}

pub(super) async fn capacity(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "capacity";
    let sql = include_str!("../../../../sql/source/check_capacity.sql");
    let row = ask_one(client, "count slots and walsenders", sql, &[]).await?;
    let (slots, senders): (i32, i32) = (row.read("free_slots")?, row.read("free_senders")?);
    let slot = catalog::slot(client, &source.slot).await?;
    let slots_needed = i32::from(slot.is_none());
    let senders_needed = i32::from(slot.is_none_or(|slot| slot.active_pid.is_none()));
    let found = format!("{slots} replication slots and {senders} walsenders are free");
    if slots >= slots_needed && senders >= senders_needed {
        return Ok(Check::ok(NAME, found));
    }
    let fix = "ALTER SYSTEM SET max_replication_slots = 20;\nALTER SYSTEM SET max_wal_senders = 20;\n-- then restart PostgreSQL";
    Ok(Check::failed(NAME, Code::SlotsExhausted, found, fix))
}

fn megabytes(bytes: i64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
