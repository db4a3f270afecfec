//! Where the service listens.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use waldelta_wal::Code;

use crate::failure::Failure;

/// Binds the address. Without authentication only a loopback address is accepted: whoever reaches the listener may
/// read every captured row.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(Failure::error(Code::ListenUnprotected, format!("listen on {address}")));
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::error(Code::ListenFailed, format!("listen on {address}: {error}")))
}
