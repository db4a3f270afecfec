//! The index: which scopes a change concerns, found at a cost that grows with those scopes and not with all that exist.
//!
//! A change is looked up by its table. Scopes that follow the table without a filter are found by the patterns that select it.
//! Scopes with filters are found by the values that the row has where filters compare columns for equality; what is found
//! there, and the filters that compare nothing for equality, are evaluated: each distinct filter once, however many scopes
//! have it. Both images count, the row before the change as well as after it. So a filter that is nothing but a range is
//! evaluated on each change of its table: it is cheap where it comes with an equality, and else costs what it says.
//!
//! It may name a scope that is told nothing of the change, and never leaves one out that is: what a scope is told is decided
//! elsewhere, by its route. So where an image lacks a column that a filter needs, the filter's scopes are concerned. That is
//! dear without REPLICA IDENTITY FULL: an update without the row before may have taken that row out of any scope, so it
//! concerns all scopes that have a filter on other columns of the table. With FULL it concerns those alone that
//! had the row or have it now.
//!
//! What a scope may see of a table counts like a filter of its own: of a row that may not be seen before or after the change it is
//! not told at all. A scope that follows tables by a pattern, and may not see everything, is taken for one that names each of
//! them, from the moment on at which the table is first changed ([`wide`]).
//!
//! It belongs to the router alone, and the registry's lock is not held while filters are evaluated: who comes and goes is
//! noted in the registry, and entered here before the next transaction is looked up. Looking up lets others have their turn
//! where it takes long; whoever gives it up in the middle leaves the index whole. Its memory grows with the scopes there are
//! and their filters, which the registry counts; scopes that have gone since the last transaction are still in it. It knows no
//! sessions.

mod bound;
mod images;
mod table;
mod values;
mod wide;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Weak};

use waldelta_wal::{Change, Table, TableName};

use self::table::{Demand, Filtered};
use self::wide::Wide;
use crate::pace::{CHANGE_BYTES, MARK_BYTES, Pace};
use crate::rules::Grant;
use crate::scope::{Scope, cost};
use crate::subscription::{Pattern, Selection, Subscription, is_message, is_told, reset_table};

/// Pairs of a scope and a change that are noted for one transaction. Beyond that a scope's changes are not told apart, and
/// whoever makes its frame looks at all of them.
const LISTED_MAX: usize = 1 << 20;

/// Tables that are remembered to have been changed, and that are waited for.
const MET_MAX: usize = 100_000;

/// Names a scope among all that were ever made.
pub(crate) type Number = u64;

/// Who came and went since the index was last used; no larger than what there is and what the index has.
#[derive(Default)]
pub(crate) struct Moves {
    entered: BTreeMap<Number, Arc<Scope>>,
    left: Vec<Number>,
    awaited: BTreeSet<u32>,
}

impl Moves {
    pub(crate) fn enter(&mut self, number: Number, scope: Arc<Scope>) {
        self.entered.insert(number, scope);
    }

    pub(crate) fn leave(&mut self, number: Number) {
        if self.entered.remove(&number).is_none() {
            self.left.push(number);
        }
    }

    /// Somebody lacks these tables, and has to look at the next change of each.
    pub(crate) fn awaits(&mut self, tables: &[u32]) {
        let room = MET_MAX.saturating_sub(self.awaited.len());
        self.awaited.extend(tables.iter().take(room));
    }

    /// And who came and went after that.
    fn add(&mut self, later: Moves) {
        self.awaits(&later.awaited.into_iter().collect::<Vec<_>>());
        later.left.into_iter().for_each(|number| self.leave(number));
        self.entered.extend(later.entered);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.left.is_empty()
    }
}

/// The scopes by what they select.
#[derive(Default)]
pub(crate) struct Index {
    scopes: HashMap<Number, Member>,
    /// Scopes with a subscription without a filter, which may see all of it, by its pattern.
    unfiltered: HashMap<Pattern, BTreeSet<Number>>,
    /// Scopes with a subscription with a filter, or that may not see all of its table.
    filtered: HashMap<TableName, Filtered>,
    /// Scopes that follow patterns and may not see everything.
    wide: Wide,
    /// Who came and went and is not taken in yet.
    moves: Moves,
    /// Tables that have the first shape that history knows of them, and were changed in it.
    met: HashSet<u32>,
}

/// What leaving needs to know. A scope that has left ends before the index learns of it, and its frames with it.
struct Member {
    scope: Weak<Scope>,
    selection: Arc<Selection>,
}

/// Which changes of a transaction concern a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Any of them may.
    Any,
    /// These alone, as ascending indexes.
    Listed(Vec<u32>),
}

impl Which {
    /// None of them.
    pub(crate) const NONE: Which = Which::Listed(Vec::new());

    /// Them, out of all of the transaction.
    pub(crate) fn of<'a>(&'a self, changes: &'a [Change]) -> impl Iterator<Item = &'a Change> {
        let (any, listed): (&[Change], &[u32]) = match self {
            Which::Any => (changes, &[]),
            Which::Listed(listed) => (&[], listed),
        };
        any.iter().chain(listed.iter().filter_map(|at| changes.get(usize::try_from(*at).ok()?)))
    }
}

/// What it took to find the scopes of a transaction, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub scopes: u64,
    /// Values looked up: one for each image and column that any filter compares for equality.
    pub lookups: u64,
    /// Filters evaluated, on one image or both.
    pub evaluations: u64,
}

/// The scopes that a transaction concerns, and what finding them took.
#[derive(Default)]
pub(crate) struct Found {
    pub scopes: Vec<(Arc<Scope>, Which)>,
    /// Tables that were not changed before, as far as is known here, or not since somebody lacks them. They concern all scopes
    /// whose rules may not fit them.
    pub new: Vec<TableName>,
    pub work: Work,
}

impl Index {
    /// Takes in who came and went.
    pub(crate) async fn apply(&mut self, moves: Moves, pace: &mut Pace) {
        self.moves.add(moves);
        while let Some(number) = self.moves.left.pop() {
            let bytes = self.leave(number);
            pace.did(bytes).await;
        }
        while let Some((number, scope)) = self.moves.entered.pop_first() {
            self.enter(number, &scope);
            pace.did(cost::of_scope(&scope.selection)).await;
        }
    }

    /// The scopes that these changes concern, each once.
    pub(crate) async fn concerned(&mut self, changes: &[Change], pace: &mut Pace) -> Found {
        let (mut marks, mut work) = (Marks::default(), Work::default());
        // By their addresses, as they are shared.
        let mut tables: HashSet<usize> = HashSet::new();
        let (mut messages, mut new) = (false, Vec::new());
        for (at, change) in (0u32..).zip(changes) {
            let marked = marks.made;
            if let Some(table) = reset_table(change) {
                self.mark_table(&table, &mut marks);
            } else if let Some(table) = change.table.as_ref().filter(|_| is_told(change)) {
                if tables.insert(Arc::as_ptr(table).addr()) {
                    self.mark_unfiltered(&table.name, &mut marks);
                    if !self.wide.resolve(&table.name, &mut self.filtered, pace).await {
                        self.wide.of(&table.name).for_each(|number| marks.all(number));
                    }
                    if self.is_new(table) {
                        let filtered = self.filtered.get(&table.name).into_iter();
                        filtered.flat_map(Filtered::ruled).for_each(|number| marks.list(number, at));
                        new.push(table.name.clone());
                    }
                }
                if let Some(filtered) = self.filtered.get_mut(&table.name) {
                    let ids = filtered.concerned(change, table, &mut work, pace).await;
                    ids.into_iter()
                        .flat_map(|id| filtered.scopes_of(id))
                        .for_each(|number| marks.list(number, at));
                }
            } else if !messages && is_message(change) {
                messages = true;
                marks.all_of(self.unfiltered.get(&Pattern::All));
            }
            pace.did(CHANGE_BYTES + (marks.made - marked) * MARK_BYTES).await;
        }
        Found { new, ..self.present(marks, work) }
    }

    /// Notes that these tables are in history: what they were before is nobody's concern any more.
    pub(crate) fn meet(&mut self, tables: impl Iterator<Item = u32>) {
        self.met.extend(tables.take(MET_MAX));
    }

    /// Whether a table has not been changed before, as far as is known, or not since somebody lacks it. After that each of its
    /// shapes is told by a change.
    fn is_new(&mut self, table: &Table) -> bool {
        if self.met.len() >= MET_MAX {
            self.met.clear();
        }
        let is_awaited = self.moves.awaited.remove(&table.oid);
        (table.version == 1 && self.met.insert(table.oid)) || is_awaited
    }

    /// The scopes that follow any of these tables, with a filter or without; with `messages` those that are told messages.
    pub(crate) async fn of_tables(&self, tables: &[TableName], messages: bool, pace: &mut Pace) -> Found {
        let mut marks = Marks::default();
        for table in tables {
            let marked = marks.made;
            self.mark_table(table, &mut marks);
            pace.did(CHANGE_BYTES + (marks.made - marked) * MARK_BYTES).await;
        }
        if messages {
            marks.all_of(self.unfiltered.get(&Pattern::All));
        }
        self.present(marks, Work::default())
    }

    /// All scopes.
    pub(crate) fn everybody(&self) -> Found {
        let mut marks = Marks::default();
        self.scopes.keys().for_each(|number| marks.all(*number));
        self.present(marks, Work::default())
    }

    fn mark_table(&self, table: &TableName, marks: &mut Marks) {
        self.mark_unfiltered(table, marks);
        self.filtered.get(table).into_iter().flat_map(Filtered::scopes).for_each(|number| marks.all(number));
        self.wide.of(table).for_each(|number| marks.all(number));
    }

    fn mark_unfiltered(&self, table: &TableName, marks: &mut Marks) {
        let patterns = [Pattern::All, Pattern::Schema(table.schema.clone()), Pattern::Table(table.clone())];
        patterns.iter().for_each(|pattern| marks.all_of(self.unfiltered.get(pattern)));
    }

    /// Those of the marked that still exist.
    fn present(&self, marks: Marks, work: Work) -> Found {
        let scope = |number: &Number| self.scopes.get(number)?.scope.upgrade();
        let scopes = marks.scopes.into_iter().filter_map(|(number, which)| Some((scope(&number)?, which)));
        let scopes: Vec<_> = scopes.collect();
        Found { work: Work { scopes: scopes.len() as u64, ..work }, scopes, new: Vec::new() }
    }

    fn enter(&mut self, number: Number, scope: &Arc<Scope>) {
        let selection = &scope.selection;
        for subscription in selection.subscriptions() {
            match Place::of(subscription, selection.grant()) {
                Place::Nowhere | Place::Wide => {}
                Place::All(pattern) => _ = self.unfiltered.entry(pattern.clone()).or_default().insert(number),
                Place::Filtered(table, demand) => {
                    self.filtered.entry(table.clone()).or_default().enter(number, &demand);
                }
            }
        }
        self.wide.enter(number, selection, &mut self.filtered);
        let member = Member { scope: Arc::downgrade(scope), selection: selection.clone() };
        self.scopes.insert(number, member);
    }

    /// Takes a scope out; about how many bytes of it there were.
    fn leave(&mut self, number: Number) -> usize {
        let Some(member) = self.scopes.remove(&number) else { return 0 };
        self.wide.leave(number, &mut self.filtered);
        for subscription in member.selection.subscriptions() {
            match Place::of(subscription, member.selection.grant()) {
                Place::Nowhere | Place::Wide => {}
                Place::Filtered(table, demand) => leave_table(number, table, &demand, &mut self.filtered),
                Place::All(pattern) => {
                    if let Some(scopes) = self.unfiltered.get_mut(pattern) {
                        scopes.remove(&number);
                        if scopes.is_empty() {
                            self.unfiltered.remove(pattern);
                        }
                    }
                }
            }
        }
        cost::of_scope(&member.selection)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let nothing_waits = self.moves.is_empty();
        let are_empty = self.unfiltered.is_empty() && self.filtered.is_empty() && self.wide.is_empty();
        nothing_waits && self.scopes.is_empty() && are_empty
    }
}

/// Where a subscription stands in the index.
enum Place<'a> {
    /// All changes of these tables concern it, and messages where the pattern is of everything.
    All(&'a Pattern),
    /// Changes of this table do by their rows.
    Filtered(&'a TableName, Demand),
    /// It depends on the table.
    Wide,
    /// Nothing may be seen of its table.
    Nowhere,
}

impl<'a> Place<'a> {
    fn of(subscription: &'a Subscription, grant: &Grant) -> Self {
        match &subscription.table {
            Pattern::Table(table) => match Demand::of(subscription.filter.as_ref(), grant, table) {
                None => Place::Nowhere,
                Some(demand) if demand.is_of_all() => Place::All(&subscription.table),
                Some(demand) => Place::Filtered(table, demand),
            },
            // A filter is of a named table; should it not be, the scope is concerned by all that the pattern selects.
            pattern if grant.is_everything() => Place::All(pattern),
            Pattern::All | Pattern::Schema(_) => Place::Wide,
        }
    }
}

/// Takes a scope out of those with this demand on a table.
fn leave_table(
    number: Number,
    table: &TableName,
    demand: &Demand,
    filtered: &mut HashMap<TableName, Filtered>,
) {
    if filtered.get_mut(table).is_some_and(|of_table| of_table.leave(number, demand)) {
        filtered.remove(table);
    }
}

/// The scopes found so far.
#[derive(Default)]
struct Marks {
    scopes: BTreeMap<Number, Which>,
    listed: usize,
    /// How often a scope was noted.
    made: usize,
}

impl Marks {
    /// Any change may concern the scope.
    fn all(&mut self, number: Number) {
        self.made += 1;
        self.scopes.insert(number, Which::Any);
    }

    fn all_of(&mut self, numbers: Option<&BTreeSet<Number>>) {
        numbers.into_iter().flatten().for_each(|number| self.all(*number));
    }

    /// This change concerns the scope; changes come in their order.
    fn list(&mut self, number: Number, at: u32) {
        self.made += 1;
        match self.scopes.entry(number).or_insert(Which::NONE) {
            Which::Any => {}
            Which::Listed(listed) if listed.last() == Some(&at) => {}
            Which::Listed(listed) if self.listed < LISTED_MAX => {
                listed.push(at);
                self.listed += 1;
            }
            which => *which = Which::Any,
        }
    }
}

#[cfg(test)]
mod tests;
