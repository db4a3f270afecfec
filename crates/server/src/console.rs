//! The console for psql: the status model as tables, and commands for the parts that can be told something.

mod model;
mod tables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use waldelta_console::Users;
use waldelta_wal::Code;

pub(crate) use self::model::Shown;
use crate::config::Config;
use crate::failure::Failure;
use crate::listener::Certificates;

/// A console whose socket is bound.
pub(crate) struct Console {
    listener: TcpListener,
    config: waldelta_console::Config,
}

impl Console {
    /// Binds what the configuration names; `None` where it names nothing. Others than this machine get to it only with users and
    /// encryption.
    pub(crate) async fn bind(
        config: &Config,
        certificates: Option<Arc<Certificates>>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.console.address()? else { return Ok(None) };
        let users = config.console.users()?;
        let is_local = address.ip().is_loopback();
        if !is_local && (users.is_empty() || certificates.is_none()) {
            let why = "console.users_file and server.tls are needed for that";
            return Err(Failure::error(
                Code::ListenUnprotected,
                format!("serve the console on {address}: {why}"),
            ));
        }
        let certificates = certificates.filter(|_| !is_local);
        let tls = certificates.map(|certificates| {
            let current = move || certificates.current();
            Arc::new(current) as Arc<dyn Fn() -> _ + Send + Sync>
        });
        let failed =
            |error| Failure::error(Code::ListenFailed, format!("serve the console on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let connections_max = usize::try_from(config.console.connections_max).unwrap_or(usize::MAX);
        let config = waldelta_console::Config { users: Users::new(users), tls, connections_max };
        Ok(Some(Console { listener, config }))
    }

    /// Where it is.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("read the address of the console")
    }

    /// Who may use it, for others to be taken in their place; `None` where nobody is named.
    pub(crate) fn users(&self) -> Option<Users> {
        (!self.config.users.are(&BTreeMap::new())).then(|| self.config.users.clone())
    }

    /// Serves it until `stop`.
    pub(crate) async fn serve(self, shown: Shown, stop: CancellationToken) -> anyhow::Result<()> {
        waldelta_console::serve(self.listener, self.config, shown, stop).await;
        Ok(())
    }
}
