//! A database to connect to, as a connection string and the environment describe it.
//!
//! The keywords are those of libpq (PostgreSQL documentation, "Parameter Key Words") as far as they concern us. One host
//! only: whether another server is still the same source is never decided by a connection string.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::address::{self, Address, socket_port};
use crate::client_certificate::ClientCertificate;
use crate::demands::{ChannelBinding, SslMode};
use crate::error::Error;
use crate::passfile::Passfile;
use crate::settings::{Environment, Settings};

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 600;
/// Ports of PgBouncer, and of Supabase's pooler of transactions.
const POOLER_PORTS: [u16; 2] = [6432, 6543];

/// A database to connect to: host, port, user, password, TLS demands.
#[derive(Clone)]
pub struct Target {
    address: Address,
    /// The name that the server's certificate has to carry, where it differs from the address.
    server_name: Option<String>,
    user: String,
    database: String,
    password: Option<String>,
    passfile: Arc<Passfile>,
    ssl_mode: SslMode,
    root_certificates: Option<PathBuf>,
    client_certificate: Option<ClientCertificate>,
    options: Option<String>,
    application_name: Option<String>,
    connect_timeout: Duration,
    channel_binding: ChannelBinding,
}

impl Target {
    /// Reads a connection string (`postgresql://…` URL or `key=value` words), filled up from the environment.
    ///
    /// # Errors
    /// When a part cannot be read or is not known; the message names the part and repeats no value.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, Error> {
        let mut settings = Settings::collect(text, environment)?;
        let (address, server_name) =
            address::locate(settings.take("host"), settings.take("hostaddr"), settings.take("port"))?;
        let explicit_root = settings.take("sslrootcert").filter(|root| root != "system");
        let root_certificates = match &explicit_root {
            Some(root) => Some(PathBuf::from(root)),
            None => environment
                .home
                .as_ref()
                .map(|home| home.join(".postgresql/root.crt"))
                .filter(|f| f.is_file()),
        };
        let client_certificate = ClientCertificate::locate(
            settings.take("sslcert"),
            settings.take("sslkey"),
            environment.home.as_deref(),
        )?;
        let ssl_mode = match settings.take("sslmode") {
            None if address.is_local() => SslMode::Prefer,
            None => SslMode::VerifyFull,
            Some(mode) => mode.parse()?,
        };
        // As libpq has it: who names a file of trusted certificates wants it to be used.
        let ssl_mode = match ssl_mode {
            SslMode::Require if explicit_root.is_some() => SslMode::VerifyCa,
            mode => mode,
        };
        let user = match settings.take("user") {
            Some(user) => user,
            None => whoami::username()
                .map_err(|_| Error::invalid("there is no user; name one in the URL or in PGUSER"))?,
        };
        let passfile = settings
            .take("passfile")
            .map(PathBuf::from)
            .or_else(|| environment.home.as_ref().map(|home| home.join(".pgpass")));
        let password = settings.take("password");
        Ok(Target {
            server_name,
            database: settings.take("dbname").unwrap_or_else(|| user.clone()),
            passfile: match (&password, passfile) {
                (None, Some(path)) => Arc::new(Passfile::read(&path)),
                _ => Arc::default(),
            },
            user,
            password,
            ssl_mode,
            root_certificates,
            client_certificate,
            options: settings.take("options"),
            application_name: settings.take("application_name"),
            connect_timeout: connect_timeout(settings.take("connect_timeout"))?,
            channel_binding: match settings.take("channel_binding") {
                None => ChannelBinding::Prefer,
                Some(word) => word.parse()?,
            },
            address,
        })
    }

    /// The same server and user with another database.
    pub fn with_database(&self, database: &str) -> Self {
        Target { database: database.to_owned(), ..self.clone() }
    }

    /// Where the server listens.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// The name that a verified certificate has to carry: the host as it was written.
    pub fn server_name(&self) -> &str {
        match (&self.server_name, &self.address) {
            (Some(name), _) => name,
            (None, Address::Tcp(host, _)) => host,
            (None, Address::Unix(_)) => "localhost",
        }
    }

    /// Role to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Database name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Password, from the string, `PGPASSWORD` or `.pgpass`. Never printed.
    pub fn password(&self) -> Option<&str> {
        if let Some(password) = &self.password {
            return Some(password).filter(|password| !password.is_empty()).map(String::as_str);
        }
        let (socket_folder, port);
        let hosts = match &self.address {
            Address::Tcp(host, tcp_port) => {
                port = *tcp_port;
                [self.server_name(), host.as_str()]
            }
            Address::Unix(path) => {
                port = socket_port(path);
                socket_folder = path.parent().unwrap_or(path).to_string_lossy();
                [socket_folder.as_ref(), "localhost"]
            }
        };
        self.passfile.password(&hosts, port, &self.database, &self.user)
    }

    /// Demands on TLS.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// The file of trusted certificates; `None` for those of the system.
    pub fn root_certificates(&self) -> Option<&Path> {
        self.root_certificates.as_deref()
    }

    /// The certificate that is shown to a server that asks for one; `None`: there is none.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// Time within which a connection has to be made and logged in: `connect_timeout`, else 15 seconds.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// `application_name` of the string, if it has one; it goes before the one that a part gives itself.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// Whether only a login that is tied to its TLS connection will do (`channel_binding=require`).
    pub fn channel_binding_required(&self) -> bool {
        self.channel_binding == ChannelBinding::Require
    }

    pub(crate) fn channel_binding(&self) -> ChannelBinding {
        self.channel_binding
    }

    /// The startup parameter `options`: those of the string, then run-time parameters, which go before them.
    pub fn startup_options(&self, settings: &[(&str, &str)]) -> String {
        let mut options = self.options.clone().unwrap_or_default();
        for (name, value) in settings {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str("-c ");
            options.push_str(name);
            options.push('=');
            for c in value.chars() {
                if c == '\\' || c.is_ascii_whitespace() {
                    options.push('\\');
                }
                options.push(c);
            }
        }
        options
    }

    /// Whether the address looks like a connection pooler's: it can neither replicate nor keep settings.
    pub fn looks_pooled(&self) -> bool {
        match &self.address {
            Address::Tcp(host, port) => {
                POOLER_PORTS.contains(port) || [host, self.server_name()].into_iter().any(is_pooler_name)
            }
            Address::Unix(path) => POOLER_PORTS.contains(&socket_port(path)),
        }
    }

    /// The target for people and logs, as a URL: no password.
    pub fn redacted(&self) -> String {
        let (user, database, mode) = (encode(&self.user), encode(&self.database), self.ssl_mode);
        match &self.address {
            Address::Tcp(host, port) => {
                let host = if self.server_name().is_empty() { host } else { self.server_name() };
                let host = if host.contains(':') { format!("[{host}]") } else { encode(host) };
                format!("postgresql://{user}@{host}:{port}/{database}?sslmode={mode}")
            }
            Address::Unix(path) => {
                let folder = path.parent().unwrap_or(path).display();
                format!("postgresql://{user}@/{database}?host={folder}&port={}", socket_port(path))
            }
        }
    }
}

fn connect_timeout(seconds: Option<String>) -> Result<Duration, Error> {
    let Some(seconds) = seconds else { return Ok(CONNECT_TIMEOUT_DEFAULT) };
    match seconds.parse::<i64>() {
        // In libpq these mean to wait for ever, which nothing here does.
        Ok(..=0) => Ok(CONNECT_TIMEOUT_DEFAULT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.unsigned_abs().min(CONNECT_TIMEOUT_SECONDS_MAX))),
        Err(_) => Err(Error::invalid("connect_timeout has to be a number of seconds")),
    }
}

/// Percent-encodes what a URL would read otherwise.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.redacted()).finish()
    }
}

/// Those of Neon (`ep-…-pooler.…`), Supabase (`….pooler.supabase.com`, also where it is a session that is pooled) and RDS Proxy
/// (`….proxy-….rds.amazonaws.com`).
fn is_pooler_name(host: &str) -> bool {
    host.split('.').any(|label| {
        label.ends_with("pooler") || label.starts_with("proxy-") && host.ends_with(".rds.amazonaws.com")
    })
}

#[cfg(test)]
mod tests;
