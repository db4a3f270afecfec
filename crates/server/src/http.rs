//! The operator's side: liveness, readiness, metrics, status, and the page. Of a process that serves no clients it is all there is.
//! Which of it is on which listener, and for whom, says `service::surfaces`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use waldelta_wal::Code;

use crate::clients;
use crate::page;
use crate::role::Role;
use crate::status::{Observer, RepairStatus, Status};

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Operations {
    pub observer: Arc<Observer>,
    pub metrics: PrometheusHandle,
    /// Cancelled when the service begins to stop: no longer ready, still alive.
    pub leaving: CancellationToken,
}

/// What is for operators: all that says how the service is. Of a process that serves no clients, who asks for their routes is told
/// that these are elsewhere.
pub(crate) fn operators(operations: Operations) -> Router {
    operators_routes(operations.observer.role.serves()).with_state(operations)
}

/// Whether the process lives and is ready. `in_full`: everybody is told why it is not, which may name databases and their troubles;
/// else only who asks for more than that, see `waldelta_fanout::operators_only`.
pub(crate) fn probes(operations: Operations, in_full: bool) -> Router {
    probe_routes(in_full).with_state(operations)
}

fn probe_routes(in_full: bool) -> Router<Operations> {
    let readyz = async move |operations, uri| readyz(operations, uri, in_full);
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz))
}

fn operators_routes(serves_clients: bool) -> Router<Operations> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/recent", get(recent))
        .merge(page::router());
    match serves_clients {
        true => routes
            .route("/v1/clients", get(clients::clients))
            .route("/v1/sessions/{session}/disconnect", post(disconnect)),
        false => routes.route("/v1/{*path}", any(|| async { no_clients() })),
    }
}

/// The answer to who asks for what is only there where clients are served.
pub(crate) fn no_clients() -> Response {
    let code = Code::NotServedHere;
    problem(StatusCode::NOT_FOUND, code, code.explanation().cause)
}

/// An error as `application/problem+json` (RFC 9457).
pub(crate) fn problem(status: StatusCode, code: Code, detail: &str) -> Response {
    let explanation = code.explanation();
    let body = serde_json::json!({
        "type": "about:blank",
        "title": explanation.title,
        "status": status.as_u16(),
        "detail": detail,
        "code": code.as_str(),
        "fix": explanation.fix,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

/// 200 while clients are served as this process's role has it, else 503 with the reason: one that captures with current data,
/// one that stands by too; one that only serves them with what is durable, whoever writes it. Who follows what another writes, and
/// cannot, is not ready. Before history is open `service::opening` answers. `?verbose` tells more, one thing a line.
fn readyz(State(operations): State<Operations>, uri: Uri, in_full: bool) -> Response {
    let status = operations.observer.read();
    let (ready, mut text) = readiness(&status, operations.leaving.is_cancelled());
    if uri.query().is_some_and(|query| query.split('&').any(|part| part == "verbose")) {
        text.push_str(&details(&status));
    } else if !in_full {
        text = if ready { "ok\n" } else { "not ready\n" }.to_owned();
    }
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// A table that needs repair is served with what history has: it makes nothing unready.
pub(crate) fn readiness(status: &Status, stopping: bool) -> (bool, String) {
    if stopping {
        return (false, "stopping\n".to_owned());
    }
    let role = match status.role {
        Role::All => String::new(),
        role => format!(", {}", role.as_str()),
    };
    let told = |code: &Option<String>| code.as_ref().map_or_else(String::new, |code| format!(" {code}"));
    match (&status.capture, &status.writer) {
        (Some(capture), _) if status.ready => {
            let standby =
                capture.holder.as_ref().map_or_else(String::new, |_| format!(", {}", capture.headline()));
            (true, format!("ok{role}{standby}\n"))
        }
        (Some(capture), _) => {
            let message = capture.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
            (false, format!("capture is {}{}{message}\n", capture.state, told(&capture.code)))
        }
        (None, Some(writer)) if status.ready => {
            (true, format!("ok{role}:{} {}\n", told(&writer.code), writer.headline()))
        }
        (None, Some(writer)) => {
            (false, format!("nothing to serve:{} {}\n", told(&writer.code), writer.headline()))
        }
        (None, None) => (false, "this process says nothing of itself\n".to_owned()),
    }
}

fn details(status: &Status) -> String {
    let mut text = format!("role {}\n", status.role.as_str());
    if let Some(capture) = &status.capture {
        text.push_str(&format!("capture {}, lag {} bytes\n", capture.headline(), capture.lag_bytes));
    }
    if let Some(unmoved) = status.writer.as_ref().and_then(|writer| writer.unmoved_seconds) {
        text.push_str(&format!("durable up to {}, since {unmoved:.0} s\n", status.history.head));
    }
    let capture_fix = status.capture.as_ref().and_then(|capture| capture.fix.as_ref());
    if let Some(fix) = capture_fix.or_else(|| status.writer.as_ref()?.fix.as_ref()) {
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
    Json(operations.observer.read_in_full()).into_response()
}

/// What some numbers were over the last hour.
async fn recent(State(operations): State<Operations>) -> Response {
    Json(operations.observer.recent.read()).into_response()
}

/// Lets a client go: it is told to come back, as on a stop.
async fn disconnect(State(operations): State<Operations>, Path(session): Path<String>) -> Response {
    let Some(fanout) = &operations.observer.fanout else { return no_clients() };
    if !fanout.dismiss(&session) {
        return problem(
            StatusCode::NOT_FOUND,
            Code::SessionNotFound,
            "there is no such session on this process",
        );
    }
    tracing::info!(session, "an operator has let a session go");
    Json(serde_json::json!({"session": session})).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    operations.observer.record();
    let text = operations.metrics.render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A file of a page; it loads nothing from elsewhere and may be framed by nobody.
pub(crate) fn file(content_type: &'static str, body: &'static str) -> Response {
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
    use crate::status::tests::{status, writer};

    /// The page is for people, and no part of the contract.
    #[test]
    fn every_route_is_described() {
        let described: serde_json::Value = serde_json::from_str(waldelta_fanout::openapi_text()).unwrap();
        let known = described["paths"].as_object().unwrap();
        let routes = format!("{:?}", probe_routes(true).merge(operators_routes(true)));
        let is_own = |text: &&str| text.starts_with('/') && !text.contains("__private");
        let paths: Vec<&str> = routes.split('"').filter(is_own).collect();
        assert!(
            paths.contains(&"/livez") && paths.contains(&"/v1/status"),
            "routes are printed with their paths: {routes}"
        );
        for path in paths {
            let for_people = path == "/" || path.starts_with("/page/");
            assert!(for_people || known.contains_key(path), "{path} is not in docs/openapi.json");
        }
    }

    #[test]
    fn what_is_told_beside_readiness_is_a_line_each() {
        let streaming = status("streaming", "streaming");
        assert_eq!(readiness(&streaming, false), (true, "ok\n".to_owned()));
        assert_eq!(readiness(&streaming, true), (false, "stopping\n".to_owned()));
        assert_eq!(
            details(&streaming),
            "role all\n\
             capture streaming, lag 12 bytes\n\
             slot warning retains 7 bytes, room for 9 more: 1 h 1 min if nobody reads it, at 3 bytes/s\n\
             needs_repair public.t since 0/16B3748: rewritten\n\
             joining public.n since 0/16B3748\n"
        );
    }

    #[test]
    fn one_that_stands_by_is_ready_and_names_who_writes() {
        let mut standby = status("standby", "standby");
        standby.capture.as_mut().unwrap().holder = Some("the other".to_owned());
        let (ready, text) = readiness(&standby, false);
        assert_eq!((ready, text.as_str()), (true, "ok, standby: history is written by the other\n"));
        standby.role = Role::Capture;
        let (_, text) = readiness(&standby, false);
        assert_eq!(text, "ok, capture, standby: history is written by the other\n");
    }

    #[test]
    fn one_that_only_serves_is_ready_with_what_is_durable_and_says_whether_more_comes() {
        let mut status = status("streaming", "streaming");
        (status.role, status.capture) = (Role::Fanout, None);
        let mut writer = writer("writing", Some("the other"));
        status.writer = Some(writer.clone());
        assert_eq!(
            readiness(&status, false),
            (true, "ok, fanout: history is written by the other\n".to_owned())
        );
        writer.state = "absent".to_owned();
        (writer.code, writer.message) = (Some("WD-HISTORY-UNWRITTEN".to_owned()), Some("nobody".to_owned()));
        writer.fix = Some("start one".to_owned());
        status.writer = Some(writer.clone());
        assert_eq!(readiness(&status, false), (true, "ok, fanout: WD-HISTORY-UNWRITTEN nobody\n".to_owned()));
        assert!(details(&status).starts_with("role fanout\ndurable up to h, since 2 s\nfix start one\n"));
        (status.ready, writer.state) = (false, "not_begun".to_owned());
        status.writer = Some(writer);
        assert_eq!(
            readiness(&status, false),
            (false, "nothing to serve: WD-HISTORY-UNWRITTEN nobody\n".to_owned())
        );
    }

    #[test]
    fn a_stop_is_named_with_what_mends_it() {
        let mut stopped = status("stopped", "slot_missing");
        stopped.ready = false;
        let capture = stopped.capture.as_mut().unwrap();
        capture.code = Some("WD-SLOT-MISSING".to_owned());
        capture.message = Some("there is no slot".to_owned());
        capture.fix = Some("waldelta recover".to_owned());
        let (ready, text) = readiness(&stopped, false);
        assert_eq!((ready, text.as_str()), (false, "capture is stopped WD-SLOT-MISSING: there is no slot\n"));
        assert!(
            details(&stopped).starts_with(
                "role all\ncapture stopped (slot_missing), lag 12 bytes\nfix waldelta recover\n"
            )
        );
    }
}
