//! What an index can know of a predicate: columns by which most rows are left out without deciding it.

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

/// Columns of one filter by which it is found at most.
const COLUMNS_MAX: usize = 4;
/// Under so many combinations of values is a filter found at most, where it is found by more than one column.
const PATHS_MAX: usize = 16;

/// Equalities that all have to hold, each of another column; none where nothing of the kind is known. The most selective are
/// taken: those with the fewest values, and of a boolean only where there is no other. Of these the key's columns come first,
/// since they are known of a row before its change where others are not.
/// With several tests: where all of them have to pass.
pub(super) fn of<'t>(tests: impl Iterator<Item = &'t Test>, table: &Table) -> Vec<Equality> {
    let is_bool = |column: u16| {
        let shape = table.columns.get(usize::from(column));
        shape.is_some_and(|column| Family::of(column) == Family::Bool)
    };
    let mut all: Vec<Equality> = tests
        .map(needed)
        .fold(Needed::new(), both)
        .into_iter()
        .map(|(column, values)| Equality { column, values: values.into_iter().collect() })
        .collect();
    all.sort_by_key(|one| {
        (is_bool(one.column), one.values.len(), !table.key.contains(&one.column), one.column)
    });
    let (mut taken, mut paths) = (Vec::new(), 1);
    for one in all {
        let is_first = taken.is_empty();
        let fits = taken.len() < COLUMNS_MAX && paths * one.values.len() <= PATHS_MAX;
        if is_first || fits {
            paths *= one.values.len();
            taken.push(one);
        }
    }
    taken.sort_by_key(|one| {
        (!table.key.contains(&one.column), is_bool(one.column), one.values.len(), one.column)
    });
    taken
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
