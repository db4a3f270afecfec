//! The operator's side of the listener: liveness, readiness, metrics, status, and the page.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::status::{Observer, RepairStatus, Status};

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

/// 200 while current data is served, by an instance that stands by too, else 503 with the reason. `?verbose` tells more, one
/// thing a line.
async fn readyz(State(operations): State<Operations>, uri: Uri) -> Response {
    let status = operations.observer.read();
    let (ready, mut text) = readiness(&status, operations.stop.is_cancelled());
    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "verbose")) {
        text.push_str(&details(&status));
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// A table that needs repair is served with what history has: it makes nothing unready.
fn readiness(status: &Status, stopping: bool) -> (bool, String) {
    let capture = &status.capture;
    if stopping {
        return (false, "stopping\n".to_owned());
    }
    if status.ready {
        let standby =
            capture.holder.as_ref().map_or_else(String::new, |_| format!(", {}", capture.headline()));
        return (true, format!("ok{standby}\n"));
    }
    let code = capture.code.as_ref().map_or_else(String::new, |code| format!(" {code}"));
    let message = capture.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
    (false, format!("capture is {}{code}{message}\n", capture.state))
}

fn details(status: &Status) -> String {
    let mut text = format!("capture {}, lag {} bytes\n", status.capture.headline(), status.capture.lag_bytes);
    if let Some(fix) = &status.capture.fix {
        text.push_str(&format!("fix {fix}\n"));
    }
    if let Some(slot) = &status.slot {
        text.push_str(&format!("slot {} {}\n", slot.verdict, slot.room()));
    }
    for RepairStatus { table, since_lsn, reason, .. } in &status.needs_repair {
        text.push_str(&format!("needs_repair {table} since {since_lsn}: {reason}\n"));
    }
    for RepairStatus { table, since_lsn, .. } in &status.joining {
        text.push_str(&format!("joining {table} since {since_lsn}\n"));
    }
    text
}

async fn status(State(operations): State<Operations>) -> Response {
    Json(operations.observer.read()).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    operations.observer.capture.record();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::status;

    #[test]
    fn what_is_told_beside_readiness_is_a_line_each() {
        let streaming = status("streaming", "streaming");
        assert_eq!(readiness(&streaming, false), (true, "ok\n".to_owned()));
        assert_eq!(readiness(&streaming, true), (false, "stopping\n".to_owned()));
        assert_eq!(
            details(&streaming),
            "capture streaming, lag 12 bytes\n\
             slot warning retains 7 bytes, room for 9 more: 1 h 1 min if nobody reads it, at 3 bytes/s\n\
             needs_repair public.t since 0/16B3748: rewritten\n\
             joining public.n since 0/16B3748\n"
        );
    }

    #[test]
    fn one_that_stands_by_is_ready_and_names_who_writes() {
        let mut standby = status("standby", "standby");
        standby.capture.holder = Some("the other".to_owned());
        let (ready, text) = readiness(&standby, false);
        assert_eq!((ready, text.as_str()), (true, "ok, standby: history is written by the other\n"));
    }

    #[test]
    fn a_stop_is_named_with_what_mends_it() {
        let mut stopped = status("stopped", "slot_missing");
        stopped.ready = false;
        stopped.capture.code = Some("WD-SLOT-MISSING".to_owned());
        stopped.capture.message = Some("there is no slot".to_owned());
        stopped.capture.fix = Some("waldelta recover".to_owned());
        let (ready, text) = readiness(&stopped, false);
        assert_eq!((ready, text.as_str()), (false, "capture is stopped WD-SLOT-MISSING: there is no slot\n"));
        assert!(
            details(&stopped)
                .starts_with("capture stopped (slot_missing), lag 12 bytes\nfix waldelta recover\n")
        );
    }
}
