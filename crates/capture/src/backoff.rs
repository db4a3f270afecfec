//! How long to wait before trying again. Pure but for its dice.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Waits that double up to a bound, each shortened by chance, so that many that were cut off together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    dice: RandomState,
    thrown: u64,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { next: WAIT_MIN, dice: RandomState::new(), thrown: 0 }
    }

    /// The next wait: between half and the whole of the step.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(WAIT_MAX);
        self.thrown += 1;
        let chance = u32::try_from(self.dice.hash_one(self.thrown) % 1_000).unwrap_or_default();
        step / 2 + step / 2 * chance / 1_000
    }

    /// It worked: begin again with short waits.
    pub(crate) fn reset(&mut self) {
        self.next = WAIT_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::new();
        let mut step = WAIT_MIN;
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(WAIT_MAX);
        }
        assert_eq!(step, WAIT_MAX);
        backoff.reset();
        assert!(backoff.wait() <= WAIT_MIN);
    }
}
