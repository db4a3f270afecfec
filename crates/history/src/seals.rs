//! Seals over what is stored, by which it can be told later whether history was altered: by hand, by a restore, by the disk.
//!
//! A seal says of a stretch of history how many changes there are and what their digests add up to, and has the digest of the seal
//! before it. So the newest seal's digest stands for everything that was sealed before. Seals are made beside the writer, after
//! changes are durable; an append knows nothing of them. `sealer` makes them, `verify` compares, `chain` says what a chain must
//! look like, `stretch` reads, `seal` is one of them.
//!
//! What is rewritten in the course of things is in no seal: gaps, the floor, orders to skip, epochs. Nor do seals prevent anything, and
//! whoever may write both tables can make a new chain: that is only found with a digest that was kept elsewhere.

mod chain;
mod report;
mod seal;
mod sealer;
mod stretch;
mod verify;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::report::{EpochSeals, Finding, Noted, Problem, Unsealed, Verification};
use self::seal::Seal;
pub use self::seal::{ParseSealError, SealName};
pub use self::sealer::Sealer;
use crate::{History, lock};

/// Whether this process seals, and what it sealed last.
#[derive(Default)]
pub(crate) struct Sealing {
    is_on: AtomicBool,
    newest: Mutex<Option<Sealed>>,
}

/// The newest seal, as the process that seals knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its name, to be noted elsewhere.
    pub name: SealName,
    /// The last position in it.
    pub upto: waldelta_wal::Position,
    /// When, in microseconds since 1970, by the clock of history's database.
    pub at_us: i64,
}

impl History {
    /// Whether what is stored is sealed, if this process writes history: from its next look on.
    pub fn keep_sealed(&self, is_on: bool) {
        self.inner.sealing.is_on.store(is_on, Ordering::Relaxed);
    }

    /// The newest seal, after this process has looked; `None` where it does not seal, or there is none.
    pub fn sealed(&self) -> Option<Sealed> {
        *lock(&self.inner.sealing.newest)
    }

    pub(crate) fn is_sealing(&self) -> bool {
        self.inner.sealing.is_on.load(Ordering::Relaxed)
    }

    fn set_sealed(&self, newest: &Seal) {
        let sealed = Sealed { name: newest.name(), upto: newest.upto(), at_us: newest.sealed_at_us };
        *lock(&self.inner.sealing.newest) = Some(sealed);
        crate::metrics::sealed(sealed.at_us);
    }
}
