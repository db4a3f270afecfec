//! Why a database could not be reached.

use std::path::PathBuf;

use rustls::pki_types::pem;
use tokio_postgres::error::SqlState;
use waldelta_wal::Code;

use crate::client_certificate::CertificateFault;

/// A connection could not be described or made. Says no password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string, or a `PG*` variable that stands in for a part of it, cannot be used.
    #[error("the connection string is not valid: {0}")]
    Invalid(String),
    /// The file of trusted certificates cannot be used.
    #[error("read the certificates in {}", path.display())]
    RootCertificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The certificate that is to be shown to the server, or its key, cannot be used.
    #[error("use the client certificate: {}", path.display())]
    ClientCertificate {
        /// The file that is at fault.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: CertificateFault,
    },
    /// No trusted certificates, or no TLS that can be spoken.
    #[error("prepare TLS")]
    TlsSetup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing answers there, or what answers hangs up.
    #[error("reach {address}")]
    Unreachable {
        /// Host and port, or the socket.
        address: String,
        /// What the system says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It took too long.
    #[error("reach {address}: no answer within {waited_ms} ms")]
    TimedOut {
        /// Host and port, or the socket.
        address: String,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The server offers no TLS, its certificate is not trusted, or it does not trust ours.
    #[error("make a TLS connection to {address} (sslmode={ssl_mode})")]
    Tls {
        /// Host and port.
        address: String,
        /// What was demanded.
        ssl_mode: crate::SslMode,
        /// What is wrong.
        #[source]
        source: tokio_postgres::Error,
    },
    /// User or password are refused, or a password is needed and none is known.
    #[error("log in to {address} as {user}")]
    Authentication {
        /// Host and port, or the socket.
        address: String,
        /// The role.
        user: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is no such database.
    #[error("open database {database} at {address}")]
    DatabaseMissing {
        /// Host and port, or the socket.
        address: String,
        /// Its name.
        database: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server, database or role has no connection left.
    #[error("get a connection at {address}")]
    TooManyConnections {
        /// Host and port, or the socket.
        address: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server is starting, stopping or recovering.
    #[error("wait for {address} to be ready")]
    NotReady {
        /// Host and port, or the socket.
        address: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server does not take the connection as it is asked for, for another reason than those above.
    #[error("connect to {address}")]
    Refused {
        /// Host and port, or the socket.
        address: String,
        /// Whether the address looks like a pooler's, which takes no settings.
        is_pooled: bool,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
}

impl Error {
    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Error::Invalid(reason.into())
    }

    /// The stable code that it shows as. Which database was meant, this crate does not know.
    pub fn code(&self) -> Code {
        match self {
            Error::Invalid(_) => Code::ConfigInvalid,
            Error::RootCertificates { .. }
            | Error::ClientCertificate { .. }
            | Error::TlsSetup(_)
            | Error::Tls { .. } => Code::TlsFailed,
            // It may log in, but not connect to this database.
            Error::Refused { source, .. } if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Code::PrivilegeMissing
            }
            // A server takes every setting that it knows; a pooler refuses those that it could not keep apart.
            Error::Refused { source, .. } if source.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                Code::PoolerAddress
            }
            Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Refused { .. } => {
                Code::DatabaseUnreachable
            }
            Error::Authentication { .. } => Code::AuthenticationFailed,
            Error::DatabaseMissing { .. } => Code::DatabaseMissing,
            Error::TooManyConnections { .. } => Code::ConnectionsExhausted,
            Error::NotReady { .. } => Code::DatabaseNotReady,
        }
    }

    /// Whether trying again later, with nothing changed here, can succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::TimedOut { .. }
            | Error::TooManyConnections { .. }
            | Error::NotReady { .. } => true,
            Error::Tls { source, .. } => cut_during_handshake(source),
            // Short of memory or disk, or failing at what is its own: with a full disk a server that has just started cannot write
            // the file that sessions begin with, and calls that an internal error.
            Error::Refused { source, .. } => {
                source.code().is_some_and(|state| matches!(state.code().get(..2), Some("53" | "58" | "XX")))
            }
            Error::Invalid(_)
            | Error::RootCertificates { .. }
            | Error::ClientCertificate { .. }
            | Error::TlsSetup(_)
            | Error::Authentication { .. }
            | Error::DatabaseMissing { .. } => false,
        }
    }

    /// Sorts the answer to a connection attempt, by SQLSTATE where the server gave one.
    pub(crate) fn from_attempt(target: &crate::Target, source: tokio_postgres::Error) -> Self {
        let address = target.address().to_string();
        let Some(state) = source.code() else {
            return match attempt_kind(&source) {
                AttemptKind::Tls => Error::Tls { address, ssl_mode: target.ssl_mode(), source },
                AttemptKind::Authentication => {
                    Error::Authentication { address, user: target.user().to_owned(), source }
                }
                // In TLS 1.3 a server judges our certificate after the handshake.
                AttemptKind::Other if is_verdict_of_tls(&source) => {
                    Error::Tls { address, ssl_mode: target.ssl_mode(), source }
                }
                AttemptKind::Other => Error::Unreachable { address, source },
            };
        };
        match state.code() {
            code if code.starts_with("28") => {
                Error::Authentication { address, user: target.user().to_owned(), source }
            }
            _ if *state == SqlState::INVALID_CATALOG_NAME => {
                Error::DatabaseMissing { address, database: target.database().to_owned(), source }
            }
            _ if *state == SqlState::TOO_MANY_CONNECTIONS => Error::TooManyConnections { address, source },
            code if code.starts_with("57P") => Error::NotReady { address, source },
            _ => Error::Refused { address, is_pooled: target.looks_pooled(), source },
        }
    }
}

#[derive(PartialEq, Eq)]
pub(crate) enum AttemptKind {
    Tls,
    Authentication,
    Other,
}

/// tokio-postgres tells the kind of an error without SQLSTATE only in its text. The tests of TLS and of a missing password
/// fail when that text changes.
pub(crate) fn attempt_kind(error: &tokio_postgres::Error) -> AttemptKind {
    match error.to_string().as_str() {
        "error performing TLS handshake" => AttemptKind::Tls,
        // No password where one is asked for, or a server that cannot prove that it knows it.
        "authentication error" | "invalid configuration" => AttemptKind::Authentication,
        _ => AttemptKind::Other,
    }
}

/// Whether the connection was lost while TLS began, and not refused for a reason that will stay.
fn cut_during_handshake(error: &tokio_postgres::Error) -> bool {
    io_cause(error).is_some() && !is_verdict_of_tls(error)
}

/// Whether either side does not take what the other has shown.
fn is_verdict_of_tls(error: &tokio_postgres::Error) -> bool {
    // The TLS library's own words hide inside an io::Error.
    io_cause(error).and_then(std::io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&std::io::Error> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}
