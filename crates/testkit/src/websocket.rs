//! A real WebSocket client of `GET /v1/stream`.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::replica::Replica;
use crate::unpacking::{PackedFrames, Unpacking};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Frames kept for the message of a failure, and how much of each.
const RECENT_MAX: usize = 12;
const RECENT_BYTES_MAX: usize = 600;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The subprotocols offered, with commas between; `None`: none.
    pub subprotocol: Option<String>,
    /// More headers, such as `Origin`.
    pub headers: Vec<(String, String)>,
    /// Size of the kernel's receive buffer in bytes, for clients that must be slow soon; `None`: the system's.
    pub receive_buffer_bytes: Option<u32>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let subprotocol = Some("waldelta.v1.json".to_owned());
        ConnectOptions { subprotocol, headers: Vec::new(), receive_buffer_bytes: None }
    }
}

/// What came from the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame, or the text of one that came packed.
    Text(String),
    /// The connection was closed, with this code (1006: without one) and reason.
    Closed {
        /// Close code.
        code: u16,
        /// Close reason.
        reason: String,
    },
}

/// A connection. It reads only when it is asked to, so that a client that never reads is one whose methods nobody calls.
#[derive(Debug)]
pub struct WsClient {
    socket: WebSocketStream<TcpStream>,
    unpacking: Unpacking,
    recent: VecDeque<String>,
}

impl WsClient {
    /// Connects to a URL such as `ws://127.0.0.1:7654/v1/stream`.
    pub async fn connect(url: &str) -> Self {
        let connected = Self::try_connect(url, &ConnectOptions::default()).await;
        connected.unwrap_or_else(|error| panic!("connect to {url}: {error}"))
    }

    /// Connects, and gives back what the service answered instead of an upgrade.
    pub async fn try_connect(url: &str, options: &ConnectOptions) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        let subprotocol = options.subprotocol.iter().map(|value| ("sec-websocket-protocol", value.as_str()));
        let others = options.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in subprotocol.chain(others) {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let authority = request.uri().authority().unwrap().to_string();
        let connecting = async {
            let address = lookup_host(&authority).await?.next().unwrap();
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(bytes) = options.receive_buffer_bytes {
                socket.set_recv_buffer_size(bytes)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            tokio_tungstenite::client_async(request, stream).await
        };
        let (socket, _) = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| panic!("connect to {url}: no answer"))?;
        Ok(WsClient { socket, unpacking: Unpacking::new(authority), recent: VecDeque::new() })
    }

    /// The frames that came packed.
    pub fn packed(&self) -> PackedFrames {
        self.unpacking.seen
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends one frame, and says whether that could be done: who is killed meanwhile does not hear it.
    pub async fn try_send(&mut self, frame: &Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).await.is_ok()
    }

    /// Sends a text as it is, also one that is not a frame.
    pub async fn send_text(&mut self, text: &str) {
        let sent = self.socket.send(Message::text(text)).await;
        sent.unwrap_or_else(|error| panic!("send {text}: {error}; {}", self.recently()));
    }

    /// The next frame. Panics when none comes in time; pings are answered meanwhile.
    pub async fn next_frame(&mut self, patience: Duration) -> Frame {
        self.frame_until(Instant::now() + patience).await.unwrap_or_else(|| {
            panic!("no frame in {patience:?}; {}", self.recently());
        })
    }

    /// The next frame, or `None` when none came in time.
    pub async fn frame_within(&mut self, patience: Duration) -> Option<Frame> {
        self.frame_until(Instant::now() + patience).await
    }

    /// The next frame as JSON. Panics when the connection is closed instead.
    pub async fn next_json(&mut self, patience: Duration) -> Value {
        match self.next_frame(patience).await {
            Frame::Text(text) => {
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
            }
            closed @ Frame::Closed { .. } => panic!("{closed:?}; {}", self.recently()),
        }
    }

    /// Reads until a frame of this type, which it returns; what comes before it is dropped.
    pub async fn next_of_type(&mut self, kind: &str, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let frame = self.next_json(deadline.saturating_duration_since(Instant::now())).await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Reads until the service closes the connection, and gives code and reason.
    pub async fn closed(&mut self, patience: Duration) -> (u16, String) {
        let deadline = Instant::now() + patience;
        loop {
            if let Frame::Closed { code, reason } =
                self.next_frame(deadline.saturating_duration_since(Instant::now())).await
            {
                return (code, reason);
            }
        }
    }

    /// Applies frames to a copy until `condition` holds for it. Panics with `what` when it does not hold in time, when
    /// the service breaks the protocol, and when it closes the connection.
    pub async fn follow(
        &mut self,
        replica: &mut Replica,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut(&Replica) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        while !condition(replica) {
            let frame = self.frame_until(deadline).await;
            match frame {
                Some(Frame::Text(text)) => {
                    if let Err(violation) = replica.apply(&text) {
                        panic!("the protocol is broken: {}; {}", violation.0, self.recently());
                    }
                    // Clients of one test may share a task: who is behind must not keep the others from saying hello.
                    tokio::task::yield_now().await;
                }
                Some(closed @ Frame::Closed { .. }) => {
                    panic!("{closed:?} before {what}; {}", self.recently())
                }
                None => panic!(
                    "waited {patience:?} in vain until {what}, at {:?}; {}",
                    replica.position(),
                    self.recently()
                ),
            }
        }
    }

    /// Closes in an orderly way.
    pub async fn close(mut self) {
        // Who has closed already need not hear it.
        let _ = timeout(CONNECT_TIMEOUT, self.socket.close(None)).await;
    }

    async fn frame_until(&mut self, deadline: Instant) -> Option<Frame> {
        loop {
            let frame = match timeout_at(deadline, self.socket.next()).await.ok()? {
                Some(Ok(Message::Text(text))) => {
                    self.unpacking.look_at(&text).await;
                    Frame::Text(text.as_str().to_owned())
                }
                Some(Ok(Message::Binary(packed))) => Frame::Text(self.unpacking.unpack(&packed)),
                Some(Ok(Message::Close(close))) => {
                    let (code, reason) = close
                        .map_or((1006, String::new()), |c| (c.code.into(), c.reason.as_str().to_owned()));
                    Frame::Closed { code, reason }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("not a frame: {other:?}; {}", self.recently()),
                Some(Err(error)) => Frame::Closed { code: 1006, reason: error.to_string() },
                None => Frame::Closed { code: 1006, reason: String::new() },
            };
            self.remember(&frame);
            return Some(frame);
        }
    }

    fn remember(&mut self, frame: &Frame) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let mut text = match frame {
            Frame::Text(text) => text.clone(),
            closed @ Frame::Closed { .. } => format!("{closed:?}"),
        };
        if text.len() > RECENT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(RECENT_BYTES_MAX));
            text.push('…');
        }
        self.recent.push_back(text);
    }

    fn recently(&self) -> String {
        let frames: Vec<&str> = self.recent.iter().map(String::as_str).collect();
        format!("last frames:\n{}", frames.join("\n"))
    }
}
