//! Where a cluster's files are: the data folder, the log and the lock beside it, the folder of its socket.
//!
//! ```text
//! .waldelta/pg        data, PostgreSQL's own; also the socket, if its path is short enough
//! .waldelta/pg.log    the server's log
//! .waldelta/pg.lock   held while one of our processes uses the cluster
//! .waldelta/pg.new    data while initdb makes it
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::error::Error;

/// The smallest limit of the systems that we run on: 104 bytes with the closing zero on macOS, 108 on Linux.
const SOCKET_PATH_BYTES_MAX: usize = 103;
const SOCKET_NAME_BYTES_MAX: usize = "/.s.PGSQL.65535".len();

/// The folders of one cluster, locked for this process.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) account: Account,
    pub(crate) data_dir: PathBuf,
    pub(crate) socket_dir: PathBuf,
    pub(crate) log: PathBuf,
    /// What the user should know about where the files are.
    pub(crate) notice: Option<String>,
    /// Removed with everything in it when the cluster stops.
    pub(crate) ephemeral: Option<PathBuf>,
    /// Unlocked by dropping it.
    _lock: Option<File>,
}

impl Folder {
    /// The files of the cluster that is kept at `data_dir`.
    pub(crate) fn kept(data_dir: &Path) -> Result<Self, Error> {
        let asked = absolute(data_dir)?;
        if let Some(parent) = asked.parent() {
            create_all(parent)?;
        }
        let place = place(&asked)?;
        if let Some(parent) = place.data_dir.parent().filter(|_| place.notice.is_some()) {
            create_owned(parent, 0o755, &[])?;
        }
        let lock = lock(&beside(&place.data_dir, "lock"), &place.data_dir)?;
        let socket_dir = socket_dir(&place.data_dir, place.account)?;
        Ok(Folder {
            account: place.account,
            log: beside(&place.data_dir, "log"),
            socket_dir,
            data_dir: place.data_dir,
            notice: place.notice,
            ephemeral: None,
            _lock: Some(lock),
        })
    }

    /// Files of a new cluster in a new folder in `under`.
    pub(crate) fn ephemeral(under: &Path) -> Result<Self, Error> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let under = under.canonicalize().map_err(failed("find", under))?;
        let account = Account::unprivileged()?;
        if let Some(closed) = account.closed_on_the_way_to(&under) {
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(failed("let the server's user enter", &closed)(denied));
        }
        let folder = loop {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let folder = under.join(format!("wd-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o755).create(&folder) {
                Ok(()) => break folder,
                // Left by an earlier process with our id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", &folder)(error)),
            }
        };
        // Whatever fails from here on must not leave the folder behind.
        let made = || {
            set_mode(&folder, 0o755)?;
            let data_dir = folder.join("pg");
            let socket_dir = socket_dir(&data_dir, account)?;
            Ok(Folder {
                account,
                log: beside(&data_dir, "log"),
                socket_dir,
                data_dir,
                notice: None,
                ephemeral: Some(folder.clone()),
                _lock: None,
            })
        };
        made().inspect_err(|_| {
            let _ = std::fs::remove_dir(&folder);
        })
    }

    /// Where initdb works, so that a cluster is either complete or not there.
    pub(crate) fn unfinished(&self) -> PathBuf {
        beside(&self.data_dir, "new")
    }

    /// Removes what a stopped cluster leaves: the folder of its socket, and everything if it was ephemeral.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        if self.socket_dir != self.data_dir {
            ignore_missing(std::fs::remove_dir_all(&self.socket_dir))
                .map_err(failed("remove", &self.socket_dir))?;
        }
        if let Some(folder) = &self.ephemeral {
            ignore_missing(std::fs::remove_dir_all(folder)).map_err(failed("remove", folder))?;
        }
        Ok(())
    }
}

/// The major version that made the cluster kept at `data_dir`; `None` where there is no cluster yet.
pub fn cluster_major(data_dir: &Path) -> Option<u32> {
    let place = place(&absolute(data_dir).ok()?).ok()?;
    std::fs::read_to_string(place.data_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

struct Place {
    data_dir: PathBuf,
    account: Account,
    notice: Option<String>,
}

/// Where the cluster asked for at `asked` really is: elsewhere, if the user that must run PostgreSQL cannot get there.
fn place(asked: &Path) -> Result<Place, Error> {
    let asked = match (asked.parent(), asked.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map_err(failed("find", parent))?.join(name),
        _ => return Err(Error::Foreign { data_dir: asked.to_owned() }),
    };
    let account = Account::for_data(&asked)?;
    let parent = asked.parent().unwrap_or(&asked);
    let Some(closed) = account.closed_on_the_way_to(parent) else {
        return Ok(Place { data_dir: asked, account, notice: None });
    };
    let data_dir = PathBuf::from(format!("/var/tmp/waldelta-{}", hash(&asked))).join("pg");
    let account = Account::for_data(&data_dir)?;
    let notice = format!(
        "user {} runs PostgreSQL and cannot enter {}: the cluster is in {} instead",
        account.uid(),
        closed.display(),
        data_dir.display()
    );
    Ok(Place { data_dir, account, notice: Some(notice) })
}

/// The data folder itself, closed to others as it is; a short path in /tmp where the socket would not fit.
fn socket_dir(data_dir: &Path, account: Account) -> Result<PathBuf, Error> {
    if data_dir.as_os_str().len() + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX {
        return Ok(data_dir.to_owned());
    }
    let short = PathBuf::from(format!("/tmp/wd-{}", hash(data_dir)));
    create_owned(&short, 0o700, &[account.uid()])?;
    account.own(&short)?;
    Ok(short)
}

fn lock(path: &Path, data_dir: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let mut file = open.map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
            return Err(Error::InUse { data_dir: data_dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed("lock", path)(source)),
    }
    let write = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(failed("write", path))?;
    Ok(file)
}

/// Writes a file that the server reads. It replaces what is there in one step and follows no link, because the folder
/// belongs to another user when we are root.
pub(crate) fn write_for(account: Account, path: &Path, text: &str) -> Result<(), Error> {
    let new = beside(path, "new");
    ignore_missing(std::fs::remove_file(&new)).map_err(failed("remove", &new))?;
    let open = OpenOptions::new().write(true).create_new(true).open(&new);
    open.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed("write", &new))?;
    account.own(&new)?;
    std::fs::rename(&new, path).map_err(failed("replace", path))
}

/// Creates a folder with a predictable name in a place that everybody may write to, or takes it if its owner is us or
/// one of `owners`.
pub(crate) fn create_owned(path: &Path, mode: u32, owners: &[u32]) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        // Whatever the umask took away is needed.
        Ok(()) => set_mode(path, mode),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = path.symlink_metadata().map_err(failed("look at", path))?;
            let is_ours =
                metadata.uid() == rustix::process::geteuid().as_raw() || owners.contains(&metadata.uid());
            if metadata.is_dir() && is_ours && metadata.mode() & 0o022 == 0 {
                Ok(())
            } else {
                Err(Error::FolderNotOurs { path: path.to_owned() })
            }
        }
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// The error for an operation on `path`.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Folder { action, path, source }
}

/// Nothing to remove is as good as removed.
pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(crate) fn create_all(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed("create", path))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(failed("open up", path))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(failed("find", path))
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

fn hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
