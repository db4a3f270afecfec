//! Plain SQL connections.

use std::future::Future;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_postgres::config::{ChannelBinding, SslMode as DriverSslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use waldelta_wal::chain_text;

use crate::address::{Address, socket_port};
use crate::demands::{self, SslMode};
use crate::error::{AttemptKind, Error, attempt_kind};
use crate::target::Target;

/// A peer that vanished without a word is noticed after about a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Cuts its connection when dropped, whatever is still on the way.
///
/// Without it a dropped client waits for the answers that were asked for, be it the rest of a table.
#[derive(Debug)]
pub struct ConnectionGuard(AbortHandle);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Target {
    /// Connects and drives the connection on a task of its own until the client is dropped.
    ///
    /// `settings` are run-time parameters sent in the startup packet, such as `("TimeZone", "UTC")`.
    ///
    /// # Errors
    /// When the server cannot be reached in time, does not fulfil the demands on TLS, or refuses the login.
    pub async fn connect(&self, application_name: &str, settings: &[(&str, &str)]) -> Result<Client, Error> {
        let (client, _) = self.open(application_name, settings).await?;
        Ok(client)
    }

    /// As [`Self::connect`], with a guard that cuts the connection when it is dropped.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_guarded(
        &self,
        application_name: &str,
        settings: &[(&str, &str)],
    ) -> Result<(Client, ConnectionGuard), Error> {
        let (client, driver) = self.open(application_name, settings).await?;
        Ok((client, ConnectionGuard(driver)))
    }

    async fn open(
        &self,
        application_name: &str,
        settings: &[(&str, &str)],
    ) -> Result<(Client, AbortHandle), Error> {
        let config = self.driver_config(application_name, settings);
        let timeout = self.connect_timeout();
        tokio::time::timeout(timeout, self.attempt(config)).await.map_err(|_| Error::TimedOut {
            address: self.address().to_string(),
            waited_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        })?
    }

    async fn attempt(&self, mut config: Config) -> Result<(Client, AbortHandle), Error> {
        if let Some(tls) = self.tls()? {
            let tls = MakeRustlsConnect::new(tls.as_ref().clone());
            match config.connect(tls).await {
                Ok((client, connection)) => return Ok((client, drive(connection))),
                Err(error)
                    if self.ssl_mode() == SslMode::Prefer && attempt_kind(&error) == AttemptKind::Tls =>
                {
                    tracing::debug!(address = %self.address(), error = chain_text(&error), "TLS failed, which sslmode=prefer allows");
                    config.ssl_mode(DriverSslMode::Disable);
                }
                Err(error) => return Err(Error::from_attempt(self, error)),
            }
        }
        let (client, connection) =
            config.connect(NoTls).await.map_err(|error| Error::from_attempt(self, error))?;
        Ok((client, drive(connection)))
    }

    fn driver_config(&self, application_name: &str, settings: &[(&str, &str)]) -> Config {
        let mut config = Config::new();
        match self.address() {
            Address::Tcp(host, port) => {
                config.host(self.server_name()).port(port);
                if let Ok(address) = host.parse() {
                    config.hostaddr(address);
                }
            }
            Address::Unix(path) => {
                config.host_path(path.parent().unwrap_or(&path)).port(socket_port(&path));
            }
        }
        config.user(self.user()).dbname(self.database());
        if let Some(password) = self.password() {
            config.password(password);
        }
        config.application_name(self.application_name().unwrap_or(application_name));
        let options = self.startup_options(settings);
        if !options.is_empty() {
            config.options(options);
        }
        config.ssl_mode(match (self.address(), self.ssl_mode()) {
            (Address::Unix(_), _) | (_, SslMode::Disable) => DriverSslMode::Disable,
            (_, SslMode::Prefer) => DriverSslMode::Prefer,
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => DriverSslMode::Require,
        });
        config.channel_binding(match self.channel_binding() {
            demands::ChannelBinding::Disable => ChannelBinding::Disable,
            demands::ChannelBinding::Prefer => ChannelBinding::Prefer,
            demands::ChannelBinding::Require => ChannelBinding::Require,
        });
        config
            .connect_timeout(self.connect_timeout())
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        config
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver has no part of its own to run in: it lives as long as its client and holds nothing to join"
)]
fn drive(
    connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
) -> AbortHandle {
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever uses the client is told, too, and knows what was being done.
            tracing::debug!(error = chain_text(&error), "a connection ended");
        }
    });
    driver.abort_handle()
}
