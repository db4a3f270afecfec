//! Tables that begin anew: because they are reset, or because their rule fits them no more, or again.
//!
//! Whether a rule has come to fit is told by what the client has: the snapshots say that, of the tables that they had and of those
//! that they left out. Of others, and of those that got another name, the shapes that history has tell it.

use std::sync::Arc;

use waldelta_wal::{Change, Operation, Table, TableName, TransactionHead};

use super::*;
use crate::session::private::Slice;
use crate::subscription::is_told;

/// Shapes of which it is kept whether their rule fits.
const FITTED_MAX: usize = 64;

/// Whether rules fit shapes, as it was found out last; nothing of tables that nobody selects, or whose rules cannot fail to fit.
#[derive(Default)]
pub(super) struct Fitted(Vec<(Arc<Table>, Option<bool>)>);

impl Fitted {
    fn of(&mut self, selection: &Selection, table: &Arc<Table>) -> Option<bool> {
        if let Some((_, fits)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, table)) {
            return *fits;
        }
        if self.0.len() >= FITTED_MAX {
            self.0.clear();
        }
        let may_not_fit = selection.grant().depends_on_shape(&table.name) && selection.matches(&table.name);
        let fits = may_not_fit.then(|| selection.may_see(table));
        self.0.push((table.clone(), fits));
        fits
    }
}

impl Session {
    /// The tables that this client has to read afresh before it is told these changes: no snapshot has shown it why.
    pub(super) fn begin_anew_by(&mut self, slice: &Slice, shapes: &Shapes) -> Vec<(Reset, TableName)> {
        let mut found: Vec<(Reset, TableName)> = Vec::new();
        let mut last: Option<&Arc<Table>> = None;
        for change in slice.changes.iter() {
            // What can be said of a table is said at its first change of a shape.
            let table = change.table.as_ref().filter(|_| change.operation != Operation::Schema);
            if table.is_some() && table.map(Arc::as_ptr) == last.map(Arc::as_ptr) {
                continue;
            }
            last = table;
            let begins = match waldelta_wal::Reset::of(change) {
                Some(reset) => self.reset_by(&reset, shapes, &slice.head),
                None => self.refitted_by(change, shapes, &slice.head),
            };
            found.extend(begins.filter(|(_, table)| !self.delivery.holds(table, &slice.head)));
        }
        found
    }

    /// The table that is reset by this change. One that the client may not see, and never saw, is none; it may come to see it.
    fn reset_by(
        &mut self,
        reset: &waldelta_wal::Reset,
        shapes: &Shapes,
        head: &TransactionHead,
    ) -> Option<(Reset, TableName)> {
        let name = reset.table_name().filter(|name| self.selection.matches(name))?;
        if self.shown.has_named(&name) || shapes.may_have_been_seen(&self.selection, &name) {
            return Some((Reset::Gap, name));
        }
        if self.shown.has(reset.table_oid).is_none() && !self.delivery.holds(&name, head) {
            self.learn(&Shown::lacking(reset.table_oid));
        }
        None
    }

    /// The table whose rule fits it, or does not, otherwise than the client has it.
    fn refitted_by(
        &mut self,
        change: &Change,
        shapes: &Shapes,
        head: &TransactionHead,
    ) -> Option<(Reset, TableName)> {
        if self.selection.grant().is_everything() || !is_told(change) {
            return None;
        }
        let table = change.table.as_ref()?;
        let by_history = change.operation == Operation::Schema;
        if by_history && shapes.is_renamed(table) {
            return shapes.reset_by(&self.selection, change);
        }
        let fits = self.fitted.of(&self.selection, table)?;
        let name = &table.name;
        if self.delivery.holds(name, head) {
            return None;
        }
        let is_other = match self.shown.has(table.oid) {
            Some(true) if self.shown.has_elsewhere(table) => return None,
            Some(has) => has != fits,
            None if by_history => return shapes.reset_by(&self.selection, change),
            // Nobody knows what was before the first shape. Who came back may have the table, and asks for it by its name.
            None => !fits && table.version == 1 && !self.shown.is_whole() && self.selection.names(name),
        };
        is_other.then(|| {
            // The snapshot need not have the table: it may be on its way into the publication, or out of it.
            self.learn(&if fits { Shown::having(table) } else { Shown::lacking(table.oid) });
            (Reset::PermissionChanged, name.clone())
        })
    }
}
