//! `GET /v1/dictionaries/1`: what packed frames are unpacked with (docs/protocol.md). It holds no data and is the same for
//! everybody, so nobody is asked who they are; and what a number names never changes, so that it may be kept for good. Another
//! dictionary would have a path of its own.

use std::future::{Ready, ready};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::etag;
use crate::wire::packed::DICTIONARY;

/// By anybody, for a year, without asking again (RFC 8246).
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// The number says it all.
const TAG: &str = "\"dictionary-1\"";

pub(crate) fn dictionary(headers: HeaderMap) -> Ready<Response> {
    let kept = [(header::ETAG, TAG), (header::CACHE_CONTROL, IMMUTABLE)];
    ready(match etag::is_known(&headers, |tag| tag == TAG) {
        true => (StatusCode::NOT_MODIFIED, kept).into_response(),
        false => (kept, [(header::CONTENT_TYPE, "application/octet-stream")], DICTIONARY).into_response(),
    })
}
