//! What a session makes of what was read for it.

use std::collections::BTreeSet;

use super::*;
use crate::scope::Content;
use crate::session::delivery::{Overlap, Recipient, Undeliverable};
use crate::session::private::Slice;
use crate::start::Reset;
use crate::subscription::Misfit;

impl Session {
    /// Feed or history was read: frames are made for this session alone.
    pub(super) fn take_private(&mut self, read: Result<PrivateRead, Code>, now: Now, out: &mut Vec<Action>) {
        self.reading = false;
        let read = match read {
            Ok(read) => read,
            Err(code) => return self.fail(code, Closing::TryLater(code), out),
        };
        let current = matches!(self.phase, Phase::CatchingUp | Phase::Live) && read.after == self.at;
        if !current {
            // A snapshot began anew meanwhile.
            return;
        }
        if let Some((reason, at_least)) = read.lost_because() {
            return self.reset(reason, at_least, out);
        }
        if self.cannot_cross_to(read.through) {
            return self.reset(Reset::EpochChanged, Position::default(), out);
        }
        let overlaps = self.delivery.overlaps.len();
        for (index, slice) in read.slices.iter().enumerate() {
            let begin_anew = self.begin_anew_by(slice, &read.shapes);
            if !begin_anew.is_empty() {
                let after = &read.slices[index + 1..];
                return self.reset_from(slice, begin_anew, after, &read.shapes, out);
            }
            self.tell_access(out);
            match self.tell(slice, out) {
                Ok(()) => {}
                Err(Undeliverable::NotText(_)) => return self.fail(Code::Internal, Closing::Internal, out),
                Err(Undeliverable::Misfit(misfit)) => return self.misfit(&misfit, out),
            }
        }
        self.move_to(read.through);
        // A client waits for the cursor from which its state is consistent; no transaction may come to tell it.
        self.beat_due |= self.delivery.overlaps.len() < overlaps && self.told < self.cursor;
        self.idle = read.exhausted;
        if read.exhausted {
            self.caught_up(now, out);
        }
        self.beat(now, out);
        self.change_subscriptions(out);
    }

    /// Whether a seam lies before this position while a snapshot's overlap lasts: the snapshot may show what did not survive.
    fn cannot_cross_to(&self, through: Position) -> bool {
        let of_older_epoch = |overlap: &Overlap| overlap.until.epoch < through.epoch;
        through.epoch != self.cursor.epoch && self.delivery.overlaps.iter().any(of_older_epoch)
    }

    /// Resets the tables that begin anew with this slice, and with those after it that were read: one snapshot is enough.
    fn reset_from(
        &mut self,
        first: &Slice,
        begin_anew: Vec<(Reset, TableName)>,
        after: &[Slice],
        shapes: &Shapes,
        out: &mut Vec<Action>,
    ) {
        let mut at_least = first.head.position();
        let mut all = begin_anew;
        for slice in after {
            let found = self.begin_anew_by(slice, shapes);
            if !found.is_empty() {
                at_least = slice.head.position();
                all.extend(found);
            }
        }
        let mut reason = Reset::Gap;
        if all.iter().any(|(why, _)| *why == Reset::PermissionChanged) {
            (reason, self.is_access_untold) = (Reset::PermissionChanged, true);
        }
        let tables: BTreeSet<TableName> = all.into_iter().map(|(_, table)| table).collect();
        self.reset_tables(reason, tables, at_least, out);
    }

    /// A subscription does not fit its table, or does not any more: nothing can be told of the table.
    pub(super) fn misfit(&mut self, misfit: &Misfit, out: &mut Vec<Action>) {
        let code = Code::FilterInvalid;
        let subscription = Some(&*misfit.subscription);
        self.fail_with(code, &misfit.message(), subscription, Closing::NotAllowed(code), out);
    }

    fn tell(&mut self, slice: &Slice, out: &mut Vec<Action>) -> Result<(), Undeliverable> {
        let Some(client) = &self.client else { return Ok(()) };
        let to = Recipient {
            client_id: &client.id,
            gets_own: !self.been_live || client.gets_own(slice.head.xid),
            selection: &self.selection,
            prev: self.told,
        };
        let told = self.delivery.frames(to, &slice.head, &slice.changes, slice.last)?;
        if slice.last {
            self.move_to(slice.head.position());
            if told.cursor.is_some() {
                self.told = self.cursor;
            }
        }
        out.extend(told.frames.into_iter().map(Action::Send));
        Ok(())
    }

    fn caught_up(&mut self, now: Now, out: &mut Vec<Action>) {
        let may_say_so = self.knows_frontier() || now.instant >= self.frontier_by;
        if self.phase == Phase::CatchingUp && may_say_so {
            self.phase = Phase::Live;
            self.been_live = true;
            self.told = self.cursor;
            self.beat_due = false;
            self.fitted = Fitted::default();
            // From now on there may be a shared tail to read.
            self.idle = !self.shares();
            out.push(Action::Send(server::live(self.cursor)));
        }
    }

    /// The tail of the scope was read: frames are ready.
    pub(super) fn take_tail(
        &mut self,
        items: Result<Vec<Arc<Item>>, Behind>,
        routed: Position,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !self.shares() {
            return;
        }
        let Ok(items) = items else { return self.fall_back() };
        for item in &items {
            // What has become of the epoch before is found out by reading history; so is a table that was left out.
            let is_back = item.schemas.iter().any(|schema| self.shown.has(schema.oid) == Some(false));
            if is_back || item.content == Content::Large || item.position.epoch != self.cursor.epoch {
                return self.fall_back();
            }
            self.tell_item(item, now, out);
            self.move_to(item.position);
        }
        if items.is_empty() {
            if routed.epoch > self.cursor.epoch {
                return self.fall_back();
            }
            self.move_to(routed.max(self.cursor));
            self.idle = true;
        }
        self.beat(now, out);
        self.change_subscriptions(out);
    }

    fn tell_item(&mut self, item: &Item, now: Now, out: &mut Vec<Action>) {
        let own = self.client.as_ref().and_then(|client| item.own.iter().find(|(key, _)| *key == client.key));
        self.delivery.left_out.own += u64::from(own.is_some());
        let frame = match (own, &item.content) {
            (Some((_, frame)), _) | (None, Content::Frame(frame)) => Some(frame),
            (None, Content::Shapes) => None,
            (None, Content::AuthorsOnly | Content::Large) => return,
        };
        if frame.is_some() && item.prev > self.told {
            // What lies between did not concern this client, or was told before the scope began: else the frame would
            // look like a gap.
            self.tell_cursor(now, out);
        }
        out.extend(self.delivery.untold(&item.schemas).cloned().map(Action::Send));
        if let Some(frame) = frame {
            let is_shared = own.is_none() && self.subprotocol.takes_packed();
            out.push(match item.packed().filter(|_| is_shared) {
                Some(packed) => Action::SendPacked(packed),
                None => Action::Send(frame.clone()),
            });
            self.told = item.position;
        }
    }

    /// Reads feed or history until it has caught up again.
    pub(super) fn fall_back(&mut self) {
        self.phase = Phase::CatchingUp;
        self.idle = false;
    }

    fn move_to(&mut self, position: Position) {
        debug_assert!(position >= self.at, "a position never goes back");
        self.at = position;
        if position.is_whole() {
            self.cursor = position;
            self.delivery.settle(position);
        }
    }
}
