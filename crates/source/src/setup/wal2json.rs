//! What is set up otherwise where wal2json is to read the slot. Decides only.

use super::survey::{Candidate, Kind};
use super::verdict::Verdict;
use crate::Plugin;

/// Leaves out what wal2json would lose.
pub(super) fn confine(verdict: Verdict, table: &Candidate, plugin: Plugin) -> Verdict {
    let is_identified = match table.kind {
        Kind::Partitioned => table.unidentified_leaves.is_empty(),
        Kind::Table | Kind::Foreign | Kind::View => table.is_identified,
    };
    if plugin == Plugin::Pgoutput || is_identified || !verdict.is_captured {
        return verdict;
    }
    let name = &table.name;
    let remark =
        format!("{name} is left out: wal2json drops updates and deletes of tables without replica identity");
    Verdict { is_captured: false, remark: Some(remark), ..verdict }
}

/// Whether partitions are published as their root table.
pub(super) fn publishes_via_root(plugin: Plugin) -> bool {
    plugin == Plugin::Pgoutput
}
