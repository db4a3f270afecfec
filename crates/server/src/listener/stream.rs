//! A connection's bytes, encrypted or not, together with its place among the open ones: that is given back when the bytes are,
//! also where a WebSocket has taken them over.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::gate::Place;

/// Plain, or encrypted.
pub(super) type Bytes = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection.
pub(super) struct Stream {
    bytes: Bytes,
    _place: Place,
}

impl Stream {
    pub(super) fn new(bytes: Bytes, place: Place) -> Self {
        Stream { bytes, _place: place }
    }

    fn bytes(self: Pin<&mut Self>) -> Pin<&mut Bytes> {
        Pin::new(&mut self.get_mut().bytes)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.bytes().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.bytes().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.bytes().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.bytes().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.bytes().poll_shutdown(context)
    }
}
