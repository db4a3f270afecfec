//! How long routing goes on before others have their turn, measured by what it has done and by no clock.
//!
//! To find out whom a transaction concerns, and to make its frames, computes: for seconds, where ten thousand filters have to be
//! evaluated on each of a thousand rows. Whoever shares the worker would wait for all of it. So everything that is done is told
//! to a pace, in bytes: what is no handling of bytes counts as so many of them as would take about as long.
//!
//! Scopes that were given something are woken then, and not before: their sessions find all of it, and write it at once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::scope::Scope;

/// Bytes between two turns: they take a fraction of a millisecond.
const TURN_BYTES: usize = 256 * 1024;

/// What looking at a change counts as.
pub(crate) const CHANGE_BYTES: usize = 64;
/// What evaluating a filter counts as, beside the bytes of its text and of the row.
pub(crate) const EVALUATION_BYTES: usize = 256;
/// What noting a scope counts as.
pub(crate) const MARK_BYTES: usize = 64;

/// What was done since the last turn.
pub(crate) struct Pace {
    turn_bytes: usize,
    done_bytes: usize,
    /// Scopes that are to be woken, some of them more than once.
    given: Vec<Arc<Scope>>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace::of(TURN_BYTES)
    }

    /// Others have their turn after so many bytes.
    pub(crate) fn of(turn_bytes: usize) -> Self {
        Pace { turn_bytes, done_bytes: 0, given: Vec::new() }
    }

    /// So much was done: lets others have their turn if it is time for that.
    pub(crate) async fn did(&mut self, bytes: usize) {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        if self.done_bytes >= self.turn_bytes {
            self.done_bytes = 0;
            self.wake();
            tokio::task::yield_now().await;
        }
    }

    /// A scope was given something that concerns all of its sessions.
    pub(crate) fn gave(&mut self, scope: &Arc<Scope>) {
        self.given.push(scope.clone());
    }

    /// Wakes those that were given something.
    pub(crate) fn wake(&mut self) {
        let mut woken = HashSet::new();
        for scope in self.given.drain(..) {
            if woken.insert(Arc::as_ptr(&scope)) {
                scope.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::scope::Budget;
    use crate::testing::{at_once, everything, position, subscription};

    #[test]
    fn who_was_given_something_is_woken_when_others_have_their_turn() {
        let budget = Arc::new(Budget::new(1 << 20));
        let scope = |table: &str| {
            let selection = Arc::new(everything(vec![subscription("s", table)]));
            Arc::new(Scope::new(selection, position(10), 1 << 20, &budget))
        };
        let (scopes, mut pace) = ([scope("t"), scope("u"), scope("v")], Pace::of(100));
        let mut watches = scopes.each_ref().map(|scope| scope.watch());
        let mut woken = || {
            watches.each_mut().map(|watch| {
                let is_woken = watch.has_changed().unwrap();
                watch.mark_unchanged();
                is_woken
            })
        };
        for scope in [&scopes[0], &scopes[1], &scopes[0]] {
            pace.gave(scope);
            at_once(pace.did(30));
        }
        assert_eq!(woken(), [false; 3], "there may be more for them");
        pace.wake();
        assert_eq!(woken(), [true, true, false]);
        pace.wake();
        assert_eq!(woken(), [false; 3], "once");
        pace.gave(&scopes[2]);
        assert_eq!(pace.did(10).now_or_never(), None);
        assert_eq!(woken(), [false, false, true], "before it lets others go first");
    }
}
