//! A streaming connection as the loop holds it: blocks of messages out, the durable end in, and its end. What the
//! thread behind it does is in `reader`.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use waldelta_wal::EndLsn;

use super::connection::CopyBoth;
use super::error::Error;
use super::link::{Demand, Link};
use super::reader::{FINISH_TIME_MAX, READ_WAIT, READ_WAIT_IDLE, Reader};
use super::socket::Closer;

/// Blocks between the thread and the loop; each holds what one read gave, 256 KiB at most unless one message is longer.
const BLOCKS_MAX: usize = 32;

/// How long things may take on a streaming connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The durable end is reported at least this often.
    pub(crate) report_interval: Duration,
    /// A walsender that is silent for longer is dead.
    pub(crate) silence_max: Duration,
    /// The socket is unread for longer than this only while history takes in bytes.
    pub(crate) stall_max: Duration,
}

impl Timing {
    /// Derives the bounds from the server's `wal_sender_timeout` (`None`: it never gives up).
    pub(crate) fn new(
        feedback_interval: Duration,
        wal_sender_timeout: Option<Duration>,
        stall_timeout: Duration,
    ) -> Self {
        const SILENCE_MAX_DEFAULT: Duration = Duration::from_secs(120);
        let report_interval = match wal_sender_timeout {
            Some(timeout) => feedback_interval.min(timeout / 4),
            None => feedback_interval,
        };
        Timing {
            report_interval: report_interval.max(READ_WAIT),
            silence_max: wal_sender_timeout.map_or(SILENCE_MAX_DEFAULT, |timeout| timeout * 2),
            // The loop closes a stalled connection itself after the plain timeout; this is the net below it.
            stall_max: stall_timeout + stall_timeout / 2,
        }
    }
}

/// The loop's end of a streaming connection. Dropping it cuts the connection off.
pub(crate) struct Streaming {
    blocks: mpsc::Receiver<Bytes>,
    link: Arc<Link>,
    closer: Closer,
    thread: Thread,
    ended: oneshot::Receiver<Result<(), Error>>,
}

impl Streaming {
    /// Starts the thread. `progress` counts bytes that history has accepted.
    pub(crate) fn start(
        copy: CopyBoth,
        timing: Timing,
        durable: EndLsn,
        progress: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let closer = copy.socket.closer().map_err(Error::Thread)?;
        let link = Arc::new(Link::new(durable));
        let (blocks_in, blocks) = mpsc::channel(BLOCKS_MAX);
        let (ended_in, ended) = oneshot::channel();
        let reader = Reader::new(copy, timing, link.clone(), blocks_in, progress);
        let thread = thread::Builder::new()
            .name("walsender".into())
            .spawn(move || {
                // Nobody listens for the end once the loop has dropped its side.
                let _ = ended_in.send(reader.run());
            })
            .map_err(Error::Thread)?;
        Ok(Streaming { blocks, link, closer, thread: thread.thread().clone(), ended })
    }

    /// What both sides tell each other.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The next block of whole messages; `None` when the connection has ended. Loses nothing when dropped.
    pub(crate) async fn receive(&mut self) -> Option<Bytes> {
        let block = self.blocks.recv().await;
        self.thread.unpark();
        block
    }

    /// Why the connection ended, once [`Self::receive`] gave `None`.
    pub(crate) async fn outcome(&mut self) -> Result<(), Error> {
        let died = || Error::Thread(std::io::Error::other("it panicked"));
        (&mut self.ended).await.unwrap_or_else(|_| Err(died()))
    }

    /// Cuts the connection off at once.
    pub(crate) fn cut(&self) {
        self.link.set_demand(Demand::Abort);
        self.closer.close();
        self.thread.unpark();
    }

    /// Reports the durable end once more and ends the streaming properly.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        self.link.set_demand(Demand::Finish);
        self.thread.unpark();
        let limit = FINISH_TIME_MAX + READ_WAIT_IDLE * 2;
        match tokio::time::timeout(limit, self.outcome()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Io { what: "end the streaming", source: ErrorKind::TimedOut.into() }),
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.cut();
    }
}
