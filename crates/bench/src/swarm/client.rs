//! One client of thousands: a socket, a buffer that grows with the largest frame, and a few lines of RFC 6455.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Tally;

/// Before it connects again after the connection has ended.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1024;
/// How the frames begin that count.
const TRANSACTION: &[u8] = br#"{"type":"tx""#;
const LIVE: &[u8] = br#"{"type":"live""#;
const FIN_TEXT: u8 = 0x81;
const FIN_CLOSE: u8 = 0x88;
const FIN_PING: u8 = 0x89;
/// A pong without payload, and the mask that every frame of a client has.
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];

/// Stays connected until it is dropped.
pub(super) async fn run(address: SocketAddr, hello: String, tally: Arc<Tally>, connecting: Arc<Semaphore>) {
    let mut was_live = false;
    loop {
        if let Err(why) = connection(address, &hello, &tally, &connecting, &mut was_live).await {
            *tally.why() = why.to_string();
        }
        tally.lost.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn connection(
    address: SocketAddr,
    hello: &str,
    tally: &Tally,
    connecting: &Semaphore,
    was_live: &mut bool,
) -> anyhow::Result<()> {
    let permit = connecting.acquire().await?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::new();
    let head = loop {
        anyhow::ensure!(read(&mut stream, &mut buffer).await? > 0, "no answer");
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    anyhow::ensure!(buffer.starts_with(b"HTTP/1.1 101"), "refused");
    buffer.drain(..head);
    stream.write_all(&text(hello.as_bytes())).await?;
    drop(permit);
    loop {
        let mut taken = 0;
        while let Some((first, from, to)) = frame(&buffer[taken..]) {
            let payload = &buffer[taken + from..taken + to];
            match first {
                FIN_TEXT => {
                    // Who falls behind says it again, and so does who comes back.
                    if note(payload, tally) && !std::mem::replace(was_live, true) {
                        tally.live.add();
                    }
                }
                FIN_PING => stream.write_all(&PONG).await?,
                FIN_CLOSE => anyhow::bail!("closed: {}", String::from_utf8_lossy(payload)),
                other => anyhow::bail!("a frame of kind {other:#x}"),
            }
            taken += to;
        }
        buffer.drain(..taken);
        if buffer.is_empty() {
            buffer.shrink_to(READ_BYTES);
        }
        anyhow::ensure!(read(&mut stream, &mut buffer).await? > 0, "the connection has ended");
        tally.reads.fetch_add(1, Ordering::Relaxed);
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<usize> {
    stream.readable().await?;
    buffer.reserve(READ_BYTES);
    stream.read_buf(buffer).await.context("read")
}

/// Counts a frame; whether it says that the client is live.
fn note(payload: &[u8], tally: &Tally) -> bool {
    if payload.starts_with(TRANSACTION) {
        tally.bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
        tally.transactions.add();
        return false;
    }
    payload.starts_with(LIVE)
}

/// First byte of the first frame, and where its payload is; `None` while it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, length) = (*bytes.first()?, *bytes.get(1)?);
    let (from, length) = match length {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let to = from + usize::try_from(length).ok()?;
    (bytes.len() >= to).then_some((first, from, to))
}

/// A text frame; the mask is one that changes nothing.
fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN_TEXT];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        // A hello is never as long.
        Err(_) => frame.push(0x80),
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_when_they_are_whole() {
        let mut bytes = vec![FIN_TEXT, 126, 1, 0];
        bytes.extend([b'x'; 256]);
        assert_eq!(frame(&bytes[..259]), None);
        assert_eq!(frame(&bytes), Some((FIN_TEXT, 4, 260)));
        assert_eq!(frame(&[FIN_PING, 0, 9]), Some((FIN_PING, 2, 2)));
        assert_eq!(text(&[b'y'; 200])[..4], [FIN_TEXT, 0x80 | 126, 0, 200]);
    }
}
