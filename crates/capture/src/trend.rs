//! How fast the source writes WAL, and whether a slot falls behind: from the looks of the last minute. Pure: time comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use waldelta_wal::Lsn;

/// The rate is that of this long.
const WINDOW: Duration = Duration::from_secs(60);
/// Less than this tells nothing of a slot that nobody reads.
const IDLE_SPAN_MIN: Duration = Duration::from_secs(4);
/// Nor does less than this of one that is read: what it retains goes down by steps, some 15 seconds apart.
const ACTIVE_SPAN_MIN: Duration = Duration::from_secs(30);
/// Samples of the window at most, should looks ever come faster.
const SAMPLES_MAX: usize = 32;

/// What the looks of the last minute show together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trend {
    /// WAL that the source writes; `None` until the looks are far enough apart.
    pub(crate) wal_bytes_per_second: Option<u64>,
    /// Most of what is written stays with the slot.
    pub(crate) falls_behind: bool,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) wal_end: Lsn,
    /// What the slot retains.
    pub(crate) retained_bytes: u64,
}

/// The looks of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Oldest first; all within the window, except for the oldest of two.
    samples: VecDeque<Sample>,
}

impl Window {
    /// Notes a look; `active`: whether somebody reads the slot.
    pub(crate) fn note(&mut self, sample: Sample, active: bool) -> Trend {
        if self.samples.back().is_some_and(|before| sample.wal_end < before.wal_end) {
            // Another server, or another timeline: nothing is to be compared.
            self.samples.clear();
        }
        self.samples.push_back(sample);
        let is_over = |other: &Sample| sample.at.duration_since(other.at) > WINDOW;
        while self.samples.len() > SAMPLES_MAX
            || (self.samples.len() > 2 && self.samples.front().is_some_and(is_over))
        {
            self.samples.pop_front();
        }
        let Some(first) = self.samples.front() else { return Trend::default() };
        let span = sample.at.duration_since(first.at);
        let written = sample.wal_end.0 - first.wal_end.0;
        let kept = sample.retained_bytes.saturating_sub(first.retained_bytes);
        let per_second = u128::from(written) * 1_000_000 / span.as_micros().max(1);
        let span_min = if active { ACTIVE_SPAN_MIN } else { IDLE_SPAN_MIN };
        Trend {
            wal_bytes_per_second: (span >= IDLE_SPAN_MIN)
                .then(|| u64::try_from(per_second).unwrap_or(u64::MAX)),
            falls_behind: span >= span_min && kept > written / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// Looks at these seconds, with the WAL's end and what is retained; the last one's trend.
    fn looked(window: &mut Window, active: bool, looks: &[(u64, u64, u64)]) -> Trend {
        let start = *START.get_or_init(Instant::now);
        let mut trend = Trend::default();
        for (seconds, wal_end, retained_bytes) in looks.iter().copied() {
            let at = start + Duration::from_secs(seconds);
            trend = window.note(Sample { at, wal_end: Lsn(wal_end), retained_bytes }, active);
        }
        trend
    }

    static START: OnceLock<Instant> = OnceLock::new();

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let mut window = Window::default();
        let mut rate = |looks: &[_]| looked(&mut window, true, looks).wal_bytes_per_second;
        assert_eq!(rate(&[(0, 1_000, 0)]), None, "one look tells nothing");
        assert_eq!(rate(&[(3, 90_000, 0)]), None, "nor do two that are close");
        assert_eq!(rate(&[(5, 101_000, 0)]), Some(20_000));
        let quiet: Vec<_> = (2..=13).map(|look| (look * 5, 101_000, 0)).collect();
        assert_eq!(rate(&quiet), Some(0), "what was written before the window does not count");
        assert_eq!(rate(&[(70, 107_000, 0)]), Some(100));
        assert_eq!(rate(&[(1_070, 117_000, 0)]), Some(10), "after a long silence: since the look before it");
    }

    #[test]
    fn looks_that_come_fast_are_bounded() {
        let mut window = Window::default();
        let many: Vec<_> = (0..1_000).map(|second| (second / 100, second, 0)).collect();
        looked(&mut window, true, &many);
        assert_eq!(window.samples.len(), SAMPLES_MAX);
    }

    #[test]
    fn another_server_has_another_rate() {
        let mut window = Window::default();
        looked(&mut window, true, &[(0, 9_000, 0), (5, 9_500, 0)]);
        assert_eq!(looked(&mut window, true, &[(10, 500, 0)]).wal_bytes_per_second, None);
        assert_eq!(looked(&mut window, true, &[(15, 1_500, 0)]).wal_bytes_per_second, Some(200));
    }

    #[test]
    fn a_slot_falls_behind_when_most_of_what_is_written_stays() {
        let falls = |active, looks: &[_]| looked(&mut Window::default(), active, looks).falls_behind;
        assert!(falls(false, &[(0, 1_000, 100), (5, 2_000, 1_100)]), "nobody reads it");
        assert!(!falls(false, &[(0, 1_000, 100), (2, 2_000, 1_100)]), "somebody is about to");
        assert!(!falls(true, &[(0, 1_000, 100), (15, 9_000, 8_100)]), "before the first step");
        assert!(!falls(true, &[(0, 1_000, 100), (30, 9_000, 2_000)]), "it keeps up");
        assert!(falls(true, &[(0, 1_000, 100), (30, 9_000, 8_000)]), "it is too slow");
        assert!(!falls(false, &[(0, 1_000, 100), (60, 1_000, 100)]), "nothing is written");
    }
}
