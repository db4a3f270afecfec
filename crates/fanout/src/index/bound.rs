//! Distinct filters bound to one shape of a table: by the values of the column that they compare for equality, and the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::Table;

use super::Work;
use super::images::{Images, Key};
use super::table::Id;
use crate::filter::{Equality, Filter, IndexKey, Predicate};

/// The filters of a table.
pub(super) struct Bound {
    table: Arc<Table>,
    predicates: HashMap<Id, Predicate>,
    /// Those that compare for equality, by column.
    by_column: BTreeMap<u16, ByValue>,
    /// Those that do not.
    rest: BTreeSet<Id>,
    /// Those that do not fit the shape. They pass always: who has one has to find out that its filter is none any more.
    unfit: BTreeSet<Id>,
}

/// The filters that compare one column for equality.
#[derive(Default)]
struct ByValue {
    /// Ascending: most values have one filter, and a list is small for that.
    values: HashMap<IndexKey, Vec<Id>>,
    all: BTreeSet<Id>,
}

impl Bound {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Bound {
            table,
            predicates: HashMap::new(),
            by_column: BTreeMap::new(),
            rest: BTreeSet::new(),
            unfit: BTreeSet::new(),
        }
    }

    /// Whether it is bound to this shape.
    pub(super) fn is_of(&mut self, table: &Arc<Table>) -> bool {
        if !Arc::ptr_eq(&self.table, table) {
            if self.table != *table {
                return false;
            }
            // Whoever reads history makes shapes anew: equal ones are compared once.
            self.table = table.clone();
        }
        true
    }

    pub(super) fn insert(&mut self, id: Id, filter: &Filter) {
        let Ok(predicate) = Predicate::new(filter, &self.table) else {
            self.unfit.insert(id);
            return;
        };
        match predicate.equality() {
            Some(equality) => self.by_column.entry(equality.column).or_default().insert(id, equality),
            None => {
                self.rest.insert(id);
            }
        }
        self.predicates.insert(id, predicate);
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.unfit.remove(&id);
        self.rest.remove(&id);
        let predicate = self.predicates.remove(&id);
        let Some(equality) = predicate.as_ref().and_then(Predicate::equality) else { return };
        if let Some(by_value) = self.by_column.get_mut(&equality.column) {
            by_value.remove(id, equality);
            if by_value.all.is_empty() {
                self.by_column.remove(&equality.column);
            }
        }
    }

    /// The filters that a row passes, or may pass, before its change or after it.
    pub(super) fn passing(&self, images: &Images<'_>, work: &mut Work) -> Vec<Id> {
        let mut candidates: Vec<Id> = Vec::new();
        for (column, by_value) in &self.by_column {
            by_value.look_up(*column, images, work, &mut candidates);
        }
        // Both images may lead to one filter.
        candidates.sort_unstable();
        candidates.dedup();
        candidates.extend(&self.rest);
        work.evaluations += candidates.len() as u64;
        candidates.retain(|id| self.predicates.get(id).is_none_or(|predicate| images.may_pass(predicate)));
        candidates.extend(&self.unfit);
        candidates
    }
}

impl ByValue {
    fn insert(&mut self, id: Id, equality: &Equality) {
        self.all.insert(id);
        for value in &equality.values {
            let ids = self.values.entry(value.clone()).or_default();
            if let Err(at) = ids.binary_search(&id) {
                ids.insert(at, id);
            }
        }
    }

    fn remove(&mut self, id: Id, equality: &Equality) {
        self.all.remove(&id);
        for value in &equality.values {
            if let Some(ids) = self.values.get_mut(value) {
                if let Ok(at) = ids.binary_search(&id) {
                    ids.remove(at);
                }
                if ids.is_empty() {
                    self.values.remove(value);
                }
            }
        }
    }

    /// Adds the filters that have the value of either image; all where one is not known.
    fn look_up(&self, column: u16, images: &Images<'_>, work: &mut Work, into: &mut Vec<Id>) {
        let begun = into.len();
        for key in images.keys(column) {
            work.lookups += 1;
            match key {
                Key::Null => {}
                Key::Is(key) => into.extend(self.values.get(&key).into_iter().flatten()),
                Key::Unknown => {
                    into.truncate(begun);
                    into.extend(&self.all);
                    return;
                }
            }
        }
    }
}
