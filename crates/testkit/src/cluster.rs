//! A PostgreSQL of one test's own, to be killed, restarted and configured.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use waldelta_pglocal::{Binaries, Cluster, Environment, Options, Shutdown, Storage, Wanted, find};

use crate::small_disk::SmallDisk;

/// The PostgreSQL that tests run against: in `WALDELTA_TEST_PG_BINDIR` if that is set, else the machine's.
pub fn test_binaries() -> Binaries {
    let bindir =
        std::env::var_os("WALDELTA_TEST_PG_BINDIR").filter(|bindir| !bindir.is_empty()).map(PathBuf::from);
    find(&Wanted { bindir, major: None }, &environment())
        .unwrap_or_else(|error| panic!("{error}; scripts/install-test-deps installs what tests need"))
}

/// One of PostgreSQL's client programs: the one beside the tested server, else the machine's, because some packages have
/// the server only.
pub fn test_program(name: &str) -> PathBuf {
    let beside = test_binaries().program(name);
    if beside.is_file() {
        return beside;
    }
    let installed = find(&Wanted::default(), &environment()).map(|machines| machines.program(name));
    installed.ok().filter(|program| program.is_file()).unwrap_or_else(|| name.into())
}

fn environment() -> Environment {
    Environment { path: std::env::var_os("PATH"), home: std::env::var_os("HOME").map(PathBuf::from) }
}

/// A new cluster in /tmp with settings for tests, under `settings`.
pub(crate) fn start(settings: &[(&str, &str)]) -> Cluster {
    started(Cluster::start(options(Path::new("/tmp"), settings)))
}

pub(crate) fn started(started: Result<Cluster, waldelta_pglocal::Error>) -> Cluster {
    started.unwrap_or_else(|error| panic!("start PostgreSQL for tests: {error:?}"))
}

/// How a cluster for tests is run, with its files in a new folder in `under`.
pub(crate) fn options(under: &Path, settings: &[(&str, &str)]) -> Options {
    let binaries = test_binaries();
    // Where the setting is known, a plugin that is not listed is refused.
    let plugins = knows_setting(&binaries, "output_plugin_libraries")
        .then_some(("output_plugin_libraries", "pgoutput, test_decoding, wal2json"));
    let mut options = Options::new(binaries, Storage::Ephemeral(under.to_owned()));
    // A killed process loses nothing that it has written, with fsync or without; only the machine's crash would. Nor does it
    // need whole pages in WAL, which the checkpoint of every database that is dropped would make anew on the shared server.
    let ours = [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        // Planned without statistics, tests' own queries look dear, and compiling them was nearly half of all that the server did.
        // Our connections switch it off by themselves.
        ("jit", "off"),
        ("max_connections", "300"),
        ("max_wal_senders", "100"),
        ("max_replication_slots", "200"),
        // A hung test must not hold up the others: creating a slot waits for every open transaction of the server.
        ("idle_in_transaction_session_timeout", "60s"),
    ];
    let all = ours
        .iter()
        .chain(&plugins)
        .chain(settings)
        .map(|(name, value)| (name.to_string(), value.to_string()));
    options.settings = all.collect();
    options
}

/// Whether this PostgreSQL has a setting of this name.
fn knows_setting(binaries: &Binaries, name: &str) -> bool {
    let described = Command::new(binaries.program("postgres")).arg("--describe-config").output();
    let described = described.unwrap_or_else(|error| panic!("list PostgreSQL's settings: {error}"));
    let mut lines = described.stdout.split(|byte| *byte == b'\n');
    lines.any(|line| line.split(|byte| *byte == b'\t').next() == Some(name.as_bytes()))
}

/// A PostgreSQL on its own port, gone with everything in it when dropped. Databases in it come from
/// [`TestDatabase::create_on`](crate::TestDatabase::create_on).
#[derive(Clone, Debug)]
pub struct TestCluster {
    cluster: Arc<Mutex<Cluster>>,
}

impl TestCluster {
    /// Starts one with these server settings over those that all tests have.
    pub async fn own(settings: &[(&str, &str)]) -> Self {
        Self::own_in(Path::new("/tmp"), settings).await
    }

    /// The same with all of its files in this folder, such as that of a [`SmallDisk`].
    pub async fn own_in(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let (folder, settings) = (folder.to_owned(), owned(settings));
        Self::begin(move || started(Cluster::start(options(&folder, &borrowed(&settings))))).await
    }

    /// As [`TestCluster::own`], with its WAL alone on this disk.
    pub async fn own_with_wal_on(disk: &SmallDisk, settings: &[(&str, &str)]) -> Self {
        let cluster = Self::own(settings).await;
        cluster.down(Shutdown::Fast).await;
        let (wal, folder) = (cluster.data_dir().join("pg_wal"), disk.folder_for(&cluster, "pg_wal"));
        // With whose it is.
        let copied = Command::new("cp").arg("-a").arg(wal.join(".")).arg(&folder).status();
        assert!(copied.is_ok_and(|status| status.success()), "move WAL to {}", folder.display());
        std::fs::remove_dir_all(&wal).unwrap();
        symlink(&folder, &wal).unwrap();
        cluster.up().await;
        cluster
    }

    /// On a thread of its own, which starting takes as long as it takes.
    pub(crate) async fn begin(start: impl FnOnce() -> Cluster + Send + 'static) -> Self {
        let started = tokio::task::spawn_blocking(start).await.unwrap();
        TestCluster { cluster: Arc::new(Mutex::new(started)) }
    }

    /// URL of one of its databases, as superuser. The same after a restart.
    pub fn url(&self, dbname: &str) -> String {
        self.look(|cluster| cluster.url(dbname))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.look(Cluster::port)
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.look(|cluster| cluster.socket_dir().to_owned())
    }

    /// The folder of its data.
    pub fn data_dir(&self) -> PathBuf {
        self.look(|cluster| cluster.data_dir().to_owned())
    }

    /// Process id of the postmaster; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.look(Cluster::pid)
    }

    /// Whether the server has ended by itself; [`TestCluster::down`] and [`TestCluster::up`] bring it back.
    pub fn has_ended(&self) -> bool {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).has_ended().unwrap()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.look(|cluster| std::fs::read_to_string(cluster.log()).unwrap_or_default())
    }

    /// Brings the server down; returns when no process of it is left.
    pub async fn down(&self, how: Shutdown) {
        self.change(move |cluster| cluster.down(how)).await;
    }

    /// kill -9 of the postmaster.
    pub async fn kill9(&self) {
        self.down(Shutdown::Kill).await;
    }

    /// SIGSTOP to all of its processes: connections stay open, and nobody answers.
    pub async fn freeze(&self) {
        self.change(Cluster::freeze).await;
    }

    /// SIGCONT: it goes on where it stood.
    pub async fn thaw(&self) {
        self.change(Cluster::thaw).await;
    }

    /// Brings the server up again on the same port; returns when it takes connections.
    pub async fn up(&self) {
        self.change(Cluster::up).await;
    }

    /// An orderly restart.
    pub async fn restart(&self) {
        self.change(Cluster::restart).await;
    }

    fn look<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        look(&self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// On a thread of its own: a walsender ends only when its client, maybe in this very runtime, goes on reading.
    async fn change(
        &self,
        change: impl FnOnce(&mut Cluster) -> Result<(), waldelta_pglocal::Error> + Send + 'static,
    ) {
        let cluster = Arc::clone(&self.cluster);
        let changed = tokio::task::spawn_blocking(move || {
            change(&mut cluster.lock().unwrap_or_else(PoisonError::into_inner))
                .map_err(|error| format!("{error:?}"))
        });
        changed.await.unwrap().unwrap();
    }
}

pub(crate) fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
