//! `GET /v1/stream`: from an HTTP request to a session.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
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

pub(crate) async fn stream(State(inner): State<Arc<Inner>>, upgrade: WebSocketUpgrade) -> Response {
    if inner.closing.is_cancelled() {
        let detail = "the service is stopping";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Stopping, detail).into_response();
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
    // The web server runs the upgraded socket on a task of its own; the token lets a stop wait for it.
    let token = inner.tracker.token();
    upgrade.on_upgrade(async move |socket: WebSocket| {
        let _token = token;
        let number = inner.number();
        if !spoken {
            return actor::turn_away(socket, number, Closing::SubprotocolUnknown).await;
        }
        match inner.slots.clone().try_acquire_owned() {
            Ok(slot) => actor::run(inner.clone(), socket, Listed::new(inner, number, slot)).await,
            Err(_) => actor::turn_away(socket, number, Closing::TooMany(Code::TooManySessions)).await,
        }
    })
}
