//! What time it is: the one place of the client side that says so.
//!
//! Moments to wait from and to measure by are the runtime's, which may be paused. Civil time is for people and for when tokens end;
//! nothing of what clients are told, or when, depends on it otherwise. It is passed in, so that it can stand still.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This moment, on the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Civil time.
#[derive(Clone, Copy)]
pub(crate) struct Clock(fn() -> SystemTime);

impl Clock {
    /// The system's.
    pub(crate) fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the client side takes its time from here alone")]
        let now = || SystemTime::now();
        Clock(now)
    }

    #[cfg(test)]
    pub(crate) fn of(now: fn() -> SystemTime) -> Self {
        Clock(now)
    }

    /// Microseconds since 1970.
    pub(crate) fn unix_us(self) -> i64 {
        let since_1970 = (self.0)().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
    }
}
