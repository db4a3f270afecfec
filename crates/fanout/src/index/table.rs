//! The filters that scopes have on one table, each distinct one once, with the scopes that have it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::{Change, Operation, Table};

use super::bound::Bound;
use super::images::Images;
use super::{Number, Work};
use crate::filter::Filter;

/// Names a distinct filter among all that the table ever had.
pub(super) type Id = u64;

/// The filters on a table.
#[derive(Default)]
pub(super) struct Filtered {
    ids: HashMap<Filter, Id>,
    /// The scopes that have a filter.
    scopes: HashMap<Id, BTreeSet<Number>>,
    ids_made: Id,
    /// The filters bound to the shape that the table had last. They are bound anew where the shape changes, or the name comes
    /// to mean another table.
    bound: Option<Bound>,
}

impl Filtered {
    pub(super) fn enter(&mut self, number: Number, filter: &Filter) {
        let id = match self.ids.get(filter) {
            Some(id) => *id,
            None => {
                self.ids_made += 1;
                self.ids.insert(filter.clone(), self.ids_made);
                if let Some(bound) = &mut self.bound {
                    bound.insert(self.ids_made, filter);
                }
                self.ids_made
            }
        };
        self.scopes.entry(id).or_default().insert(number);
    }

    /// Takes a scope out; true when no filter is left.
    pub(super) fn leave(&mut self, number: Number, filter: &Filter) -> bool {
        if let Some(id) = self.ids.get(filter).copied()
            && let Some(scopes) = self.scopes.get_mut(&id)
        {
            scopes.remove(&number);
            if scopes.is_empty() {
                self.scopes.remove(&id);
                self.ids.remove(filter);
                if let Some(bound) = &mut self.bound {
                    bound.remove(id);
                }
            }
        }
        self.scopes.is_empty()
    }

    /// The scopes that have any filter, some of them more than once.
    pub(super) fn scopes(&self) -> impl Iterator<Item = Number> {
        self.scopes.values().flatten().copied()
    }

    /// Names the scopes that a change of the table concerns, some of them more than once.
    pub(super) fn concerned(
        &mut self,
        change: &Change,
        table: &Arc<Table>,
        work: &mut Work,
        mut found: impl FnMut(Number),
    ) {
        match change.operation {
            Operation::Insert | Operation::Baseline | Operation::Update | Operation::Delete => {
                let images = Images::of(change, table);
                let ids = self.bound_to(table).passing(&images, work);
                ids.iter().filter_map(|id| self.scopes.get(id)).flatten().for_each(|number| found(*number));
            }
            // What concerns the table as a whole.
            Operation::Truncate
            | Operation::Schema
            | Operation::Message
            | Operation::Reset
            | Operation::Skip => self.scopes().for_each(found),
        }
    }

    fn bound_to(&mut self, table: &Arc<Table>) -> &Bound {
        let fits = self.bound.as_mut().is_some_and(|bound| bound.is_of(table));
        if !fits {
            self.bound = None;
        }
        let ids = &self.ids;
        self.bound.get_or_insert_with(|| {
            let mut bound = Bound::new(table.clone());
            ids.iter().for_each(|(filter, id)| bound.insert(*id, filter));
            bound
        })
    }
}
