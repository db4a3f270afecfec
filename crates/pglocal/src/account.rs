//! The user that PostgreSQL runs as. It refuses to run as root, so root must lend it to somebody else.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bounded;
use crate::error::Error;

/// Who runs PostgreSQL, and whether that is somebody else than we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    lent: bool,
}

impl Account {
    /// Ourselves, unless we are root: then the owner of `data_dir` if it exists, else `postgres`, else `nobody`.
    pub(crate) fn for_data(data_dir: &Path) -> Result<Self, Error> {
        if rustix::process::geteuid().is_root()
            && let Ok(metadata) = data_dir.metadata()
            && metadata.uid() != 0
        {
            return Ok(Account { uid: metadata.uid(), gid: metadata.gid(), lent: true });
        }
        Account::unprivileged()
    }

    /// Ourselves, unless we are root: then `postgres`, else `nobody`.
    pub(crate) fn unprivileged() -> Result<Self, Error> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Account { uid, gid: rustix::process::getegid().as_raw(), lent: false });
        }
        ["postgres", "nobody"].into_iter().find_map(named).ok_or(Error::NoAccount)
    }

    pub(crate) fn uid(self) -> u32 {
        self.uid
    }

    /// Makes `command` run as this user, without our other groups.
    pub(crate) fn apply(self, command: &mut Command) {
        if self.lent {
            command.gid(self.gid).uid(self.uid);
        }
    }

    /// Gives `path` (not what is in it) to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        if !self.lent {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid)).map_err(|source| Error::Folder {
            action: "hand over",
            path: path.to_owned(),
            source,
        })
    }

    /// Gives `path` and everything in it to this user. Links are given, not what they lead to.
    pub(crate) fn own_all(self, path: &Path) -> Result<(), Error> {
        if !self.lent {
            return Ok(());
        }
        let failed = |source| Error::Folder { action: "hand over", path: path.to_owned(), source };
        lchown(path, Some(self.uid), Some(self.gid)).map_err(failed)?;
        if path.symlink_metadata().map_err(failed)?.is_dir() {
            for entry in std::fs::read_dir(path).map_err(failed)? {
                self.own_all(&entry.map_err(failed)?.path())?;
            }
        }
        Ok(())
    }

    /// The first folder on the way to `path`, itself included, that this user may not enter. What does not exist yet
    /// is not looked at. Only mode bits are considered: an access control list that opens more is not seen.
    pub(crate) fn closed_on_the_way_to(self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| {
                folder.metadata().is_ok_and(|metadata| metadata.is_dir() && !self.may_enter(&metadata))
            })
            .map(Path::to_owned)
    }

    fn may_enter(self, metadata: &Metadata) -> bool {
        let bit = match () {
            () if metadata.uid() == self.uid => 0o100,
            () if metadata.gid() == self.gid => 0o010,
            () => 0o001,
        };
        metadata.mode() & bit != 0
    }
}

/// Looks a user up with `id`, which knows every directory that the system uses.
fn named(name: &str) -> Option<Account> {
    let ask = |what: &str| -> Option<u32> {
        let answer = bounded::output(Command::new("id").args([what, name]), Duration::from_secs(10)).ok()?;
        answer.success.then(|| answer.text.trim().parse().ok()).flatten()
    };
    Some(Account { uid: ask("-u")?, gid: ask("-g")?, lent: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_on_the_way_is_named() {
        let base = std::env::temp_dir().join(format!("waldelta-account-{}", std::process::id()));
        let closed = base.join("closed");
        std::fs::create_dir_all(closed.join("pg")).unwrap();
        std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let stranger = Account { uid: 65_533, gid: 65_533, lent: true };
        assert_eq!(stranger.closed_on_the_way_to(&closed.join("pg")), Some(closed.clone()));
        assert_eq!(stranger.closed_on_the_way_to(&base), None);
        std::fs::remove_dir_all(base).unwrap();
    }
}
