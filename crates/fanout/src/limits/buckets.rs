//! Token buckets, one for each who sends: filled at a steady rate up to a burst, emptied by one with each request.
//!
//! A bucket is kept as the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371). So one that is
//! full is the same as none, and is forgotten; and other bounds hold from the next request on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Key;
use crate::policy::Limits;

/// Buckets that are not full, at most.
pub(super) const BUCKETS_MAX: usize = 65_536;

/// Fewer than these are not looked through for full ones.
const SWEEP_AT_LEAST: usize = 1_024;

/// Where there is no room, it is not looked for again before this has passed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Buckets {
    full_at: HashMap<Key, Instant>,
    /// Full buckets are forgotten when there are so many, not before this moment.
    sweep_at: usize,
    sweep_after: Option<Instant>,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets { full_at: HashMap::new(), sweep_at: SWEEP_AT_LEAST, sweep_after: None }
    }
}

impl Buckets {
    /// Takes one from a bucket, or says after which time there will be one.
    pub(super) fn take(&mut self, key: Key, now: Instant, limits: &Limits) -> Result<(), Duration> {
        let interval = Duration::from_nanos(1_000_000_000 / u64::from(limits.requests_per_second_max.max(1)));
        let burst = interval.saturating_mul(limits.requests_burst_max.max(1));
        let empty = now + burst;
        if !self.full_at.contains_key(&key) && !self.has_room(now) {
            return Err(SWEEP_INTERVAL);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        // Not later than what is empty now: the bounds may have been others.
        let next = (*full_at).clamp(now, empty) + interval;
        if next > empty {
            return Err(next - empty);
        }
        *full_at = next;
        Ok(())
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let may_sweep = self.sweep_after.is_none_or(|after| now >= after);
        if self.full_at.len() >= self.sweep_at && may_sweep {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.sweep_at = (self.full_at.len() * 2).clamp(SWEEP_AT_LEAST, BUCKETS_MAX);
            self.sweep_after = (self.full_at.len() >= BUCKETS_MAX).then(|| now + SWEEP_INTERVAL);
        }
        self.full_at.len() < BUCKETS_MAX
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.full_at.len()
    }
}
