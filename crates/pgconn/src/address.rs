//! Where a server listens.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::Error;

const PORT_DEFAULT: u16 = 5432;
/// Where Debian, and where PostgreSQL itself, puts sockets.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Where the server listens. Prints as `host:port` or the socket's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of the socket itself (`…/.s.PGSQL.5432`).
    Unix(PathBuf),
}

impl Address {
    /// Whether nothing that is said leaves this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(host, _) => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// The address, and the name that a certificate has to carry, where that is another.
pub(crate) fn locate(
    host: Option<String>,
    host_address: Option<String>,
    port: Option<String>,
) -> Result<(Address, Option<String>), Error> {
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(Error::invalid("the port has to be a number from 1 to 65535")),
        },
    };
    if [&host, &host_address].iter().any(|value| value.as_ref().is_some_and(|value| value.contains(','))) {
        return Err(Error::invalid("there are several hosts; name the one that is the primary"));
    }
    if let Some(address) = host_address {
        if address.parse::<IpAddr>().is_err() {
            return Err(Error::invalid("hostaddr has to be an IP address"));
        }
        return Ok((Address::Tcp(address, port), host));
    }
    let socket = |folder: &str| Path::new(folder).join(format!(".s.PGSQL.{port}"));
    match host {
        Some(folder) if folder.starts_with('/') => Ok((Address::Unix(socket(&folder)), None)),
        Some(host) => Ok((Address::Tcp(host, port), None)),
        None => {
            let found = SOCKET_FOLDERS.iter().map(|folder| socket(folder)).find(|path| path.exists());
            Ok((found.map_or_else(|| Address::Tcp("localhost".into(), port), Address::Unix), None))
        }
    }
}

/// The port in the name of a socket.
pub(crate) fn socket_port(path: &Path) -> u16 {
    path.extension().and_then(|port| port.to_str()).and_then(|port| port.parse().ok()).unwrap_or(PORT_DEFAULT)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}
