//! A client that says hello and never reads. The service has to let it go once it has not taken anything in for as long as the
//! configuration says; what was on its way by then is a few buffers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use waldelta_testkit::Dice;
use waldelta_wal::Position;

use super::Shared;
use crate::access::Who;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PEEK_INTERVAL: Duration = Duration::from_millis(200);
/// Something is on its way to it by then, if there is anything.
const BEGIN_PATIENCE: Duration = Duration::from_secs(40);
/// `write_timeout_ms`, and for how long the process may be frozen, with room for both to happen more than once.
const LET_GO_PATIENCE: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const RECEIVE_BUFFER_BYTES: u32 = 16 << 10;
/// More than fits into all buffers between the two.
const BUFFERED_BYTES_MAX: usize = 1 << 20;

/// Comes again and again, until the task is ended.
pub(super) async fn run(shared: Arc<Shared>, mut dice: Dice, start: Position) {
    loop {
        // What broke off says nothing.
        _ = come(&shared, &mut dice, start).await;
        sleep(dice.ms(500, 3000)).await;
    }
}

async fn come(shared: &Shared, dice: &mut Dice, start: Position) -> Option<()> {
    let number = shared.stage.fleet.any_serving(dice);
    let after = dice.once_in(2).then(|| start.to_string());
    let hello = json!({"type": "hello", "client_id": "deaf", "after": after,
        "subscriptions": [{"id": "all", "table": "*"}], "token": shared.stage.tokens.of(Who::Everything)});
    let mut stream = timeout(CONNECT_TIMEOUT, upgraded(shared.stage.fleet.address(number))).await.ok()??;
    stream.write_all(&frame(&hello.to_string())?).await.ok()?;
    let deadline = Instant::now() + BEGIN_PATIENCE;
    let mut some = [0; RECEIVE_BUFFER_BYTES as usize / 4];
    while timeout(PEEK_INTERVAL, stream.peek(&mut some)).await.map_or(0, Result::unwrap_or_default)
        < some.len()
    {
        if Instant::now() > deadline {
            return None;
        }
        sleep(PEEK_INTERVAL).await;
    }
    sleep(LET_GO_PATIENCE).await;
    let mut bytes = 0;
    while let Ok(Ok(read)) = timeout(READ_TIMEOUT, stream.read(&mut some)).await {
        if read == 0 {
            break;
        }
        bytes += read;
        assert!(
            bytes < BUFFERED_BYTES_MAX,
            "I15: a client that has not read for {LET_GO_PATIENCE:?} was not let go"
        );
    }
    Some(())
}

/// A connection that speaks WebSocket from here on, of which nothing has been read but the head of the answer.
async fn upgraded(address: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).ok()?;
    let mut stream = socket.connect(address.parse().ok()?).await.ok()?;
    let request = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: waldelta.v1.json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    head.starts_with(b"HTTP/1.1 101").then_some(stream)
}

/// A text frame, masked as RFC 6455 asks it of clients; by zeros, which leave it as it is.
fn frame(text: &str) -> Option<Vec<u8>> {
    const TEXT_AND_LAST: u8 = 0x81;
    const MASKED_WITH_TWO_BYTES_OF_LENGTH: u8 = 0xfe;
    let mut frame = vec![TEXT_AND_LAST, MASKED_WITH_TWO_BYTES_OF_LENGTH];
    frame.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    Some(frame)
}
