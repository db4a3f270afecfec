//! Snapshots: at the beginning, when a client begins anew, and of tables that are added or reset while connected.
//!
//! A table is reset before the transaction that says so is told. So the client's cursor stays below that place until the
//! table's rows are there: whoever loses the connection meanwhile, and comes back, finds the reset again.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use waldelta_wal::TableName;

use super::*;
use crate::session::hydrate::Failure;
use crate::snapshots;
use crate::start::Reset;
use crate::subscription::{Part, Tables};

impl Session {
    /// The client begins with a snapshot: whichever there is from which on the stream goes on in this epoch.
    pub(super) fn begin_anew(&mut self, reason: Option<Reset>, extent: &Extent, out: &mut Vec<Action>) {
        self.durable = extent.head;
        let at_least = extent.floor.max(Position { epoch: extent.head.epoch, ..Position::default() });
        match reason {
            Some(reason) => self.reset(reason, at_least, out),
            None => self.hydrate_all(at_least, out),
        }
    }

    /// The client's state can no longer be continued: it begins anew, or is let go if it wants no snapshot.
    pub(super) fn reset(&mut self, reason: Reset, at_least: Position, out: &mut Vec<Action>) {
        if !self.snapshot_welcome {
            self.fail(Code::CursorNotResumable, Closing::NotResumable, out);
            return;
        }
        out.push(Action::Send(server::reset(reason)));
        self.delivery = Delivery::default();
        self.been_live = false;
        self.forget_shown();
        self.hydrate_all(at_least, out);
    }

    /// These tables begin anew for this reason, with a snapshot that has what committed up to `at_least`; everything else goes on after it from
    /// the client's cursor.
    pub(super) fn reset_tables(
        &mut self,
        reason: Reset,
        tables: BTreeSet<TableName>,
        at_least: Position,
        out: &mut Vec<Action>,
    ) {
        if !self.snapshot_welcome {
            let message = "a table has to be read afresh from here on, and a snapshot is not wanted";
            self.fail_with(Code::CursorNotResumable, message, None, Closing::NotResumable, out);
            return;
        }
        out.push(Action::Send(server::reset_of(reason, tables.iter())));
        // Where parts of the transaction were told, it is told again from its beginning: the stream goes on at the cursor.
        self.delivery.begin_again();
        self.hydrate_again(reason, tables, at_least, out);
    }

    fn hydrate_again(
        &mut self,
        reason: Reset,
        tables: BTreeSet<TableName>,
        at_least: Position,
        out: &mut Vec<Action>,
    ) {
        self.late = Some(Late::Reset { reason, tables: tables.clone(), at_least });
        self.hydrate(Part::Only(tables), at_least, out);
    }

    /// A snapshot of everything that is selected.
    pub(super) fn hydrate_all(&mut self, at_least: Position, out: &mut Vec<Action>) {
        self.late = None;
        self.hydrate(Part::All, at_least, out);
    }

    /// A snapshot of what is selected now and was not selected by `before`.
    pub(super) fn hydrate_added(&mut self, before: Selection, out: &mut Vec<Action>) {
        self.late = Some(Late::Added { before: before.clone() });
        // Of a position at or after the cursor: what lies between is left out for the new tables.
        self.hydrate(Part::Except(before), self.cursor, out);
    }

    fn hydrate(&mut self, part: Part, at_least: Position, out: &mut Vec<Action>) {
        self.phase = Phase::Hydrating;
        let tables = Tables { selection: self.selection.clone(), part };
        let head = self.durable.max(at_least);
        out.push(Action::Hydrate(Order { tables, at_least, head, from: self.snapshot_from.take() }));
    }

    pub(super) fn hydrated(&mut self, step: Step, now: Now, out: &mut Vec<Action>) {
        if self.phase != Phase::Hydrating {
            return;
        }
        // The snapshot of some tables is ahead of the stream. The client stores the cursor that it is told, so it is told the
        // stream's: else what lies between would be lost to the tables that it had before.
        let stream = self.late.as_ref().map(|_| self.cursor);
        match step {
            Step::Begun { id, n, cursor, tables } => {
                let cursor = stream.unwrap_or(cursor);
                out.push(Action::Send(server::snapshot_begin(cursor, &id, n, &tables)));
            }
            Step::Shape(table) => match snapshots::schema(&self.selection, &table) {
                Ok(Some(frame)) => {
                    self.delivery.shape_told(&table);
                    out.push(Action::Send(frame));
                }
                // It may not be seen any more.
                Ok(None) => {}
                Err(misfit) => self.hydration_failed(Failure::Misfit(misfit), out),
            },
            Step::Rows(frame) => out.push(Action::Send(frame)),
            Step::PackedRows(packed) => out.push(Action::SendPacked(packed)),
            Step::Shown(newer) => self.learn(&newer),
            Step::Ended { consistent_at, tables, overlap } => {
                let cursor = stream.unwrap_or(overlap.from);
                self.tell_access(out);
                out.push(Action::Send(server::snapshot_end(cursor, consistent_at, &tables)));
                self.delivery.overlaps.push(overlap);
                self.forget_frontier(now, out);
                (self.cursor, self.at, self.told) = (cursor, cursor, cursor);
                self.late = None;
                self.phase = Phase::CatchingUp;
                self.idle = false;
                self.change_subscriptions(out);
            }
            Step::Failed(failure) => self.hydration_failed(failure, out),
        }
    }

    /// The rows have replaced what the client had, and may be older than what it did itself meanwhile: its own changes are told
    /// until it is live again, and then those of transactions that began before now.
    fn forget_frontier(&mut self, now: Now, out: &mut Vec<Action>) {
        self.been_live = false;
        if let Some(client) = &self.client {
            client.frontier.store(u64::MAX, Ordering::Release);
        }
        self.ask_frontier(now, out);
    }

    fn hydration_failed(&mut self, failure: Failure, out: &mut Vec<Action>) {
        match failure {
            Failure::ForNow { code, message } => {
                self.fail_with(code, &message, None, Closing::TryLater(code), out);
            }
            Failure::TooSlow => {
                let message = "the snapshot was not taken over in time";
                self.fail_with(Code::ClientTooSlow, message, None, Closing::TooSlow, out);
            }
            Failure::NotCaptured { subscription, table } => {
                let message = format!("{table} is not captured");
                self.refuse_tables(Code::TableNotCaptured, &message, &subscription, out);
            }
            Failure::Misfit(misfit) => {
                self.refuse_tables(Code::FilterInvalid, &misfit.message(), &misfit.subscription, out);
            }
        }
    }

    /// A subscription cannot be served. Where it was added while connected, or what may be seen has changed since, everything else
    /// goes on without it.
    fn refuse_tables(&mut self, code: Code, message: &str, subscription: &str, out: &mut Vec<Action>) {
        let refused = Action::Send(server::error(code, message, Some(subscription), false));
        match self.late.take() {
            Some(Late::Added { before }) => {
                out.push(refused);
                self.select(before, out);
                self.change_subscriptions(out);
            }
            Some(Late::Reset { reason: reason @ Reset::PermissionChanged, tables, at_least }) => {
                out.push(refused);
                self.select(self.selection.without(&[subscription.to_owned()]), out);
                // What the others have of these tables.
                self.hydrate_again(reason, tables, at_least, out);
            }
            Some(Late::Reset { .. }) | None => {
                self.fail_with(code, message, Some(subscription), Closing::NotAllowed(code), out);
            }
        }
    }
}
