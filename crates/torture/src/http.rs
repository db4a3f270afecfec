//! A request that may fail, because the process behind it is being tortured.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// `GET` of a path: status and body; `None` where there was no whole head of an answer. It asks with HTTP/1.0, so that the answer ends
/// with the connection, also where it was cut off.
pub(crate) async fn get_as(
    token: &str,
    address: &str,
    path: &str,
    patience: Duration,
) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await.ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    };
    timeout(patience, exchange).await.ok()?
}
