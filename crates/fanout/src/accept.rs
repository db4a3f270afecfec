//! What a client's socket needs of the kernel, from the moment at which it is accepted.

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes that the kernel takes over before they can be sent: enough to keep a fast client busy while the session is not, and
/// all that one that does not read costs beside its own window. Without it that is megabytes.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Prepares a connection of a client: what is written is sent at once, and what cannot be sent is not buffered without end.
/// Where the system cannot do that the connection works all the same.
pub fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    bound_unsent(stream);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_unsent(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
    }
}

/// What has been sent and not been acknowledged counts too, so the bound is a higher one.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_unsent(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_send_buffer_size(4 * UNSENT_BYTES_MAX as usize) {
        tracing::debug!(%error, "SO_SNDBUF");
    }
}
