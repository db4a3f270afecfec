//! The filters that scopes have on one table, their own and those of what they may see, each distinct pair once, with the scopes
//! that have it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::{Change, Operation, Table, TableName};

use super::bound::Bound;
use super::images::Images;
use super::{Number, Work};
use crate::filter::Filter;
use crate::pace::Pace;
use crate::rules::{Grant, Permit, Rows};
use crate::scope::cost;

/// Names a distinct filter among all that the table ever had.
pub(super) type Id = u64;

/// What a row has to pass for a scope to be concerned: what the scope may see of the table, and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Demand {
    /// `None`: all of it may be seen.
    pub permit: Option<Permit>,
    /// `None`: all rows are asked for.
    pub filter: Option<Filter>,
}

impl Demand {
    /// What a subscription demands of a table under a grant; `None` where nothing of it may be seen.
    pub(super) fn of(filter: Option<&Filter>, grant: &Grant, table: &TableName) -> Option<Self> {
        let permit = match grant.is_everything() {
            true => None,
            false => Some(grant.permit(table)?).filter(|permit| !permit.is_of_all()),
        };
        Some(Demand { permit: permit.cloned(), filter: filter.cloned() })
    }

    /// Whether every row passes.
    pub(super) fn is_of_all(&self) -> bool {
        self.filter.is_none() && self.permit.as_ref().is_none_or(|permit| permit.rows == Rows::All)
    }

    /// The filters in it.
    pub(super) fn filters(&self) -> impl Iterator<Item = &Filter> {
        let permitted = self.permit.iter().filter_map(Permit::filter);
        permitted.chain(&self.filter)
    }

    fn cost(&self) -> usize {
        self.filters().map(cost::of_filter).sum()
    }
}

/// The demands on a table.
#[derive(Default)]
pub(super) struct Filtered {
    ids: HashMap<Demand, Id>,
    /// The scopes that have a filter.
    scopes: HashMap<Id, BTreeSet<Number>>,
    ids_made: Id,
    /// The filters bound to the shape that the table had last. They are bound anew where the shape changes, or the name comes
    /// to mean another table.
    bound: Option<Bound>,
}

impl Filtered {
    pub(super) fn enter(&mut self, number: Number, demand: &Demand) {
        let id = match self.ids.get(demand) {
            Some(id) => *id,
            None => {
                self.ids_made += 1;
                self.ids.insert(demand.clone(), self.ids_made);
                if let Some(bound) = &mut self.bound {
                    bound.insert(self.ids_made, demand);
                }
                self.ids_made
            }
        };
        self.scopes.entry(id).or_default().insert(number);
    }

    /// Takes a scope out; true when no filter is left.
    pub(super) fn leave(&mut self, number: Number, demand: &Demand) -> bool {
        if let Some(id) = self.ids.get(demand).copied()
            && let Some(scopes) = self.scopes.get_mut(&id)
        {
            scopes.remove(&number);
            if scopes.is_empty() {
                self.scopes.remove(&id);
                self.ids.remove(demand);
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

    /// The scopes that a rule gives a part of the rows, some of them more than once: which part, the table's shape says.
    pub(super) fn ruled(&self) -> impl Iterator<Item = Number> {
        let ruled = |demand: &Demand| demand.permit.as_ref().and_then(Permit::filter).is_some();
        let ids = self.ids.iter().filter(move |(demand, _)| ruled(demand));
        ids.flat_map(|(_, id)| self.scopes_of(*id))
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
        for (demand, id) in &self.ids {
            bound.insert(*id, demand);
            pace.did(demand.cost()).await;
        }
        bound
    }
}
