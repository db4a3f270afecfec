//! Who is at the other end of a connection, as whoever accepted it found out: an extension of each of its requests. What a request
//! says of it in its headers is only believed by the listener, and only of a proxy that is named as trusted.

use std::net::IpAddr;

use axum::http::Extensions;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; behind a trusted proxy the one that the proxy says.
    pub address: IpAddr,
    /// Whether the client's connection is encrypted: to here, or to a trusted proxy that says so.
    pub secure: bool,
}

impl Peer {
    /// Whose request it is; `None` where whoever accepted the connection does not tell.
    pub fn of(extensions: &Extensions) -> Option<Peer> {
        extensions.get::<Peer>().copied()
    }
}
