//! The socket below a replication connection: TCP, TLS over TCP, or a unix socket, all blocking. It knows no messages
//! but the one that asks for TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{SockRef, TcpKeepalive};
use waldelta_pgconn::{Address, SslMode, Target};

use super::error::Error;

/// First probe of a silent connection, then one each interval; a connection whose data is not acknowledged for the user
/// timeout is dead. So a pulled cable shows in about half a minute, and not after the two hours of the system's default.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// An open socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Connects and, where the target demands it, agrees on TLS.
    pub(crate) fn connect(target: &Target) -> Result<Self, Error> {
        match target.address() {
            Address::Unix(path) => {
                let address = path.display().to_string();
                let stream = UnixStream::connect(&path)
                    .map_err(|source| Error::Connect { address: address.clone(), source })?;
                set_timeouts(&stream, target.connect_timeout())?;
                Ok(Socket::Unix(stream))
            }
            Address::Tcp(host, port) => {
                let stream = connect_tcp(&host, port, target.connect_timeout())
                    .map_err(|source| Error::Connect { address: format!("{host}:{port}"), source })?;
                agree_on_tls(target, stream)
            }
        }
    }

    /// Whether nobody on the way can read along.
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Socket::Unix(_) | Socket::Tls(_) => true,
            Socket::Tcp(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
        }
    }

    /// A read that gives nothing for this long fails with `WouldBlock` or `TimedOut`, and loses nothing.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Socket::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Socket::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }

    /// A second hand on the socket, which can cut it off while another thread reads.
    pub(crate) fn closer(&self) -> io::Result<Closer> {
        match self {
            Socket::Tcp(stream) => stream.try_clone().map(Closer::Tcp),
            Socket::Unix(stream) => stream.try_clone().map(Closer::Unix),
            Socket::Tls(stream) => stream.sock.try_clone().map(Closer::Tcp),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(buffer),
            Socket::Unix(stream) => stream.write(buffer),
            Socket::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.flush(),
            Socket::Unix(stream) => stream.flush(),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}

/// See [`Socket::closer`].
pub(crate) enum Closer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Closer {
    /// Cuts the socket off in both directions; whoever reads it gets an end.
    pub(crate) fn close(&self) {
        // A socket that is closed already is as wanted.
        let _ = match self {
            Closer::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Closer::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                // The receive buffer is left to the kernel: one set by hand is capped far below what it grows to by itself.
                let socket = SockRef::from(&stream);
                let keepalive =
                    TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
                socket.set_tcp_keepalive(&keepalive)?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn set_timeouts(stream: &UnixStream, timeout: Duration) -> Result<(), Error> {
    stream
        .set_read_timeout(Some(timeout))
        .and_then(|()| stream.set_write_timeout(Some(timeout)))
        .map_err(|source| Error::Io { what: "set the timeouts of the socket", source })
}

/// Asks for TLS as the PostgreSQL documentation has it ("SSL Session Encryption").
fn agree_on_tls(target: &Target, mut stream: TcpStream) -> Result<Socket, Error> {
    let Some(settings) = target.tls().map_err(Error::TlsSettings)? else {
        return Ok(Socket::Tcp(stream));
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let mut answer = [0];
    stream
        .write_all(&request)
        // One byte and no more, so that nothing sent in clear can be taken for something from inside TLS.
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|source| Error::Io { what: "ask for TLS", source })?;
    match answer {
        [b'S'] => shake_hands(settings, target.server_name(), stream),
        _ if target.ssl_mode() == SslMode::Prefer => Ok(Socket::Tcp(stream)),
        _ => Err(Error::TlsRefused),
    }
}

fn shake_hands(settings: Arc<rustls::ClientConfig>, host: &str, stream: TcpStream) -> Result<Socket, Error> {
    let failed = |source| Error::TlsHandshake { host: host.to_owned(), source };
    let name = ServerName::try_from(host.to_owned()).map_err(|source| failed(io::Error::other(source)))?;
    let session = ClientConnection::new(settings, name).map_err(|source| failed(io::Error::other(source)))?;
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(failed)?;
    }
    Ok(Socket::Tls(Box::new(stream)))
}
