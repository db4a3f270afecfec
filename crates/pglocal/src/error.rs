//! What can go wrong when a private PostgreSQL is found, fetched or run.

use std::path::PathBuf;

use waldelta_wal::Code;

use crate::find::{VERSION_MIN, Version};

/// What failed. Messages name folders, programs and processes, never the content of a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable programs anywhere.
    #[error(
        "no PostgreSQL {VERSION_MIN} or newer was found{}: install one (Debian: apt-get install postgresql; macOS: brew install \
         postgresql@17) or name the folder of its programs",
        in_brackets(.passed_over)
    )]
    NotFound {
        /// What was found but cannot be used, and why.
        passed_over: Vec<String>,
    },
    /// The folder that was asked for has no usable programs.
    #[error("{} cannot be used: {reason}", bindir.display())]
    Unusable {
        /// The folder.
        bindir: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Every way to fetch the programs failed.
    #[error(
        "PostgreSQL could not be fetched ({}): install it (Debian: apt-get install postgresql; macOS: brew install \
         postgresql@17) or name the folder of its programs",
        attempts.join("; ")
    )]
    Fetch {
        /// What was tried, and how it ended.
        attempts: Vec<String>,
    },
    /// Started by root, and there is no user to run PostgreSQL as.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as"
    )]
    NoAccount,
    /// The programs lie where the user that runs PostgreSQL may not look.
    #[error("user {uid} cannot reach {}: {} is closed to it", bindir.display(), closed.display())]
    ProgramsClosed {
        /// The folder of the programs.
        bindir: PathBuf,
        /// The folder that may not be entered.
        closed: PathBuf,
        /// The user.
        uid: u32,
    },
    /// A folder or file could not be made, read or handed over.
    #[error("{action} {}", path.display())]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A folder with a predictable name in a shared place belongs to somebody else.
    #[error("{} belongs to another user: remove it or choose another folder", path.display())]
    FolderNotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// Another living process uses the folder.
    #[error("{} is in use by process {holder}", data_dir.display())]
    InUse {
        /// The data folder.
        data_dir: PathBuf,
        /// Its process id, as text; empty where it could not be read.
        holder: String,
    },
    /// The folder has files, and they are not a cluster of ours.
    #[error("{} is not empty and was not made by Waldelta: choose another folder", data_dir.display())]
    Foreign {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// The cluster was made by another major version.
    #[error(
        "{} was made by PostgreSQL {made_by}, and the programs are {found}: name those of {made_by}, or choose another folder",
        data_dir.display()
    )]
    OtherVersion {
        /// The data folder.
        data_dir: PathBuf,
        /// The major version that made it.
        made_by: String,
        /// The version of the programs.
        found: Version,
    },
    /// A server left over from an earlier run did not end.
    #[error("PostgreSQL (process {pid}) still runs in {} and does not end", data_dir.display())]
    LeftOver {
        /// The data folder.
        data_dir: PathBuf,
        /// Its process id.
        pid: u32,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    Initdb {
        /// The end of what it printed.
        output: String,
    },
    /// The port that was asked for is in use.
    #[error("port {port} is in use by another process")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The server ended, or was not ready in time.
    #[error("PostgreSQL {what}; the end of {}: {tail}", log.display())]
    Start {
        /// What it did instead of becoming ready.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A program could not be run, or a running one not be waited for or ended.
    #[error("{action} {program}")]
    Process {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which program.
        program: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The code users see.
    pub fn code(&self) -> Code {
        match self {
            Error::NotFound { .. } | Error::Unusable { .. } | Error::ProgramsClosed { .. } => {
                Code::PostgresNotFound
            }
            Error::Fetch { .. } => Code::PostgresFetchFailed,
            Error::Folder { .. }
            | Error::FolderNotOurs { .. }
            | Error::InUse { .. }
            | Error::Foreign { .. }
            | Error::OtherVersion { .. } => Code::PostgresDataUnusable,
            Error::PortTaken { .. } => Code::PostgresPortTaken,
            Error::NoAccount
            | Error::LeftOver { .. }
            | Error::Initdb { .. }
            | Error::Start { .. }
            | Error::Process { .. } => Code::PostgresStartFailed,
        }
    }
}

fn in_brackets(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) }
}
