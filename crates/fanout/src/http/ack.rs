//! `POST /v1/ack`: a client of HTTP says up to where it has applied what it read.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use waldelta_wal::{Code, Position};

use super::asker::Asker;
use super::problem::Problem;
use crate::error::Error;
use crate::inner::Inner;
use crate::wire::client::{After, CLIENT_ID_FORM, is_client_id, without_value};

/// Bytes of a body at most: an id and a cursor.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
struct Ack {
    client_id: String,
    cursor: String,
}

pub(super) async fn ack(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    match record(&inner, &asker, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn record(
    inner: &Inner,
    asker: &Asker,
    headers: &HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<(), Problem> {
    // A form of a web page cannot name this type, so that a browser asks beforehand.
    if !is_json(headers) {
        let detail = "the body must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::RequestInvalid, detail));
    }
    let body = body.map_err(|rejection| {
        let detail = format!("the body cannot be read; it may have {BODY_BYTES_MAX} bytes");
        Problem::new(rejection.status(), Code::RequestInvalid, detail)
    })?;
    let ack: Ack = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(
            Code::RequestInvalid,
            format!("the body cannot be read: {}", without_value(&error)),
        )
    })?;
    if !is_client_id(&ack.client_id) {
        let detail = format!("client_id must have {CLIENT_ID_FORM}");
        return Err(Problem::bad_request(Code::RequestInvalid, detail));
    }
    asker.check_client_id(&inner.audit, &ack.client_id)?;
    let cursor = position(inner, &ack.cursor).await?;
    let recorded = inner.history.record_ack(&asker.key(&ack.client_id), cursor).await;
    recorded.map_err(|error| Problem::unavailable(&Error::from(error)))
}

/// The position that is acknowledged: one that was sent, or lies before it.
async fn position(inner: &Inner, text: &str) -> Result<Position, Problem> {
    let unavailable = |error| Problem::unavailable(&Error::from(error));
    let never_sent = || Problem::bad_request(Code::CursorInvalid, "the acknowledged cursor was never sent");
    let cursor = match text.parse::<After>() {
        Ok(After::Cursor(cursor)) => cursor,
        Ok(After::Lsn(lsn)) => {
            inner.history.cursor_of_lsn(lsn).await.map_err(unavailable)?.ok_or_else(never_sent)?
        }
        Err(refusal) => return Err(Problem::bad_request(refusal.code, refusal.message)),
    };
    let extent = inner.extent(Some(cursor)).await.map_err(|error| Problem::unavailable(&error))?;
    // One of an older epoch was sent before the source went over to the next.
    let is_known = cursor.epoch == extent.head.epoch
        || extent.lineage.epochs().iter().any(|span| span.epoch == cursor.epoch);
    match is_known && cursor <= extent.head {
        true => Ok(cursor),
        false => Err(never_sent()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
