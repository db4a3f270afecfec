//! How the lines of an answer are compressed, as the client accepts it.

use std::io::{self, Write};
use std::mem;

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::{elements, etag};
use crate::snapshots::{Chunk, pack_line};

/// Bytes that are compressed before others have their turn.
const PIECE_BYTES: usize = 256 * 1024;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// The best that the client accepts (RFC 9110, section 12.5.3). Snapshots are kept in zstd: that costs nothing.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let accepts = |wanted: &str| {
            elements::of(headers, header::ACCEPT_ENCODING).any(|one| {
                let mut parts = one.split(';').map(str::trim);
                let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
                let weight = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
                is_it && weight.is_none_or(|weight| weight.is_ok_and(|weight| weight > 0.0))
            })
        };
        if accepts("zstd") {
            Coding::Zstd
        } else if accepts("gzip") || accepts("x-gzip") {
            Coding::Gzip
        } else {
            Coding::Identity
        }
    }

    /// Its name; `None`: nothing is done.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Zstd => Some("zstd"),
        }
    }

    /// The strong tag of a snapshot in this coding: other bytes have another one (RFC 9110, section 8.8.3.3).
    pub(super) fn etag(self, id: &str) -> HeaderValue {
        let tag = match self.name() {
            None => format!("\"{id}\""),
            Some(name) => format!("\"{id}-{name}\""),
        };
        // An id has digits and hyphens.
        HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
    }

    /// Whether the client says that it has this snapshot, in whatever coding.
    pub(super) fn is_known(self, id: &str, headers: &HeaderMap) -> bool {
        let all = [Coding::Identity, Coding::Gzip, Coding::Zstd].map(|coding| coding.etag(id));
        etag::is_known(headers, |tag| all.iter().any(|one| *one == tag))
    }
}

/// Turns frames into the bytes of the answer.
pub(super) enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Zstd,
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        match coding {
            Coding::Identity => Encoder::Identity,
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Zstd => Encoder::Zstd,
        }
    }

    pub(super) async fn line(&mut self, frame: &str) -> io::Result<Bytes> {
        match self {
            Encoder::Identity => Ok([frame.as_bytes(), b"\n"].concat().into()),
            Encoder::Zstd => pack_line(frame),
            Encoder::Gzip(encoder) => {
                for piece in frame.as_bytes().chunks(PIECE_BYTES) {
                    encoder.write_all(piece)?;
                    tokio::task::yield_now().await;
                }
                encoder.write_all(b"\n")?;
                // What it has is sent: a client that watches sees rows as they come.
                encoder.flush()?;
                Ok(mem::take(encoder.get_mut()).into())
            }
        }
    }

    /// The same of a frame that is kept.
    pub(super) async fn chunk(&mut self, chunk: &Chunk) -> io::Result<Bytes> {
        match self {
            Encoder::Zstd => Ok(chunk.packed()),
            Encoder::Identity | Encoder::Gzip(_) => self.line(&chunk.open().await?).await,
        }
    }

    pub(super) async fn last_line(&mut self, frame: &str) -> io::Result<Bytes> {
        let line = self.line(frame).await?;
        let Encoder::Gzip(encoder) = self else { return Ok(line) };
        encoder.try_finish()?;
        Ok([line, mem::take(encoder.get_mut()).into()].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_best_coding_is_taken_that_is_accepted() {
        for (accepted, coding) in [
            ("", Coding::Identity),
            ("br, deflate", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("gzip;q=0.5, ZSTD ; q=0.1", Coding::Zstd),
            ("zstd;q=0, gzip;q=1.0", Coding::Gzip),
            ("zstd; q=0.000,gzip;q=0", Coding::Identity),
            ("zstd;q=x", Coding::Identity),
        ] {
            assert_eq!(Coding::accepted(&headers(header::ACCEPT_ENCODING, accepted)), coding, "{accepted}");
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), Coding::Identity);
    }

    #[test]
    fn a_snapshot_that_the_client_has_is_known_in_any_coding() {
        let is_known = |tags: &str| Coding::Zstd.is_known("1-2", &headers(header::IF_NONE_MATCH, tags));
        assert!(is_known("\"1-2\"") && is_known("\"x\", W/\"1-2-gzip\"") && is_known("*"));
        assert!(!is_known("\"1-3\"") && !is_known("1-2"));
        assert_ne!(Coding::Zstd.etag("1-2"), Coding::Gzip.etag("1-2"));
    }

    #[tokio::test]
    async fn lines_come_out_as_they_went_in() {
        let large = "x".repeat(3 * PIECE_BYTES);
        for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
            let mut encoder = Encoder::new(coding);
            let mut bytes = encoder.line("{\"a\":1}").await.unwrap().to_vec();
            bytes.extend(encoder.line(&large).await.unwrap());
            bytes.extend(encoder.last_line("{}").await.unwrap());
            let mut plain = Vec::new();
            match coding {
                Coding::Identity => plain = bytes,
                Coding::Gzip => assert!(GzDecoder::new(&bytes[..]).read_to_end(&mut plain).is_ok()),
                Coding::Zstd => plain = zstd::stream::decode_all(&bytes[..]).unwrap(),
            }
            let text = String::from_utf8(plain).unwrap();
            assert!(text == format!("{{\"a\":1}}\n{large}\n{{}}\n"), "{coding:?}");
        }
    }
}
