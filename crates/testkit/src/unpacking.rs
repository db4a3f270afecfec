//! Frames that come packed (docs/protocol.md), made into text again: for a client that offers `waldelta.v1.zstd`. The dictionary is
//! fetched from where `welcome` says it is.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Frames that came packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedFrames {
    /// How many.
    pub count: usize,
    /// Bytes of them as they came.
    pub packed_bytes: usize,
    /// Bytes of their texts.
    pub plain_bytes: usize,
}

/// What a connection unpacks with.
#[derive(Debug)]
pub(crate) struct Unpacking {
    authority: String,
    dictionary: Option<Vec<u8>>,
    pub seen: PackedFrames,
}

impl Unpacking {
    pub(crate) fn new(authority: String) -> Self {
        Unpacking { authority, dictionary: None, seen: PackedFrames::default() }
    }

    /// Looks at a text frame: it may name the dictionary.
    pub(crate) async fn look_at(&mut self, text: &str) {
        if !text.starts_with(r#"{"type":"welcome""#) {
            return;
        }
        let welcome: Value = serde_json::from_str(text).unwrap();
        if let Some(url) = welcome["dictionary"]["url"].as_str() {
            let fetched = timeout(FETCH_TIMEOUT, fetch(&self.authority, url)).await;
            self.dictionary = Some(fetched.expect("a dictionary in time"));
        }
    }

    /// The text of a packed frame: of one zstd frame, or of several that follow each other.
    pub(crate) fn unpack(&mut self, packed: &[u8]) -> String {
        let dictionary = self.dictionary.as_deref().expect("`welcome` has named a dictionary");
        let mut text = String::new();
        zstd::stream::Decoder::with_dictionary(packed, dictionary)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        let PackedFrames { count, packed_bytes, plain_bytes } = self.seen;
        self.seen = PackedFrames {
            count: count + 1,
            packed_bytes: packed_bytes + packed.len(),
            plain_bytes: plain_bytes + text.len(),
        };
        text
    }
}

async fn fetch(authority: &str, path: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(authority).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the head of an answer");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.split(' ').nth(1) == Some("200"), "{path}: {head}");
    answer.split_off(end + 4)
}
