//! Scopes that follow tables by patterns and may not see everything: what a change of a table is to them depends on what they may
//! see of that table. For each table that is changed, they are entered among those that name it, once.
//!
//! How many places that takes is bounded. Beyond it a table's changes concern all of them that may see anything of it, and what
//! each is told is found out by its route.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use waldelta_wal::TableName;

use super::table::{Demand, Filtered};
use super::{Number, leave_table};
use crate::pace::{MARK_BYTES, Pace};
use crate::subscription::{Pattern, Selection};

/// Places for these scopes at most: as many as there are of them, for each table.
const PLACES_MAX: usize = 1 << 18;

/// The scopes.
#[derive(Default)]
pub(super) struct Wide {
    scopes: BTreeMap<Number, Arc<Selection>>,
    /// The tables among whose scopes these are. While they are entered, not yet all.
    tables: BTreeMap<TableName, Entered>,
}

/// Whether all of the scopes are entered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    All,
    Some,
}

impl Wide {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.scopes.is_empty() && self.tables.is_empty()
    }

    /// Takes a scope in, if it is such a one.
    pub(super) fn enter(
        &mut self,
        number: Number,
        selection: &Arc<Selection>,
        filtered: &mut HashMap<TableName, Filtered>,
    ) {
        if patterns(selection).next().is_none() {
            return;
        }
        self.scopes.insert(number, selection.clone());
        while self.scopes.len() * self.tables.len() > PLACES_MAX {
            self.forget_table(filtered);
        }
        self.tables.keys().for_each(|table| enter_table(number, selection, table, filtered));
    }

    pub(super) fn leave(&mut self, number: Number, filtered: &mut HashMap<TableName, Filtered>) {
        let Some(selection) = self.scopes.remove(&number) else { return };
        for table in self.tables.keys() {
            if let Some(demand) = demand(&selection, table) {
                leave_table(number, table, &demand, filtered);
            }
        }
        if self.scopes.is_empty() {
            self.tables.clear();
        }
    }

    /// Has the scopes entered among those that name the table; false where there is no room for that. Whoever gives it up in the
    /// middle begins it again.
    pub(super) async fn resolve(
        &mut self,
        table: &TableName,
        filtered: &mut HashMap<TableName, Filtered>,
        pace: &mut Pace,
    ) -> bool {
        if self.scopes.is_empty() || self.tables.get(table) == Some(&Entered::All) {
            return true;
        }
        // Some is left for scopes that come.
        if self.scopes.len() * (self.tables.len() + 1) > PLACES_MAX / 4 * 3 {
            return false;
        }
        self.tables.insert(table.clone(), Entered::Some);
        for (number, selection) in &self.scopes {
            enter_table(*number, selection, table, filtered);
            pace.did(MARK_BYTES).await;
        }
        self.tables.insert(table.clone(), Entered::All);
        true
    }

    /// The scopes that follow the table and may see anything of it.
    pub(super) fn of(&self, table: &TableName) -> impl Iterator<Item = Number> {
        let follow = |selection: &Selection| {
            patterns(selection).any(|pattern| pattern.matches(table)) && selection.grant().has(table)
        };
        self.scopes.iter().filter(move |(_, selection)| follow(selection)).map(|(number, _)| *number)
    }

    fn forget_table(&mut self, filtered: &mut HashMap<TableName, Filtered>) {
        let Some((table, _)) = self.tables.pop_first() else { return };
        for (number, selection) in &self.scopes {
            // One that the scope has by name too stays.
            if let Some(demand) = demand(selection, &table).filter(|demand| !names(selection, &table, demand))
            {
                leave_table(*number, &table, &demand, filtered);
            }
        }
    }
}

fn enter_table(
    number: Number,
    selection: &Selection,
    table: &TableName,
    filtered: &mut HashMap<TableName, Filtered>,
) {
    if let Some(demand) = demand(selection, table) {
        filtered.entry(table.clone()).or_default().enter(number, &demand);
    }
}

/// The patterns of a selection that may not see everything.
fn patterns(selection: &Selection) -> impl Iterator<Item = &Pattern> {
    let all = selection.subscriptions().iter().map(|subscription| &subscription.table);
    all.filter(|pattern| !selection.grant().is_everything() && !matches!(pattern, Pattern::Table(_)))
}

/// What a selection demands of a table that it follows by a pattern.
fn demand(selection: &Selection, table: &TableName) -> Option<Demand> {
    let follows = patterns(selection).any(|pattern| pattern.matches(table));
    follows.then(|| Demand::of(None, selection.grant(), table)).flatten()
}

/// Whether it demands the same of the table by its name.
fn names(selection: &Selection, table: &TableName, demand: &Demand) -> bool {
    let named = selection.subscriptions().iter().filter(|one| one.table == Pattern::Table(table.clone()));
    named.into_iter().any(|one| {
        Demand::of(one.filter.as_ref(), selection.grant(), table).is_some_and(|other| other == *demand)
    })
}
