//! What the doctor looks at on this machine. The service may be started elsewhere, or by somebody with other limits.

use waldelta_source::checks::{self, Check, Kind};
use waldelta_wal::Code;

use crate::config::Config;
use crate::open_files::OpenFiles;

/// Every check of this machine, in the order in which they are made.
pub(super) const LIST: &[Kind] = &[Kind {
    name: "open_files",
    looks_at: "Whether a process that is started as this one may have as many open files as `server.sessions_max` needs.",
    codes: &[Code::OpenFilesLow],
}];

/// Runs them.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let checks = vec![open_files(OpenFiles::to_be_had(), config)];
    for check in &checks {
        debug_assert!(checks::is_listed(check, LIST), "{check:?} is not in the list of checks");
    }
    checks
}

fn open_files(limit: OpenFiles, config: &Config) -> Check {
    const NAME: &str = "open_files";
    let sessions_max = config.server.sessions_max;
    if !config.server.role.serves() {
        return Check::ok(NAME, format!("{limit}; a process of this role serves no clients"));
    }
    let found = format!("{limit}, for {sessions_max} clients and the rest");
    match limit.fits(sessions_max) {
        true => Check::ok(NAME, found),
        false => Check::warning(NAME, Code::OpenFilesLow, found, Code::OpenFilesLow.explanation().fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waldelta_source::checks::State;

    #[test]
    fn more_clients_than_files_are_a_warning_where_clients_are_served() {
        let limit = OpenFiles::to_be_had();
        let mut config = Config::default();
        config.server.sessions_max = 1;
        assert_eq!(open_files(limit, &config).state, State::Ok);
        config.server.sessions_max = usize::MAX;
        let refused = open_files(limit, &config);
        // Where there is no limit at all, nothing is too many.
        assert!(limit.fits(usize::MAX) || refused.code == Some(Code::OpenFilesLow), "{refused:?}");
        config.server.role = crate::role::Role::Capture;
        assert_eq!(open_files(limit, &config).state, State::Ok);
    }
}
