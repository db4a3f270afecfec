//! The least that a WebSocket server does, as a reference: `waldelta-bench bare raw` and `… bare tungstenite`, one thread each.
//!
//! Both answer a client's first frame with one that says that it is live. The raw one has no WebSocket behind the handshake: it
//! writes bytes that are ready to all of its sockets, one after the other. The other one is tokio-tungstenite with small buffers, a task for
//! each socket, which waits for what the client says.

mod handle;

pub(crate) use self::handle::Bare;

use std::net::SocketAddr;

use clap::ValueEnum;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::report::line;
use crate::swarm::raise_file_limit;

const BUFFER_BYTES: usize = 4 * 1024;
/// Connections that wait for their turn; who finds no place tries again a second later, which is not what is measured.
const WAITING_MAX: u32 = 4_096;
const LIVE: &str = r#"{"type":"live","cursor":"00000001-0000000000000001-ffffffff"}"#;
/// How a frame begins that the clients count.
const TRANSACTION: &str = r#"{"type":"tx","pad":""#;
const KEY: &str = "Sec-WebSocket-Key: ";

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Sockets and bytes
    Raw,
    /// The library, with buffers of 4 KiB
    Tungstenite,
}

/// Says where it listens, and serves until its standard input ends.
pub(crate) async fn run(kind: Kind) -> anyhow::Result<()> {
    raise_file_limit();
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(WAITING_MAX)?;
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut clients = JoinSet::new();
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut ready = Vec::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                match kind {
                    Kind::Raw => clients.spawn(greet(stream)),
                    Kind::Tungstenite => clients.spawn(serve(stream)),
                };
            }
            Some(ended) = clients.join_next() => {
                // Who goes away before that is not counted as live by the clients, who say so.
                sockets.extend(ended.ok().and_then(anyhow::Result::ok).flatten());
            }
            command = commands.next_line() => match command? {
                Some(command) => line(&answer(&command, &listener, &mut sockets, &mut ready).await?),
                None => return Ok(()),
            },
        }
    }
}

/// `where`; `ready <frames> <bytes>`: makes what is written from then on, and says to how many; `write`: writes it to all sockets.
async fn answer(
    command: &str,
    listener: &TcpListener,
    sockets: &mut [TcpStream],
    ready: &mut Vec<u8>,
) -> anyhow::Result<String> {
    match *command.split(' ').collect::<Vec<_>>() {
        ["where"] => Ok(listener.local_addr()?.to_string()),
        ["ready", frames, bytes] => {
            let payload = bytes.parse::<usize>()?.saturating_sub(TRANSACTION.len() + 2);
            *ready = frame(&format!("{TRANSACTION}{}\"}}", "x".repeat(payload))).repeat(frames.parse()?);
            Ok(sockets.len().to_string())
        }
        ["write"] => {
            for socket in sockets.iter_mut() {
                socket.write_all(ready).await?;
            }
            Ok("written".to_owned())
        }
        _ => anyhow::bail!("no command {command}"),
    }
}

/// The handshake by hand, and the answer to what comes then.
async fn greet(mut stream: TcpStream) -> anyhow::Result<Option<TcpStream>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(stream.read_buf(&mut request).await? > 0, "it has gone");
    }
    let request = String::from_utf8(request)?;
    let key = request.lines().find_map(|line| line.strip_prefix(KEY)).unwrap_or_default();
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(accepted.as_bytes()).await?;
    let mut hello = [0; 1024];
    anyhow::ensure!(stream.read(&mut hello).await? > 0, "it has gone");
    stream.write_all(&frame(LIVE)).await?;
    Ok(Some(stream))
}

/// The same by the library, until the client goes.
async fn serve(stream: TcpStream) -> anyhow::Result<Option<TcpStream>> {
    let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let mut socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::text(LIVE)).await?;
        }
    }
    Ok(None)
}

/// A text frame, without mask as a server's are.
fn frame(payload: &str) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![0x81];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..126), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn lengths_are_written_as_the_rfc_says() {
        assert_eq!(frame("ab"), [0x81, 2, b'a', b'b']);
        assert_eq!(frame(&"x".repeat(126))[..4], [0x81, 126, 0, 126]);
        assert_eq!(frame(&"x".repeat(1 << 16))[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}
