//! The one place that knows which WebSocket library is used. It reads what a client sends, answers pings and closes; our own
//! frames go past it, because it would copy each into a buffer of the connection that stays as large as the largest.

mod counted;
mod unsent;

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use waldelta_wal::Code;

use self::counted::Counted;
use self::unsent::Unsent;
use crate::wire::Utf8Bytes;

/// A client that closes may take this long to take the answer in.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Clients send little: what is read at once. tungstenite reserves it for each connection, 128 KiB by default.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Pongs that a client has not taken in; with more of them on their way only its last ping is answered.
const ANSWERS_BYTES_MAX: usize = 4 * 1024;
/// A message may come in fragments of some bytes each: so many times what it holds is read of it at most, headers and all.
const FRAGMENTS: usize = 2;
/// More is not read of a client that was told why its connection ends, and sends on.
const LAST_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Headers and payloads that are written at once: of a frame or two, and of more.
const FEW_SLICES: usize = 4;
const SLICES_MAX: usize = 128;

/// What comes from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping, which is answered, or a pong: it lives.
    Alive,
    /// What no WebSocket client may send, or more than is read. Nothing can be read after it.
    Malformed(Code),
    /// It has closed, or the connection broke.
    Gone,
}

/// The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A connection that carries text frames both ways, and packed ones to the client. All of it may be dropped at any await point without losing a frame
/// half-way.
pub(crate) trait Socket: Send {
    /// Whoever waited for it is woken when there is something, also after it was dropped.
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Takes a frame over; it is on its way after [`Socket::flush`].
    fn feed(&mut self, frame: Utf8Bytes);
    /// The same with a frame in its smaller form.
    fn feed_packed(&mut self, packed: Bytes);
    fn ping(&mut self);
    /// Takes back what was fed and of which nothing is written yet.
    fn retract(&mut self);
    fn flush(&mut self) -> impl Future<Output = Result<(), Broken>> + Send;
    /// Says why and waits for the client's answer.
    fn close(&mut self, code: u16, reason: String) -> impl Future<Output = ()> + Send;
}

/// A WebSocket over these bytes, on the server's side.
pub(crate) struct WebSocket<C> {
    stream: WebSocketStream<Counted<C>>,
    unsent: Unsent,
    /// What comes can no longer be told apart.
    is_malformed: bool,
}

impl<C: AsyncRead + AsyncWrite + Unpin> WebSocket<C> {
    /// `message_bytes_max`: the most that is read of one message.
    pub(crate) async fn over(connection: C, message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(ANSWERS_BYTES_MAX)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let counted =
            Counted::new(connection, message_bytes_max.saturating_mul(FRAGMENTS) + READ_BUFFER_BYTES);
        let stream = WebSocketStream::from_raw_socket(counted, Role::Server, Some(config)).await;
        WebSocket { stream, unsent: Unsent::default(), is_malformed: false }
    }

    /// Reads what the client still sends, and drops it: a connection that is closed with something unread is reset, and takes with
    /// it what the client was told (RFC 6455, section 7.1.1).
    async fn drain(&mut self) {
        let connection = self.stream.get_mut().uncounted();
        if connection.shutdown().await.is_ok() {
            let mut nowhere = tokio::io::sink();
            let _ = tokio::io::copy(&mut connection.take(LAST_BYTES_MAX), &mut nowhere).await;
        }
    }

    /// What is wrong with what a client sent; `None` where its connection is.
    fn malformed(&self, error: &Error) -> Option<Code> {
        match error {
            _ if self.stream.get_ref().is_used_up() => Some(Code::FrameTooLarge),
            Error::Capacity(_) => Some(Code::FrameTooLarge),
            Error::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::SendAfterClosing
                | ProtocolError::ReceivedAfterClosing,
            ) => None,
            Error::Protocol(_) | Error::Utf8(_) => Some(Code::FrameInvalid),
            _ => None,
        }
    }

    /// Writes what is left. What the library has to say goes before it: it says nothing but in answer to what it reads, and
    /// nothing is read while there is something left, so that nothing comes between the bytes of a frame.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(|_| Broken)?;
        while !self.unsent.is_empty() {
            // To clear room for many costs as much as a tenth of the writing.
            ready!(match self.unsent.are_few() {
                true => self.poll_write::<FEW_SLICES>(context),
                false => self.poll_write::<SLICES_MAX>(context),
            })?;
        }
        Pin::new(self.stream.get_mut()).poll_flush(context).map_err(|_| Broken)
    }

    fn poll_write<const SLICES: usize>(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = self.unsent.fill(&mut slices);
        let connection = Pin::new(self.stream.get_mut());
        match ready!(connection.poll_write_vectored(context, &slices[..filled])) {
            Ok(0) | Err(_) => Poll::Ready(Err(Broken)),
            Ok(count) => {
                self.unsent.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin> Socket for WebSocket<C> {
    async fn receive(&mut self) -> Incoming {
        if !self.unsent.is_empty() && self.flush().await.is_err() {
            return Incoming::Gone;
        }
        let message = self.stream.next().await;
        let counted = self.stream.get_mut();
        match &message {
            Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                counted.passed_control_frame(payload.len());
            }
            Some(Ok(_)) => counted.next_message(),
            Some(Err(_)) | None => {}
        }
        match message {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Alive,
            Some(Err(error)) => match self.malformed(&error) {
                Some(code) => {
                    self.is_malformed = true;
                    Incoming::Malformed(code)
                }
                None => Incoming::Gone,
            },
            Some(Ok(Message::Close(_))) => {
                // The library has its answer ready; a client that waits for it can then close the connection.
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, self.stream.flush()).await;
                Incoming::Gone
            }
            None => Incoming::Gone,
        }
    }

    fn feed(&mut self, frame: Utf8Bytes) {
        self.unsent.push_text(frame.into());
    }

    fn feed_packed(&mut self, packed: Bytes) {
        self.unsent.push_binary(packed);
    }

    fn ping(&mut self) {
        self.unsent.push_ping();
    }

    fn retract(&mut self) {
        self.unsent.retract();
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        poll_fn(|context| self.poll_send(context)).await
    }

    async fn close(&mut self, code: u16, reason: String) {
        if self.flush().await.is_err() {
            return;
        }
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        if self.stream.send(Message::Close(Some(frame))).await.is_ok() {
            // What the client still sends is skipped until its answer comes.
            while !matches!(self.receive().await, Incoming::Gone | Incoming::Malformed(_)) {}
        }
        if self.is_malformed {
            self.drain().await;
        }
    }
}
