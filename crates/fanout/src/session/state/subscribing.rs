//! Subscriptions that change while connected. New tables come with a snapshot of their own, on the same cursor; so do tables of
//! which the client is to have other rows or columns than before.

use super::*;

/// Changes that wait at most.
const WAITING_MAX: usize = 16;

impl Session {
    pub(super) fn queue(&mut self, change: SubscriptionChange, out: &mut Vec<Action>) {
        if self.changes.len() >= WAITING_MAX {
            self.fail(Code::TooManyFrames, Closing::TooMany(Code::TooManyFrames), out);
            return;
        }
        self.changes.push_back(change);
        self.change_subscriptions(out);
    }

    /// Makes the changes that wait, between transactions and while no snapshot runs.
    pub(super) fn change_subscriptions(&mut self, out: &mut Vec<Action>) {
        while matches!(self.phase, Phase::CatchingUp | Phase::Live)
            && self.at.is_whole()
            && !self.delivery.is_inside()
            && let Some(change) = self.changes.pop_front()
        {
            match change {
                SubscriptionChange::Add(more) => self.add(&more, out),
                SubscriptionChange::Remove(ids) => self.remove(&ids, out),
            }
        }
    }

    fn add(&mut self, more: &[Subscription], out: &mut Vec<Action>) {
        if let Some(taken) = more.iter().find(|subscription| self.selection.has(&subscription.id)) {
            let message = "a subscription of this id is there already";
            out.push(Action::Send(server::error(Code::SubscriptionInvalid, message, Some(&taken.id), false)));
            return;
        }
        if self.selection.subscriptions().len() + more.len() > self.rules.subscriptions_max {
            let message = format!("more than {} subscriptions", self.rules.subscriptions_max);
            out.push(Action::Send(server::error(Code::SubscriptionInvalid, &message, None, false)));
            return;
        }
        let before = self.selection.clone();
        self.select(before.with(more), out);
        self.hydrate_added(before, out);
    }

    /// What is left of a table that others of its subscriptions follow is fewer rows, and the client cannot tell which.
    fn remove(&mut self, ids: &[String], out: &mut Vec<Action>) {
        let before = self.selection.clone();
        self.select(before.without(ids), out);
        if self.selection.alters_copies_of(&before) {
            self.hydrate_added(before, out);
        }
    }

    pub(super) fn select(&mut self, selection: Selection, out: &mut Vec<Action>) {
        self.delivery.selection_changed(&self.selection, &selection);
        self.selection = selection;
        self.fitted = Fitted::default();
        out.push(Action::Attach(self.selection.clone()));
        // The new scope may not know what the old one had: its beginning is read privately.
        self.phase = Phase::CatchingUp;
        self.idle = false;
    }
}
