//! The operator's side of the listener: liveness, readiness, metrics, status, and the page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::status::Observer;

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

/// 200 while current data is served, else 503 with the reason.
async fn readyz(State(operations): State<Operations>) -> Response {
    if operations.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    let capture = operations.observer.capture();
    if capture.state == "streaming" {
        return "ok\n".into_response();
    }
    let code = capture.code.map_or_else(String::new, |code| format!(" {code}"));
    let message = capture.message.map_or_else(String::new, |message| format!(": {message}"));
    (StatusCode::SERVICE_UNAVAILABLE, format!("capture is {}{code}{message}\n", capture.state))
        .into_response()
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
