//! `POST /v1/tickets`: a ticket for a URL, where a client cannot set headers. It is good once, for a short while.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::Code;

use super::asker::Asker;
use super::problem::Problem;
use crate::inner::Inner;

pub(super) const PATH: &str = "/v1/tickets";
/// Bytes of a body at most: there is nothing to say yet.
pub(super) const BODY_BYTES_MAX: usize = 1024;

pub(super) async fn issue(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match ticket(&inner, &asker, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn ticket(
    inner: &Inner,
    asker: &Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| {
        let detail = format!("the body cannot be read; it may have {BODY_BYTES_MAX} bytes");
        Problem::new(rejection.status(), Code::RequestInvalid, detail)
    })?;
    let is_empty = body.trim_ascii().is_empty();
    let is_object = || {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body)
            .is_ok_and(|it| it.is_empty())
    };
    if !is_empty && !is_object() {
        return Err(Problem::bad_request(Code::RequestInvalid, "the body must be empty, or `{}`"));
    }
    let Some(identity) = &asker.identity else {
        let detail = "nobody has to authenticate here: there are no tickets, and none are needed";
        return Err(Problem::new(StatusCode::NOT_FOUND, Code::RequestInvalid, detail));
    };
    let ticket = inner.access.issue(identity).await.map_err(Problem::of)?;
    let expires_in_ms = u64::try_from(ticket.expires_in.as_millis()).unwrap_or(u64::MAX);
    let body = serde_json::json!({"ticket": ticket.text, "expires_in_ms": expires_in_ms});
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers, body.to_string()).into_response())
}
