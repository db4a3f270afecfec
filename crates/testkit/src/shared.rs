//! One PostgreSQL for all tests of a run, although every test is a process of its own.
//!
//! A *keeper* process (`testpg`) owns the server. Test processes hold a shared lock on a file as long as they live; when
//! the keeper could have that file for itself for ten minutes on end, nobody needs the server any more, and it stops. The
//! folder `target/testpg/<version>` holds:
//!
//! ```text
//! users.lock   held shared by every test process, tried by the keeper
//! start.lock   held while somebody starts the keeper
//! server       port and keeper's process id, as long as the server runs; locked by the keeper as long as it lives
//! keeper.log   what the keeper printed
//! ```
//!
//! Where no keeper was started (`WALDELTA_TEST_PG` is not set: plain `cargo test`), a test process starts a server of its
//! own, which ends with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setsid};
use waldelta_pglocal::Cluster;

use crate::cluster;

/// Names the folder of the running server.
pub const FOLDER_VARIABLE: &str = "WALDELTA_TEST_PG";
/// So long without users, and the server stops.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A process that has ended may still hold its lock for a moment.
const UNUSED_TIMEOUT: Duration = Duration::from_secs(1);
const START_TIMEOUT: Duration = Duration::from_secs(120);
const START_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server, as its users see it.
#[derive(Clone, Copy, Debug)]
struct Server {
    port: u16,
    keeper: u32,
}

/// URL of a database on the server that this process shares with others.
pub(crate) fn url(dbname: &str) -> String {
    static OURS: OnceLock<Ours> = OnceLock::new();
    match OURS.get_or_init(join) {
        Ours::Shared { port, .. } => format!("postgresql://postgres@127.0.0.1:{port}/{dbname}"),
        // Statics are not dropped: the server's leash stops it when this process ends.
        Ours::Own(cluster) => cluster.url(dbname),
    }
}

enum Ours {
    Shared {
        port: u16,
        /// Unlocked when the process ends, however it ends.
        _in_use: File,
    },
    Own(Box<Cluster>),
}

fn join() -> Ours {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) else {
        return Ours::Own(Box::new(cluster::start(&[])));
    };
    let folder = PathBuf::from(folder);
    let in_use = open(&folder.join("users.lock"));
    in_use.lock_shared().unwrap();
    match running(&folder) {
        Some(server) => Ours::Shared { port: server.port, _in_use: in_use },
        None => Ours::Own(Box::new(cluster::start(&[]))),
    }
}

/// Where the keeper of the PostgreSQL under test has its files: in the build folder that `program` was built into.
pub fn folder(program: &Path) -> PathBuf {
    let target = program.ancestors().nth(2).unwrap_or(program);
    target.join("testpg").join(cluster::test_binaries().version.to_string())
}

/// Starts the server unless it runs; it runs on after this process. `program` is called with `keep FOLDER SECONDS` to be
/// the keeper.
#[expect(clippy::zombie_processes, reason = "the keeper outlives us")]
pub fn start(program: &Path, folder: &Path, idle_timeout: Duration) {
    std::fs::create_dir_all(folder).unwrap();
    let starting = open(&folder.join("start.lock"));
    starting.lock().unwrap();
    // As long as we hold this, a keeper that is there stays.
    let in_use = open(&folder.join("users.lock"));
    in_use.lock_shared().unwrap();
    if running(folder).is_some() {
        return;
    }
    let _ = std::fs::remove_file(folder.join("server"));
    let log = File::create(folder.join("keeper.log")).unwrap();
    let mut keeper = Command::new(program);
    keeper.arg("keep").arg(folder).arg(idle_timeout.as_secs().to_string());
    keeper.current_dir("/").stdin(Stdio::null());
    keeper.stdout(log.try_clone().unwrap()).stderr(log);
    let mut keeper = keeper.spawn().unwrap();
    let deadline = Instant::now() + START_TIMEOUT;
    while running(folder).is_none() {
        let said = || std::fs::read_to_string(folder.join("keeper.log")).unwrap_or_default();
        if let Some(status) = keeper.try_wait().unwrap() {
            panic!("the keeper of the tests' PostgreSQL ended ({status}): {}", said());
        }
        assert!(
            Instant::now() < deadline,
            "the tests' PostgreSQL is not there after {START_TIMEOUT:?}: {}",
            said()
        );
        std::thread::sleep(START_POLL_INTERVAL);
    }
}

/// Stops the server if nobody uses it, and says whether it is gone now.
pub fn stop_unused(folder: &Path) -> bool {
    if !folder.is_dir() {
        return true;
    }
    let users = open(&folder.join("users.lock"));
    let deadline = Instant::now() + UNUSED_TIMEOUT;
    loop {
        match users.try_lock() {
            Ok(()) => break stop(folder),
            // A user, or for a moment the keeper.
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(START_POLL_INTERVAL);
            }
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => panic!("lock users.lock: {error}"),
        }
    }
    running(folder).is_none()
}

/// Stops the server if it runs. Tests that use it fail.
pub fn stop(folder: &Path) {
    let Some(server) = running(folder) else { return };
    let keeper = i32::try_from(server.keeper).ok().and_then(Pid::from_raw).unwrap();
    // It dies of this; the server's leash does the rest.
    kill_process(keeper, Signal::TERM).unwrap();
    let deadline = Instant::now() + START_TIMEOUT;
    while answers(server.port) {
        assert!(Instant::now() < deadline, "the tests' PostgreSQL does not stop");
        std::thread::sleep(START_POLL_INTERVAL);
    }
    let _ = std::fs::remove_file(folder.join("server"));
}

/// Runs the server until nobody has used it for so long: what the keeper does.
pub fn keep(folder: &Path, idle_timeout: Duration) {
    // Whoever ends the session of the first user (a terminal that closes, a tool that tidies up) must not end the server
    // of all others.
    setsid().unwrap();
    let cluster = cluster::start(&[]);
    let server = folder.join("server");
    let mut alive = File::create(folder.join("server.new")).unwrap();
    alive.lock().unwrap();
    let ours = format!("{} {}", cluster.port(), std::process::id());
    alive.write_all(ours.as_bytes()).unwrap();
    std::fs::rename(folder.join("server.new"), &server).unwrap();
    let users = open(&folder.join("users.lock"));
    let mut idle_since = Instant::now();
    loop {
        std::thread::sleep(IDLE_POLL_INTERVAL);
        match users.try_lock() {
            Ok(()) if idle_since.elapsed() >= idle_timeout => break,
            Ok(()) => users.unlock().unwrap(),
            Err(TryLockError::WouldBlock) => idle_since = Instant::now(),
            Err(TryLockError::Error(error)) => panic!("lock users.lock: {error}"),
        }
    }
    // Still locked: whoever comes now waits, and then finds no server.
    if std::fs::read_to_string(&server).is_ok_and(|text| text == ours) {
        std::fs::remove_file(server).unwrap();
    }
    cluster.stop().unwrap();
}

fn running(folder: &Path) -> Option<Server> {
    let mut file = File::open(folder.join("server")).ok()?;
    // Left by a keeper that was killed: its port and its process id may be somebody else's by now.
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (port, keeper) = text.trim().split_once(' ')?;
    let server = Server { port: port.parse().ok()?, keeper: keeper.parse().ok()? };
    answers(server.port).then_some(server)
}

fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn open(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    opened.unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
}
