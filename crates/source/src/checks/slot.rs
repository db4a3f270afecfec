//! The slot, and whether there is room for it.

use waldelta_wal::Code;

use super::{Check, Subject};
use crate::Error;
use crate::ask::{ask_one, literal};
use crate::catalog;
use crate::setup::ours;
use crate::setup::provider::set_for_restart;

pub(super) async fn slot(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "slot";
    let name = &subject.source.slot;
    let Some(slot) = catalog::slot(subject.client, name).await? else {
        let found = format!("there is no slot {name}");
        let fix = "waldelta init --apply\n-- or, where there is history already:\nwaldelta recover";
        return Ok(Check::failed(NAME, Code::SlotMissing, found, fix));
    };
    match ours(subject.client, subject.source, &slot).await {
        Err(error @ Error::SlotForeign { .. }) => {
            let code = error.code();
            return Ok(Check::failed(NAME, code, error.to_string(), code.explanation().fix));
        }
        ours => ours?,
    }
    if slot.is_lost() {
        let fix = format!(
            "waldelta recover\n-- or, where there is no history yet:\nSELECT pg_drop_replication_slot({});",
            literal(name)
        );
        let found = format!("slot {name} has lost WAL that it needs");
        return Ok(Check::failed(NAME, Code::SlotLost, found, fix));
    }
    let use_ =
        slot.active_pid.map_or_else(|| "nobody reads it now".into(), |pid| format!("read by pid {pid}"));
    let confirmed = slot.confirmed.map_or_else(|| "nowhere".into(), |end| end.to_string());
    let status = slot.wal_status.as_deref().unwrap_or("unknown");
    Ok(Check::ok(
        NAME,
        format!("slot {name} is there, confirmed up to {confirmed}; its WAL is {status}; {use_}"),
    ))
}

pub(super) async fn capacity(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "capacity";
    let sql = include_str!("../../../../sql/source/check_capacity.sql");
    let row = ask_one(subject.client, "count slots and walsenders", sql, &[]).await?;
    let (slots, senders): (i32, i32) = (row.read("free_slots")?, row.read("free_senders")?);
    let slot = catalog::slot(subject.client, &subject.source.slot).await?;
    let slots_needed = i32::from(slot.is_none());
    let senders_needed = i32::from(slot.is_none_or(|slot| slot.active_pid.is_none()));
    let found = format!("{slots} replication slots and {senders} walsenders are free");
    if slots >= slots_needed && senders >= senders_needed {
        return Ok(Check::ok(NAME, found));
    }
    let fix =
        set_for_restart(subject.provider, &[("max_replication_slots", "20"), ("max_wal_senders", "20")]);
    Ok(Check::failed(NAME, Code::SlotsExhausted, found, fix))
}
