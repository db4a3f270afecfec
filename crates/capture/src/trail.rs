//! Where the source's WAL ended, and when: so that of any place in it can be said how long the source has been past it. Pure: time
//! comes in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use waldelta_wal::Lsn;

/// Marks that are kept: of more, every other one is forgotten, the two ends stay.
const MARKS_MAX: usize = 512;
/// Marks are not closer together than this.
const INTERVAL: Duration = Duration::from_millis(100);

/// The ends that the source told, oldest first, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    marks: VecDeque<(Lsn, Instant)>,
}

impl Trail {
    /// The source's WAL ended here at this moment.
    pub(crate) fn note(&mut self, end: Lsn, at: Instant) {
        match self.marks.back() {
            // Another server, or another timeline: nothing is to be compared.
            Some((last, _)) if end < *last => self.marks.clear(),
            Some((last, _)) if end == *last => return,
            Some((_, noted_at)) if at.duration_since(*noted_at) < INTERVAL => return,
            _ => {}
        }
        self.marks.push_back((end, at));
        if self.marks.len() > MARKS_MAX {
            let mut place = 0;
            let last = self.marks.len() - 1;
            self.marks.retain(|_| {
                place += 1;
                place == 1 || place > last || place % 2 == 0
            });
        }
    }

    /// Forgets what everybody is past.
    pub(crate) fn forget_until(&mut self, place: Lsn) {
        while self.marks.len() > 1 && self.marks[1].0 <= place {
            self.marks.pop_front();
        }
    }

    /// How long the source has been past this place, as far as is known: zero where it is not.
    pub(crate) fn since(&self, place: Lsn, now: Instant) -> Duration {
        let past = self.marks.partition_point(|(end, _)| *end <= place);
        self.marks.get(past).map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_as_old_as_the_first_end_beyond_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trail = Trail::default();
        assert_eq!(trail.since(Lsn(0), start), Duration::ZERO, "nothing is known");
        for seconds in 0..10 {
            trail.note(Lsn(100 * (seconds + 1)), at(seconds));
        }
        let now = at(9);
        for (place, seconds) in [(0, 9), (99, 9), (100, 8), (550, 4), (999, 0), (1_000, 0), (2_000, 0)] {
            assert_eq!(trail.since(Lsn(place), now), Duration::from_secs(seconds), "{place}");
        }
        trail.note(Lsn(1_001), now + INTERVAL / 2);
        assert_eq!(trail.marks.len(), 10, "too close to the one before");
        trail.forget_until(Lsn(550));
        assert_eq!((trail.marks[0], trail.marks.len()), ((Lsn(500), at(4)), 6));
        assert_eq!(trail.since(Lsn(550), now), Duration::from_secs(4), "what is asked for is still known");
        trail.note(Lsn(7), at(20));
        assert_eq!(trail.since(Lsn(0), at(21)), Duration::from_secs(1), "another server");
    }

    #[test]
    fn there_are_never_more_than_so_many_and_the_oldest_stays() {
        let start = Instant::now();
        let mut trail = Trail::default();
        for n in 0..10_000u64 {
            trail.note(Lsn(n + 1), start + Duration::from_secs(n));
            assert!(trail.marks.len() <= MARKS_MAX + 1);
        }
        let now = start + Duration::from_secs(9_999);
        assert_eq!(trail.since(Lsn(0), now), Duration::from_secs(9_999));
        assert_eq!(trail.since(Lsn(9_999), now), Duration::ZERO);
        assert!(trail.marks.iter().is_sorted());
    }
}
