//! What a session follows: subscriptions, and the selection that they make together.
//!
//! Row filters and column lists are not part of it yet; the frame reader refuses them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use waldelta_wal::{ParseTableNameError, Table, TableName};

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

/// How the changes of one table look in a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Ids of the subscriptions that the table belongs to, as a JSON array.
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

    /// How the changes of a table look, or `None` when it is not selected.
    pub(crate) fn route(&self, table: &Table) -> Option<Route> {
        let mut sub = vec![b'['];
        let mut old = false;
        for subscription in self.0.iter().filter(|subscription| subscription.table.matches(&table.name)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{subscription, table};

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
        let route = selection.route(&table("t")).unwrap();
        assert_eq!((&route.sub[..], route.old), (&br#"["a","b"]"#[..], true));
        assert!(Selection::new(vec![subscription("c", "other.*")]).route(&table("t")).is_none());
    }
}
