//! The wire protocol, version 1 (docs/protocol.md): bytes from and for clients. No sockets here.

pub(crate) mod client;
#[cfg(test)]
mod documented;
pub(crate) mod json;
pub(crate) mod json_equality;
pub(crate) mod oversize;
pub(crate) mod projection;
pub(crate) mod server;
pub(crate) mod timestamp;
pub(crate) mod transaction;

/// The text of a frame, shared by all who get it.
pub(crate) use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The WebSocket subprotocol.
pub(crate) const SUBPROTOCOL: &str = "waldelta.v1.json";
