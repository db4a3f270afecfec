//! Writing frames to a socket: in runs, each bounded in time, so that a client is measured by what it takes in and not by how
//! much there is.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::poll;

use super::socket::{Broken, Socket};
use crate::wire::Utf8Bytes;

/// Bytes written without a flush.
const RUN_BYTES_MAX: usize = 64 * 1024;

/// What waits to be written.
pub(crate) enum Outgoing {
    Frame(Utf8Bytes),
    Packed(Bytes),
    Ping,
}

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        match self {
            Outgoing::Frame(frame) => frame.len(),
            Outgoing::Packed(packed) => packed.len(),
            Outgoing::Ping => 0,
        }
    }
}

/// Why frames were not written.
pub(crate) enum Unwritten {
    Broken,
    TimedOut,
}

impl From<Broken> for Unwritten {
    fn from(Broken: Broken) -> Self {
        Unwritten::Broken
    }
}

/// Writes frames in runs that each have the whole `timeout`: a client that takes them in slowly does take them in. Tells in
/// `had_to_wait` whether it was waited for.
pub(crate) async fn write_all<S: Socket>(
    socket: &mut S,
    outbox: Vec<Outgoing>,
    timeout: Duration,
    had_to_wait: &mut bool,
) -> Result<(), Unwritten> {
    let mut outbox = outbox.into_iter();
    loop {
        {
            let mut run = pin!(write_run(socket, &mut outbox));
            // Most need no timer.
            if let Poll::Ready(written) = poll!(run.as_mut()) {
                written?;
            } else {
                *had_to_wait = true;
                match tokio::time::timeout(timeout, run).await {
                    Ok(written) => written?,
                    Err(_elapsed) => return Err(Unwritten::TimedOut),
                }
            }
        }
        if outbox.len() == 0 {
            return Ok(());
        }
    }
}

async fn write_run<S: Socket>(
    socket: &mut S,
    outbox: &mut std::vec::IntoIter<Outgoing>,
) -> Result<(), Broken> {
    let mut unflushed = 0;
    while unflushed < RUN_BYTES_MAX
        && let Some(outgoing) = outbox.next()
    {
        unflushed += outgoing.len();
        match outgoing {
            Outgoing::Frame(frame) => socket.feed(frame),
            Outgoing::Packed(packed) => socket.feed_packed(packed),
            Outgoing::Ping => socket.ping(),
        }
    }
    socket.flush().await
}
