//! The only place that reads the process environment.

use std::ffi::OsString;
use std::path::PathBuf;

/// `PG*` variables and the home folder, for connection strings.
pub(crate) fn postgres() -> waldelta_pgconn::Environment {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("PG")).collect();
    waldelta_pgconn::Environment { variables, home: home() }
}

/// `PATH`, for finding PostgreSQL's programs.
pub(crate) fn path() -> Option<OsString> {
    std::env::var_os("PATH")
}

/// The user's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}
