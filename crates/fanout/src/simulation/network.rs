//! A connection without sockets: bytes take their time, come in pieces and wait in a bounded buffer; it breaks with a word or
//! without one.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use waldelta_testkit::Dice;

use crate::lock::lock;

/// What a connection is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// How long bytes are under way at least, and at most, in milliseconds.
    pub delay_ms: (u64, u64),
    /// Bytes under way, and waiting to be read, at most.
    pub buffer_bytes: usize,
    /// A write takes so many bytes at most, and a read gives as many.
    pub piece_bytes: usize,
}

/// Bytes on their way to one side.
struct Way {
    /// Each with when it arrives.
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    conditions: Conditions,
    dice: Dice,
    /// What comes later does not overtake.
    last_arrival: Instant,
    /// Nothing more is written.
    has_ended: bool,
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// One side's end of a connection.
pub(super) struct End {
    reads: Arc<Mutex<Way>>,
    writes: Arc<Mutex<Way>>,
    timer: Pin<Box<Sleep>>,
    /// Cancelled when this end is dropped.
    gone: CancellationToken,
    /// The other side does not learn that this one has gone.
    vanishes: bool,
}

/// The connection seen from outside.
pub(super) struct Link {
    ways: [Arc<Mutex<Way>>; 2],
    /// The service has let go of its end.
    pub let_go: CancellationToken,
}

/// A connection: the service's end, and the client's.
pub(super) fn connect(conditions: Conditions, dice: &mut Dice) -> (End, End, Link) {
    let ways = [(); 2].map(|()| {
        Arc::new(Mutex::new(Way {
            pieces: VecDeque::new(),
            bytes: 0,
            conditions,
            dice: Dice::of(dice.roll(u64::MAX), "a way"),
            last_arrival: Instant::now(),
            has_ended: false,
            is_broken: false,
            reader: None,
            writer: None,
        }))
    });
    let end = |reads: usize| End {
        reads: ways[reads].clone(),
        writes: ways[1 - reads].clone(),
        timer: Box::pin(tokio::time::sleep_until(Instant::now())),
        gone: CancellationToken::new(),
        vanishes: false,
    };
    let (service, client) = (end(0), end(1));
    let link = Link { let_go: service.gone.clone(), ways };
    (service, client, link)
}

impl Link {
    /// The connection breaks: both sides learn it at once.
    pub(super) fn cut(&self) {
        for way in &self.ways {
            let mut way = lock(way);
            way.is_broken = true;
            way.wake();
        }
    }
}

impl End {
    /// The other side is to hear nothing of it when this end is dropped.
    pub(super) fn vanish(&mut self) {
        self.vanishes = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.gone.cancel();
        if self.vanishes {
            return;
        }
        let mut writes = lock(&self.writes);
        writes.has_ended = true;
        writes.wake();
        drop(writes);
        let mut reads = lock(&self.reads);
        reads.is_broken = true;
        reads.wake();
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let reads = self.reads.clone();
        let mut way = lock(&reads);
        if way.is_broken {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let now = Instant::now();
        let Some((arrives, piece)) = way.pieces.front_mut() else {
            if way.has_ended {
                return Poll::Ready(Ok(()));
            }
            way.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        if *arrives > now {
            let arrives = *arrives;
            way.reader = Some(context.waker().clone());
            self.timer.as_mut().reset(arrives);
            // It may have passed meanwhile only where time is real.
            let _ = self.timer.as_mut().poll(context);
            return Poll::Pending;
        }
        let count = piece.len().min(buffer.remaining());
        buffer.put_slice(&piece.split_to(count));
        if piece.is_empty() {
            way.pieces.pop_front();
        }
        way.bytes -= count;
        if let Some(writer) = way.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let mut way = lock(&self.writes);
        if way.is_broken || way.has_ended {
            return Poll::Ready(Err(Error::from(ErrorKind::BrokenPipe)));
        }
        let Conditions { delay_ms, buffer_bytes, piece_bytes } = way.conditions;
        let room = buffer_bytes.saturating_sub(way.bytes);
        if room == 0 {
            way.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let most = 1 + way.dice.index(piece_bytes);
        let most = most.min(room);
        let mut piece = Vec::with_capacity(most);
        for slice in slices {
            piece.extend_from_slice(&slice[..slice.len().min(most - piece.len())]);
        }
        let count = piece.len();
        let arrives = Instant::now() + way.dice.ms(delay_ms.0, delay_ms.1);
        way.last_arrival = way.last_arrival.max(arrives);
        let arrives = way.last_arrival;
        way.bytes += count;
        way.pieces.push_back((arrives, piece.into()));
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        let mut way = lock(&self.writes);
        way.has_ended = true;
        way.wake();
        Poll::Ready(Ok(()))
    }
}
