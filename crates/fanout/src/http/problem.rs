//! Errors over HTTP: `application/problem+json` (RFC 9457) with the stable code and its fix.

use std::future::{Ready, ready};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_access::Refusal;
use waldelta_wal::{Code, Position, chain_text};

use crate::error::Error;
use crate::limits::RetryAfter;

/// A request that was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
    /// When the same request may be served, where that is known.
    retry_after: Option<Duration>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into(), retry_after: None }
    }

    /// The same, to be asked again after this time.
    pub(crate) fn after(self, time: Duration) -> Self {
        Problem { retry_after: Some(time), ..self }
    }

    /// Somebody is not let in. Nothing is told of the token, nor of what it would have been good for.
    pub(crate) fn of(refusal: Refusal) -> Self {
        let status = match refusal.is_retryable() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::UNAUTHORIZED,
        };
        let code = refusal.code();
        Self::new(status, code, code.explanation().title)
    }

    pub(crate) fn bad_request(code: Code, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Whether the same request may be served a little later.
    pub(crate) fn may_be_retried(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// What is asked for is no longer there.
    pub(crate) fn pruned(floor: Position) -> Self {
        let detail = format!("history goes back to {floor}; what was before was pruned");
        Self::new(StatusCode::GONE, Code::HistoryPruned, detail)
    }

    /// Something behind the service failed; the log has its words, which may hold values.
    pub(crate) fn unavailable(error: &Error) -> Self {
        if let Some(floor) = error.pruned() {
            return Self::pruned(floor);
        }
        let code = error.code();
        tracing::warn!(code = code.as_str(), error = chain_text(error), "a request could not be served");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.for_client())
    }
}

/// The answer to a method that a resource does not have; the router adds which it has (`Allow`).
pub(super) fn method_not_allowed() -> Ready<Problem> {
    let detail = "the resource has no such method";
    ready(Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::RequestInvalid, detail))
}

/// The answer where there is no resource, whoever asks: that tells nothing.
pub(super) fn no_resource() -> Ready<Problem> {
    ready(Problem::new(StatusCode::NOT_FOUND, Code::RequestInvalid, "there is no such resource"))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const UNKNOWN: Duration = Duration::from_secs(1);
        let retry_after = self.may_be_retried().then(|| self.retry_after.unwrap_or(UNKNOWN));
        let explanation = self.code.explanation();
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": explanation.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.as_str(),
            "fix": explanation.fix,
        });
        if let Some(time) = retry_after {
            body["retry_after_ms"] = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(time) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RetryAfter(time).seconds()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, challenge(self.code));
        }
        response
    }
}

/// RFC 6750, section 3: who has presented nothing is told no error.
fn challenge(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code {
        Code::TokenMissing => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    })
}
