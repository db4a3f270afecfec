//! What an index can know of a predicate: the one column by which most rows are left out without deciding it.

use std::collections::{BTreeMap, BTreeSet};

use waldelta_wal::Table;

use super::family::Family;
use super::predicate::{Question, Test};
use super::value::IndexKey;

/// One of its values has a row that can pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Equality {
    /// Index into the table's columns.
    pub column: u16,
    /// The values, each once.
    pub values: Vec<IndexKey>,
}

/// For each column that has to have one of a few values: these.
type Needed = BTreeMap<u16, BTreeSet<IndexKey>>;

/// The most selective equality that has to hold: the one with the fewest values, of the key if there is one, and of a boolean
/// only where there is no other.
pub(super) fn of(test: &Test, table: &Table) -> Option<Equality> {
    let rank = |(column, values): &(u16, BTreeSet<IndexKey>)| {
        let shape = table.columns.get(usize::from(*column));
        let is_bool = shape.is_some_and(|column| Family::of(column) == Family::Bool);
        (is_bool, values.len(), !table.key.contains(column), *column)
    };
    let (column, values) = needed(test).into_iter().min_by_key(rank)?;
    Some(Equality { column, values: values.into_iter().collect() })
}

fn needed(test: &Test) -> Needed {
    match test {
        Test::Column { column, question: Question::In(values), .. } => {
            Needed::from([(*column, values.iter().map(IndexKey::new).collect())])
        }
        Test::And(parts) => parts.iter().map(needed).fold(Needed::new(), both),
        Test::Or(parts) => parts.iter().map(needed).reduce(either).unwrap_or_default(),
        Test::Not(_) | Test::Column { .. } => Needed::new(),
    }
}

/// What both need: of a column that both know, the values that they share.
fn both(mut one: Needed, other: Needed) -> Needed {
    for (column, values) in other {
        match one.get_mut(&column) {
            Some(known) => known.retain(|value| values.contains(value)),
            None => drop(one.insert(column, values)),
        }
    }
    one
}

/// What one of them needs at least: only of columns that both know.
fn either(one: Needed, mut other: Needed) -> Needed {
    let joined = one.into_iter().filter_map(|(column, mut values)| {
        values.append(&mut other.remove(&column)?);
        Some((column, values))
    });
    joined.collect()
}
