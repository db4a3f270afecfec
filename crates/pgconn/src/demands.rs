//! What a connection string demands of the connection's security.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

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

impl FromStr for ChannelBinding {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "prefer" => Ok(ChannelBinding::Prefer),
            "disable" => Ok(ChannelBinding::Disable),
            "require" => Ok(ChannelBinding::Require),
            _ => Err(Error::invalid("channel_binding has to be disable, prefer or require")),
        }
    }
}
