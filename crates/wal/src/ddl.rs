//! What the source's event trigger tells of DDL, by a transactional logical message: which tables' rows changed in a way
//! that no other message tells, and of which tables the catalog says something new.

use serde::Deserialize;

use crate::transaction::{Repair, RepairReason};

/// A message of the trigger: `{"repairs":[{"table":16400,"reason":"rewritten"}],"forget":[16400]}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ddl {
    /// Tables whose rows are no longer what their changes add up to.
    pub(crate) repairs: Vec<Repair>,
    /// Object ids of tables to be asked for again before their next row.
    pub(crate) forget: Vec<u32>,
}

/// More tables than this nobody alters in one statement.
const ENTRIES_MAX: usize = 100_000;

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    repairs: Vec<ToldRepair>,
    #[serde(default)]
    forget: Vec<u32>,
}

#[derive(Deserialize)]
struct ToldRepair {
    table: u32,
    reason: String,
}

impl Ddl {
    /// Reads the content of the trigger's message. `None` where it is something else: anybody may emit a message with our
    /// prefix, and nobody may stop capture by it. A reason that this version does not know is taken for the strongest.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        // Serde would read an array as the fields in their order.
        if !content.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let told: Told = serde_json::from_slice(content).ok()?;
        if told.repairs.len() + told.forget.len() > ENTRIES_MAX {
            return None;
        }
        let repair = |told: ToldRepair| Repair {
            table_oid: told.table,
            reason: RepairReason::from_name(&told.reason).unwrap_or(RepairReason::Rewritten),
        };
        Some(Ddl { repairs: told.repairs.into_iter().map(repair).collect(), forget: told.forget })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_trigger_tells() {
        let ddl = Ddl::read(br#"{"tag":"ALTER TABLE","repairs":[{"table":7,"reason":"default_added"},{"table":8,"reason":"new"}],"forget":[9]}"#);
        let repair = |table_oid, reason| Repair { table_oid, reason };
        let repairs = vec![repair(7, RepairReason::DefaultAdded), repair(8, RepairReason::Rewritten)];
        assert_eq!(ddl, Some(Ddl { repairs, forget: vec![9] }));
        assert_eq!(Ddl::read(b"{}"), Some(Ddl::default()));
    }

    #[test]
    fn what_is_something_else_is_none() {
        for content in ["", "[]", "{\"repairs\":1}", "{\"forget\":[-1]}", "x"] {
            assert_eq!(Ddl::read(content.as_bytes()), None, "{content}");
        }
    }
}
