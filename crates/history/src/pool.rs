//! The pool of connections for reading.

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use waldelta_pgconn::{Address, SslMode, Target};

use crate::answers::{Pool, giving_back_in_time};
use crate::{Config, Error};

/// Schema of history, and of its migrations table.
pub(crate) const SCHEMA: &str = "waldelta";

/// Fixed for every connection for reading. A page is planned anew each time: only then are partitions left out before
/// they are locked and opened, and planning costs less than that.
const SETTINGS: [(&str, &str); 11] = [
    ("search_path", "waldelta,pg_catalog"),
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
    ("plan_cache_mode", "force_custom_plan"),
    ("jit", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
];

/// How to reach the history database, in sqlx's terms.
pub(crate) fn connect_options(target: &Target, application_name: &str) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(target.user())
        .database(target.database())
        .application_name(target.application_name().unwrap_or(application_name))
        .ssl_mode(ssl_mode(target.ssl_mode()))
        .options(SETTINGS);
    options = match target.address() {
        Address::Tcp(host, port) => options.host(&host).port(port),
        // sqlx wants the folder, and the port that is the socket's name's end.
        Address::Unix(socket) => {
            let port = socket.extension().and_then(|port| port.to_str()?.parse().ok());
            let folder = socket.parent().unwrap_or(&socket);
            options.socket(folder).port(port.unwrap_or(5432))
        }
    };
    if let Some(certificates) = target.root_certificates() {
        options = options.ssl_root_cert(certificates);
    }
    if let Some(ours) = target.client_certificate() {
        options = options.ssl_client_cert(ours.certificate()).ssl_client_key(ours.key());
    }
    match target.password() {
        Some(password) => options.password(password),
        None => options,
    }
}

fn ssl_mode(mode: SslMode) -> PgSslMode {
    match mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    }
}

/// What of the target cannot be done with sqlx is refused, not left out silently.
pub(crate) fn check(target: &Target) -> Result<(), Error> {
    if target.channel_binding_required() {
        return Err(Error::Unusable {
            what: "channel_binding=require, which its connections for reading cannot do: leave it out of history.url",
        });
    }
    // sqlx reads the same files by itself, and does not mind who else may read a key.
    target.tls().map_err(Error::Connect)?;
    Ok(())
}

/// The pool; connects when first used.
pub(crate) fn open(config: &Config) -> Pool {
    let options = connect_options(&config.target, "waldelta-history");
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max.max(1))
        .acquire_timeout(config.target.connect_timeout());
    Pool::new(giving_back_in_time(pool).connect_lazy_with(options))
}

#[cfg(test)]
mod tests {
    use waldelta_pgconn::Environment;
    use waldelta_wal::Code;

    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_refused_before_anybody_is_asked() {
        let check = |text: &str| check(&Target::parse(text, &Environment::default()).unwrap());
        check("host=localhost user=u sslmode=require").unwrap();
        let error = check("host=localhost user=u sslcert=/nowhere.crt sslkey=/nowhere.key").unwrap_err();
        assert_eq!(error.code(), Code::TlsFailed, "{error:?}");
        let error = check("host=localhost user=u sslmode=require channel_binding=require").unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
    }
}
