//! What of a table is read for a snapshot, and what a snapshot is of however its clients call it.

use std::sync::Arc;

use waldelta_source::catalog::PublishedTable;
use waldelta_wal::Table;

use crate::session::hydrate::Failure;
use crate::subscription::{Misfit, Part, Pattern, Route, Selection, Subscription, Tables};
use crate::wire::Utf8Bytes;
use crate::wire::server;

/// In place of the estimate, where there is none.
const ROWS_UNKNOWN: i64 = -1;

/// What is read of a table.
#[derive(Debug)]
pub(super) struct Extract {
    /// The table's shape.
    pub table: Arc<Table>,
    /// The planner's estimate of all of its rows; -1 where not all of them may be seen.
    pub rows_estimate: i64,
    /// The shape that its rows are read in: what nobody asked for does not leave the source.
    pub read: Arc<Table>,
    /// Which rows, in SQL; `None`: all.
    pub condition: Option<String>,
    pub route: Route,
}

impl Extract {
    /// `None` where the table is not selected.
    pub(super) fn new(
        selection: &Selection,
        table: Arc<Table>,
        rows_estimate: i64,
    ) -> Result<Option<Self>, Misfit> {
        let Some(route) = selection.route(Some(&table))? else { return Ok(None) };
        let read =
            route.projection().map_or_else(|| table.clone(), |projection| Arc::new(projection.table(&table)));
        let condition = route.sql();
        // How many rows others have is nobody's business.
        let rows_estimate = if route.is_narrowed() { ROWS_UNKNOWN } else { rows_estimate };
        Ok(Some(Extract { table, rows_estimate, read, condition, route }))
    }
}

/// A table's shape as it is told to those who select it like this; `None`: it is not told.
pub(crate) fn schema(selection: &Selection, table: &Table) -> Result<Option<Utf8Bytes>, Misfit> {
    let route = selection.route(Some(table))?;
    Ok(route.map(|route| server::schema(table, route.projection())))
}

/// The same tables, rows and columns under other names: two clients share a snapshot however they call their subscriptions.
pub(super) fn anonymous(tables: &Tables) -> Tables {
    let part = match &tables.part {
        Part::Except(before) => Part::Except(numbered(before)),
        part @ (Part::All | Part::Only(_)) => part.clone(),
    };
    Tables { selection: numbered(&tables.selection), part }
}

fn numbered(selection: &Selection) -> Selection {
    let mut all: Vec<_> = selection.subscriptions().iter().map(content).collect();
    all.sort();
    all.dedup();
    let named =
        all.into_iter().enumerate().map(|(number, one)| Subscription { id: format!("{number:04}"), ..one });
    Selection::new(named.collect(), selection.grant().clone())
}

/// What a snapshot holds for a subscription does not depend on the rest of it.
fn content(subscription: &Subscription) -> Subscription {
    Subscription { id: String::new(), old: false, ..subscription.clone() }
}

/// The failure of an anonymous reading, with the name that its client has for the subscription.
pub(super) fn named(failure: Failure, selection: &Selection) -> Failure {
    let name = |number: String| {
        let numbered = numbered(selection);
        let refused = numbered.subscriptions().iter().find(|one| one.id == number).map(content);
        let theirs = selection.subscriptions().iter().find(|one| Some(content(one)) == refused);
        theirs.map_or(number, |one| one.id.clone())
    };
    match failure {
        Failure::NotCaptured { subscription, table } => {
            Failure::NotCaptured { subscription: name(subscription), table }
        }
        Failure::Misfit(misfit) => {
            Failure::Misfit(Misfit { subscription: name(misfit.subscription), ..misfit })
        }
        failure @ (Failure::ForNow { .. } | Failure::TooSlow) => failure,
    }
}

/// A subscription to a table by its name must find it: a client would wait for ever for a table that is misspelt. One that
/// was there once may be gone by now. One that may not be seen is not there.
pub(super) fn find_missing(tables: &Tables, published: &[PublishedTable]) -> Result<(), Failure> {
    let Tables { selection, part } = tables;
    let had = |one: &Subscription| match part {
        Part::All => false,
        // Their names do not tell: those of an anonymous selection are its own.
        Part::Except(before) => before.subscriptions().iter().any(|other| content(other) == content(one)),
        Part::Only(_) => true,
    };
    for subscription in selection.subscriptions().iter().filter(|subscription| !had(subscription)) {
        if let Pattern::Table(table) = &subscription.table
            && !published
                .iter()
                .any(|published| published.table.name == *table && selection.may_see(&published.table))
        {
            let table = table.to_string();
            return Err(Failure::NotCaptured { subscription: subscription.id.clone(), table });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waldelta_wal::ReplicaIdentity;

    use super::*;
    use crate::filter::FilterError;
    use crate::testing::{self, rule, subscription, table};

    fn selection(tables: &[&str]) -> Selection {
        crate::testing::everything(tables.iter().map(|table| subscription(table, table)).collect())
    }

    fn of(tables: &[&str], part: Part) -> Tables {
        Tables { selection: selection(tables), part }
    }

    #[test]
    fn a_table_asked_for_by_name_must_be_there() {
        let published = |name: &str| PublishedTable {
            table: Table { version: 0, ..table(name) },
            primary_key: Some(vec!["id".into()]),
            last_number: 2,
            rows_estimate: 7,
        };
        let there = [published("t")];
        assert!(find_missing(&of(&["t", "other.*", "*"], Part::All), &there).is_ok());
        let missing = find_missing(&of(&["t", "u"], Part::All), &there);
        assert!(matches!(missing, Err(Failure::NotCaptured { subscription, .. }) if subscription == "u"));
        let added = of(&["t", "u"], Part::Except(selection(&["u"])));
        assert!(find_missing(&added, &there).is_ok(), "`u` is what the client had before");
        assert!(find_missing(&anonymous(&added), &there).is_ok());
        let added = of(&["t", "u"], Part::Except(selection(&["t"])));
        let missing =
            find_missing(&anonymous(&added), &there).map_err(|failure| named(failure, &added.selection));
        assert!(matches!(missing, Err(Failure::NotCaptured { subscription, .. }) if subscription == "u"));
        let reset = of(&["t", "u"], Part::Only([table("u").name].into()));
        assert!(find_missing(&reset, &there).is_ok(), "it is gone since");
    }

    #[test]
    fn a_table_that_may_not_be_seen_is_missing_and_what_may_not_be_seen_is_not_read() {
        let rules = [
            rule("t", Some(&[]), Some("v = :claims.v")),
            rule("u", None, None),
            rule("w", None, Some("v = :claims.v")),
        ];
        let grant = testing::grant(&rules, serde_json::json!({"v": "x"}));
        let published = |name: &str, identity| PublishedTable {
            table: Table { version: 0, identity, ..table(name) },
            primary_key: Some(vec!["id".into()]),
            last_number: 2,
            rows_estimate: 7,
        };
        use ReplicaIdentity::{Default, Full};
        let there =
            [published("t", Full), published("u", Default), published("w", Default), published("x", Full)];
        let missing = |name: &str| {
            let selection = selection(&[name]).granted(grant.clone());
            find_missing(&Tables { selection, part: Part::All }, &there).err()
        };
        let not_captured = |name: &str| {
            let (subscription, table) = (name.to_owned(), format!("public.{name}"));
            Some(Failure::NotCaptured { subscription, table })
        };
        assert_eq!((missing("t"), missing("u")), (None, None));
        // Its rule cannot be decided; no rule gives it; there is none.
        for name in ["w", "x", "nowhere"] {
            assert_eq!(missing(name), not_captured(name));
        }
        let all = selection(&["*"]).granted(grant);
        let extract =
            |of: &PublishedTable| Extract::new(&all, Arc::new(of.table.clone()), of.rows_estimate).unwrap();
        let t = extract(&there[0]).unwrap();
        let read: Vec<&str> = t.read.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((read, t.rows_estimate), (vec!["id"], -1));
        assert!(t.condition.is_some_and(|sql| sql.contains("'x'::text")));
        let u = extract(&there[1]).unwrap();
        assert_eq!((u.read.columns.len(), u.rows_estimate, u.condition), (2, 7, None));
        assert!(extract(&there[2]).is_none() && extract(&there[3]).is_none());
        assert!(schema(&all, &there[3].table).unwrap().is_none());
        assert!(schema(&all, &there[0].table).unwrap().is_some_and(|frame| !frame.contains("\"v\"")));
    }

    #[test]
    fn what_subscriptions_are_called_is_no_part_of_a_snapshot() {
        let one = |id: &str, table: &str, old| Subscription { old, ..subscription(id, table) };
        let all = |subscriptions: &[Subscription]| {
            anonymous(&Tables {
                selection: crate::testing::everything(subscriptions.to_vec()),
                part: Part::All,
            })
        };
        let first = all(&[one("a", "t", false), one("b", "u", true)]);
        assert_eq!(first, all(&[one("z", "t", true), one("b", "u", false), one("c", "u", false)]));
        assert_ne!(first, all(&[one("a", "t", false)]));
        let some = Subscription { columns: Some(["v".to_owned()].into()), ..one("a", "t", false) };
        assert_ne!(all(&[some]), all(&[one("a", "t", false)]));
    }

    #[test]
    fn a_refusal_names_the_subscription_as_its_client_does() {
        let theirs = selection(&["x", "b", "t"]);
        let named_as = |table: &str| {
            let numbered = numbered(&theirs);
            let pattern = table.parse().unwrap();
            let number = numbered.subscriptions().iter().find(|one| one.table == pattern).unwrap().id.clone();
            let error = FilterError::NoColumn { column: "c".into() };
            let error = Box::new(error);
            let misfit = Misfit { subscription: number, table: self::table(table).name, error };
            match named(Failure::Misfit(misfit), &theirs) {
                Failure::Misfit(misfit) => misfit.subscription,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(["x", "b", "t"].map(named_as), ["x", "b", "t"]);
    }
}
