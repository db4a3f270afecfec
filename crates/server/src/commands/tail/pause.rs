//! How long `waldelta tail` waits before it connects again: as long as the service says, else longer each time, and never as long
//! as others who were let go with it. It waits for nothing itself.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const AT_LEAST: Duration = Duration::from_millis(500);
const AT_MOST: Duration = Duration::from_secs(30);
/// A service that says more than this is not believed.
const TOLD_AT_MOST: Duration = Duration::from_secs(120);

pub(super) struct Pause {
    next: Duration,
    random: RandomState,
    taken: u64,
}

impl Pause {
    pub(super) fn new() -> Self {
        Pause { next: AT_LEAST, random: RandomState::new(), taken: 0 }
    }

    /// It was live: what ends now is no failure to connect.
    pub(super) fn begin_again(&mut self) {
        self.next = AT_LEAST;
    }

    /// The next, of which the service has `told` how long it is to be.
    pub(super) fn take(&mut self, told: Option<Duration>) -> Duration {
        if let Some(told) = told {
            return told.min(TOLD_AT_MOST);
        }
        self.taken += 1;
        // From half of it to half more.
        let part = u32::try_from(self.random.hash_one(self.taken) % 1_000).unwrap_or_default();
        let pause = self.next.mul_f64(0.5 + f64::from(part) / 1_000.0);
        self.next = (self.next * 2).min(AT_MOST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again_when_it_was_live() {
        let mut pause = Pause::new();
        for bound_ms in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000] {
            let bound = Duration::from_millis(bound_ms);
            let taken = pause.take(None);
            assert!(bound / 2 <= taken && taken <= bound * 3 / 2, "{taken:?} of {bound:?}");
        }
        assert_eq!(pause.take(Some(Duration::from_millis(7))), Duration::from_millis(7));
        assert_eq!(pause.take(Some(Duration::MAX)), TOLD_AT_MOST);
        pause.begin_again();
        assert!(pause.take(None) <= AT_LEAST * 3 / 2);
    }
}
