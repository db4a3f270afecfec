//! Answers that never change: tagged by the digest of their bytes, kept by clients for good, and not sent again to one that has
//! them.
//!
//! Where somebody is answered something that others are not, the tag is also of what they may see, and they ask each time whether
//! what they kept is still theirs: a token ends, and of a browser there may be several people.

use std::hash::{Hash, Hasher};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::asker::Asker;
use super::elements;
use crate::wire::oversize::Hex;

/// Bytes that are hashed before others have their turn.
const HASHED_AT_ONCE: usize = 1024 * 1024;
/// May be kept for a year, by the client alone, without asking again (RFC 8246).
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// May be kept by the client alone, who asks each time.
const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache");

/// The strong tag of a body.
pub(super) struct Tag {
    text: String,
    is_of_somebody: bool,
}

/// What one may see, taken into a digest.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest says it.
    fn finish(&self) -> u64 {
        0
    }
}

impl Tag {
    pub(super) async fn of(body: &[u8], asker: &Asker) -> Self {
        let mut digest = Sha256::new();
        let is_of_somebody = asker.is_somebody || !asker.grant.is_everything();
        if is_of_somebody {
            let mut fingerprint = Fingerprint(digest);
            asker.grant.hash(&mut fingerprint);
            digest = fingerprint.0;
        }
        for run in body.chunks(HASHED_AT_ONCE) {
            digest.update(run);
            tokio::task::yield_now().await;
        }
        let text = format!("\"{}\"", Hex(&digest.finalize()));
        Tag { text, is_of_somebody }
    }

    /// What goes with a body that may be kept, and with the answer that it is known.
    pub(super) fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        // A tag is quoted hexadecimal digits.
        let tag = HeaderValue::from_str(&self.text).unwrap_or(HeaderValue::from_static("\"\""));
        let kept = if self.is_of_somebody { REVALIDATED } else { IMMUTABLE };
        [(header::ETAG, tag), (header::CACHE_CONTROL, kept)]
    }

    /// Whether the client says that it has this body.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        is_known(headers, |tag| tag == self.text)
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
    use crate::rules::Grant;

    fn asker(is_somebody: bool) -> Asker {
        Asker { identity: None, grant: Grant::everything(), peer: None, refusal: None, is_somebody }
    }

    #[test]
    fn a_body_that_the_client_has_is_not_sent() {
        let known = |tags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
            Tag { text: "\"aa\"".to_owned(), is_of_somebody: false }.is_known(&headers)
        };
        assert!(known("\"aa\"") && known("\"bb\", W/\"aa\"") && known("*"));
        assert!(!known("\"bb\"") && !known("aa"));
        let tag = Tag { text: "\"aa\"".to_owned(), is_of_somebody: false };
        assert!(!tag.is_known(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_tag_is_the_digest_of_the_body() {
        // printf abc | sha256sum
        let abc = "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        assert_eq!(Tag::of(b"abc", &asker(false)).await.text, abc);
    }

    #[tokio::test]
    async fn what_is_somebodys_is_not_kept_unasked() {
        let (of_all, theirs) = (Tag::of(b"abc", &asker(false)).await, Tag::of(b"abc", &asker(true)).await);
        assert_ne!(of_all.text, theirs.text);
        assert_eq!(of_all.headers()[1].1, IMMUTABLE);
        assert_eq!(theirs.headers()[1].1, REVALIDATED);
    }
}
