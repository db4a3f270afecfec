//! The limit of open files: each connected client is one. A process may raise its own as far as the hard limit; beyond that it
//! is set by whoever starts it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waldelta_wal::{Code, chain_text};

/// Files that are open beside clients' sockets: databases, the listener, logs, and requests that come and go.
const OTHERS: u64 = 256;

/// What a system gives that has a bound of its own where the hard limit is none: `OPEN_MAX` of macOS.
const OPEN_MAX: u64 = 10_240;

/// How many files this process may have open; `None`: as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles(Option<u64>);

impl OpenFiles {
    /// Raises the limit as far as this process may, and says what it got.
    pub(crate) fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        for wanted in wanted(limit.current, limit.maximum) {
            match setrlimit(Resource::Nofile, Rlimit { current: wanted, ..limit }) {
                Ok(()) => return OpenFiles(wanted),
                Err(error) => {
                    tracing::debug!(error = chain_text(&error), wanted, "raise the limit of open files");
                }
            }
        }
        OpenFiles(limit.current)
    }

    /// What a process that raises it would get here. It changes nothing.
    pub(crate) fn to_be_had() -> Self {
        let limit = getrlimit(Resource::Nofile).maximum;
        OpenFiles(if cfg!(target_os = "macos") { limit.or(Some(OPEN_MAX)) } else { limit })
    }

    /// Whether so many clients fit beside everything else.
    pub(crate) fn fits(self, sessions_max: usize) -> bool {
        self.0.is_none_or(|limit| (sessions_max as u64).saturating_add(OTHERS) <= limit)
    }

    /// How many connections fit beside everything else; where hardly any do, half of what there is.
    pub(crate) fn room(self) -> usize {
        let room = self.0.map_or(u64::MAX, |limit| limit.saturating_sub(OTHERS).max(limit / 2).max(1));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    #[cfg(test)]
    pub(crate) fn of(limit: u64) -> Self {
        OpenFiles(Some(limit))
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

/// The limits to ask for, one after the other, until one is given: the hard one, and what there is where that is more than the system has.
fn wanted(current: Option<u64>, hard: Option<u64>) -> impl Iterator<Item = Option<u64>> {
    let bounded = Some(hard.map_or(OPEN_MAX, |hard| hard.min(OPEN_MAX)));
    let raises = move |wanted: &Option<u64>| {
        current.is_some_and(|current| wanted.is_none_or(|wanted| wanted > current))
    };
    [hard, bounded].into_iter().filter(raises)
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
    fn a_system_that_does_not_give_what_it_promises_is_asked_for_less() {
        let wanted = |current, hard| wanted(current, hard).collect::<Vec<_>>();
        assert_eq!(wanted(Some(256), None), [None, Some(10_240)]);
        assert_eq!(wanted(Some(1_024), Some(4_096)), [Some(4_096), Some(4_096)]);
        assert_eq!(wanted(Some(20_000), Some(1 << 20)), [Some(1 << 20)]);
        assert_eq!(wanted(Some(4_096), Some(4_096)), []);
        assert_eq!(wanted(None, None), []);
    }

    #[test]
    fn there_is_room_for_connections_whatever_the_limit() {
        let room = |limit| OpenFiles(limit).room();
        assert_eq!([Some(0), Some(256), Some(300), Some(1_024)].map(room), [1, 128, 150, 768]);
        assert_eq!(room(None), usize::MAX);
    }

    #[test]
    fn what_is_raised_is_what_was_to_be_had() {
        let promised = OpenFiles::to_be_had();
        assert_eq!(OpenFiles::raise(), promised);
        assert_eq!(getrlimit(Resource::Nofile).current, promised.0);
    }
}
