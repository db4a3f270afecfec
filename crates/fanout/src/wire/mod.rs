//! The wire protocol, version 1 (docs/protocol.md): bytes from and for clients. No sockets here.

pub(crate) mod client;
#[cfg(test)]
pub(crate) mod damage;
#[cfg(test)]
mod documented;
pub(crate) mod json;
pub(crate) mod json_equality;
pub(crate) mod oversize;
pub(crate) mod packed;
pub(crate) mod projection;
pub(crate) mod server;
pub(crate) mod timestamp;
pub(crate) mod transaction;

/// The text of a frame, shared by all who get it.
pub(crate) use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The WebSocket subprotocol, by which this version of the protocol is known.
pub(crate) const SUBPROTOCOL: &str = "waldelta.v1.json";

/// What is spoken over a WebSocket: the same frames in two forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subprotocol {
    /// All frames are text.
    #[default]
    Json,
    /// Frames that clients share may come packed.
    Zstd,
}

impl Subprotocol {
    /// All there are; of those that a client offers the first is spoken.
    pub(crate) const ALL: [Subprotocol; 2] = [Subprotocol::Zstd, Subprotocol::Json];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Subprotocol::Json => SUBPROTOCOL,
            Subprotocol::Zstd => "waldelta.v1.zstd",
        }
    }

    /// Whether clients unpack frames.
    pub(crate) fn takes_packed(self) -> bool {
        self == Subprotocol::Zstd
    }
}
