//! Writing frames to a socket: in runs, each bounded in time, so that a client is measured by what it takes in and not by how
//! much there is.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

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

/// Writes frames in runs that each have the whole `timeout`: a client that takes them in slowly does take them in.
pub(crate) async fn write_all<S: Socket>(
    socket: &mut S,
    outbox: Vec<Outgoing>,
    timeout: Duration,
) -> Result<(), Unwritten> {
    let mut outbox = outbox.into_iter();
    loop {
        let run = tokio::time::timeout(timeout, write_run(socket, &mut outbox)).await;
        match run {
            Ok(written) => written?,
            Err(_elapsed) => return Err(Unwritten::TimedOut),
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

/// Tells beside the result whether the future had to wait for it.
pub(crate) async fn waiting<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = std::pin::pin!(future);
    let mut waited = false;
    let output = std::future::poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        waited |= polled.is_pending();
        polled
    });
    let output = output.await;
    (output, waited)
}
