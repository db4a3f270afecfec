//! The wall clock, which only the façade reads: below it the time is an argument. And times as they are stored.

use std::time::{Duration, SystemTime};

/// What time it is.
#[expect(
    clippy::disallowed_methods,
    reason = "tokens say by the wall clock when they end; read here and handed on"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Microseconds since 1970; what does not fit is as far away as can be said.
pub(crate) fn micros(time: SystemTime) -> i64 {
    let number = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => number(since),
        Err(before) => -number(before.duration()),
    }
}

/// The time that is so many microseconds after 1970.
pub(crate) fn time(micros: i64) -> SystemTime {
    let span = Duration::from_micros(micros.unsigned_abs());
    let time = match micros {
        0.. => SystemTime::UNIX_EPOCH.checked_add(span),
        _ => SystemTime::UNIX_EPOCH.checked_sub(span),
    };
    // No clock of ours has less than 64 bits of seconds.
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_being_stored() {
        for us in [0, 1, -1, 1_700_000_000_123_456, -62_000_000_000_000_000, i64::MAX] {
            assert_eq!(micros(time(us)), us);
        }
    }
}
