//! Where the service listens: sockets that are bound, the bounds of what may be done to them, and the loop that serves them.
//!
//! What is answered is the business of the router that it is given. A WebSocket leaves here once it is one: from then on it is
//! the session's, and still counts as an open connection.

mod accept;
mod body;
mod certificates;
mod connection;
mod gate;
mod proxies;
mod stream;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};
use waldelta_wal::Code;

pub(crate) use self::certificates::{Certificates, ends_at};
use self::gate::Gate;
pub(crate) use self::gate::{Bounds, describe_metrics};
pub(crate) use self::proxies::{Network, Proxies};
use crate::config::Config;
use crate::failure::Failure;
use crate::open_files::OpenFiles;

/// Operators, their monitoring, and whoever looks whether the process lives.
const OPERATORS_CONNECTIONS_MAX: usize = 256;

/// Connections that wait to be accepted; the system may allow fewer. Thousands that come back together lose a second and more where
/// theirs is not among them.
const WAITING_MAX: u32 = 4_096;

/// How long others may take for what is theirs to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the head of a request, from the moment at which it can come: so long may a connection be idle.
    pub head: Duration,
    /// The same for a trusted proxy, which keeps connections for the requests of others.
    pub head_of_proxy: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For the handshake of TLS.
    pub handshake: Duration,
    /// A client that takes nothing in for this long while something is on its way to it is cut off by the system, whatever it asked
    /// for: an answer that waits for its client cannot notice that by itself.
    pub stalled: Duration,
    /// After the system could not accept: it has no files or no memory left, and will not have them at once.
    pub exhausted: Duration,
}

impl Patience {
    /// What everybody has; `stalled` is the time after which a session is let go: less would cut off sessions that are still borne
    /// with.
    pub(crate) fn of(stalled: Duration) -> Self {
        Patience {
            head: Duration::from_secs(10),
            head_of_proxy: Duration::from_secs(75),
            body: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            stalled,
            exhausted: Duration::from_secs(1),
        }
    }
}

/// The sockets of a process.
pub(crate) struct Listeners {
    /// The clients'.
    pub clients: Listener,
    /// The operators', where they have one of their own.
    pub operators: Option<Listener>,
    /// Whether those who come are asked for a token.
    pub has_auth: bool,
}

/// A socket that is bound. What it is served with is shared by all who serve it.
pub(crate) struct Listener {
    socket: TcpListener,
    serving: Arc<Serving>,
}

/// What all connections of a socket share.
struct Serving {
    gate: Arc<Gate>,
    certificates: Option<Arc<Certificates>>,
    proxies: Proxies,
    patience: Patience,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// When an address is not for the service as it is configured, or taken; and when the certificate cannot be used.
    pub(crate) fn bind(config: &Config, files: OpenFiles) -> anyhow::Result<Self> {
        let server = &config.server;
        let certificates = match server.tls.files() {
            None => None,
            Some((certificate, key)) => Some(Arc::new(Certificates::load(certificate, key)?)),
        };
        let has_auth = config.requires_authentication();
        let patience = Patience::of(Duration::from_millis(server.write_timeout_ms));
        let proxies = Proxies::new(server.trusted_proxies.clone());
        let (gate, tls) = (Gate::new("clients", server.connections(files)), certificates.clone());
        let serving = Serving::new(gate, tls, proxies.clone(), patience);
        let clients = Listener::bind(server.listen, has_auth, serving)?;
        warn_unencrypted(&clients, certificates.is_none() && server.trusted_proxies.is_empty());
        let operators = match server.admin_listen()? {
            None => None,
            Some(address) => {
                let bounds =
                    Bounds { all: OPERATORS_CONNECTIONS_MAX, per_address: OPERATORS_CONNECTIONS_MAX };
                // Who asks on this machine needs no certificate.
                let certificates = certificates.filter(|_| !address.ip().is_loopback());
                let unencrypted = certificates.is_none() && server.trusted_proxies.is_empty();
                let serving = Serving::new(Gate::new("operators", bounds), certificates, proxies, patience);
                let listener = Listener::bind(address, has_auth, serving)?;
                warn_unencrypted(&listener, unencrypted);
                Some(listener)
            }
        };
        Ok(Listeners { clients, operators, has_auth })
    }
}

/// A socket that listens; it may be where one was that has just been closed.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

impl Serving {
    fn new(
        gate: Arc<Gate>,
        certificates: Option<Arc<Certificates>>,
        proxies: Proxies,
        patience: Patience,
    ) -> Arc<Self> {
        Arc::new(Serving { gate, certificates, proxies, patience })
    }
}

impl Listener {
    /// Binds an address. Without authentication only one of loopback is: whoever reaches the socket may read every captured row.
    fn bind(address: SocketAddr, has_auth: bool, serving: Arc<Serving>) -> anyhow::Result<Self> {
        if !has_auth && !address.ip().is_loopback() {
            return Err(Failure::error(Code::ListenUnprotected, format!("listen on {address}")));
        }
        let socket = listen(address)
            .map_err(|error| Failure::error(Code::ListenFailed, format!("listen on {address}: {error}")))?;
        Ok(Listener { socket, serving })
    }

    /// The address that it has.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr().context("read the address of the listener")
    }

    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        self.socket.local_addr().is_ok_and(|address| address.ip().is_loopback())
    }

    /// Its certificate, to be read again while it is served; `None`: it speaks no TLS.
    pub(crate) fn certificates(&self) -> Option<Arc<Certificates>> {
        self.serving.certificates.clone()
    }

    /// The same socket once more: both accept from it, and count together.
    pub(crate) fn share(&self) -> anyhow::Result<Self> {
        let same = self.socket.as_fd().try_clone_to_owned().context("share the listener")?;
        let socket = TcpListener::from_std(same.into()).context("share the listener")?;
        Ok(Listener { socket, serving: self.serving.clone() })
    }
}

/// Tokens and rows are for everybody on the way, unless a proxy is named that encrypts before them.
fn warn_unencrypted(listener: &Listener, unencrypted: bool) {
    if unencrypted && !listener.is_local() {
        let code = Code::ListenUnencrypted;
        tracing::warn!(
            code = code.as_str(),
            fix = code.explanation().fix,
            listen = listener.address().ok().map(tracing::field::display),
            "{}",
            code.explanation().title
        );
    }
}

#[cfg(test)]
mod tests;
