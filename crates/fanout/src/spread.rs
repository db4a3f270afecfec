//! Spreads over a time what many sessions would do in one moment.
//!
//! It is no chance: the number of a session says its place, so that what was said twice is the same.

use std::time::{Duration, Instant};

/// Moments at which sessions do what need not be exact, in the time that each of them spreads.
const MOMENTS: u32 = 60;

/// The part of a time that belongs to a session: neighbouring numbers lie far from each other, and many fill it evenly.
pub(crate) fn part(session: u64, whole: Duration) -> Duration {
    // Fibonacci hashing.
    let place = u128::from(session.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32);
    Duration::from_nanos(u64::try_from((whole.as_nanos() * place) >> 32).unwrap_or(u64::MAX))
}

/// The next of the common moments at or after `at`: there are sixty in a `whole` from `began` on. Those who share one wake the
/// process once, and not each by itself.
pub(crate) fn together(at: Instant, began: Instant, whole: Duration) -> Instant {
    let step = (whole / MOMENTS).as_nanos().max(1);
    let past = at.saturating_duration_since(began).as_nanos() % step;
    let rest = if past == 0 { 0 } else { step - past };
    at + Duration::from_nanos(u64::try_from(rest).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shared_and_never_earlier() {
        let (began, whole) = (Instant::now(), Duration::from_secs(15));
        let after = |ms: u64| together(began + Duration::from_millis(ms), began, whole) - began;
        for (at, moment) in [(0, 0), (1, 250), (249, 250), (250, 250), (15_001, 15_250)] {
            assert_eq!(after(at), Duration::from_millis(moment), "{at}");
        }
        assert_eq!(together(began, began, Duration::ZERO), began);
    }

    #[test]
    fn many_fill_the_time_evenly() {
        let whole = Duration::from_secs(5);
        let mut all: Vec<Duration> = (1..=10_000).map(|session| part(session, whole)).collect();
        assert!(all.iter().all(|part| *part < whole));
        all.sort_unstable();
        let busiest = all.windows(101).map(|run| run[100] - run[0]).min().unwrap();
        assert!(busiest > Duration::from_millis(25), "100 of 10,000 within {busiest:?} of 5 s");
    }
}
