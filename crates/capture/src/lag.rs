//! How far capture is behind the source: in bytes at each stage, and in seconds. Pure: time comes in.
//!
//! Seconds are never taken from a reading that has become old: what was caught up a minute ago says nothing of now, and while
//! capture does not stream they grow with the clock.

use std::time::{Duration, Instant};

use waldelta_wal::{EndLsn, Lsn};

use crate::status::{Reading, State};

/// What was found caught up this long ago still counts as caught up: three looks at the source's WAL.
const FRESH: Duration = Duration::from_secs(15);
/// A place at the beginning of a page can be told before or after the page's header, which has so many bytes at most.
const PAGE_HEADER_BYTES_MAX: u64 = 40;

/// How far capture is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// WAL that may hold changes which are not durable; 0 when everything is.
    pub bytes: u64,
    /// From the source's end to what was received.
    pub receive: Stage,
    /// From there to what was taken apart, in whole transactions.
    pub decode: Stage,
    /// From there to what is durable; nothing when all of it that matters is.
    pub store: Stage,
    /// From what is durable to what the slot was told.
    pub report: Stage,
    /// Age of the newest thing known to be durable while there may be more to come, else 0; `None` while nothing is known, and
    /// for an instance that stands by, whose writer knows it.
    pub seconds: Option<f64>,
}

/// What lies between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stage {
    /// Bytes of WAL.
    pub bytes: u64,
    /// How much longer the source has been past where the later stage is than past where the earlier one is, as far as it was
    /// looked at, some times a second.
    pub seconds: f64,
}

impl Reading {
    /// WAL, in bytes, that may hold changes which are not durable.
    ///
    /// While everything received is durable and the source has no more, it is 0, although D may lie behind: WAL without
    /// captured changes moves it only now and then. So it is where nothing is known to be durable: history has not begun.
    pub fn lag_bytes(&self) -> u64 {
        if self.is_caught_up() || self.durable == EndLsn::default() {
            return 0;
        }
        self.source_end.0.saturating_sub(self.durable.0.0)
    }

    /// How far capture is behind. `now_us` is now in microseconds since 1970-01-01 UTC.
    pub fn lag(&self, now: Instant, now_us: i64) -> Lag {
        let is_caught_up = self.is_caught_up();
        let since = |place: Lsn| self.trail.since(place, now);
        let between = |is_behind: bool, later: Lsn, earlier: Lsn| match is_behind {
            true => Stage {
                bytes: later.0.saturating_sub(earlier.0),
                seconds: since(earlier).saturating_sub(since(later)).as_secs_f64(),
            },
            false => Stage::default(),
        };
        let known_age = self.all_durable_at.map(|at| now.duration_since(at));
        let is_fresh = known_age.is_some_and(|age| age <= FRESH);
        let commit_age = self.last_commit_us.map(|at| {
            // Never negative, since clocks differ.
            Duration::from_micros(u64::try_from(now_us.saturating_sub(at)).unwrap_or(0))
        });
        let stands_by = matches!(self.state, State::Standby { .. });
        let age = [known_age, commit_age].into_iter().flatten().min();
        let bytes = self.lag_bytes();
        Lag {
            bytes,
            receive: between(bytes > 0, self.source_end, self.received),
            decode: between(true, self.received, self.decoded),
            store: between(self.waiting, self.decoded, self.durable.0),
            // What it was told is not known before there is a slot.
            report: between(self.reported > EndLsn::default(), self.durable.0, self.reported.0),
            seconds: match age {
                _ if is_caught_up && is_fresh => Some(0.0),
                _ if stands_by => None,
                age => age.map(|age| age.as_secs_f64()),
            },
        }
    }

    /// Whether everything that the source was last known to have is durable.
    pub(crate) fn is_caught_up(&self) -> bool {
        let end = self.source_end.0.saturating_sub(PAGE_HEADER_BYTES_MAX);
        self.state == State::Streaming && !self.waiting && self.decoded.0 >= end
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::Code;

    use super::*;
    use crate::Status;

    const NOW_US: i64 = 1_700_000_000_000_000;

    fn reading(source_end: u64, received: u64, durable: u64, reported: u64) -> Reading {
        let mut reading = Status::new().read();
        reading.state = State::Streaming;
        reading.source_end = Lsn(source_end);
        (reading.received, reading.decoded) = (Lsn(received), Lsn(received));
        reading.durable = EndLsn(Lsn(durable));
        reading.reported = EndLsn(Lsn(reported));
        reading
    }

    #[test]
    fn each_stage_has_its_bytes() {
        let now = Instant::now();
        let behind = Reading { waiting: true, ..reading(1_000, 900, 600, 500) };
        let bytes = |reading: &Reading| {
            let lag = reading.lag(now, NOW_US);
            [lag.receive.bytes, lag.decode.bytes, lag.store.bytes, lag.report.bytes, lag.bytes]
        };
        assert_eq!(bytes(&behind), [100, 0, 300, 100, 400]);
        let inside = Reading { received: Lsn(950), ..behind };
        assert_eq!(bytes(&inside), [50, 50, 300, 100, 400], "a transaction that has not ended");
        assert_eq!(bytes(&reading(1_000, 1_000, 600, 600)), [0; 5], "idle");
        assert_eq!(bytes(&reading(1_000, 960, 600, 600)), [0; 5], "the same place, told twice");
        assert_eq!(bytes(&reading(1_000, 959, 600, 600)), [41, 0, 0, 0, 400]);
        assert_eq!(bytes(&reading(1_000, 0, 0, 0)), [0; 5], "history has not begun");
        assert_eq!(bytes(&reading(1_000, 1_000, 600, 0)), [0; 5], "there is no slot");
    }

    #[test]
    fn seconds_of_the_stages_are_those_since_the_source_was_there() {
        let start = Instant::now();
        let mut behind = Reading { waiting: true, ..reading(1_000, 900, 600, 500) };
        for (second, end) in [(0, 550), (10, 650), (20, 950), (30, 1_000)] {
            behind.trail.note(Lsn(end), start + Duration::from_secs(second));
        }
        let lag = behind.lag(start + Duration::from_secs(40), NOW_US);
        let seconds = [lag.receive, lag.decode, lag.store, lag.report].map(|stage| stage.seconds);
        assert_eq!(seconds, [20.0, 0.0, 10.0, 10.0]);
    }

    #[test]
    fn seconds_grow_with_the_clock_while_nothing_new_is_known() {
        let start = Instant::now();
        let seconds = |reading: &Reading, later: u64| {
            let lag =
                reading.lag(start + Duration::from_secs(later), NOW_US + later.cast_signed() * 1_000_000);
            lag.seconds
        };
        let mut reading = reading(1_000, 1_000, 1_000, 1_000);
        assert_eq!(seconds(&reading, 0), None, "nothing is known so far");
        reading.all_durable_at = Some(start);
        assert_eq!(seconds(&reading, 10), Some(0.0));
        assert_eq!(seconds(&reading, 60), Some(60.0), "it streams, and nobody has looked for a minute");
        reading.state = State::Stopped { code: Code::SlotMissing, message: String::new() };
        assert_eq!(seconds(&reading, 1), Some(1.0));
        assert_eq!(seconds(&reading, 3_600), Some(3_600.0));
        reading.state = State::Standby { holder: String::new() };
        assert_eq!(seconds(&reading, 1), None);
        reading.state = State::Starting;
        reading.all_durable_at = None;
        reading.last_commit_us = Some(NOW_US - 5_000_000);
        assert_eq!(seconds(&reading, 2), Some(7.0));
        reading.last_commit_us = Some(NOW_US + 5_000_000);
        assert_eq!(seconds(&reading, 2), Some(0.0), "a source whose clock is ahead");
    }

    #[test]
    fn behind_while_streaming_it_is_the_age_of_what_was_stored_last() {
        let start = Instant::now();
        let mut reading = Reading { waiting: true, ..reading(1_000, 900, 600, 500) };
        reading.last_commit_us = Some(NOW_US - 3_000_000);
        reading.all_durable_at = Some(start);
        let at = start + Duration::from_secs(10);
        assert_eq!(reading.lag(at, NOW_US).seconds, Some(3.0), "it was idle before, and catches up");
    }
}
