//! The one place that knows which WebSocket library is used.

use std::future::Future;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};

/// What comes from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping or pong: it lives.
    Alive,
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
            Some(Ok(Message::Close(_)) | Err(_)) | None => Incoming::Gone,
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
            while !matches!(self.receive().await, Incoming::Gone) {}
        }
    }
}
