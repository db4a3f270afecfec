//! The operator's side of the listener: liveness, readiness, metrics, status, and the page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::status::{Observer, RepairStatus};

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Operations {
    pub observer: Arc<Observer>,
    pub metrics: PrometheusHandle,
    /// Cancelled when the service begins to stop: no longer ready, still alive.
    pub stop: CancellationToken,
}

/// Routes of the operator's side.
pub(crate) fn router(operations: Operations) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/", get(|| async { page("text/html; charset=utf-8", include_str!("page/index.html")) }))
        .route(
            "/page.js",
            get(|| async { page("text/javascript; charset=utf-8", include_str!("page/page.js")) }),
        )
        .route("/page.css", get(|| async { page("text/css; charset=utf-8", include_str!("page/page.css")) }))
        .with_state(operations)
}

/// 200 while current data is served, else 503 with the reason. `?verbose` tells more, one thing a line.
async fn readyz(State(operations): State<Operations>, uri: Uri) -> Response {
    let (ready, mut text) = readiness(&operations);
    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "verbose")) {
        let capture = operations.observer.capture();
        text.push_str(&details(&capture.state, capture.lag_bytes, &operations.observer.needs_repair()));
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// A table that needs repair is served with what history has: it makes nothing unready.
fn readiness(operations: &Operations) -> (bool, String) {
    if operations.stop.is_cancelled() {
        return (false, "stopping\n".to_owned());
    }
    let capture = operations.observer.capture();
    if capture.state == "streaming" {
        return (true, "ok\n".to_owned());
    }
    let code = capture.code.map_or_else(String::new, |code| format!(" {code}"));
    let message = capture.message.map_or_else(String::new, |message| format!(": {message}"));
    (false, format!("capture is {}{code}{message}\n", capture.state))
}

fn details(state: &str, lag_bytes: u64, needs_repair: &[RepairStatus]) -> String {
    let mut text = format!("capture {state}, lag {lag_bytes} bytes\n");
    for RepairStatus { table, since_lsn, reason, .. } in needs_repair {
        text.push_str(&format!("needs_repair {table} since {since_lsn}: {reason}\n"));
    }
    text
}

async fn status(State(operations): State<Operations>) -> Response {
    Json(operations.observer.read().await).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let capture = operations.observer.capture();
    metrics::gauge!("waldelta_capture_lag_seconds").set(capture.lag_seconds);
    let text = operations.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A file of the page; it loads nothing from elsewhere and may be framed by nobody.
fn page(content_type: &'static str, body: &'static str) -> Response {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                  img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        body,
    )
        .into_response()
}

/// Names, units and meaning of the metrics that are made here.
pub(crate) fn describe_metrics() {
    metrics::describe_gauge!(
        "waldelta_capture_lag_seconds",
        metrics::Unit::Seconds,
        "Age of the last durable commit while there is more to come"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_beside_readiness_is_a_line_each() {
        let repair = RepairStatus {
            table: "public.t".into(),
            reason: "rewritten".into(),
            explanation: "all rows were written anew".into(),
            since_lsn: "0/16B3748".into(),
            since_seconds: 3.5,
        };
        assert_eq!(
            details("streaming", 12, &[repair]),
            "capture streaming, lag 12 bytes\nneeds_repair public.t since 0/16B3748: rewritten\n"
        );
    }
}
