//! `GET /v1/stream`: from an HTTP request to a session.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waldelta_wal::Code;

use super::problem::Problem;
use crate::closing::Closing;
use crate::inner::{Inner, Listed};
use crate::session::actor;
use crate::wire::SUBPROTOCOL;

/// Clients send little: what is read at once. tungstenite reserves it for each connection, 128 KiB by default.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes that are collected before the socket is written to.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// A single frame fits: a row of a thousand replaced values, or a part and one large change.
const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1024 * 1024;
/// A frame that is a little too large is still read, so that the client can be told; a much larger one is not.
const TOLD_TOO_LARGE: usize = 4;
/// Characters of what a program calls itself that are kept.
const USER_AGENT_CHARS_MAX: usize = 120;

pub(crate) async fn stream(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if inner.closing.is_cancelled() {
        return refusal(&inner, StatusCode::SERVICE_UNAVAILABLE, Code::Stopping);
    }
    let message_bytes_max = inner.config.client_frame_bytes_max * TOLD_TOO_LARGE;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max);
    let offers_any = upgrade.requested_protocols().next().is_some();
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    let spoken = upgrade.selected_protocol().is_some() || !offers_any;
    let admitted = match spoken {
        true => inner.admit(),
        false => Err(Closing::SubprotocolUnknown),
    };
    // The web server runs the upgraded socket on a task of its own; the token lets a stop wait for it.
    let token = inner.tracker.token();
    match admitted {
        Ok(place) => {
            let user_agent = user_agent(&headers);
            upgrade.on_upgrade(async move |socket: WebSocket| {
                let _token = token;
                let number = inner.number();
                let listed = Listed::new(inner.clone(), number, place, user_agent);
                actor::run(inner, socket, listed).await;
            })
        }
        Err(closing) => {
            inner.metrics.refused.increment(1);
            // Browsers show a page the reason of a close, and nothing of an answer that is no upgrade.
            let Some(permit) = inner.refuse() else {
                let status = match closing {
                    Closing::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                return refusal(&inner, status, closing.code().unwrap_or(Code::TooManyArrivals));
            };
            upgrade.on_upgrade(async move |socket: WebSocket| {
                let (_token, _permit) = (token, permit);
                actor::turn_away(&inner, socket, closing).await;
            })
        }
    }
}

/// An answer that is no upgrade, with a time to come back that differs from client to client.
fn refusal(inner: &Inner, status: StatusCode, code: Code) -> Response {
    let seconds = inner.retry_ms(inner.number()).div_ceil(1_000);
    let mut response = Problem::new(status, code, code.explanation().title).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn user_agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS_MAX).collect::<String>().into())
}
