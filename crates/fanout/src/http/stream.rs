//! `GET /v1/stream`: from an HTTP request to a session.

use std::future::Future;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::Code;

use super::asker::Asker;
use super::problem::Problem;
use super::upgrade::{Connection, Upgrade};
use crate::closing::Closing;
use crate::inner::{Inner, Listed};
use crate::session::actor;
use crate::session::socket::WebSocket;
use crate::wire::Subprotocol;

/// A frame that is a little too large is still read, so that the client can be told; a much larger one is not.
const TOLD_TOO_LARGE: usize = 4;
/// Characters of what a program calls itself that are kept.
const USER_AGENT_CHARS_MAX: usize = 120;

pub(crate) async fn stream(
    State(inner): State<Arc<Inner>>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    if inner.closing.is_cancelled() {
        return refusal(&inner, StatusCode::SERVICE_UNAVAILABLE, Code::Stopping);
    }
    let spoken = upgrade.spoken();
    let admitted = match (spoken, asker.refusal) {
        (None, _) => Err(Closing::SubprotocolUnknown),
        (Some(_), Some(refusal)) => Err(Closing::of_refusal(refusal)),
        (Some(_), None) => inner.admit(asker.peer.map(|peer| peer.address), asker.identity.as_deref()),
    };
    let subprotocol = spoken.unwrap_or_default();
    match admitted {
        Ok(place) => {
            let user_agent = user_agent(&headers);
            upgraded(inner, upgrade, subprotocol, move |inner, socket| async move {
                let number = inner.number();
                let listed = Listed::new(inner.clone(), number, place, subprotocol.name(), user_agent);
                actor::run(inner, socket, listed, asker.identity, subprotocol).await;
            })
        }
        Err(closing) => {
            inner.metrics.refused.increment(1);
            if let Some(code) = closing.code() {
                inner.audit.refused(asker.who(), code);
            }
            // Browsers show a page the reason of a close, and nothing of an answer that is no upgrade. Not so where a page offered
            // subprotocols and none of them is ours: to them such an upgrade is a failure, and the page sees 1006.
            let Some(permit) = inner.refuse() else {
                let status = match closing {
                    Closing::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
                    Closing::Unauthorized(_) => StatusCode::UNAUTHORIZED,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                return refusal(&inner, status, closing.code().unwrap_or(Code::TooManyArrivals));
            };
            upgraded(inner, upgrade, subprotocol, move |inner, socket| async move {
                let _permit = permit;
                actor::turn_away(&inner, socket, closing).await;
            })
        }
    }
}

/// The answer that makes it a WebSocket, which is then served by a task that a stop waits for.
fn upgraded<F>(
    inner: Arc<Inner>,
    upgrade: Upgrade,
    subprotocol: Subprotocol,
    serve: impl FnOnce(Arc<Inner>, WebSocket<Connection>) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (response, connection) = upgrade.accept(subprotocol);
    let tracker = inner.tracker.clone();
    tracker.spawn(async move {
        let Some(connection) = connection.await else { return };
        let message_bytes_max = inner.config.client_frame_bytes_max * TOLD_TOO_LARGE;
        let socket = WebSocket::over(connection, message_bytes_max).await;
        serve(inner, socket).await;
    });
    response
}

/// An answer that is no upgrade, with a time to come back that differs from client to client.
fn refusal(inner: &Inner, status: StatusCode, code: Code) -> Response {
    let seconds = inner.retry_ms(inner.number()).div_ceil(1_000);
    let mut response = Problem::new(status, code, code.explanation().title).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// What the program that asks calls itself.
pub(super) fn user_agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS_MAX).collect::<String>().into())
}
