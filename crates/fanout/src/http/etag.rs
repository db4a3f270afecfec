//! Answers that never change: tagged by the digest of their bytes, kept by clients for good, and not sent again to one that has
//! them.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::elements;
use crate::wire::oversize::Hex;

/// Bytes that are hashed before others have their turn.
const HASHED_AT_ONCE: usize = 1024 * 1024;
/// May be kept for a year, by the client alone, without asking again (RFC 8246).
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// The strong tag of a body.
pub(super) struct Tag(String);

impl Tag {
    pub(super) async fn of(body: &[u8]) -> Self {
        let mut digest = Sha256::new();
        for run in body.chunks(HASHED_AT_ONCE) {
            digest.update(run);
            tokio::task::yield_now().await;
        }
        Tag(format!("\"{}\"", Hex(&digest.finalize())))
    }

    /// What goes with a body that may be kept, and with the answer that it is known.
    pub(super) fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        // A tag is quoted hexadecimal digits.
        let tag = HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("\"\""));
        [(header::ETAG, tag), (header::CACHE_CONTROL, IMMUTABLE)]
    }

    /// Whether the client says that it has this body.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        is_known(headers, |tag| tag == self.0)
    }
}

/// Whether the client says that it has a body with such a tag. What is asked is whether it has changed: there a weak tag counts as
/// a strong one (RFC 9110, section 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, is_its: impl Fn(&str) -> bool) -> bool {
    let mut tags = elements::of(headers, header::IF_NONE_MATCH);
    tags.any(|tag| tag == "*" || is_its(tag.strip_prefix("W/").unwrap_or(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_the_client_has_is_not_sent() {
        let known = |tags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
            Tag("\"aa\"".to_owned()).is_known(&headers)
        };
        assert!(known("\"aa\"") && known("\"bb\", W/\"aa\"") && known("*"));
        assert!(!known("\"bb\"") && !known("aa"));
        assert!(!Tag("\"aa\"".to_owned()).is_known(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_tag_is_the_digest_of_the_body() {
        // printf abc | sha256sum
        let abc = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        assert_eq!(Tag::of(b"abc").await.0, abc);
    }
}
