//! What a session follows: subscriptions, and the selection that they make together.
//!
//! Which rows of a table that are, and what is told of them, is the business of [`Route`], which is bound to the table's shape.

mod part;
mod route;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub(crate) use part::{Part, Tables};
pub(crate) use route::{Key, Misfit, Route, Telling};
use waldelta_wal::{Change, Operation, ParseTableNameError, Reset, Table, TableName};

use crate::filter::Filter;
use crate::rules::Grant;

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
    /// The columns that are told beside the key, by their names as they stand; `None`: all. Only of one table.
    pub columns: Option<BTreeSet<String>>,
    /// The rows that it is of; `None`: all. Only of one table.
    pub filter: Option<Filter>,
    pub big_numbers: Numbers,
}

/// How int8 and numeric are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Numbers {
    /// As JSON numbers in full precision.
    #[default]
    Number,
    /// As strings: some clients would lose digits.
    String,
}

impl Subscription {
    /// All of its tables, as they are.
    pub(crate) fn new(id: impl Into<String>, table: Pattern) -> Self {
        Subscription {
            id: id.into(),
            table,
            old: false,
            columns: None,
            filter: None,
            big_numbers: Numbers::Number,
        }
    }
}

/// The subscriptions of a session, ordered by id, so that equal ones are equal, and what it may see of them: it names a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    subscriptions: Vec<Subscription>,
    grant: Grant,
}

impl Selection {
    /// Orders subscriptions by id. The ids differ: the caller has checked. Of their tables is selected what `grant` has.
    pub(crate) fn new(mut subscriptions: Vec<Subscription>, grant: Grant) -> Self {
        subscriptions.sort();
        Selection { subscriptions, grant }
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// What may be seen.
    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The same subscriptions of one who may see something else.
    pub(crate) fn granted(&self, grant: Grant) -> Self {
        Selection { subscriptions: self.subscriptions.clone(), grant }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.subscriptions.iter().any(|subscription| subscription.id == id)
    }

    /// This selection with more subscriptions.
    pub(crate) fn with(&self, more: &[Subscription]) -> Self {
        Self::new(self.subscriptions.iter().chain(more).cloned().collect(), self.grant.clone())
    }

    /// This selection without the subscriptions of these ids.
    pub(crate) fn without(&self, ids: &[String]) -> Self {
        let kept = self.subscriptions.iter().filter(|subscription| !ids.contains(&subscription.id));
        Selection { subscriptions: kept.cloned().collect(), grant: self.grant.clone() }
    }

    pub(crate) fn matches(&self, name: &TableName) -> bool {
        self.grant.has(name) && self.subscriptions.iter().any(|subscription| subscription.table.matches(name))
    }

    /// Whether a subscription names this table.
    pub(crate) fn names(&self, name: &TableName) -> bool {
        let named = |one: &Subscription| matches!(&one.table, Pattern::Table(table) if table == name);
        self.subscriptions.iter().any(named)
    }

    /// Whether a change is told at all, as a change or as a reset of its table.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        match (&change.table, reset_table(change)) {
            (_, Some(table)) => self.matches(&table),
            (Some(table), None) => is_told(change) && self.matches(&table.name),
            (None, None) => {
                is_message(change)
                    && self.grant.has_messages()
                    && self.subscriptions.iter().any(|subscription| subscription.table == Pattern::All)
            }
        }
    }

    /// How the changes of a table of this shape look, or `None` when it is not selected or may not be seen in this shape; without
    /// a table, how messages look: they belong to those who follow everything, and may see everything.
    ///
    /// # Errors
    /// Where a filter or a list of columns does not fit the shape.
    pub(crate) fn route(&self, table: Option<&Table>) -> Result<Option<Route>, Misfit> {
        let Some(table) = table else {
            let all = self.subscriptions.iter().filter(|one| one.table == Pattern::All);
            return Ok(Route::of_messages(all.filter(|_| self.grant.has_messages())));
        };
        let followers: Vec<&Subscription> = self.of(&table.name).collect();
        if followers.is_empty() {
            return Ok(None);
        }
        match self.grant.permission(table) {
            Some(permission) => Route::new(table, &followers, permission).map(Some),
            None => Ok(None),
        }
    }

    /// Whether a table of this shape is there for whoever has the grant, selected or not.
    pub(crate) fn may_see(&self, table: &Table) -> bool {
        self.grant.permission(table).is_some()
    }

    /// The subscriptions that follow a table.
    fn of<'a>(&'a self, name: &TableName) -> impl Iterator<Item = &'a Subscription> {
        let is_there = self.grant.has(name);
        self.subscriptions.iter().filter(move |subscription| is_there && subscription.table.matches(name))
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

/// Whether a change is told as one of the changes of a transaction.
pub(crate) fn is_change(change: &Change) -> bool {
    is_told(change) && (change.table.is_some() || is_message(change))
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
        assert_eq!(
            crate::testing::everything(vec![a.clone(), b.clone()]),
            crate::testing::everything(vec![b.clone(), a.clone()])
        );
        assert_eq!(
            crate::testing::everything(vec![a.clone()]).with(&[b]).without(&["b".into()]),
            crate::testing::everything(vec![a])
        );
    }

    #[test]
    fn messages_belong_to_those_who_follow_everything() {
        let selection =
            crate::testing::everything(vec![subscription("a", "*"), subscription("b", "public.*")]);
        let route = selection.route(None).unwrap().unwrap();
        let hello = message(0, "hello");
        assert_eq!(route.telling(&hello), Some(Telling::Message(br#"["a"]"#[..].into())));
        assert!(selection.wants(&hello));
        let others = selection.without(&["a".into()]);
        assert!(!others.wants(&hello) && others.route(None).unwrap().is_none());
        let author_alone = Change { data: None, ..hello };
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

    fn selection(tables: &[&str]) -> Selection {
        crate::testing::everything(tables.iter().map(|table| subscription(table, table)).collect())
    }
}
