//! The settings of the sockets: certificate, proxies in front, the operators' own address, how many connections.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::server::ServerConfig;
use super::{Config, invalid};
use crate::listener::Bounds;
use crate::open_files::OpenFiles;

/// Connections beside those of sessions and of requests that wait: requests that come and go.
const OTHER_CONNECTIONS: usize = 1_000;

/// Encryption of the listener. Without certificate and key it speaks plain HTTP.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// File with the chain in PEM, the service's own certificate first.
    pub certificate: String,
    /// File with its key in PEM.
    pub key: String,
}

impl TlsConfig {
    /// Certificate and key; `None`: no TLS.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        (!self.certificate.is_empty()).then(|| (Path::new(&self.certificate), Path::new(&self.key)))
    }

    /// Whether both encrypt, with other files. Whether there is encryption at all is another question: see
    /// [`Config::differences`].
    pub(super) fn has_other_files_than(&self, other: &TlsConfig) -> bool {
        matches!((self.files(), other.files()), (Some(ours), Some(theirs)) if ours != theirs)
    }

    /// Files are named as seen from the folder of the configuration file.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        for file in [&mut self.certificate, &mut self.key].into_iter().filter(|file| !file.is_empty()) {
            *file = folder.join(&file).to_string_lossy().into_owned();
        }
    }

    fn nonsense(&self) -> Option<String> {
        let half = self.certificate.is_empty() != self.key.is_empty();
        half.then(|| "server.tls needs both certificate and key".to_owned())
    }
}

impl ServerConfig {
    /// The operators' own address; `None`: they are on the clients'.
    pub(crate) fn admin_listen(&self) -> anyhow::Result<Option<SocketAddr>> {
        if self.admin_listen.is_empty() {
            return Ok(None);
        }
        let address = self.admin_listen.parse().map_err(|_| invalid(NO_ADDRESS))?;
        Ok(Some(address))
    }

    /// How many connections may be open: for each session one, for each request that waits one, and some for the rest; but no
    /// more than there may be open files, beside which the databases need some too. No address takes all of them.
    pub(crate) fn connections(&self, files: OpenFiles) -> Bounds {
        let wanted = self.sessions_max.saturating_mul(2).saturating_add(OTHER_CONNECTIONS);
        let all = wanted.min(files.room());
        let per_address = match self.connections_per_address_max {
            0 => all / 2,
            most => most.min(all),
        };
        Bounds { all, per_address: per_address.max(1) }
    }

    /// What of these settings makes no sense.
    pub(super) fn listener_nonsense(&self) -> Option<String> {
        self.tls.nonsense().or_else(|| self.admin_listen().is_err().then(|| NO_ADDRESS.to_owned())).or_else(
            || {
                let same = self.admin_listen().ok().flatten() == Some(self.listen) && self.listen.port() != 0;
                same.then(|| "server.admin_listen must be another address than server.listen".to_owned())
            },
        )
    }
}

impl Config {
    /// Whether clients need a token; then other machines may reach the service.
    pub(crate) fn requires_authentication(&self) -> bool {
        self.auth.is_required()
    }
}

const NO_ADDRESS: &str =
    "server.admin_listen must be an address with a port, such as 127.0.0.1:7655, or empty";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_all_connections() {
        let mut config = ServerConfig::default();
        let files = OpenFiles::of(100_000);
        assert_eq!(config.connections(files), Bounds { all: 21_000, per_address: 10_500 });
        config.connections_per_address_max = 50;
        assert_eq!(config.connections(files), Bounds { all: 21_000, per_address: 50 });
        config.connections_per_address_max = 1_000_000;
        assert_eq!(config.connections(OpenFiles::of(1_256)), Bounds { all: 1_000, per_address: 1_000 });
    }

    #[test]
    fn half_a_certificate_and_what_is_no_address_are_refused() {
        let nonsense = |change: fn(&mut ServerConfig)| {
            let mut config = ServerConfig::default();
            change(&mut config);
            config.listener_nonsense().unwrap_or_default()
        };
        assert_eq!(nonsense(|_| {}), "");
        assert!(nonsense(|config| config.tls.certificate = "a.pem".into()).contains("server.tls"));
        assert!(nonsense(|config| config.tls.key = "a.pem".into()).contains("server.tls"));
        assert!(nonsense(|config| config.admin_listen = "localhost".into()).contains("server.admin_listen"));
        assert!(nonsense(|config| config.admin_listen = "127.0.0.1:7654".into()).contains("another address"));
        assert_eq!(nonsense(|config| config.admin_listen = "[::1]:7654".into()), "");
    }
}
