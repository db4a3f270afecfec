//! Which tables wal2json is asked for, and by which names. Pure.
//!
//! It is told names, and compares them with those that a table had when a row was written. So a table is listed by its name
//! now and by those that rows not read yet can have: the one that history knows, and the one of the connection before. A
//! former name is left out where another table has it now. What is created or renamed while it streams vanishes without a
//! word, so the catalog is looked at again and again, and a difference ends the connection.
//!
//! A table that was added meanwhile joins like any other (see `joining`): the next connection asks for it, and its gap begins
//! where the listing was last seen without it. So it is reset once. One that was asked for and has another name now may lack
//! changes, and needs repair.

use std::collections::HashMap;

use waldelta_history::{Gap, NewGap};
use waldelta_source::catalog::{ListedTable, Listing};
use waldelta_wal::{Lsn, TableName};

/// Why a table needs repair that was published and not asked for.
pub(crate) const NOT_LISTED: &str = "not_listed";
/// The schema whose tables are ours.
const OUR_SCHEMA: &str = "waldelta";

/// The tables that a connection asks for.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What the catalog said.
    pub(crate) listing: Listing,
    /// By every name that it is asked for by.
    names: HashMap<TableName, u32>,
}

/// What one connection leaves to the next.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What it had asked for.
    pub(crate) listed: Option<Listed>,
    /// Tables whose changes it may have missed.
    pub(crate) missed: Vec<NewGap>,
}

impl Listed {
    /// `former` gives object ids and names that tables had before.
    pub(crate) fn new(listing: Listing, former: impl IntoIterator<Item = (u32, TableName)>) -> Self {
        let mut names: HashMap<TableName, u32> =
            listing.tables.iter().map(|table| (table.name.clone(), table.oid)).collect();
        for (oid, name) in former {
            if listing.tables.iter().any(|table| table.oid == oid) {
                names.entry(name).or_insert(oid);
            }
        }
        Listed { listing, names }
    }

    /// Every name that is asked for, in order.
    pub(crate) fn names(&self) -> Vec<TableName> {
        let mut names: Vec<TableName> = self.names.keys().cloned().collect();
        names.sort();
        names
    }

    /// Object ids with every name that is asked for.
    pub(crate) fn named(&self) -> impl Iterator<Item = (u32, TableName)> {
        self.names.iter().map(|(name, oid)| (*oid, name.clone()))
    }

    /// The table that is asked for by this name.
    pub(crate) fn oid(&self, name: &TableName) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Whether the table is asked for.
    pub(crate) fn contains(&self, oid: u32) -> bool {
        self.listing.tables.iter().any(|table| table.oid == oid)
    }

    /// The tables whose changes were not sent since the listing was as it is here, if now it is another.
    pub(crate) fn missing(&self, now: &Listing) -> Vec<ListedTable> {
        let more_actions = now.actions.iter().any(|action| !self.listing.actions.contains(action));
        let was_asked_for = |table: &ListedTable| self.oid(&table.name) == Some(table.oid);
        let missing =
            |table: &&ListedTable| table.name.schema != OUR_SCHEMA && (more_actions || !was_asked_for(table));
        now.tables.iter().filter(missing).cloned().collect()
    }
}

impl Left {
    /// Notes that tables were published from `from` on, or later, without being asked for.
    pub(crate) fn miss(&mut self, tables: &[ListedTable], from: Lsn) {
        let was_listed = |oid| self.listed.as_ref().is_none_or(|listed| listed.contains(oid));
        let reason = |oid| if was_listed(oid) { NOT_LISTED } else { Gap::JOINING };
        let gap =
            |table: &ListedTable| NewGap { table_oid: table.oid, from, reason: reason(table.oid).to_owned() };
        self.missed.extend(tables.iter().map(gap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TableName {
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        TableName { schema: schema.into(), name: name.into() }
    }

    fn listing(tables: &[(u32, &str)], actions: &[&str]) -> Listing {
        let table = |(oid, text): &(u32, &str)| ListedTable {
            oid: *oid,
            name: name(text),
            columns: None,
            has_filter: false,
            is_identified: true,
        };
        Listing {
            tables: tables.iter().map(table).collect(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            via_root: false,
        }
    }

    #[test]
    fn former_names_are_asked_for_unless_another_table_has_them() {
        let former = [(1, name("a")), (2, name("c")), (3, name("gone"))];
        let listed = Listed::new(listing(&[(1, "b"), (2, "d"), (4, "c")], &[]), former);
        assert_eq!(listed.names(), ["a", "b", "c", "d"].map(name));
        assert_eq!(listed.oid(&name("a")), Some(1));
        assert_eq!(listed.oid(&name("c")), Some(4), "the name is another table's now");
        assert!(listed.contains(1) && !listed.contains(3));
    }

    #[test]
    fn what_was_not_asked_for_may_be_missing() {
        let listed = Listed::new(listing(&[(1, "a"), (2, "b")], &["insert"]), [(2, name("c"))]);
        let missing = |tables: &[(u32, &str)], actions: &[&str]| -> Vec<u32> {
            listed.missing(&listing(tables, actions)).iter().map(|table| table.oid).collect()
        };
        assert_eq!(missing(&[(1, "a")], &["insert"]), Vec::<u32>::new(), "one was dropped");
        assert_eq!(missing(&[(1, "x"), (3, "b"), (4, "waldelta.canary")], &["insert"]), [1, 3]);
        assert_eq!(missing(&[(2, "c")], &["insert"]), Vec::<u32>::new(), "asked for by a former name");
        assert_eq!(missing(&[(1, "a")], &["insert", "update"]), [1]);
    }

    #[test]
    fn a_miss_is_a_gap() {
        let listed = Listed::new(listing(&[(7, "a")], &[]), []);
        let mut left = Left { listed: Some(listed), ..Left::default() };
        left.miss(&listing(&[(7, "b"), (8, "a")], &[]).tables, Lsn(5));
        let gap = |table_oid, reason: &str| NewGap { table_oid, from: Lsn(5), reason: reason.into() };
        assert_eq!(left.missed, [gap(7, "not_listed"), gap(8, "added")]);
    }
}
