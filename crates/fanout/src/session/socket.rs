//! The one place that knows which WebSocket library is used.

use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use waldelta_wal::Code;

/// A client that closes may take this long to take the answer in.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What comes from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping or pong: it lives.
    Alive,
    /// What no WebSocket client may send, or more than is read. Nothing can be read after it.
    Malformed(Code),
    /// It has closed, or the connection broke.
    Gone,
}

/// The connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// A connection that carries text frames both ways. All of it may be dropped at any await point without losing a frame
/// half-way.
pub(crate) trait Socket: Send {
    fn receive(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Takes a frame over; it is on its way after [`Socket::flush`].
    fn feed(&mut self, frame: Utf8Bytes) -> impl Future<Output = Result<(), Broken>> + Send;
    fn ping(&mut self) -> impl Future<Output = Result<(), Broken>> + Send;
    fn flush(&mut self) -> impl Future<Output = Result<(), Broken>> + Send;
    /// Says why and waits for the client's answer.
    fn close(&mut self, code: u16, reason: String) -> impl Future<Output = ()> + Send;
}

impl Socket for WebSocket {
    async fn receive(&mut self) -> Incoming {
        match self.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(_))) => Incoming::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Incoming::Alive,
            Some(Err(error)) => malformed(error).map_or(Incoming::Gone, Incoming::Malformed),
            Some(Ok(Message::Close(_))) => {
                // The library has its answer ready; a client that waits for it can then close the connection.
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, SinkExt::flush(self)).await;
                Incoming::Gone
            }
            None => Incoming::Gone,
        }
    }

    async fn feed(&mut self, frame: Utf8Bytes) -> Result<(), Broken> {
        SinkExt::feed(self, Message::Text(frame)).await.map_err(|_| Broken)
    }

    async fn ping(&mut self) -> Result<(), Broken> {
        SinkExt::feed(self, Message::Ping(Bytes::new())).await.map_err(|_| Broken)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        SinkExt::flush(self).await.map_err(|_| Broken)
    }

    async fn close(&mut self, code: u16, reason: String) {
        let frame = CloseFrame { code, reason: reason.into() };
        if SinkExt::send(self, Message::Close(Some(frame))).await.is_ok() {
            // What the client still sends is skipped until its answer comes.
            while !matches!(self.receive().await, Incoming::Gone | Incoming::Malformed(_)) {}
        }
    }
}

/// What is wrong with what a client sent; `None` where its connection is.
fn malformed(error: axum::Error) -> Option<Code> {
    match error.into_inner().downcast_ref()? {
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
