//! The WAL that the slot keeps, and what limits it. How full the disk is cannot be seen from here.

use waldelta_wal::Code;

use super::{Check, Subject};
use crate::Error;
use crate::ask::ask_one;
use crate::catalog::{self, Slot};
use crate::setup::provider::{Provider, set};

/// More than this without a reader is worth a word.
const IDLE_RETAINED_BYTES_MAX: i64 = 1 << 30;

pub(super) async fn retained_wal(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "retained_wal";
    let Some(slot) = catalog::slot(subject.client, &subject.source.slot).await? else {
        return Ok(Check::unknown(NAME, Code::SlotMissing, "no slot keeps WAL", None));
    };
    if slot.is_lost() {
        return Ok(Check::unknown(NAME, Code::SlotLost, "the slot keeps no WAL any more", None));
    }
    let retained = megabytes(slot.retained_bytes);
    let limit = match setting(subject, "max_slot_wal_keep_size").await?.as_deref() {
        None | Some("-1") => "all that the disk holds".to_owned(),
        Some(limit) => limit.to_owned(),
    };
    let found = format!("the slot keeps {retained} of WAL, of at most {limit} (max_slot_wal_keep_size)");
    // Beyond max_wal_size, and beyond what may be kept.
    let is_behind = matches!(slot.wal_status.as_deref(), Some("extended" | "unreserved"));
    let is_forgotten = slot.active_pid.is_none() && slot.retained_bytes > IDLE_RETAINED_BYTES_MAX;
    if is_behind || is_forgotten {
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

pub(super) async fn wal_limit(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "wal_limit";
    match setting(subject, "max_slot_wal_keep_size").await?.as_deref() {
        None | Some("-1") => {
            let found =
                "slots may keep WAL until the disk of pg_wal, which cannot be seen from here, is full";
            let fix = match subject.provider {
                Some(Provider::Azure) => {
                    "-- Azure: max_slot_wal_keep_size cannot be changed; set an alert on the storage that is used".to_owned()
                }
                provider => format!(
                    "-- what that disk can spare, and enough for the longest pause of Waldelta; for instance:\n{}",
                    set(provider, "max_slot_wal_keep_size", "50GB")
                ),
            };
            Ok(Check::warning(NAME, Code::SlotUnlimited, found, fix))
        }
        Some(limit) => {
            let found =
                format!("a slot may keep {limit} of WAL (max_slot_wal_keep_size), and is lost beyond it");
            Ok(Check::ok(NAME, found))
        }
    }
}

pub(super) async fn idle_timeout(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "idle_timeout";
    match setting(subject, "idle_replication_slot_timeout").await?.as_deref() {
        None | Some("0") => Ok(Check::ok(NAME, "no slot is given up for being idle")),
        Some(timeout) => {
            let found =
                format!("a slot that nobody reads for {timeout} is lost (idle_replication_slot_timeout)");
            let fix = set(subject.provider, "idle_replication_slot_timeout", "0");
            Ok(Check::warning(NAME, Code::SlotIdleTimeout, found, fix))
        }
    }
}

/// A setting as SHOW has it; `None` where this version has none of this name.
async fn setting(subject: &Subject<'_>, name: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT current_setting($1, true) AS value";
    ask_one(subject.client, "ask for a setting", sql, &[&name]).await?.read("value")
}

fn megabytes(bytes: i64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
