//! Whether the source tells of DDL that changes rows and sends no message for them.

use waldelta_wal::Code;

use super::{Check, Subject};
use crate::Error;
use crate::ask::ask_one;
use crate::setup::ddl::TRIGGERS;
use crate::setup::provider::administrator;

const NAME: &str = "ddl";
/// What holds without the triggers.
const WEAKER: &str = "DDL that changes rows and sends no message is found out only by looking at the catalog now and then, and what it left no trace of in the catalog not at all";

pub(super) async fn ddl(subject: &Subject<'_>) -> Result<Check, Error> {
    let sql = include_str!("../../../../sql/source/check_ddl.sql");
    let row = ask_one(subject.client, "look for the event triggers", sql, &[]).await?;
    let disabled: Vec<String> = row.read("disabled")?;
    if row.read::<Vec<String>>("triggers")?.len() < TRIGGERS {
        let fix = format!("-- as {}:\nwaldelta init --apply", administrator(subject.provider));
        return Ok(Check::warning(
            NAME,
            Code::DdlUntold,
            format!("there are no event triggers: {WEAKER}"),
            fix,
        ));
    }
    if !disabled.is_empty() {
        let fix: Vec<_> =
            disabled.iter().map(|name| format!("ALTER EVENT TRIGGER {name} ENABLE ALWAYS;")).collect();
        let found = format!("event triggers are disabled ({}): {WEAKER}", disabled.join(", "));
        return Ok(Check::warning(NAME, Code::DdlUntold, found, fix.join("\n")));
    }
    if row.read::<&str>("event_triggers")? != "on" {
        let fix = "ALTER SYSTEM RESET event_triggers;\nSELECT pg_reload_conf();";
        return Ok(Check::warning(NAME, Code::DdlUntold, format!("event_triggers is off: {WEAKER}"), fix));
    }
    Ok(Check::ok(
        NAME,
        "event triggers tell of DDL that changes rows; a superuser who disables them leaves only looks at the catalog",
    ))
}
