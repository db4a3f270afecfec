//! The event triggers that tell of DDL: whether they are there as this version has them, and the statements that make and
//! drop them.
//!
//! What they tell is read by `waldelta_wal`. Not every role may have them. Without them capture looks at the catalog, see `catalog::fingerprints`.

use super::build::Triggers;
use super::plan::{Plan, Step, StepKind};
use super::provider::{Provider, administrator};
use super::survey::Prepared;

const DDL_TRIGGER: &str = include_str!("../../../../sql/source/ddl_trigger.sql");
/// As many as the file makes.
pub(crate) const TRIGGERS: usize = 3;

/// Adds the triggers to a plan, or says why not.
pub(super) fn add(prepared: &Prepared, triggers: Triggers, provider: Option<Provider>, plan: &mut Plan) {
    if is_current(prepared) {
        return;
    }
    let is_allowed = triggers == Triggers::Always
        || (triggers == Triggers::WhereAllowed && prepared.may_have_event_triggers);
    if !is_allowed {
        let why = match prepared.may_have_event_triggers {
            true => "there are no event triggers".to_owned(),
            false => format!("{} may not create event triggers", prepared.role),
        };
        plan.remarks.push(format!(
            "{why}: DDL that changes rows and sends no message is found out later, by looking at the catalog; {} can run `waldelta init` once to have them",
            administrator(provider)
        ));
        return;
    }
    let earlier = drop_statements(prepared).map_or_else(String::new, |sql| format!("{sql};\n"));
    let why = "Tells of DDL that changes rows and sends no message for them: ALTER TYPE, columns with a default, partitions.";
    let sql = format!("{earlier}{}", DDL_TRIGGER.trim_end());
    plan.steps.push(Step { may_be_refused: true, ..Step::new(StepKind::Own, why, sql) });
}

/// Drops the triggers and what they need; `None` where there is nothing of them.
pub(super) fn drop_statements(prepared: &Prepared) -> Option<String> {
    let mut sql: Vec<String> =
        prepared.ddl_triggers.iter().map(|name| format!("DROP EVENT TRIGGER IF EXISTS {name}")).collect();
    if !prepared.ddl_functions.is_empty() {
        sql.push(format!("DROP FUNCTION IF EXISTS {}", prepared.ddl_functions.join(", ")));
    }
    (!sql.is_empty()).then(|| sql.join(";\n"))
}

/// Whether all is there that the file makes, and nothing else. One that somebody has disabled is there.
fn is_current(prepared: &Prepared) -> bool {
    let mut bodies: Vec<&str> = DDL_TRIGGER.split("$waldelta$").skip(1).step_by(2).collect();
    let mut found: Vec<&str> = prepared.ddl_bodies.iter().map(String::as_str).collect();
    bodies.sort_unstable();
    found.sort_unstable();
    prepared.ddl_triggers.len() == TRIGGERS && bodies == found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_what_is_counted() {
        assert_eq!(DDL_TRIGGER.matches("\nCREATE EVENT TRIGGER waldelta_ddl_").count(), TRIGGERS);
        let functions = DDL_TRIGGER.matches("\nCREATE OR REPLACE FUNCTION waldelta.ddl_").count();
        assert_eq!(DDL_TRIGGER.split("$waldelta$").skip(1).step_by(2).count(), functions);
    }
}
