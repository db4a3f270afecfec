//! Distinct filters bound to one shape of a table: by the values of the columns that they compare for equality, and the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use waldelta_wal::Table;

use super::Work;
use super::images::Images;
use super::table::{Demand, Id};
use super::values::ByValues;
use crate::filter::{Equality, Predicate};
use crate::pace::{EVALUATION_BYTES, Pace};
use crate::rules::Permission;
use crate::scope::cost;

/// The filters of a table.
pub(super) struct Bound {
    table: Arc<Table>,
    filters: HashMap<Id, Fit>,
    /// Those that compare for equality, by the columns that they do it with.
    by_columns: BTreeMap<Vec<u16>, ByValues>,
    /// Those that do not.
    rest: BTreeSet<Id>,
    /// Those that every row passes, and those that do not fit the shape: who has one has to find out that its filter is none any
    /// more. What may not be seen at all in this shape is in none of these.
    always: BTreeSet<Id>,
}

/// Filters that fit the shape.
struct Fit {
    permission: Permission,
    predicate: Option<Predicate>,
    equalities: Vec<Equality>,
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
            always: BTreeSet::new(),
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

    pub(super) fn insert(&mut self, id: Id, demand: &Demand) {
        let permission = match &demand.permit {
            None => Permission::everything(),
            Some(permit) => match Permission::new(permit, &self.table) {
                Ok(permission) => permission,
                Err(_unfit) => return,
            },
        };
        let bind = |filter| Predicate::new(filter, &permission.visible(&self.table));
        let predicate = demand.filter.as_ref().map(bind).transpose();
        let equalities = match (permission.rows(), &predicate) {
            (_, Err(_)) | (None, Ok(None)) => {
                self.always.insert(id);
                return;
            }
            (Some(one), Ok(Some(other))) => one.equalities_with(other, &self.table),
            (Some(one), Ok(None)) | (None, Ok(Some(one))) => one.equalities().to_vec(),
        };
        match equalities[..] {
            [] => {
                self.rest.insert(id);
            }
            _ => self.by_columns.entry(columns(&equalities)).or_default().insert(id, &equalities),
        }
        let bytes = EVALUATION_BYTES + demand.filters().map(cost::text_bytes).sum::<usize>();
        let predicate = predicate.ok().flatten();
        self.filters.insert(id, Fit { permission, predicate, equalities, bytes });
    }

    pub(super) fn remove(&mut self, id: Id) {
        self.always.remove(&id);
        self.rest.remove(&id);
        let Some(fit) = self.filters.remove(&id) else { return };
        let columns = columns(&fit.equalities);
        if let Some(by_values) = self.by_columns.get_mut(&columns) {
            by_values.remove(id, &fit.equalities);
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
        let mut passing: Vec<Id> = self.always.iter().copied().collect();
        for id in candidates {
            let Some(fit) = self.filters.get(&id) else { continue };
            if images.may_pass(&fit.permission, fit.predicate.as_ref()) {
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
