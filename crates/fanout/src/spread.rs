//! Spreads over a time what many sessions would do in one moment.
//!
//! It is no chance: the number of a session says its place, so that what was said twice is the same.

use std::time::Duration;

/// The part of a time that belongs to a session: neighbouring numbers lie far from each other, and many fill it evenly.
pub(crate) fn part(session: u64, whole: Duration) -> Duration {
    // Fibonacci hashing.
    let place = u128::from(session.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32);
    Duration::from_nanos(u64::try_from((whole.as_nanos() * place) >> 32).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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
