//! How the changes of one table look to those who follow it: which are told, as what, and to which subscriptions.
//!
//! It is bound to a shape of the table: a filter or a list of columns that does not fit the shape is a [`Misfit`]. It decides
//! and writes nothing; the frame is the business of [`crate::wire::transaction`].
//!
//! The client's copy of a table is the union of its subscriptions: a row is in it if any of their filters passes. What is told
//! of a change follows from whether the row is in the copy before and after it; where the old image does not say, it is
//! told so that no row stays that should not, and none is missing:
//!
//! | before \ after | passes | fails | unknown |
//! |---|---|---|---|
//! | passes, unknown | update | delete | update |
//! | fails | insert | nothing | update |
//!
//! Before that stands what may be seen at all: a row that does not pass the permission for sure, before or after, fails there. So
//! it is told to be safe of rows alone that were the client's to see; and what comes from where it could not see it is an insert.

use std::borrow::Cow;

use bytes::Bytes;
use waldelta_wal::{Change, Operation, Table, TableName, quote_ident};

use super::Subscription;
use crate::filter::{FilterError, Predicate, Row, Verdict};
use crate::rules::Permission;
use crate::wire::json::{self, write_string};
use crate::wire::json_equality;
use crate::wire::projection::Projection;

/// A subscription that does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter or the columns of subscription {subscription} do not fit {table}")]
pub(crate) struct Misfit {
    /// The subscription's id.
    pub subscription: String,
    pub table: TableName,
    #[source]
    pub error: Box<FilterError>,
}

impl Misfit {
    /// What its client is told.
    pub(crate) fn message(&self) -> String {
        format!("the subscription does not fit {}: {}", self.table, self.error)
    }
}

/// How the changes of one table, or messages, look in a selection.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The table's name and the names of its key, as JSON texts; empty for messages.
    name: Vec<u8>,
    key: Vec<KeyColumn>,
    /// Ids of all its subscriptions, as a JSON array.
    all: Bytes,
    /// What may be seen.
    permission: Permission,
    /// The subscriptions, where any has a filter or not all rows may be seen; empty where every one has all rows.
    followers: Vec<Follower>,
    /// The filters, each once.
    predicates: Vec<Predicate>,
    /// Whether any of them reads a column that names rows to the source: else nothing is known of a row before that was not sent.
    reads_identity: bool,
    old: bool,
    projection: Option<Projection>,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    name: Vec<u8>,
    is_string: bool,
}

#[derive(Clone, Debug)]
struct Follower {
    /// Its id as JSON text.
    id: Vec<u8>,
    /// Index into the predicates.
    predicate: Option<usize>,
}

/// Ids of the subscriptions that a change belongs to, as a JSON array.
pub(crate) type Sub<'a> = Cow<'a, [u8]>;

/// The values of a row's key, each as JSON text, in the key's order.
pub(crate) type Key<'a> = Vec<&'a [u8]>;

/// As what a change is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Telling<'a> {
    Insert(Sub<'a>),
    Update(Sub<'a>),
    /// `key` is the key before, where it is another than the change's.
    Delete {
        key: Option<Key<'a>>,
        sub: Sub<'a>,
    },
    /// A key change: a delete of the old key and an insert.
    Moved {
        from: Key<'a>,
        delete: Sub<'a>,
        insert: Sub<'a>,
    },
    Truncate(Sub<'a>),
    Message(Sub<'a>),
    /// By a `schema` frame, not in a transaction.
    Shape,
}

impl Route {
    /// How messages look to these subscriptions; `None` without any.
    pub(super) fn of_messages<'s>(subscriptions: impl Iterator<Item = &'s Subscription>) -> Option<Self> {
        let ids: Vec<Vec<u8>> = subscriptions.map(|subscription| json_text(&subscription.id)).collect();
        (!ids.is_empty()).then(|| Route {
            name: Vec::new(),
            key: Vec::new(),
            all: list(ids.iter().map(Vec::as_slice)).into(),
            permission: Permission::everything(),
            followers: Vec::new(),
            predicates: Vec::new(),
            reads_identity: false,
            old: false,
            projection: None,
        })
    }

    /// How the changes of a table look to these subscriptions, which follow it, under what may be seen of it. A column that may
    /// not be seen is one that the table has not.
    pub(super) fn new(
        table: &Table,
        subscriptions: &[&Subscription],
        permission: Permission,
    ) -> Result<Self, Misfit> {
        let visible = permission.visible(table);
        let misfit = |subscription: &Subscription, error| Misfit {
            subscription: subscription.id.clone(),
            table: table.name.clone(),
            error: Box::new(error),
        };
        let (mut followers, mut filters, mut predicates) = (Vec::new(), Vec::new(), Vec::new());
        for subscription in subscriptions {
            if let Some(column) = subscription.columns.iter().flatten().find(|name| !has(&visible, name)) {
                return Err(misfit(subscription, FilterError::NoColumn { column: quote_ident(column) }));
            }
            let mut predicate = None;
            if let Some(filter) = &subscription.filter {
                let known = filters.iter().position(|other| *other == filter);
                if known.is_none() {
                    let bound =
                        Predicate::new(filter, &visible).map_err(|error| misfit(subscription, error))?;
                    filters.push(filter);
                    predicates.push(bound);
                }
                predicate = Some(known.unwrap_or(predicates.len() - 1));
            }
            followers.push(Follower { id: json_text(&subscription.id), predicate });
        }
        let columns = subscriptions.iter().map(|subscription| subscription.columns.as_ref());
        let columns = columns.collect::<Option<Vec<_>>>();
        let asked = columns.map(|all| all.into_iter().flatten().map(String::as_str).collect());
        // Those that were asked for by name may be seen.
        let columns = asked.or_else(|| permission.columns());
        let numbers = subscriptions.iter().map(|subscription| subscription.big_numbers).max();
        let projection = Projection::new(table, columns.as_ref(), numbers.unwrap_or_default());
        let all = list(followers.iter().map(|follower| &follower.id[..])).into();
        if predicates.is_empty() && permission.rows().is_none() {
            followers.clear();
        }
        let reads_identity = reads_identity(table, predicates.iter().chain(permission.rows()));
        Ok(Route {
            name: json_text(&table.name.to_string()),
            key: key_columns(table, projection.as_ref()),
            all,
            followers,
            reads_identity,
            permission,
            predicates,
            old: subscriptions.iter().any(|subscription| subscription.old),
            projection,
        })
    }

    /// Whether every change is told as what it is: nothing has to be looked at in its rows.
    pub(crate) fn tells_all_rows(&self) -> bool {
        self.followers.is_empty()
    }

    /// Whether changes carry the image before.
    pub(crate) fn has_old(&self) -> bool {
        self.old
    }

    /// What is told of a row; `None`: all of it, as it is.
    pub(crate) fn projection(&self) -> Option<&Projection> {
        self.projection.as_ref()
    }

    /// The table's name as JSON text.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The names of the key's columns as JSON texts, each with whether its numbers are told as strings.
    pub(crate) fn key(&self) -> impl ExactSizeIterator<Item = (&[u8], bool)> {
        self.key.iter().map(|column| (&column.name[..], column.is_string))
    }

    /// The rows of the client's copy as an SQL condition over the table's quoted column names; `None`: all rows.
    pub(crate) fn sql(&self) -> Option<String> {
        let asked_for = (!self.takes_all_rows()).then(|| {
            let each = self.predicates.iter().map(|predicate| format!("({})", predicate.sql()));
            each.collect::<Vec<String>>().join(" OR ")
        });
        match (self.permission.rows().map(Predicate::sql), asked_for) {
            (Some(permitted), Some(asked_for)) => Some(format!("({permitted}) AND ({asked_for})")),
            (permitted, asked_for) => permitted.or(asked_for),
        }
    }

    /// Whether not all rows of the table may be seen.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.permission.rows().is_some()
    }

    /// Whether of what may be seen all rows are asked for.
    fn takes_all_rows(&self) -> bool {
        self.followers.is_empty() || self.followers.iter().any(|follower| follower.predicate.is_none())
    }

    /// As what a change of this table is told; `None`: not at all. The table has the shape that this is bound to.
    pub(crate) fn telling<'a>(&'a self, change: &'a Change) -> Option<Telling<'a>> {
        let all = || Cow::Borrowed(&self.all[..]);
        match (change.operation, change.table.as_deref()) {
            (Operation::Schema, _) => Some(Telling::Shape),
            (Operation::Message, _) => Some(Telling::Message(all())),
            (Operation::Truncate, _) => Some(Telling::Truncate(all())),
            // To a client, a row from before history is a row that it did not have.
            (Operation::Insert | Operation::Baseline, _) if self.tells_all_rows() => {
                Some(Telling::Insert(all()))
            }
            (Operation::Delete, _) if self.tells_all_rows() => {
                Some(Telling::Delete { key: None, sub: all() })
            }
            (Operation::Update, _) if self.tells_all_rows() => Some(match self.key_before(change) {
                None => Telling::Update(all()),
                Some(from) => Telling::Moved { from, delete: all(), insert: all() },
            }),
            (Operation::Insert | Operation::Baseline, Some(table)) => {
                let after = self.after(change, table);
                after.is_possible().then(|| Telling::Insert(self.sub(&after)))
            }
            (Operation::Delete, Some(table)) => {
                let before = self.before(change, table);
                before.is_possible().then(|| Telling::Delete { key: None, sub: self.sub(&before) })
            }
            (Operation::Update, Some(table)) => self.telling_update(change, table),
            (Operation::Reset | Operation::Skip, _)
            | (Operation::Insert | Operation::Baseline | Operation::Update | Operation::Delete, None) => None,
        }
    }

    fn telling_update<'a>(&'a self, change: &'a Change, table: &Table) -> Option<Telling<'a>> {
        let (before, after) = (self.before(change, table), self.after(change, table));
        let from = self.key_before(change);
        Some(match (before.union, after.union, from) {
            (Verdict::Fails, Verdict::Fails, _) => return None,
            (_, Verdict::Fails, key) => Telling::Delete { key, sub: self.sub(&before) },
            (Verdict::Fails, Verdict::Passes, _) | (Verdict::Fails, Verdict::Unknown, Some(_)) => {
                Telling::Insert(self.sub(&after))
            }
            // An update would tell of the row before.
            (Verdict::Fails, Verdict::Unknown, None) if !before.is_permitted => {
                Telling::Insert(self.sub(&after))
            }
            (_, _, None) => Telling::Update(self.sub(&after)),
            (_, _, Some(from)) => {
                Telling::Moved { from, delete: self.sub(&before), insert: self.sub(&after) }
            }
        })
    }

    /// The verdicts on the row after a change.
    fn after(&self, change: &Change, table: &Table) -> Verdicts {
        self.verdicts(&Row::after(change, table))
    }

    /// The verdicts on the row before a change.
    fn before(&self, change: &Change, table: &Table) -> Verdicts {
        match change.old_data.is_some() || self.reads_identity {
            true => self.verdicts(&Row::before(change, table)),
            false => self.verdicts(&Row::new(table, b"")),
        }
    }

    fn verdicts(&self, row: &Row<'_>) -> Verdicts {
        if !self.permission.passes(row) {
            let each = vec![Verdict::Fails; self.predicates.len()];
            return Verdicts { each, union: Verdict::Fails, is_permitted: false };
        }
        let each: Vec<Verdict> = self.predicates.iter().map(|predicate| predicate.verdict(row)).collect();
        let of_all = self.followers.iter().map(|follower| Verdicts::of(&each, follower));
        let union = of_all.fold(Verdict::Fails, |union, verdict| match (union, verdict) {
            (Verdict::Passes, _) | (_, Verdict::Passes) => Verdict::Passes,
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
            (Verdict::Fails, Verdict::Fails) => Verdict::Fails,
        });
        Verdicts { each, union, is_permitted: true }
    }

    /// The subscriptions whose filter passes, or may pass.
    fn sub(&self, verdicts: &Verdicts) -> Sub<'_> {
        if !verdicts.each.contains(&Verdict::Fails) {
            return Cow::Borrowed(&self.all);
        }
        let possible = |follower: &&Follower| Verdicts::of(&verdicts.each, follower) != Verdict::Fails;
        Cow::Owned(list(self.followers.iter().filter(possible).map(|follower| &follower.id[..])))
    }

    /// The key before an update, where it is another one and the source has told it.
    fn key_before<'a>(&self, change: &'a Change) -> Option<Key<'a>> {
        let (key, old) = (change.row_key.as_deref()?, change.old_data.as_deref()?);
        let before = self.key_in(old)?;
        let mut after = json::elements(key);
        // As values, because one may have gone through history, which prints numbers, spaces and members in its own way.
        let same =
            before.iter().all(|before| after.next().is_some_and(|after| json_equality::same(before, after)));
        (!same || after.next().is_some()).then_some(before)
    }

    /// The key's values in an image, if it has all of them.
    fn key_in<'a>(&self, image: &'a [u8]) -> Option<Key<'a>> {
        let mut found: Vec<Option<&[u8]>> = vec![None; self.key.len()];
        let mut members = json::members(image);
        // The key is among the first columns as a rule: no further than that.
        while found.iter().any(Option::is_none)
            && let Some((name, value)) = members.next()
        {
            if let Some(index) = self.key.iter().position(|column| column.name == name) {
                found[index] = Some(value);
            }
        }
        found.into_iter().collect::<Option<Key<'_>>>().filter(|key| !key.is_empty())
    }
}

/// What the filters say of a row.
struct Verdicts {
    each: Vec<Verdict>,
    /// Whether the row is in the client's copy.
    union: Verdict,
    /// Whether it may be seen.
    is_permitted: bool,
}

impl Verdicts {
    fn is_possible(&self) -> bool {
        self.union != Verdict::Fails
    }

    fn of(each: &[Verdict], follower: &Follower) -> Verdict {
        follower.predicate.map_or(Verdict::Passes, |index| each[index])
    }
}

fn json_text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

/// JSON texts as an array.
fn list<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = vec![b'['];
    for text in texts {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(text);
    }
    out.push(b']');
    out
}

/// Columns that may not be seen have no name.
fn has(table: &Table, name: &str) -> bool {
    !name.is_empty() && table.columns.iter().any(|column| column.name == name)
}

fn key_columns(table: &Table, projection: Option<&Projection>) -> Vec<KeyColumn> {
    let columns = table.key.iter().filter_map(|index| table.columns.get(usize::from(*index)));
    let column = |column: &waldelta_wal::Column| KeyColumn {
        name: json_text(&column.name),
        is_string: projection.is_some_and(|projection| projection.is_string(&column.name)),
    };
    columns.map(column).collect()
}

fn reads_identity<'p>(table: &Table, predicates: impl Iterator<Item = &'p Predicate>) -> bool {
    let read = predicates.flat_map(Predicate::columns);
    let mut columns = read.filter_map(|index| table.columns.get(usize::from(*index)));
    columns.any(|column| column.identity)
}

#[cfg(test)]
mod tests;
