//! Who follows a reading, how far each has come, and why somebody follows it no more.
//!
//! To be let go as too slow is for those alone who had what they did not take. Where the reading's time is up, those who came to
//! it late had less time than they may have, and those who wait for it have done nothing wrong: they are told to come back.

use std::collections::HashMap;
use std::time::Instant;

use waldelta_wal::Code;

use crate::session::hydrate::Failure;

/// The followers of a reading.
#[derive(Default)]
pub(super) struct Places {
    followers: HashMap<u64, Place>,
    /// Those who have not noticed yet that they are let go, and why they are.
    let_go: HashMap<u64, Failure>,
    made: u64,
}

/// Where a follower is.
struct Place {
    /// The frame that it takes next.
    next: u64,
    /// By then it has to be done.
    until: Instant,
    /// It came when some of the reading's time had passed.
    came_late: bool,
}

/// There was not enough time for the reading, which is nobody's fault who follows it.
pub(super) fn out_of_time() -> Failure {
    let code = Code::SnapshotTimeout;
    Failure::ForNow { code, message: code.explanation().title.to_owned() }
}

impl Places {
    /// A follower comes; its number.
    pub(super) fn enter(&mut self, next: u64, until: Instant, came_late: bool) -> u64 {
        self.made += 1;
        self.followers.insert(self.made, Place { next, until, came_late });
        self.made
    }

    pub(super) fn leave(&mut self, follower: u64) {
        self.followers.remove(&follower);
        self.let_go.remove(&follower);
    }

    pub(super) fn clear(&mut self) {
        self.followers.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.followers.is_empty()
    }

    /// Why it follows no more; `None` where it does.
    pub(super) fn failure(&self, follower: u64) -> Option<Failure> {
        match self.followers.contains_key(&follower) {
            true => None,
            false => Some(self.let_go.get(&follower).cloned().unwrap_or(Failure::TooSlow)),
        }
    }

    /// It takes this frame next.
    pub(super) fn moved(&mut self, follower: u64, next: u64) {
        if let Some(place) = self.followers.get_mut(&follower) {
            place.next = next;
        }
    }

    /// It has until then.
    pub(super) fn extend(&mut self, follower: u64, until: Instant) {
        if let Some(place) = self.followers.get_mut(&follower) {
            place.until = until;
        }
    }

    /// The frame that the last of them takes next; `None` where there are none.
    pub(super) fn slowest(&self) -> Option<u64> {
        self.followers.values().map(|place| place.next).min()
    }

    /// Lets go of those whose own time is up; whether there were any. `has_more` says whether whoever takes that frame next
    /// could take something.
    pub(super) fn let_late_go(&mut self, now: Instant, has_more: impl Fn(u64) -> bool) -> bool {
        self.let_go(|place| {
            let is_slow = has_more(place.next);
            (place.until <= now).then(|| if is_slow { Failure::TooSlow } else { out_of_time() })
        })
    }

    /// Lets go of those who are behind all others; whether there were others.
    pub(super) fn let_slowest_go(&mut self) -> bool {
        let fastest = self.followers.values().map(|place| place.next).max();
        let slowest = self.slowest().filter(|slowest| Some(*slowest) < fastest);
        slowest.is_some_and(|slowest| self.let_go(|place| (place.next <= slowest).then(|| place.fault())))
    }

    /// The reading's time is up while it waits for those who have not taken this frame.
    pub(super) fn let_holders_go(&mut self, first: u64) {
        self.let_go(|place| (place.next <= first).then(|| place.fault()));
    }

    fn let_go(&mut self, why: impl Fn(&Place) -> Option<Failure>) -> bool {
        let let_go: Vec<_> =
            self.followers.iter().filter_map(|(number, place)| Some((*number, why(place)?))).collect();
        for (number, _) in &let_go {
            self.followers.remove(number);
        }
        let were_any = !let_go.is_empty();
        self.let_go.extend(let_go);
        were_any
    }
}

impl Place {
    /// As what it is let go, where the reading has no time to wait for it.
    fn fault(&self) -> Failure {
        if self.came_late { out_of_time() } else { Failure::TooSlow }
    }
}
