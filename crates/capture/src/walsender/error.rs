//! What can fail on a replication connection.

use std::io;

use waldelta_wal::{Code, ReadError};

use super::frames::FrameError;
use super::server_error::ServerError;

/// A replication connection could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to the address.
    #[error("connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection string's demands on TLS cannot be turned into settings.
    #[error("prepare TLS")]
    TlsSettings(#[source] waldelta_pgconn::Error),
    /// TLS is demanded and the server has none.
    #[error("the server offers no TLS")]
    TlsRefused,
    /// The TLS handshake failed.
    #[error("agree on TLS with {host}")]
    TlsHandshake {
        /// With whom.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server wants a password and there is none.
    #[error("the server wants a password and none was given")]
    PasswordMissing,
    /// The server wants the password in clear over a connection that others can read.
    #[error("the server wants the password in clear text over an unencrypted network connection")]
    PasswordExposed,
    /// The server wants a way of authentication that is not spoken here.
    #[error("the server wants authentication by {method}, which is not supported")]
    AuthenticationUnsupported {
        /// Its name.
        method: String,
    },
    /// `channel_binding=require` stands in the connection string.
    #[error("channel_binding=require is not supported for the replication connection")]
    ChannelBindingRequired,
    /// The SCRAM exchange failed: the server did not prove that it knows the password, or broke the exchange off.
    #[error("prove the password by SCRAM")]
    Scram(#[source] io::Error),
    /// The server answered with an error.
    #[error("{what}")]
    Refused {
        /// What was being done, as verb and object.
        what: &'static str,
        /// Its answer.
        #[source]
        source: ServerError,
    },
    /// The server does not have the output plugin.
    #[error("load the output plugin")]
    PluginMissing(#[source] ServerError),
    /// The server does not let the output plugin be used.
    #[error("use the output plugin")]
    PluginBlocked(#[source] ServerError),
    /// The server does not write what a slot needs.
    #[error("create the replication slot")]
    WalLevel(#[source] ServerError),
    /// The publication is gone, or younger than what is to be decoded.
    #[error("decode with the publication")]
    Publication(#[source] ServerError),
    /// The walsender ended with an error while streaming.
    #[error("stream changes")]
    Streaming(#[source] ServerError),
    /// Bytes that are no protocol messages.
    #[error("read a message")]
    Frame(#[from] FrameError),
    /// A message that has not its documented form.
    #[error("read a replication message")]
    Malformed(#[from] ReadError),
    /// A message that has no place here.
    #[error("{what}: unexpected answer")]
    Unexpected {
        /// What was being done.
        what: &'static str,
    },
    /// A text that values are printed in depends on settings that could not be pinned.
    #[error("a probe value reads {found:?} instead of {expected:?}")]
    NotPinned {
        /// As the server prints it.
        found: String,
        /// As it must be.
        expected: &'static str,
    },
    /// Reading or writing failed, or took too long.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The other end closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing arrived for longer than a living walsender is ever silent.
    #[error("nothing heard from the walsender for {silent_ms} ms")]
    Silent {
        /// For how long.
        silent_ms: u64,
    },
    /// Changes were not taken off the reader for too long, so the socket would have stayed unread.
    #[error("nothing was taken up for {stalled_ms} ms")]
    Stalled {
        /// For how long.
        stalled_ms: u64,
    },
    /// The reading thread could not be started or ended without a word.
    #[error("run the thread that reads the walsender")]
    Thread(#[source] io::Error),
}

impl Error {
    /// What it is where a command names a plugin that is no part of the server, once the login has shown that the role may
    /// replicate.
    pub(super) fn of_plugin(self) -> Self {
        match self {
            Error::Refused { source, .. } if source.is("58P01") => Error::PluginMissing(source),
            Error::Refused { source, .. } if source.is("42501") => Error::PluginBlocked(source),
            other => other,
        }
    }

    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Error::TlsSettings(_) | Error::TlsRefused | Error::TlsHandshake { .. } => Code::TlsFailed,
            Error::PasswordMissing
            | Error::PasswordExposed
            | Error::AuthenticationUnsupported { .. }
            | Error::ChannelBindingRequired
            | Error::Scram(_) => Code::AuthenticationFailed,
            Error::Refused { source, .. } | Error::Streaming(source) => match source.sqlstate.as_str() {
                "28000" | "28P01" => Code::AuthenticationFailed,
                // More slots, or more walsenders, than the server is set to have.
                "53300" | "53400" => Code::SlotsExhausted,
                "42501" | "55000" | "0A000" => Code::ReplicationRefused,
                "55006" => Code::SlotActive,
                // What a walsender understands is no SQL: a pooler has connected to an ordinary backend, or refuses our settings.
                "42601" | "08P01" => Code::PoolerAddress,
                _ => Code::SourceUnreachable,
            },
            Error::PluginMissing(_) => Code::PluginMissing,
            Error::PluginBlocked(_) => Code::PluginBlocked,
            Error::WalLevel(_) => Code::WalLevel,
            Error::Publication(_) => Code::PublicationMissing,
            Error::Frame(_) | Error::Malformed(_) | Error::Unexpected { .. } => Code::ReplicationProtocol,
            Error::NotPinned { .. } => Code::SettingsNotPinned,
            Error::Stalled { .. } => Code::HistoryStalled,
            Error::Connect { .. }
            | Error::Io { .. }
            | Error::Closed
            | Error::Silent { .. }
            | Error::Thread(_) => Code::SourceUnreachable,
        }
    }

    /// Whether trying again can help. What a slot or publication lacks is found out by the checks before the next
    /// start, so almost everything may be tried again; bytes that cannot be read would be the same again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Publication(_)
            | Error::NotPinned { .. }
            | Error::Malformed(_)
            | Error::WalLevel(_)
            | Error::ChannelBindingRequired => false,
            Error::Connect { .. }
            | Error::TlsSettings(_)
            | Error::TlsRefused
            | Error::TlsHandshake { .. }
            | Error::PasswordMissing
            | Error::PasswordExposed
            | Error::AuthenticationUnsupported { .. }
            | Error::Scram(_)
            | Error::Refused { .. }
            | Error::PluginMissing(_)
            | Error::PluginBlocked(_)
            | Error::Streaming(_)
            | Error::Frame(_)
            | Error::Unexpected { .. }
            | Error::Io { .. }
            | Error::Closed
            | Error::Silent { .. }
            | Error::Stalled { .. }
            | Error::Thread(_) => true,
        }
    }
}
