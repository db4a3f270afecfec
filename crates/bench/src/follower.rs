//! One client over WebSocket, in this process: it says hello, and hands out what comes.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::service::Service;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A client.
pub(crate) struct Follower {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Follower {
    /// Connects; the service waits for its hello then.
    pub(crate) async fn connect(service: &Service) -> anyhow::Result<Self> {
        let (socket, _) =
            tokio_tungstenite::connect_async(service.stream_url()).await.context("connect a client")?;
        Ok(Follower { socket })
    }

    /// One of a table, from the head on, once it is live.
    pub(crate) async fn of(service: &Service, table: &str) -> anyhow::Result<Self> {
        let mut follower = Self::connect(service).await?;
        follower.hello(table, r#""snapshot":false"#).await?;
        follower.until_live(|_| ()).await?;
        Ok(follower)
    }

    /// Asks for a table, with further fields of the hello.
    pub(crate) async fn hello(&mut self, table: &str, how: &str) -> anyhow::Result<()> {
        let hello = format!(
            r#"{{"type":"hello","client_id":"bench",{how},"subscriptions":[{{"id":"s","table":"{table}"}}]}}"#
        );
        Ok(self.socket.send(Message::text(hello)).await?)
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            let message = tokio::time::timeout(ANSWER_TIMEOUT, self.socket.next()).await;
            match message.context("no frame comes")?.context("the connection has ended")?? {
                Message::Text(text) => return Ok(text),
                Message::Close(close) => anyhow::bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Hands out all frames before the one that says that the client is live.
    pub(crate) async fn until_live(&mut self, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
        loop {
            let frame = self.frame().await?;
            if frame.starts_with(r#"{"type":"live""#) {
                return Ok(());
            }
            each(&frame);
        }
    }
}
