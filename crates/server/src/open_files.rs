//! The limit of open files: each connected client is one. A process may raise its own as far as the hard limit; beyond that it
//! is set by whoever starts it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waldelta_wal::Code;

/// Files that are open beside clients' sockets: databases, the listener, logs, and requests that come and go.
const OTHERS: u64 = 256;

/// How many files this process may have open; `None`: as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles(Option<u64>);

impl OpenFiles {
    /// Raises the limit as far as this process may, and says what it got.
    pub(crate) fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        if limit.current == limit.maximum {
            return OpenFiles(limit.current);
        }
        match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
            Ok(()) => OpenFiles(limit.maximum),
            // Where the hard limit is none, some systems have another bound of their own.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "raise the limit of open files");
                OpenFiles(limit.current)
            }
        }
    }

    /// What a process that raises it would get here. It changes nothing.
    pub(crate) fn to_be_had() -> Self {
        OpenFiles(getrlimit(Resource::Nofile).maximum)
    }

    /// Whether so many clients fit beside everything else.
    pub(crate) fn fits(self, sessions_max: usize) -> bool {
        self.0.is_none_or(|limit| (sessions_max as u64).saturating_add(OTHERS) <= limit)
    }

    /// Logs it, with a warning where fewer clients fit than may come.
    pub(crate) fn tell(self, sessions_max: usize) {
        if self.fits(sessions_max) {
            tracing::info!("open files: {self}");
            return;
        }
        let code = Code::OpenFilesLow;
        tracing::warn!(
            code = code.as_str(),
            fix = code.explanation().fix,
            "open files: {self}, too few for {sessions_max} clients and {OTHERS} others"
        );
    }
}

impl std::fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "at most {limit}"),
            None => f.write_str("no limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_fit_where_there_is_room_for_the_rest_too() {
        assert!(OpenFiles(None).fits(usize::MAX));
        assert!(OpenFiles(Some(1_256)).fits(1_000));
        assert!(!OpenFiles(Some(1_255)).fits(1_000));
        assert!(!OpenFiles(Some(u64::MAX - 1)).fits(usize::MAX));
    }

    #[test]
    fn what_is_raised_is_what_was_to_be_had() {
        let promised = OpenFiles::to_be_had();
        assert_eq!(OpenFiles::raise(), promised);
        assert_eq!(getrlimit(Resource::Nofile).current, promised.0);
    }
}
