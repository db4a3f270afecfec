//! What can fail on the client side.

use std::sync::Arc;

use waldelta_wal::{Code, Position};

use crate::wire::server::NotText;

/// A failure of the client side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading history failed.
    #[error("read history")]
    History(#[from] waldelta_history::Error),
    /// Reading a snapshot failed.
    #[error("read a snapshot of the source")]
    Source(#[from] waldelta_source::Error),
    /// Capture was never set up.
    #[error("nothing is captured yet")]
    NothingCaptured,
    /// It cannot be known for now which tables there are.
    #[error("ask which tables there are")]
    Tables {
        /// Why.
        code: Code,
    },
    /// A row is not UTF-8, so that no frame can carry it.
    #[error("make a frame of a row that is not UTF-8")]
    NotText,
    /// A frame of a snapshot could not be compressed, or what is kept of it is broken.
    #[error("compress a snapshot")]
    Compress {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What was asked for several at once failed for all of them.
    #[error(transparent)]
    Shared(Arc<Error>),
}

impl From<NotText> for Error {
    fn from(_: NotText) -> Self {
        Error::NotText
    }
}

impl Error {
    /// The stable code that it shows as.
    pub fn code(&self) -> Code {
        match self {
            Error::History(source) => source.code(),
            Error::Source(source) => source.code(),
            Error::NothingCaptured => Code::NothingCaptured,
            Error::Tables { code } => *code,
            Error::NotText | Error::Compress { .. } => Code::Internal,
            Error::Shared(error) => error.code(),
        }
    }

    /// The last position of what was pruned, where that is why.
    pub(crate) fn pruned(&self) -> Option<Position> {
        match self {
            Error::History(waldelta_history::Error::Pruned { floor }) => Some(*floor),
            Error::Shared(error) => error.pruned(),
            _ => None,
        }
    }

    /// What a client is told: what failed, and nothing of the database's own words, which may hold values.
    pub(crate) fn for_client(&self) -> String {
        format!("{self}: {}", self.code().explanation().title)
    }
}
