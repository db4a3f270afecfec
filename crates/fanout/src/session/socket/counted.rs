//! How many bytes a client sends for one message. The library counts what a message holds, and not the headers of its fragments, of
//! which there may be any number that hold nothing: it would read them for ever. Everything that is written passes as it is.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the longest header of a frame, with the mask.
const HEADER_BYTES_MAX: usize = 14;

/// A connection of which no more is read for one message than it may have.
pub(super) struct Counted<C> {
    connection: C,
    message_bytes_max: usize,
    left: usize,
}

impl<C> Counted<C> {
    /// `message_bytes_max`: of one message with the headers of its fragments, and of what is read ahead of the next.
    pub(super) fn new(connection: C, message_bytes_max: usize) -> Self {
        Counted { connection, message_bytes_max, left: message_bytes_max }
    }

    /// A message is whole, and the next one begins.
    pub(super) fn next_message(&mut self) {
        self.left = self.message_bytes_max;
    }

    /// What was read last is no part of a message, which may go on.
    pub(super) fn passed_control_frame(&mut self, payload_bytes: usize) {
        self.left = (self.left + payload_bytes + HEADER_BYTES_MAX).min(self.message_bytes_max);
    }

    /// A message has had all the bytes that it may have.
    pub(super) fn is_used_up(&self) -> bool {
        self.left == 0
    }

    /// The connection, of which nothing is counted.
    pub(super) fn uncounted(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.is_used_up() {
            return Poll::Ready(Err(Error::new(ErrorKind::FileTooLarge, "a message without end")));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(context, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
