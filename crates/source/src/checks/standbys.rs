//! Standbys: whether commits would wait for us as if we were one, and what becomes of the slot when one is promoted.

use waldelta_wal::Code;

use super::{Check, Subject};
use crate::ask::ask_one;
use crate::setup::provider::set;
use crate::{APPLICATION_NAME, Error};

pub(super) async fn synchronous(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "synchronous";
    let sql = "SELECT current_setting('synchronous_standby_names') AS names";
    let answer = ask_one(subject.client, "ask for synchronous standbys", sql, &[]).await?;
    let names: &str = answer.read("names")?;
    let ours = subject.source.target.application_name().unwrap_or(APPLICATION_NAME);
    let Some(name) = standbys(names).into_iter().find(|name| name == "*" || name.eq_ignore_ascii_case(ours))
    else {
        return Ok(Check::ok(NAME, "no commit waits for Waldelta"));
    };
    let found = format!(
        "synchronous_standby_names ({names}) has {name}, which {ours} fits: commits wait for Waldelta"
    );
    let fix = format!(
        "-- the standbys by their names, without {ours}:\n{}",
        set(subject.provider, "synchronous_standby_names", "FIRST 1 (standby1, standby2)")
    );
    Ok(Check::warning(NAME, Code::SynchronousStandby, found, fix))
}

/// The names in `synchronous_standby_names`: `a, b`, `2 (a, b)`, `FIRST 2 (a, b)` or `ANY 2 (a, b)`, each perhaps quoted.
fn standbys(setting: &str) -> Vec<String> {
    let listed = match setting.split_once('(') {
        Some((_, rest)) => rest.rsplit_once(')').map_or(rest, |(inner, _)| inner),
        None => setting,
    };
    let mut names = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = listed.chars().peekable();
    while let Some(character) = characters.next() {
        let name = match names.last_mut() {
            Some(name) => name,
            None => break,
        };
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => names.push(String::new()),
            character if !is_quoted && character.is_ascii_whitespace() => {}
            character => name.push(character),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

pub(super) async fn failover(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "failover";
    let sql = include_str!("../../../../sql/source/check_failover.sql");
    let row = ask_one(subject.client, "look for standbys", sql, &[&subject.source.slot]).await?;
    let standby_slots: Vec<String> = row.read("standby_slots")?;
    if standby_slots.is_empty() && !row.read::<bool>("has_standby")? {
        return Ok(Check::ok(NAME, "there is no standby"));
    }
    let Some(knows_failover) = row.read::<Option<bool>>("is_failover")? else {
        if !row.read::<bool>("has_slot")? {
            return Ok(Check::unknown(NAME, Code::SlotMissing, "there is no slot yet", None));
        }
        let found =
            "there are standbys, and slots of this version follow no failover: after one, a new epoch begins";
        return Ok(Check::ok(NAME, found));
    };
    if !knows_failover {
        let found = "there are standbys, and the slot does not follow a failover";
        let fix = format!(
            "-- with capture stopped, over a replication connection (psql \"… replication=database\"):\nALTER_REPLICATION_SLOT {} (FAILOVER true);\n-- at the standbys, with hot_standby_feedback = on, primary_slot_name, and dbname in primary_conninfo:\n{}",
            subject.source.slot,
            set(subject.provider, "sync_replication_slots", "on")
        );
        return Ok(Check::warning(NAME, Code::SlotNotFailover, found, fix));
    }
    if row.read::<&str>("synchronized")?.trim().is_empty() {
        let found = "the slot follows a failover, and can be ahead of the standby that is promoted";
        let slots = match standby_slots.is_empty() {
            true => "<slot of the standby>".to_owned(),
            false => standby_slots.join(", "),
        };
        let fix = set(subject.provider, "synchronized_standby_slots", &slots);
        return Ok(Check::warning(NAME, Code::StandbySlotsUnset, found, fix));
    }
    Ok(Check::ok(NAME, "the slot follows a failover, and is never ahead of the standbys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_synchronous_standbys() {
        for (setting, names) in [
            ("", &[][..]),
            ("*", &["*"]),
            ("a, waldelta", &["a", "waldelta"]),
            ("2 (a,b)", &["a", "b"]),
            ("FIRST 1 ( a , \"b, \"\"c\" )", &["a", "b, \"c"]),
            ("ANY 1 (*)", &["*"]),
        ] {
            assert_eq!(standbys(setting), names, "{setting}");
        }
    }
}
