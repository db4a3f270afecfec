//! The tables that need repair, as status shows them and the log tells of them: what has happened, and what follows from it.
//! When a table needs repair is not decided here.

use waldelta_history::Gap;
use waldelta_wal::{Lsn, RepairReason, TableName};

use crate::listed::NOT_LISTED;

/// A table whose rows at the source changed in a way that history has no changes of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsRepair {
    /// Object id of the table; `None`: all tables.
    pub table_oid: Option<u32>,
    /// Its name, quoted where SQL would need it.
    pub table: String,
    /// What has happened to it: see [`RepairReason::as_str`].
    pub reason: String,
    /// The same in a sentence, with what follows from it.
    pub explanation: &'static str,
    /// What committed before it, and not at it, is told whole.
    pub from: Lsn,
    /// When it was noticed, in microseconds since 1970-01-01 UTC.
    pub found_at_us: i64,
    /// The open transactions that it waits for, for people; only of one that was added.
    pub waits_for: Option<String>,
}

impl NeedsRepair {
    /// The table of a gap that is open. `name` is for one that history has no change of.
    pub fn new(gap: &Gap, name: impl Fn(u32) -> Option<TableName>) -> Self {
        let table = match (&gap.table, gap.table_oid) {
            (Some(name), _) => name.to_string(),
            (None, Some(oid)) => {
                name(oid).map_or_else(|| format!("the table with object id {oid}"), |name| name.to_string())
            }
            (None, None) => "all tables".to_owned(),
        };
        NeedsRepair {
            table_oid: gap.table_oid,
            table,
            reason: gap.reason.clone(),
            explanation: explanation(&gap.reason),
            from: gap.from,
            found_at_us: gap.found_at_us,
            waits_for: None,
        }
    }

    /// Tells the log.
    pub(crate) fn tell(&self) {
        let NeedsRepair { table, reason, explanation, from, .. } = self;
        tracing::warn!(table, reason, %from, "a table needs repair: {explanation}; capture goes on");
    }
}

fn explanation(reason: &str) -> &'static str {
    match RepairReason::from_name(reason) {
        Some(RepairReason::Rewritten) => {
            "all rows were written anew (another type, a computed default), which sends no changes: older rows in history \
             and at clients have the values from before"
        }
        Some(RepairReason::DefaultAdded) => {
            "a column was added with a default, which all rows have since without a change being sent: older rows in \
             history and at clients lack it"
        }
        Some(RepairReason::ColumnRenamed) => {
            "a column was renamed: older rows in history and at clients have the value under its old name"
        }
        Some(RepairReason::ColumnsUnclear) => {
            "a column came, went or was renamed more than once, with rows in between, before its table was looked at: rows in \
             history and at clients may lack values that a column of today has"
        }
        Some(RepairReason::PartitionsChanged) => {
            "partitions were attached, detached or dropped, which sends no changes: their rows are missing or left over in \
             history and at clients"
        }
        Some(RepairReason::PartitionEmptied) => {
            "a partition was truncated or written anew, which sends no changes: history and clients still have its rows as \
             they were"
        }
        Some(RepairReason::TypeChanged) => {
            "a composite type was altered: older rows in history and at clients have its values in the old form"
        }
        Some(RepairReason::EnumRenamed) => {
            "a value of an enum was renamed: older rows in history and at clients have its old name"
        }
        Some(RepairReason::Skipped) => {
            "a change was left out because an operator said so: rows in history and at clients may lack it"
        }
        None if reason == Gap::JOINING => {
            "it was published while transactions were open, which may be captured in part: its rows come with its reset, once \
             they have ended"
        }
        None if reason == NOT_LISTED => {
            "it was published, or got its name, before wal2json was asked for it, which sends tables by name: its changes \
             of that time may be missing in history and at clients"
        }
        None => "history does not have everything that changed its rows",
    }
}
