//! A plan: statements with reasons, to be read before they are run.

use std::fmt::Write;

use waldelta_wal::TableName;

/// What to capture.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Tables by name; empty: every ordinary table outside system schemas that can be captured.
    pub tables: Vec<TableName>,
    /// Also tables without primary key (insert-only).
    pub allow_keyless: bool,
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// The role that capture runs as, and its rights.
    Role,
    /// Schema, functions, canary and event triggers of our own.
    Own,
    /// The publication.
    Publication,
    /// The replication slot: what is committed before it is not captured.
    Slot,
}

/// One statement with the reason for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// What it is about.
    #[serde(skip)]
    pub kind: StepKind,
    /// Why, as a comment line without `--`.
    pub why: String,
    /// The statement; of a function or table several that take effect together. Without the last semicolon.
    pub sql: String,
    /// Whether it is something that the server may refuse to the role and that the rest works without.
    pub may_be_refused: bool,
}

impl Step {
    /// One that has to succeed.
    pub(super) fn new(kind: StepKind, why: impl Into<String>, sql: impl Into<String>) -> Self {
        Step { kind, why: why.into(), sql: sql.into(), may_be_refused: false }
    }

    /// Whether it creates or drops the slot.
    pub fn is_slot(&self) -> bool {
        self.kind == StepKind::Slot
    }
}

/// What setting up, or removing, would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Tables without key, left out or captured insert-only; tables with types not captured yet: with the reason.
    pub remarks: Vec<String>,
    /// Statements that Waldelta does not run, because they change what is not its own.
    pub suggestions: Vec<Step>,
    /// Statements in order; the slot's last.
    pub steps: Vec<Step>,
    /// The tables that are captured when it is carried out; of a removal none.
    pub tables: Vec<TableName>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The plan for one who makes the slot in another way.
    #[must_use]
    pub fn without_slot(mut self) -> Self {
        self.steps.retain(|step| !step.is_slot());
        self
    }

    /// The other part of it.
    #[must_use]
    pub fn only_slot(mut self) -> Self {
        self.steps.retain(Step::is_slot);
        self
    }

    /// The plan as an SQL script to review and run, with the reasons as comments.
    pub fn to_sql(&self) -> String {
        let mut sql = String::new();
        for remark in &self.remarks {
            comment(&mut sql, &format!("NOTE: {remark}"));
        }
        for suggestion in &self.suggestions {
            separate(&mut sql);
            comment(&mut sql, &format!("Not done by Waldelta: {}", suggestion.why));
            comment(&mut sql, &format!("{};", suggestion.sql));
        }
        for step in &self.steps {
            separate(&mut sql);
            comment(&mut sql, &step.why);
            if step.may_be_refused {
                comment(&mut sql, "Where the server refuses it, leave it out: the rest works without.");
            }
            // Writing to a String cannot fail.
            let _ = writeln!(sql, "{};", step.sql);
        }
        if self.steps.is_empty() {
            separate(&mut sql);
            comment(&mut sql, "Nothing to do.");
        }
        sql
    }
}

/// A name in the text can hold line breaks, which would end the comment.
fn comment(sql: &mut String, text: &str) {
    for line in text.split(['\n', '\r']) {
        let _ = writeln!(sql, "-- {line}");
    }
}

fn separate(sql: &mut String) {
    if !sql.is_empty() {
        sql.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_script() {
        let refusable = Step { may_be_refused: true, ..Step::new(StepKind::Slot, "the slot", "SELECT 1") };
        let plan = Plan {
            remarks: vec!["public.\"a\nDROP TABLE b\" is left out".into()],
            suggestions: vec![Step::new(
                StepKind::Publication,
                "mend it",
                "ALTER TABLE a REPLICA IDENTITY FULL",
            )],
            steps: vec![Step::new(StepKind::Own, "a schema", "CREATE SCHEMA waldelta"), refusable],
            tables: Vec::new(),
        };
        let expected = "-- NOTE: public.\"a\n-- DROP TABLE b\" is left out\n\n\
            -- Not done by Waldelta: mend it\n-- ALTER TABLE a REPLICA IDENTITY FULL;\n\n\
            -- a schema\nCREATE SCHEMA waldelta;\n\n-- the slot\n\
            -- Where the server refuses it, leave it out: the rest works without.\nSELECT 1;\n";
        assert_eq!(plan.to_sql(), expected);
        let plan = plan.without_slot();
        assert!(!plan.is_empty() && !plan.steps.iter().any(Step::is_slot));
        assert_eq!(Plan::default().to_sql(), "-- Nothing to do.\n");
    }
}
