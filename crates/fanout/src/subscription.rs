//! What a session follows: subscriptions, and the selection that they make together.
//!
//! Row filters and column lists are not part of it yet; the frame reader refuses them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use waldelta_wal::{Change, Operation, ParseTableNameError, Reset, TableName};

use crate::wire::json;

/// Which tables: `schema.table`, `schema.*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// Every captured table.
    All,
    /// Every captured table of a schema.
    Schema(String),
    /// One table.
    Table(TableName),
}

impl Pattern {
    pub(crate) fn matches(&self, name: &TableName) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Schema(schema) => *schema == name.schema,
            Pattern::Table(table) => table == name,
        }
    }
}

impl FromStr for Pattern {
    type Err = ParseTableNameError;

    fn from_str(text: &str) -> Result<Self, ParseTableNameError> {
        if text == "*" {
            return Ok(Pattern::All);
        }
        match text.strip_suffix(".*") {
            // The schema is read by the rules of a table name, with any table in it.
            Some(schema) => Ok(Pattern::Schema(format!("{schema}.x").parse::<TableName>()?.schema)),
            None => text.parse().map(Pattern::Table),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::All => f.write_str("*"),
            Pattern::Schema(schema) => write!(f, "{}.*", waldelta_wal::quote_ident(schema)),
            Pattern::Table(table) => table.fmt(f),
        }
    }
}

/// One subscription of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subscription {
    /// The client's name for it; it comes back in each change.
    pub id: String,
    /// Its tables.
    pub table: Pattern,
    /// Whether changes carry the image before.
    pub old: bool,
}

/// How the changes of one table, or messages, look in a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Ids of the subscriptions that they belong to, as a JSON array.
    pub sub: Bytes,
    /// Whether changes carry the image before.
    pub old: bool,
}

/// The subscriptions of a session, ordered by id, so that equal ones are equal: it names a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selection(Vec<Subscription>);

impl Selection {
    /// Orders subscriptions by id. The ids differ: the caller has checked.
    pub(crate) fn new(mut subscriptions: Vec<Subscription>) -> Self {
        subscriptions.sort();
        Selection(subscriptions)
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.0
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|subscription| subscription.id == id)
    }

    /// This selection with more subscriptions.
    pub(crate) fn with(&self, more: &[Subscription]) -> Self {
        Self::new(self.0.iter().chain(more).cloned().collect())
    }

    /// This selection without the subscriptions of these ids.
    pub(crate) fn without(&self, ids: &[String]) -> Self {
        Selection(self.0.iter().filter(|subscription| !ids.contains(&subscription.id)).cloned().collect())
    }

    pub(crate) fn matches(&self, name: &TableName) -> bool {
        self.0.iter().any(|subscription| subscription.table.matches(name))
    }

    /// Whether a change is told at all, as a change or as a reset of its table.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        match (&change.table, reset_table(change)) {
            (_, Some(table)) => self.matches(&table),
            (Some(table), None) => is_told(change) && self.matches(&table.name),
            (None, None) => {
                is_message(change) && self.0.iter().any(|subscription| subscription.table == Pattern::All)
            }
        }
    }

    /// How the changes of a table look, or `None` when it is not selected; without a table, how messages look: they belong
    /// to those who follow everything.
    pub(crate) fn route(&self, table: Option<&TableName>) -> Option<Route> {
        let selects = |subscription: &&Subscription| match table {
            Some(table) => subscription.table.matches(table),
            None => subscription.table == Pattern::All,
        };
        let mut sub = vec![b'['];
        let mut old = false;
        for subscription in self.0.iter().filter(selects) {
            if sub.len() > 1 {
                sub.push(b',');
            }
            json::write_string(&mut sub, &subscription.id);
            old |= subscription.old;
        }
        if sub.len() == 1 {
            return None;
        }
        sub.push(b']');
        Some(Route { sub: sub.into(), old })
    }
}

/// The tables of a selection that a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// What the session follows.
    pub selection: Selection,
    /// Which of it.
    pub part: Part,
}

/// A part of the tables of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them.
    All,
    /// Those that this does not select: the client has the others.
    Except(Selection),
    /// Those that are reset.
    Only(BTreeSet<TableName>),
}

impl Tables {
    pub(crate) fn has(&self, table: &TableName) -> bool {
        let in_part = match &self.part {
            Part::All => true,
            Part::Except(except) => !except.matches(table),
            Part::Only(tables) => tables.contains(table),
        };
        in_part && self.selection.matches(table)
    }
}

/// The table that begins anew with this change, if it is such a one.
pub(crate) fn reset_table(change: &Change) -> Option<TableName> {
    Reset::of(change)?.table_name()
}

/// Whether a change of a table is told as such. A reset is a frame of its own. What an operator had left out is not told: its
/// table needs repair from there on, which ends with a reset.
pub(crate) fn is_told(change: &Change) -> bool {
    !matches!(change.operation, Operation::Reset | Operation::Skip)
}

/// Whether a change is a logical message. One without content is none: it only names the author of a transaction of which
/// nothing else is captured.
pub(crate) fn is_message(change: &Change) -> bool {
    change.table.is_none() && change.data.is_some() && is_told(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, reset_change, subscription};

    #[test]
    fn patterns_read_as_documented() {
        for (text, printed) in [
            ("*", "*"),
            ("public.*", "public.*"),
            ("\"a.b\".*", "\"a.b\".*"),
            ("Sales.*", "sales.*"),
            ("orders", "public.orders"),
            ("public.orders", "public.orders"),
        ] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), printed);
        }
        for text in ["", ".*", "a.*.*", "a.b.*", "**", "a.b.c", "a;b"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_order_of_subscriptions_does_not_matter() {
        let (a, b) = (subscription("a", "public.*"), subscription("b", "*"));
        assert_eq!(Selection::new(vec![a.clone(), b.clone()]), Selection::new(vec![b.clone(), a.clone()]));
        assert_eq!(
            Selection::new(vec![a.clone()]).with(&[b]).without(&["b".into()]),
            Selection::new(vec![a])
        );
    }

    #[test]
    fn a_route_names_every_subscription_of_a_table() {
        let mut with_old = subscription("b", "public.*");
        with_old.old = true;
        let selection =
            Selection::new(vec![with_old, subscription("a", "public.t"), subscription("c", "other.*")]);
        let t = "public.t".parse().unwrap();
        let route = selection.route(Some(&t)).unwrap();
        assert_eq!((&route.sub[..], route.old), (&br#"["a","b"]"#[..], true));
        assert!(Selection::new(vec![subscription("c", "other.*")]).route(Some(&t)).is_none());
        assert!(selection.route(None).is_none());
    }

    #[test]
    fn messages_belong_to_those_who_follow_everything() {
        let selection = Selection::new(vec![subscription("a", "*"), subscription("b", "public.*")]);
        assert_eq!(&selection.route(None).unwrap().sub[..], br#"["a"]"#);
        assert!(selection.wants(&message(0, "hello")));
        assert!(!selection.without(&["a".into()]).wants(&message(0, "hello")));
        let author_alone = Change { data: None, ..message(0, "") };
        assert!(!selection.wants(&author_alone));
    }

    #[test]
    fn a_reset_belongs_to_those_who_follow_its_table_and_is_no_message() {
        let (named, all) = (selection(&["t"]), selection(&["*"]));
        let (t, u) = (reset_change(0, "t"), reset_change(1, "u"));
        assert_eq!(reset_table(&t), Some("public.t".parse().unwrap()));
        assert!(named.wants(&t) && all.wants(&t) && all.wants(&u) && !named.wants(&u));
        assert!(!is_message(&t) && reset_table(&message(0, "hello")).is_none());
        let skipped = Change { operation: Operation::Skip, ..message(0, "hello") };
        assert!(!is_message(&skipped) && !all.wants(&skipped), "of a table that nobody knows");
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

    fn selection(tables: &[&str]) -> Selection {
        Selection::new(tables.iter().map(|table| subscription(table, table)).collect())
    }
}
