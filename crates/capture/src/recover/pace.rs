//! How often capture may begin a new epoch by itself: not in turns with something that breaks it again each time. Pure: time
//! comes in.

use std::time::{Duration, Instant};

use waldelta_wal::Code;

/// Between two new epochs lies at least this.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// What came back within this was not mended by a new epoch.
const CAME_BACK_TIME: Duration = Duration::from_secs(600);
/// States that are remembered: more than there are.
const REMEMBERED_MAX: usize = 64;

/// What was done when.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    done: Vec<(Code, Instant)>,
}

/// Whether it may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now.
    Now,
    /// After this.
    In(Duration),
    /// Not again: it was done not long ago, and did not help.
    Never,
}

impl Pace {
    /// Whether a new epoch may begin because of `code`.
    pub(crate) fn turn(&self, code: Code, now: Instant) -> Turn {
        let since = |at: &Instant| now.saturating_duration_since(*at);
        let came_back = self.done.iter().any(|(done, at)| *done == code && since(at) < CAME_BACK_TIME);
        if came_back {
            return Turn::Never;
        }
        let last = self.done.iter().map(|(_, at)| since(at)).min();
        match last.and_then(|last| INTERVAL_MIN.checked_sub(last)).filter(|left| !left.is_zero()) {
            Some(left) => Turn::In(left),
            None => Turn::Now,
        }
    }

    /// A new epoch has begun because of `code`.
    pub(crate) fn done(&mut self, code: Code, now: Instant) {
        if self.done.len() == REMEMBERED_MAX {
            self.done.remove(0);
        }
        self.done.push((code, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_does_not_help_twice_and_nothing_happens_twice_a_minute() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        assert_eq!(pace.turn(Code::SlotLost, at(0)), Turn::Now);
        pace.done(Code::SlotLost, at(0));
        assert_eq!(pace.turn(Code::SlotLost, at(599)), Turn::Never);
        assert_eq!(pace.turn(Code::SlotMissing, at(20)), Turn::In(Duration::from_secs(40)));
        assert_eq!(pace.turn(Code::SlotMissing, at(60)), Turn::Now);
        pace.done(Code::SlotMissing, at(60));
        assert_eq!(pace.turn(Code::SlotLost, at(600)), Turn::Now);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (begun, mut pace) = (Instant::now(), Pace::default());
        (0..1000).for_each(|_| pace.done(Code::SlotLost, begun));
        assert_eq!(pace.done.len(), REMEMBERED_MAX);
    }
}
