//! Errors over HTTP: `application/problem+json` (RFC 9457) with the stable code and its fix.

use std::future::{Ready, ready};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::Code;

use crate::error::Error;

/// A request that was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Problem { status, code, detail: detail.into() }
    }

    pub(crate) fn bad_request(code: Code, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Whether the same request may be served a little later.
    pub(crate) fn may_be_retried(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }

    /// Something behind the service failed; the log has its words, which may hold values.
    pub(crate) fn unavailable(error: &Error) -> Self {
        let code = error.code();
        tracing::warn!(
            code = code.as_str(),
            error = error as &dyn std::error::Error,
            "a request could not be served"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.for_client())
    }
}

/// The answer to a method that a resource does not have; the router adds which it has (`Allow`).
pub(super) fn method_not_allowed() -> Ready<Problem> {
    let detail = "the resource has no such method";
    ready(Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::RequestInvalid, detail))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const RETRY_AFTER_S: u64 = 1;
        let may_retry = self.may_be_retried();
        let explanation = self.code.explanation();
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": explanation.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code.as_str(),
            "fix": explanation.fix,
        });
        if may_retry {
            body["retry_after_ms"] = (RETRY_AFTER_S * 1_000).into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if may_retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}
