//! How long routing goes on before others have their turn, measured by what it has done and by no clock.
//!
//! To find out whom a transaction concerns, and to make its frames, computes: for seconds, where ten thousand filters have to be
//! evaluated on each of a thousand rows. Whoever shares the worker would wait for all of it. So everything that is done is told
//! to a pace, in bytes: what is no handling of bytes counts as so many of them as would take about as long.

/// Bytes between two turns: they take a fraction of a millisecond.
const TURN_BYTES: usize = 256 * 1024;

/// What looking at a change counts as.
pub(crate) const CHANGE_BYTES: usize = 64;
/// What evaluating a filter counts as, beside the bytes of its text and of the row.
pub(crate) const EVALUATION_BYTES: usize = 256;
/// What noting a scope counts as.
pub(crate) const MARK_BYTES: usize = 64;

/// What was done since the last turn.
pub(crate) struct Pace {
    turn_bytes: usize,
    done_bytes: usize,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Pace::of(TURN_BYTES)
    }

    /// Others have their turn after so many bytes.
    pub(crate) fn of(turn_bytes: usize) -> Self {
        Pace { turn_bytes, done_bytes: 0 }
    }

    /// So much was done: lets others have their turn if it is time for that.
    pub(crate) async fn did(&mut self, bytes: usize) {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        if self.done_bytes >= self.turn_bytes {
            self.done_bytes = 0;
            tokio::task::yield_now().await;
        }
    }
}
