//! A client of an HTTP answer that does not end: read line by line, or event by event.
//!
//! It asks with HTTP/1.0, so that the answer comes as it is and ends with the connection.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the head of an answer may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer that is being read.
#[derive(Debug)]
pub struct HttpStream {
    socket: BufReader<TcpStream>,
    status: u16,
    head: String,
    comments: Vec<String>,
    retry_ms: Option<u64>,
}

/// An event of `text/event-stream`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where the stream goes on behind it, if it says so.
    pub id: Option<String>,
    /// Its type.
    pub kind: String,
    /// Its data, which is JSON.
    pub data: Value,
}

impl HttpStream {
    /// Asks a server at `address` (host and port) and reads the head of its answer. `headers` end with line breaks each.
    pub async fn get(address: &str, path: &str, headers: &str) -> Self {
        Self::request(address, "GET", path, headers, "").await
    }

    /// The same with any method and body.
    pub async fn request(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let head =
            format!("{method} {path} HTTP/1.0\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(HEAD_TIMEOUT, socket.read_line(&mut head)).await;
            assert_ne!(read.expect("an answer in time").unwrap(), 0, "no answer but {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        HttpStream { socket, status, head: head.to_ascii_lowercase(), comments: Vec::new(), retry_ms: None }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of a header, all of it in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    /// The rest of the answer.
    pub async fn body(mut self, patience: Duration) -> String {
        let mut body = String::new();
        let read = timeout(patience, self.socket.read_to_string(&mut body)).await;
        read.expect("the end of an answer in time").unwrap();
        body
    }

    /// The next line; `None` at the end.
    pub async fn line(&mut self, patience: Duration) -> Option<String> {
        let mut line = String::new();
        let read = timeout(patience, self.socket.read_line(&mut line)).await;
        // A service that is killed resets the connection.
        let read = read.unwrap_or_else(|_| panic!("no line in {patience:?}")).unwrap_or(0);
        (read > 0).then(|| line.trim_end_matches('\n').to_owned())
    }

    /// The next line as JSON.
    pub async fn json(&mut self, patience: Duration) -> Option<Value> {
        let line = self.line(patience).await?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next event; `None` at the end. One that is cut off is none, as the standard says.
    pub async fn event(&mut self, patience: Duration) -> Option<Event> {
        let (mut id, mut kind, mut data) = (None, String::from("message"), String::new());
        loop {
            let line = self.line(patience).await?;
            if line.is_empty() {
                if data.is_empty() {
                    continue;
                }
                let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
                return Some(Event { id, kind, data });
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments.push(value.to_owned()),
                "id" => id = Some(value.to_owned()),
                "event" => value.clone_into(&mut kind),
                "data" => data.push_str(value),
                "retry" => self.retry_ms = Some(value.parse().unwrap()),
                _ => panic!("an unknown field: {line}"),
            }
        }
    }

    /// The comments that came between events.
    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    /// When to come back, as the service said last.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }
}
