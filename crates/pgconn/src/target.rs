//! A database to connect to, as a connection string and the environment describe it.
//!
//! The keywords are those of libpq (PostgreSQL documentation, "Parameter Key Words") as far as they concern us. One host
//! only: whether another server is still the same source is never decided by a connection string.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::passfile::Passfile;
use crate::words;

const PORT_DEFAULT: u16 = 5432;
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 600;
/// Where Debian, and where PostgreSQL itself, puts sockets.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Ports of PgBouncer, and of Supabase's pooler.
const POOLER_PORTS: [u16; 2] = [6432, 6543];

/// Keywords with the variables that stand in for them.
const KEYWORDS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// Keywords that change nothing here: what they ask for is done anyway, or has no meaning without libpq.
const WITHOUT_EFFECT: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
];

/// What the process environment says about PostgreSQL connections (`PG*` variables, `~/.pgpass`).
///
/// It is read once, by the binary, and handed in.
#[derive(Clone, Default)]
pub struct Environment {
    /// Variables by name; only those that begin with `PG` are looked at.
    pub variables: HashMap<String, String>,
    /// Home folder, for `.pgpass` and `.postgresql/root.crt`.
    pub home: Option<PathBuf>,
}

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
    options: Option<String>,
    application_name: Option<String>,
    connect_timeout: Duration,
    channel_binding: ChannelBinding,
}

/// How much of TLS is demanded. `prefer` for loopback and unix sockets, `verify-full` for every other host, unless
/// the connection string says otherwise. Prints as libpq spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server has it, unverified.
    Prefer,
    /// TLS, unverified.
    Require,
    /// TLS with a trusted certificate.
    VerifyCa,
    /// TLS with a trusted certificate for this host.
    VerifyFull,
}

/// Whether the login is tied to the TLS connection that it runs over (SCRAM-SHA-256-PLUS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// Where the server listens. Prints as `host:port` or the socket's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of the socket itself (`…/.s.PGSQL.5432`).
    Unix(PathBuf),
}

impl Target {
    /// Reads a connection string (`postgresql://…` URL or `key=value` words), filled up from the environment.
    ///
    /// # Errors
    /// When a part cannot be read or is not known; the message names the part and repeats no value.
    pub fn parse(text: &str, environment: &Environment) -> Result<Self, Error> {
        let mut settings = Settings::collect(text, environment)?;
        let port = match settings.take("port") {
            None => PORT_DEFAULT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(Error::invalid("the port has to be a number from 1 to 65535")),
            },
        };
        let (address, server_name) = address(settings.take("host"), settings.take("hostaddr"), port)?;
        let explicit_root = settings.take("sslrootcert").filter(|root| root != "system");
        let root_certificates = match &explicit_root {
            Some(root) => Some(PathBuf::from(root)),
            None => environment
                .home
                .as_ref()
                .map(|home| home.join(".postgresql/root.crt"))
                .filter(|f| f.is_file()),
        };
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
            options: settings.take("options"),
            application_name: settings.take("application_name"),
            connect_timeout: connect_timeout(settings.take("connect_timeout"))?,
            channel_binding: channel_binding(settings.take("channel_binding"))?,
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
                POOLER_PORTS.contains(port)
                    || host.contains("-pooler")
                    || self.server_name().contains("-pooler")
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

impl Address {
    /// Whether nothing that is said leaves this machine.
    fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(host, _) => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// What is asked for: the string's words first, then the environment's variables.
struct Settings {
    values: HashMap<&'static str, String>,
}

impl Settings {
    fn collect(text: &str, environment: &Environment) -> Result<Self, Error> {
        let mut values = HashMap::new();
        for (key, variable) in KEYWORDS {
            if let Some(value) = environment.variables.get(*variable).filter(|value| !value.is_empty()) {
                values.insert(*key, value.clone());
            }
        }
        let mut named = HashMap::new();
        for (key, value) in words::take_apart(text)? {
            if let Some((key, _)) = KEYWORDS.iter().find(|(known, _)| *known == key) {
                named.insert(*key, value);
            } else if !WITHOUT_EFFECT.contains(&key.as_str()) {
                return Err(Error::invalid(format!("the parameter {} is not supported", printable(&key))));
            }
        }
        // An address in the string is meant as a whole: PGHOSTADDR would lead the named host elsewhere.
        if named.contains_key("host") {
            values.remove("hostaddr");
        }
        values.extend(named);
        values.retain(|key, value| *key == "password" || !value.is_empty());
        Ok(Settings { values })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
}

/// A name that somebody wrote, for a message. Something long is no parameter's name and could be a misplaced password.
fn printable(key: &str) -> String {
    let plain = key.len() <= 40 && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { key.to_owned() } else { "with an unreadable name".to_owned() }
}

fn address(
    host: Option<String>,
    host_address: Option<String>,
    port: u16,
) -> Result<(Address, Option<String>), Error> {
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

fn connect_timeout(seconds: Option<String>) -> Result<Duration, Error> {
    let Some(seconds) = seconds else { return Ok(CONNECT_TIMEOUT_DEFAULT) };
    match seconds.parse::<i64>() {
        // In libpq these mean to wait for ever, which nothing here does.
        Ok(..=0) => Ok(CONNECT_TIMEOUT_DEFAULT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.unsigned_abs().min(CONNECT_TIMEOUT_SECONDS_MAX))),
        Err(_) => Err(Error::invalid("connect_timeout has to be a number of seconds")),
    }
}

fn channel_binding(word: Option<String>) -> Result<ChannelBinding, Error> {
    match word.as_deref() {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(_) => Err(Error::invalid("channel_binding has to be disable, prefer or require")),
    }
}

/// The port in the name of a socket.
pub(crate) fn socket_port(path: &Path) -> u16 {
    path.extension().and_then(|port| port.to_str()).and_then(|port| port.parse().ok()).unwrap_or(PORT_DEFAULT)
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

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "disable" => Ok(SslMode::Disable),
            // It asks for plain text first; TLS first is no less than that.
            "allow" | "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            _ => Err(Error::invalid("sslmode has to be disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        })
    }
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

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.redacted()).finish()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // PGPASSWORD is among the values.
        let names: Vec<_> = self.variables.keys().filter(|name| name.starts_with("PG")).collect();
        f.debug_struct("Environment").field("variables", &names).field("home", &self.home).finish()
    }
}

#[cfg(test)]
mod tests;
