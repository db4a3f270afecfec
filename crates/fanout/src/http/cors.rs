//! What web pages of other origins may read (the Fetch standard, "CORS protocol"). Which origins those are is decided before
//! anything comes here: the check of Host and Origin lets nobody else pass, see [`super::guard`].
//!
//! Pages get no credentials of the browser along: a token comes in `Authorization`, which a page sets by itself.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Methods of any resource here; what one of them lacks it refuses by itself.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
/// Headers that mean something here.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Cache-Control, Content-Type, If-None-Match, Last-Event-ID",
);
/// Headers of answers that a page may read beside those that it always may.
const EXPOSED: HeaderValue = HeaderValue::from_static("Allow, ETag, Retry-After, WWW-Authenticate");
/// Seconds for which a browser need not ask again.
const MAX_AGE_S: u64 = 600;

/// Answers a browser that asks beforehand, and tells it of every answer that the page may read it.
pub(super) async fn share(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match asks_beforehand(request.method(), request.headers()) {
        true => allowed(),
        false => next.run(request).await,
    };
    tell(origin, response.headers_mut());
    response
}

/// Tells a browser that the page may read an answer.
pub(super) fn tell(origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    // Also where there is no origin: whoever keeps the answer must not give it to a page.
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Whether a browser asks what a page of another origin may do.
pub(super) fn asks_beforehand(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn allowed() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE_S)),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
