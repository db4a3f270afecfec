//! Distinct filters bound to one shape of a table: by the values of the columns that they compare for equality, and the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::Table;

use super::Work;
use super::images::Images;
use super::table::Id;
use super::values::ByValues;
use crate::filter::{Equality, Filter, Predicate};
use crate::pace::{EVALUATION_BYTES, Pace};
use crate::scope::cost;

/// The filters of a table.
pub(super) struct Bound {
    table: Arc<Table>,
    filters: HashMap<Id, Fit>,
    /// Those that compare for equality, by the columns that they do it with.
    by_columns: BTreeMap<Vec<u16>, ByValues>,
    /// Those that do not.
    rest: BTreeSet<Id>,
    /// Those that do not fit the shape. They pass always: who has one has to find out that its filter is none any more.
    unfit: BTreeSet<Id>,
}

/// A filter that fits the shape.
struct Fit {
    predicate: Predicate,
    /// What evaluating it counts as, beside the bytes of the row.
    bytes: usize,
}

impl Bound {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Bound {
            table,
            filters: HashMap::new(),
            by_columns: BTreeMap::new(),
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
        match predicate.equalities() {
            [] => {
                self.rest.insert(id);
            }
            equalities => {
                self.by_columns.entry(columns(equalities)).or_default().insert(id, equalities);
            }
        }
        self.filters.insert(id, Fit { predicate, bytes: EVALUATION_BYTES + cost::text_bytes(filter) });
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.unfit.remove(&id);
        self.rest.remove(&id);
        let Some(fit) = self.filters.remove(&id) else { return };
        let equalities = fit.predicate.equalities();
        let columns = columns(equalities);
        if let Some(by_values) = self.by_columns.get_mut(&columns) {
            by_values.remove(id, equalities);
            if by_values.is_empty() {
                self.by_columns.remove(&columns);
            }
        }
    }

    /// The filters that a row passes, or may pass, before its change or after it.
    pub(super) async fn passing(&self, images: &Images<'_>, work: &mut Work, pace: &mut Pace) -> Vec<Id> {
        let mut candidates: Vec<Id> = Vec::new();
        for (columns, by_values) in &self.by_columns {
            by_values.look_up(columns, images, work, &mut candidates);
            // Values of the columns are copied out of the images.
            pace.did(EVALUATION_BYTES + images.bytes()).await;
        }
        // Both images may lead to one filter.
        candidates.sort_unstable();
        candidates.dedup();
        candidates.extend(&self.rest);
        work.evaluations += candidates.len() as u64;
        let mut passing: Vec<Id> = self.unfit.iter().copied().collect();
        for id in candidates {
            let Some(fit) = self.filters.get(&id) else { continue };
            if images.may_pass(&fit.predicate) {
                passing.push(id);
            }
            pace.did(fit.bytes + images.bytes()).await;
        }
        passing
    }
}

fn columns(equalities: &[Equality]) -> Vec<u16> {
    equalities.iter().map(|equality| equality.column).collect()
}
