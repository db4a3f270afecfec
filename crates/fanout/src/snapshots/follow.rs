//! One client's way through a snapshot, at its own pace.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use waldelta_wal::Table;

use super::chunk::Chunk;
use super::extract;
use super::places::out_of_time;
use super::tape::{At, Begun, Taken, Tape, Whole};
use crate::clock;
use crate::session::hydrate::Failure;
use crate::subscription::Selection;
use crate::wire::Utf8Bytes;

/// Who follows a snapshot. It leaves when dropped.
pub(crate) struct Follower {
    tape: Arc<Tape>,
    number: u64,
    at: At,
    grown: watch::Receiver<()>,
    until: Instant,
    /// Once it has begun, the client has so long.
    timeout: Duration,
    selection: Selection,
    /// The frame that was opened last: kept until the next one, so that others find it open.
    open: Option<Arc<Utf8Bytes>>,
}

/// What a client is told of a snapshot, in this order; `Failed` ends it at any point.
pub(crate) enum Told {
    /// With the number of the first frame that comes: not 0 where the client has some of it.
    Begun(Arc<Begun>, u64),
    Shape(Arc<Table>),
    Rows(Arc<Chunk>),
    Ended(Arc<Begun>, Arc<Whole>),
    Failed(Failure),
}

impl Told {
    /// Whether nothing comes after it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Told::Ended(..) | Told::Failed(_))
    }
}

impl Follower {
    pub(super) fn new(
        tape: Arc<Tape>,
        (number, at): (u64, At),
        selection: Selection,
        until: Instant,
        timeout: Duration,
    ) -> Self {
        let grown = tape.watch();
        Follower { tape, number, at, grown, until, timeout, selection, open: None }
    }

    /// Waits for what comes next.
    pub(crate) async fn next(&mut self) -> Told {
        loop {
            // Before it is looked: what comes after that wakes this again.
            self.grown.mark_unchanged();
            if let Some(taken) = self.tape.take(self.number, &mut self.at) {
                return self.told(taken);
            }
            tokio::select! {
                // The sender is part of the tape.
                _ = self.grown.changed() => {}
                // It has taken all that there was.
                () = tokio::time::sleep_until(self.until.into()) => return Told::Failed(out_of_time()),
            }
        }
    }

    fn told(&mut self, taken: Taken) -> Told {
        match taken {
            Taken::Begun(begun) => {
                self.until = clock::now() + self.timeout;
                self.tape.extend(self.number, self.until);
                Told::Begun(begun, self.at.next)
            }
            Taken::Shape(table) => Told::Shape(table),
            Taken::Rows(chunk) => Told::Rows(chunk),
            Taken::Whole(begun, whole) => Told::Ended(begun, whole),
            Taken::Failed(failure) => Told::Failed(extract::named(failure, &self.selection)),
        }
    }

    /// The frame of a chunk.
    pub(crate) async fn open(&mut self, chunk: &Chunk) -> io::Result<Utf8Bytes> {
        let frame = chunk.open().await?;
        self.open = Some(frame.clone());
        Ok(Utf8Bytes::clone(&frame))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tape.leave(self.number);
    }
}
