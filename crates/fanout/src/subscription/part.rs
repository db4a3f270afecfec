//! The tables of a selection that a snapshot is of.
//!
//! A client's copy of a table is the union of its subscriptions of it. Where subscriptions that come or go make another copy of
//! a table that the client has already, its rows are read anew: no change tells of rows or columns that were not asked for.

use std::collections::BTreeSet;

use waldelta_wal::TableName;

use super::{Numbers, Pattern, Selection, Subscription};
use crate::filter::Filter;
use crate::rules::Permit;

/// The tables of a selection that a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tables {
    /// What the session follows.
    pub selection: Selection,
    /// Which of it.
    pub part: Part,
}

/// A part of the tables of a selection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// All of them.
    All,
    /// Those of which the client has another copy, or none, by this selection.
    Except(Selection),
    /// Those that are reset.
    Only(BTreeSet<TableName>),
}

impl Tables {
    pub(crate) fn has(&self, table: &TableName) -> bool {
        let in_part = match &self.part {
            Part::All => true,
            Part::Except(except) => except.copy(table) != self.selection.copy(table),
            Part::Only(tables) => tables.contains(table),
        };
        in_part && self.selection.matches(table)
    }
}

/// What a client has of a table. The order of sets is no part of it.
#[derive(Debug, PartialEq, Eq)]
struct CopyOf<'a> {
    /// The rows that may be seen; `None`: all.
    permitted: Option<&'a Filter>,
    /// The filters; `None`: all rows.
    filters: Option<BTreeSet<&'a Filter>>,
    /// The columns beside the key; `None`: all.
    columns: Option<BTreeSet<&'a str>>,
    numbers: Numbers,
}

impl Selection {
    fn copy(&self, table: &TableName) -> Option<CopyOf<'_>> {
        let all: Vec<&Subscription> = self.of(table).collect();
        let columns: Option<Vec<_>> = all.iter().map(|one| one.columns.as_ref()).collect();
        let columns = columns.map(|all| all.into_iter().flatten().map(String::as_str).collect());
        let permit = self.grant.permit(table);
        Some(CopyOf {
            numbers: all.iter().map(|one| one.big_numbers).max()?,
            filters: all.iter().map(|one| one.filter.as_ref()).collect(),
            columns: columns.or_else(|| permit?.shown()),
            permitted: permit.and_then(Permit::filter),
        })
    }

    /// The columns that subscriptions of a table name beside those that its rule lists: but for the key's they may not be seen.
    pub(crate) fn hidden(&self, table: &TableName) -> BTreeSet<&str> {
        let Some(shown) = self.grant.permit(table).and_then(Permit::shown) else { return BTreeSet::new() };
        let named = self.of(table).flat_map(|one| {
            let columns = one.columns.iter().flatten().map(String::as_str);
            columns.chain(one.filter.iter().flat_map(Filter::columns))
        });
        named.filter(|column| !shown.contains(column)).collect()
    }

    /// Whether of a table that both select, the client would have another copy than by the selection `before`.
    pub(crate) fn alters_copies_of(&self, before: &Selection) -> bool {
        let alters = |table: &TableName| before.matches(table) && before.copy(table) != self.copy(table);
        let named = |selection: &Selection| {
            let tables = selection.subscriptions.iter().filter_map(|one| match &one.table {
                Pattern::Table(table) => Some(table.clone()),
                Pattern::All | Pattern::Schema(_) => None,
            });
            tables.collect::<Vec<_>>()
        };
        let of_named =
            [self, before].into_iter().flat_map(named).any(|table| self.matches(&table) && alters(&table));
        // Of tables that nobody names what may be seen can differ…
        let overlap = |one: &Pattern, other: &Pattern| match (one, other) {
            (Pattern::Table(table), pattern) | (pattern, Pattern::Table(table)) => pattern.matches(table),
            (Pattern::Schema(one), Pattern::Schema(other)) => one == other,
            (Pattern::All, _) | (_, Pattern::All) => true,
        };
        let regranted = || {
            let wide = self.subscriptions.iter().map(|one| &one.table);
            let mut wide = wide.filter(|pattern| !matches!(pattern, Pattern::Table(_)));
            wide.any(|pattern| before.subscriptions.iter().any(|one| overlap(pattern, &one.table)))
        };
        // …and nothing else but their numbers.
        let strings = |selection: &Selection| -> BTreeSet<Pattern> {
            let of_patterns =
                selection.subscriptions.iter().filter(|one| !matches!(one.table, Pattern::Table(_)));
            of_patterns
                .filter(|one| one.big_numbers == Numbers::String)
                .map(|one| one.table.clone())
                .collect()
        };
        of_named || strings(self) != strings(before) || (self.grant != before.grant && regranted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rule;
    use crate::testing::{self, rule, subscription};

    fn selection(tables: &[&str]) -> Selection {
        crate::testing::everything(tables.iter().map(|table| subscription(table, table)).collect())
    }

    fn filtered(id: &str, filter: &str) -> Subscription {
        testing::filtered(id, "t", filter)
    }

    fn columns(id: &str, columns: &[&str]) -> Subscription {
        let columns = Some(columns.iter().map(|&name| name.to_owned()).collect());
        Subscription { columns, ..subscription(id, "t") }
    }

    #[test]
    fn a_snapshot_is_of_a_part_of_what_is_selected() {
        let has = |part: Part| {
            let tables = Tables { selection: selection(&["t", "u"]), part };
            ["t", "u", "v"].map(|name| tables.has(&name.parse().unwrap()))
        };
        assert_eq!(has(Part::All), [true, true, false]);
        assert_eq!(has(Part::Except(selection(&["u"]))), [true, false, false]);
        let only = |names: &[&str]| Part::Only(names.iter().map(|name| name.parse().unwrap()).collect());
        assert_eq!(has(only(&["u", "v"])), [false, true, false], "`v` is not followed any more");
    }

    /// Whether the table has to be read again where `more` comes to `before`, and where it goes again.
    fn check(before: &[Subscription], more: Subscription, is_read: bool) {
        let before = crate::testing::everything(before.to_vec());
        let after = before.with(std::slice::from_ref(&more));
        let t: TableName = "t".parse().unwrap();
        for (from, to) in [(&before, &after), (&after, &before)] {
            let tables = Tables { selection: to.clone(), part: Part::Except(from.clone()) };
            assert_eq!(tables.has(&t), is_read && to.matches(&t), "{more:?} {from:?}");
            assert_eq!(to.alters_copies_of(from), is_read && from.matches(&t) && to.matches(&t), "{more:?}");
        }
    }

    #[test]
    fn a_table_is_read_again_where_other_rows_or_columns_of_it_are_asked_for() {
        let strings =
            |id: &str, table: &str| Subscription { big_numbers: Numbers::String, ..subscription(id, table) };
        check(&[], filtered("b", "id = 1"), true);
        check(&[filtered("a", "id = 1")], filtered("b", "id = 2"), true);
        check(&[filtered("a", "id = 1")], filtered("b", "id = 1"), false);
        check(&[subscription("a", "t")], filtered("b", "id = 2"), false);
        check(&[subscription("a", "t")], columns("b", &["v"]), false);
        check(&[columns("a", &["id", "v"])], columns("b", &["v"]), false);
        check(&[columns("a", &["id"])], columns("b", &["v"]), true);
        check(&[subscription("a", "public.*")], strings("b", "t"), true);
        check(&[subscription("a", "public.*")], strings("b", "public.*"), true);
        check(&[strings("a", "public.*")], strings("b", "t"), false);
        check(&[subscription("a", "*")], Subscription { old: true, ..subscription("b", "t") }, false);
        check(&[subscription("a", "u")], subscription("b", "t"), true);
    }

    #[test]
    fn a_table_is_read_again_where_something_else_of_it_may_be_seen() {
        let with = |one: &Subscription, rules: &[Rule], tenant: u8| {
            let grant = testing::grant(rules, serde_json::json!({"tenant": tenant, "sub": "anybody"}));
            crate::testing::everything(vec![one.clone()]).granted(grant)
        };
        let t: TableName = "t".parse().unwrap();
        let narrow = [rule("t", Some(&["v"]), Some("id = :claims.tenant"))];
        let wider = [rule("t", Some(&["v", "w"]), Some("id = :claims.tenant"))];
        let whole = [rule("t", None, None)];
        let other = [rule("u", None, None)];
        for (before, after, is_other) in [
            ((&narrow[..], 1), (&narrow[..], 1), false),
            ((&narrow, 1), (&narrow, 2), true),
            ((&narrow, 1), (&wider, 1), true),
            ((&narrow, 1), (&whole, 1), true),
            ((&whole, 1), (&whole, 2), false),
            ((&other, 1), (&whole, 1), true),
            ((&whole, 1), (&other, 1), true),
        ] {
            for one in [subscription("a", "t"), subscription("a", "*"), subscription("a", "public.*")] {
                let (before, after) = (with(&one, before.0, before.1), with(&one, after.0, after.1));
                let tables = Tables { selection: after.clone(), part: Part::Except(before.clone()) };
                assert_eq!(tables.has(&t), is_other && after.matches(&t), "{one:?}");
                let is_altered = is_other && before.matches(&t) && after.matches(&t);
                assert!(!is_altered || after.alters_copies_of(&before), "{one:?}");
                assert!(is_other || !after.alters_copies_of(&before), "{one:?}");
            }
        }
        // What was asked for may be seen both before and after.
        let v = columns("a", &["v"]);
        assert!(!with(&v, &wider, 1).alters_copies_of(&with(&v, &narrow, 1)));
        // All that is granted is the same as everything.
        let all = subscription("a", "t");
        assert!(!with(&all, &whole, 1).alters_copies_of(&crate::testing::everything(vec![all.clone()])));
    }
}
