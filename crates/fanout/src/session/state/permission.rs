//! What the client may see changes while it is connected, or has changed while it was away.
//!
//! Tables of which it then has another copy, or none, are reset: the snapshot that follows has those that may still be seen. From
//! the change on nothing is told that is not granted any more: nothing is read until it is known which tables these are. A client
//! is told a fingerprint of what its copy is of; the one that it comes back with says whether it has changed meanwhile.

use std::collections::BTreeSet;

use waldelta_wal::TableName;

use super::*;
use crate::start::{Reset, Start};
use crate::subscription::{Part, Pattern, Tables};

impl Session {
    /// Something else may be seen from now on.
    pub(super) fn regrant(&mut self, grant: Grant, out: &mut Vec<Action>) {
        let is_same = grant == *self.selection.grant();
        match self.phase {
            // What it may see is asked for when it is let in.
            Phase::AwaitingHello | Phase::Authenticating | Phase::Closing => {}
            Phase::Granting if is_same => {
                self.granting = None;
                self.go_on(out);
            }
            Phase::Granting => self.granting = Some(grant),
            _ if is_same => {}
            // It has been told nothing yet.
            Phase::Resolving => {
                self.selection = self.selection.granted(grant);
                out.push(Action::Attach(self.selection.clone()));
            }
            // What it got of the snapshot is of no use, and more of it is not to be sent.
            Phase::Hydrating => self.permission_changed(out),
            Phase::CatchingUp | Phase::Live => {
                self.granting = Some(grant);
                let is_of_names = self.named().count() == self.selection.subscriptions().len();
                match is_of_names {
                    true => self.change_over(&Shapes::default(), out),
                    false => {
                        self.phase = Phase::Granting;
                        out.push(Action::ListTables);
                    }
                }
            }
        }
    }

    /// The tables that there are, beside those that are followed by their names.
    pub(super) fn tables_listed(&mut self, tables: Result<Arc<Shapes>, Code>, out: &mut Vec<Action>) {
        match tables {
            _ if self.phase != Phase::Granting => {}
            Ok(tables) => self.change_over(&tables, out),
            Err(code) => self.fail(code, Closing::TryLater(code), out),
        }
    }

    /// Ends the session, because it cannot change over where it is: the client resumes, and is told then what to drop.
    pub(super) fn permission_changed(&mut self, out: &mut Vec<Action>) {
        self.fail(Code::PermissionChanged, Closing::TryLater(Code::PermissionChanged), out);
    }

    fn change_over(&mut self, tables: &Shapes, out: &mut Vec<Action>) {
        let Some(grant) = self.granting.take() else { return };
        let before = self.selection.clone();
        let after = before.granted(grant);
        // A table that can be seen neither before nor after is not even named.
        let is_other = |table: &TableName| {
            let seen = |selection: &Selection| tables.may_have_been_seen(selection, table);
            (seen(&before) || seen(&after)) && is_other(&before, &after, table)
        };
        let others: BTreeSet<TableName> =
            tables.names().chain(self.named()).filter(|table| is_other(table)).cloned().collect();
        self.select(after, out);
        if others.is_empty() {
            self.is_access_untold = true;
            self.tell_access(out);
            self.go_on(out);
            return;
        }
        self.is_access_untold = true;
        self.delivery.forget_shapes();
        // Whoever has got parts of a transaction gets it again from its beginning, as far as it may still see it.
        self.reset_tables(Reset::PermissionChanged, others, self.cursor, out);
    }

    fn go_on(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::CatchingUp;
        self.idle = false;
        self.change_subscriptions(out);
    }

    /// The tables that are followed by their names.
    fn named(&self) -> impl Iterator<Item = &TableName> {
        self.selection.subscriptions().iter().filter_map(|one| match &one.table {
            Pattern::Table(table) => Some(table),
            Pattern::All | Pattern::Schema(_) => None,
        })
    }

    /// Where a session begins whose client has rows of what it was granted before.
    pub(super) fn start_with(&self, start: Start) -> Start {
        let has_changed = self.access_before.is_some() && self.shown_before().is_none();
        match start {
            Start::Resume(_) if has_changed && self.snapshot_welcome => {
                Start::Snapshot(Some(Reset::PermissionChanged))
            }
            Start::Resume(_) if has_changed => Start::Refuse(Reset::PermissionChanged),
            start => start,
        }
    }

    /// What a client has that comes back and says what its copy is of; `None` where that is something else than what it may see.
    fn shown_before(&self) -> Option<Shown> {
        Shown::of_access(self.access_before.as_ref()?, &self.selection.grant().fingerprint())
    }

    /// Whoever goes on from a cursor lacks what it lacked before.
    pub(super) fn come_back(&mut self, start: &Start) {
        if let Start::Resume(_) = start {
            self.shown = self.shown_before().unwrap_or_default();
            self.lacks_others = true;
        }
    }

    /// Something else is known of what the client has.
    pub(super) fn learn(&mut self, newer: &Shown) {
        let lacks_others = self.shown.update(newer);
        self.is_access_untold |= lacks_others;
        // Also where it lacks what it lacked: each looks at the next change, and that may have been looked at.
        self.lacks_others |= lacks_others || newer.lacks_any();
    }

    /// The client drops everything.
    pub(super) fn forget_shown(&mut self) {
        self.is_access_untold |= self.shown.lacks_any();
        self.shown = Shown::default();
    }

    /// Names what the client's copy is of.
    pub(super) fn access(&self) -> String {
        self.shown.access(&self.selection.grant().fingerprint())
    }

    /// A snapshot ends: with it, what the client has is of what it may see now.
    pub(super) fn tell_access(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.is_access_untold) {
            out.push(Action::Send(server::access(&self.access())));
        }
    }

    /// What the client may see, or is about to; `None` before it is let in.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.client.as_ref()?;
        Some(self.granting.as_ref().unwrap_or(self.selection.grant()))
    }
}

/// Whether a client has another copy of a table by one selection than by the other, or none.
fn is_other(before: &Selection, after: &Selection, table: &TableName) -> bool {
    let differs = |has: &Selection, except: &Selection| {
        Tables { selection: has.clone(), part: Part::Except(except.clone()) }.has(table)
    };
    differs(after, before) || differs(before, after) || after.hidden(table) != before.hidden(table)
}
