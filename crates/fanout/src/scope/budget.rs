//! The bytes that all scopes together keep ready. Beyond the bound the oldest items go first, whichever scope has them: what
//! sessions have not read by then they read elsewhere. How tables look to scopes is kept apart from that, in a part of as many
//! bytes more.
//!
//! Without it memory would grow with the number of scopes, as each of them keeps what it has until its own bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use waldelta_wal::Position;

use super::Scope;

/// Bytes that noting an item costs, about.
const NOTE_BYTES: usize = 64;
/// Looks may have the bytes of frames, divided by this.
const LOOKS_SHARE: usize = 4;

/// What is kept, and in which order it came.
pub(crate) struct Budget {
    taken: AtomicUsize,
    bytes_max: usize,
    /// Items, oldest first; some of them are gone already.
    notes: Mutex<VecDeque<Note>>,
    /// Bytes of looks that may still be kept.
    looks: Arc<Semaphore>,
}

/// That a scope was given an item.
struct Note {
    scope: Weak<Scope>,
    position: Position,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let looks = Arc::new(Semaphore::new((bytes_max / LOOKS_SHARE).min(Semaphore::MAX_PERMITS)));
        Budget { taken: AtomicUsize::new(0), bytes_max, notes: Mutex::default(), looks }
    }

    /// The right to keep how a table looks; given back when it is dropped.
    pub(super) fn room_for_look(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.looks.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    pub(super) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that a scope has been given an item, and evicts what no longer fits, maybe that item too. No scope's lock may be
    /// held.
    pub(super) fn note(&self, scope: &Arc<Scope>, position: Position) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back(Note { scope: Arc::downgrade(scope), position });
        while let Some(oldest) = notes.front() {
            let scope = oldest.scope.upgrade().filter(|scope| scope.floor() < oldest.position);
            let bytes = self.taken.load(Ordering::Relaxed) + notes.len() * NOTE_BYTES;
            match scope {
                Some(_) if bytes <= self.bytes_max => break,
                Some(scope) => scope.evict(oldest.position),
                // It went by itself.
                None => {}
            }
            notes.pop_front();
        }
    }

    pub(crate) fn taken_bytes(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> (usize, usize) {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner).len();
        (self.taken.load(Ordering::Relaxed), notes)
    }
}
