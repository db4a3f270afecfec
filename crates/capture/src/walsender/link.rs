//! What the loop and the thread that reads the walsender tell each other without waiting: a few numbers.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use waldelta_wal::{EndLsn, Lsn};

/// What is wanted of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Go on.
    Stream,
    /// Report the durable end once more, end the streaming properly, close.
    Finish,
    /// Close at once.
    Abort,
}

/// Shared by one streaming connection and the loop behind it.
#[derive(Debug)]
pub(crate) struct Link {
    durable: AtomicU64,
    reported: AtomicU64,
    received: AtomicU64,
    /// When the append under way began, in microseconds since `made_at`, from 1 on; 0: there is none.
    append_began: AtomicU64,
    made_at: Instant,
    demand: AtomicU8,
}

impl Link {
    /// A link whose durable end is where the streaming starts.
    pub(crate) fn new(durable: EndLsn) -> Self {
        Link {
            durable: AtomicU64::new(durable.0.0),
            reported: AtomicU64::new(0),
            received: AtomicU64::new(durable.0.0),
            append_began: AtomicU64::new(0),
            made_at: Instant::now(),
            demand: AtomicU8::new(0),
        }
    }

    /// D, as the loop last told.
    pub(crate) fn durable(&self) -> EndLsn {
        EndLsn(Lsn(self.durable.load(Ordering::Acquire)))
    }

    /// Tells D. It never goes back.
    pub(crate) fn set_durable(&self, end: EndLsn) {
        self.durable.fetch_max(end.0.0, Ordering::AcqRel);
    }

    /// A: what the slot was last told.
    pub(crate) fn reported(&self) -> EndLsn {
        EndLsn(Lsn(self.reported.load(Ordering::Acquire)))
    }

    pub(super) fn set_reported(&self, end: EndLsn) {
        self.reported.store(end.0.0, Ordering::Release);
    }

    /// Up to here the loop has taken everything in.
    pub(crate) fn received(&self) -> EndLsn {
        EndLsn(Lsn(self.received.load(Ordering::Acquire)))
    }

    /// Tells up to where everything was taken in.
    pub(crate) fn set_received(&self, end: EndLsn) {
        self.received.fetch_max(end.0.0, Ordering::AcqRel);
    }

    /// For how long history is being written, so that nothing read now could be stored at once anyway; `None`: it is not.
    pub(crate) fn append_lasts(&self) -> Option<Duration> {
        let began = self.append_began.load(Ordering::Acquire);
        (began > 0).then(|| self.made_at.elapsed().saturating_sub(Duration::from_micros(began)))
    }

    /// Tells whether an append is under way. One that was is the same, until it was told that it has ended.
    pub(crate) fn set_appending(&self, appending: bool) {
        if !appending {
            return self.append_began.store(0, Ordering::Release);
        }
        let now = u64::try_from(self.made_at.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let _ = self.append_began.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// What is wanted.
    pub(crate) fn demand(&self) -> Demand {
        match self.demand.load(Ordering::Acquire) {
            0 => Demand::Stream,
            1 => Demand::Finish,
            _ => Demand::Abort,
        }
    }

    pub(super) fn set_demand(&self, demand: Demand) {
        let value = match demand {
            Demand::Stream => 0,
            Demand::Finish => 1,
            Demand::Abort => 2,
        };
        self.demand.fetch_max(value, Ordering::AcqRel);
    }
}
