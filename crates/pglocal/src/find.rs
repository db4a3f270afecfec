//! Where PostgreSQL's programs are on this machine.
//!
//! Only a folder with both `initdb` and `postgres` that answer counts: version managers put wrappers into `PATH`, and some
//! machines have stray single programs there.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bounded;
use crate::error::Error;

/// The oldest major version that works as a source.
pub const VERSION_MIN: u32 = 14;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What this crate needs to know of the process environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `PATH`.
    pub path: Option<OsString>,
    /// The user's home folder.
    pub home: Option<PathBuf>,
}

/// A PostgreSQL version, such as 15.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Such as 15.
    pub major: u32,
    /// Such as 18; 0 for a development version.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.18 (Debian …)`, `… 18beta1`, `… 19devel`.
    fn of_program(output: &str) -> Option<Self> {
        let text = output.split("(PostgreSQL)").nth(1)?.trim_start();
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let major = digits(text);
        let minor = text[major.len()..].strip_prefix('.').map(digits).unwrap_or_default();
        Some(Version { major: major.parse().ok()?, minor: minor.parse().unwrap_or(0) })
    }
}

/// A PostgreSQL that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The folder with `initdb` and `postgres`, symlinks resolved.
    pub bindir: PathBuf,
    /// Their version.
    pub version: Version,
}

impl Binaries {
    /// The programs in `bindir`, after trying them.
    pub fn at(bindir: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { bindir: bindir.to_owned(), reason };
        let postgres = bindir.join("postgres");
        // A folder of links (Debian's /usr/local/bin, Homebrew) counts as the folder that they lead to, because
        // PostgreSQL finds its other files from there.
        let postgres = postgres.canonicalize().map_err(|_| unusable("it has no `postgres`".into()))?;
        let real = postgres.parent().unwrap_or(bindir).to_owned();
        if !real.join("initdb").is_file() {
            return Err(unusable("it has `postgres`, but no `initdb`".into()));
        }
        // Without our environment, as the server itself will run: a version manager's wrapper fails here.
        let ask = |program: &str| {
            let mut command = Command::new(real.join(program));
            command
                .arg("--version")
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("LC_ALL", "C")
                .current_dir("/");
            let answer = bounded::output(&mut command, ANSWER_TIMEOUT)
                .map_err(|source| unusable(format!("`{program} --version` failed: {source}")))?;
            Version::of_program(&answer.text)
                .filter(|_| answer.success)
                .ok_or_else(|| unusable(format!("`{program} --version` answered {:?}", answer.text.trim())))
        };
        let (version, initdb) = (ask("postgres")?, ask("initdb")?);
        if initdb != version {
            return Err(unusable(format!("its `postgres` is {version}, but its `initdb` {initdb}")));
        }
        if version.major < VERSION_MIN {
            return Err(unusable(format!(
                "it is PostgreSQL {version}, and {VERSION_MIN} or newer is needed"
            )));
        }
        Ok(Binaries { bindir: real, version })
    }

    /// Path of one of its programs. Only `initdb` and `postgres` are sure to be there.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only here.
    pub bindir: Option<PathBuf>,
    /// Only this major version: the one that made the cluster (see [`cluster_major`](crate::cluster_major)).
    pub major: Option<u32>,
}

/// Finds PostgreSQL's programs: the folder asked for, else `PATH`, `pg_config`, the places where packages put them.
pub fn find(wanted: &Wanted, environment: &Environment) -> Result<Binaries, Error> {
    if let Some(bindir) = &wanted.bindir {
        return Binaries::at(bindir);
    }
    let mut passed_over = Vec::new();
    for bindir in candidates(Path::new("/"), environment) {
        match Binaries::at(&bindir) {
            Ok(found) if wanted.major.is_none_or(|major| major == found.version.major) => return Ok(found),
            Ok(found) => passed_over.push(format!("{} is {}", found.bindir.display(), found.version)),
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    Err(Error::NotFound { passed_over })
}

/// Folders that have a `postgres`, in order of preference. `root` is `/` save in tests.
fn candidates(root: &Path, environment: &Environment) -> Vec<PathBuf> {
    let path: Vec<PathBuf> =
        environment.path.as_ref().map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let mut found = path.clone();
    found.extend(path.iter().find_map(|folder| asked_pg_config(&folder.join("pg_config"))));
    found.extend(versions(&root.join("usr/lib/postgresql"), "", "bin"));
    for prefix in ["opt/homebrew/opt", "usr/local/opt"] {
        found.extend(versions(&root.join(prefix), "postgresql@", "bin"));
        found.push(root.join(prefix).join("postgresql/bin"));
    }
    found.extend(versions(&root.join("Applications/Postgres.app/Contents/Versions"), "", "bin"));
    found.extend(versions(root, "usr/pgsql-", "bin"));
    if let Some(home) = &environment.home {
        found.extend(versions(&home.join(".asdf/installs/postgres"), "", "bin"));
        found.extend(versions(&home.join(".local/share/mise/installs/postgres"), "", "bin"));
    }
    found.retain(|bindir| bindir.is_absolute() && bindir.join("postgres").exists());
    let mut seen = Vec::new();
    found.retain(|bindir| {
        let real = bindir.join("postgres").canonicalize().unwrap_or_default();
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    found
}

fn asked_pg_config(program: &Path) -> Option<PathBuf> {
    if !program.is_file() {
        return None;
    }
    let answer = bounded::output(Command::new(program).arg("--bindir"), ANSWER_TIMEOUT).ok()?;
    answer.success.then(|| PathBuf::from(answer.text.trim()))
}

/// The folders `parent/<prefix><version>/<below>`, newest version first.
fn versions(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let (parent, prefix) = match prefix.rsplit_once('/') {
        Some((folder, prefix)) => (parent.join(folder), prefix),
        None => (parent.to_owned(), prefix),
    };
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let numbers = version.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            Some((numbers, entry.path().join(below)))
        })
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder that is removed when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("waldelta-find-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path.canonicalize().unwrap())
        }

        fn program(&self, path: &str, answer: &str) -> PathBuf {
            let file = self.0.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, format!("#!/bin/sh\necho \"{answer}\"\n")).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
            file
        }

        fn postgres(&self, bindir: &str, version: &str) -> PathBuf {
            self.program(&format!("{bindir}/initdb"), &format!("initdb (PostgreSQL) {version}"));
            let postgres =
                self.program(&format!("{bindir}/postgres"), &format!("postgres (PostgreSQL) {version}"));
            postgres.parent().unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn reads_versions_as_programs_print_them() {
        let read = |text: &str| Version::of_program(text).map(|version| version.to_string());
        assert_eq!(read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(), Some("15.18"));
        assert_eq!(read("postgres (PostgreSQL) 18beta1").as_deref(), Some("18.0"));
        assert_eq!(read("postgres (PostgreSQL) 19devel").as_deref(), Some("19.0"));
        assert_eq!(read("No version is set for command postgres"), None);
    }

    #[test]
    fn newer_packages_come_first_and_numerically() {
        let scratch = Scratch::new("order");
        for version in ["9.6", "14", "17"] {
            scratch.postgres(&format!("usr/lib/postgresql/{version}/bin"), version);
        }
        scratch.postgres("opt/homebrew/opt/postgresql@16/bin", "16.1");
        let found = candidates(&scratch.0, &Environment::default());
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(&scratch.0).unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "usr/lib/postgresql/17/bin",
                "usr/lib/postgresql/14/bin",
                "usr/lib/postgresql/9.6/bin",
                "opt/homebrew/opt/postgresql@16/bin"
            ]
        );
    }

    #[test]
    fn path_comes_first_and_links_are_followed_to_where_the_programs_are() {
        let scratch = Scratch::new("links");
        let real = scratch.postgres("real/bin", "16.4");
        let links = scratch.0.join("links");
        std::fs::create_dir(&links).unwrap();
        symlink(real.join("postgres"), links.join("postgres")).unwrap();
        let environment = Environment { path: Some(links.into()), home: None };
        let found = find(&Wanted::default(), &environment).unwrap();
        assert_eq!(found, Binaries { bindir: real, version: Version { major: 16, minor: 4 } });
    }

    #[test]
    fn a_folder_without_initdb_is_refused_by_name() {
        let scratch = Scratch::new("half");
        scratch.program("bin/postgres", "postgres (PostgreSQL) 16.4");
        let error = Binaries::at(&scratch.0.join("bin")).unwrap_err();
        assert!(error.to_string().contains("no `initdb`"), "{error}");
    }

    #[test]
    fn a_wrapper_that_needs_its_environment_and_an_old_version_are_refused() {
        let scratch = Scratch::new("old");
        let old = scratch.postgres("old/bin", "13.2");
        assert!(Binaries::at(&old).unwrap_err().to_string().contains("14 or newer"));
        scratch.program("shims/initdb", "x");
        scratch.program("shims/postgres", "No version is set");
        let error = Binaries::at(&scratch.0.join("shims")).unwrap_err();
        assert!(error.to_string().contains("No version is set"), "{error}");
    }

    #[test]
    fn a_wanted_folder_is_the_only_one_looked_at() {
        let wanted = Wanted { bindir: Some("/nonexistent".into()), major: None };
        let environment = Environment { path: Some("/usr/lib/postgresql/15/bin".into()), home: None };
        let error = find(&wanted, &environment).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert_eq!(error.code(), waldelta_wal::Code::PostgresNotFound);
    }
}
