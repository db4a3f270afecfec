//! A client without a library: it sends what bytes it likes, and thousands of it need little memory.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::PATIENCE;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;
pub(crate) const FIN: u8 = 0x80;
pub(crate) const MASKED: u8 = 0x80;

/// A connection that has been upgraded, or was not.
pub(crate) struct Raw {
    pub stream: BufReader<TcpStream>,
    /// What the service answered to the request, in lower case.
    pub answer: String,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Came {
    Frame(Value),
    Closed(u16, String),
}

impl Raw {
    /// Connects, with these lines more in the request.
    pub(crate) async fn connect(address: SocketAddr, headers: &str) -> io::Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut stream = BufReader::with_capacity(4 * 1024, stream);
            let request = format!(
                "GET /v1/stream HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: raw\r\n{headers}\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await?);
            }
            Ok(Raw { stream, answer: String::from_utf8(answer).unwrap().to_ascii_lowercase() })
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("an answer comes")
    }

    /// When to come back, of one that was not upgraded.
    pub(crate) fn retry_after_s(&self) -> u64 {
        let header = self.answer.lines().find_map(|line| line.strip_prefix("retry-after: "));
        header.unwrap_or_else(|| panic!("no Retry-After in {}", self.answer)).parse().unwrap()
    }

    /// Sends one frame: the first byte is flags and opcode.
    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.stream.write_all(&frame(first, MASKED, payload)).await.unwrap();
    }

    /// Sends a text.
    pub(crate) async fn say(&mut self, frame: &Value) -> io::Result<()> {
        self.stream.write_all(&self::frame(FIN | TEXT, MASKED, frame.to_string().as_bytes())).await
    }

    /// The next frame: first byte and payload. What the service sends is not masked.
    pub(crate) async fn next_frame(&mut self) -> (u8, Vec<u8>) {
        tokio::time::timeout(PATIENCE, self.read_frame()).await.expect("a frame comes").unwrap()
    }

    pub(crate) async fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await?;
        let length = match self.stream.read_u8().await? {
            126 => usize::from(self.stream.read_u16().await?),
            127 => usize::try_from(self.stream.read_u64().await?).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok((first, payload))
    }

    /// The next text or the end, for as long as it takes; pings are answered meanwhile.
    pub(crate) async fn next(&mut self) -> io::Result<Came> {
        loop {
            let (first, payload) = self.read_frame().await?;
            match first {
                first if first == FIN | TEXT => return Ok(Came::Frame(serde_json::from_slice(&payload)?)),
                first if first == FIN | PING => {
                    self.stream.write_all(&frame(FIN | PONG, MASKED, &payload)).await?
                }
                first if first == FIN | CLOSE => {
                    let (code, reason) = payload.split_at(2);
                    let code = u16::from_be_bytes([code[0], code[1]]);
                    return Ok(Came::Closed(code, String::from_utf8_lossy(reason).into_owned()));
                }
                _ => panic!("a frame of kind {first:#x}"),
            }
        }
    }

    /// Reads until a frame of this type, which it returns; what comes before it is dropped.
    pub(crate) async fn next_of_type(&mut self, kind: &str) -> Value {
        let reading = async {
            loop {
                match self.next().await.unwrap() {
                    Came::Frame(frame) if frame["type"] == kind => return frame,
                    Came::Frame(_) => {}
                    Came::Closed(code, reason) => panic!("closed with {code} {reason} before {kind}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {kind} comes"))
    }

    /// Code and reason with which it is closed; what comes before it is skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let reading = async {
            loop {
                if let Came::Closed(code, reason) = self.next().await.unwrap() {
                    return (code, reason);
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it is closed")
    }
}

/// A frame as it travels: with a mask, as a client's has to be, or without.
pub(crate) fn frame(first: u8, masked: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 77, 177, 27];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(masked | u8::try_from(length).unwrap()),
        length => {
            frame.push(masked | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    match masked {
        0 => frame.extend(payload),
        _ => {
            frame.extend(MASK);
            frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}
