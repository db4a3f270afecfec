//! The filters that scopes have on one table, each distinct one once, with the scopes that have it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::{Change, Operation, Table};

use super::bound::Bound;
use super::images::Images;
use super::{Number, Work};
use crate::filter::Filter;
use crate::pace::Pace;
use crate::scope::cost;

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

    /// The scopes that have one of the filters.
    pub(super) fn scopes_of(&self, id: Id) -> impl Iterator<Item = Number> {
        self.scopes.get(&id).into_iter().flatten().copied()
    }

    /// The filters that a change of the table concerns.
    pub(super) async fn concerned(
        &mut self,
        change: &Change,
        table: &Arc<Table>,
        work: &mut Work,
        pace: &mut Pace,
    ) -> Vec<Id> {
        match change.operation {
            Operation::Insert | Operation::Baseline | Operation::Update | Operation::Delete => {
                let images = Images::of(change, table);
                pace.did(images.bytes()).await;
                self.bound_to(table, pace).await.passing(&images, work, pace).await
            }
            // What concerns the table as a whole.
            Operation::Truncate
            | Operation::Schema
            | Operation::Message
            | Operation::Reset
            | Operation::Skip => self.scopes.keys().copied().collect(),
        }
    }

    /// The filters bound to this shape.
    async fn bound_to(&mut self, table: &Arc<Table>, pace: &mut Pace) -> &Bound {
        let mut kept = self.bound.take();
        if !kept.as_mut().is_some_and(|bound| bound.is_of(table)) {
            kept = None;
        }
        // It is put back whole: who binds need not come to the end.
        let bound = match kept {
            Some(bound) => bound,
            None => self.bind(table, pace).await,
        };
        self.bound.insert(bound)
    }

    async fn bind(&self, table: &Arc<Table>, pace: &mut Pace) -> Bound {
        let mut bound = Bound::new(table.clone());
        for (filter, id) in &self.ids {
            bound.insert(*id, filter);
            pace.did(cost::of_filter(filter)).await;
        }
        bound
    }
}
