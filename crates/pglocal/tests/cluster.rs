//! Clusters as their users run them: real programs, real kills, real leftovers.
//!
//! What the server holds is asked with `psql`, which the machine has beside the server.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use waldelta_pglocal::{
    Binaries, Cluster, Environment, Error, Options, Shutdown, Storage, Wanted, cluster_major, find,
};
use waldelta_wal::Code;

fn binaries() -> Binaries {
    let environment = Environment { path: std::env::var_os("PATH"), home: None };
    let bindir = std::env::var_os("WALDELTA_TEST_PG_BINDIR").filter(|bindir| !bindir.is_empty());
    let wanted = Wanted { bindir: bindir.map(PathBuf::from), major: None };
    find(&wanted, &environment).expect("a PostgreSQL for the tests: scripts/install-test-deps")
}

/// A folder that everybody may enter, removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new("/tmp").join(format!("waldelta-pglocal-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    fn kept(&self) -> Options {
        options(Storage::Kept(self.0.join("pg")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(storage: Storage) -> Options {
    let mut options = Options::new(binaries(), storage);
    // Nothing here survives a power cut anyway, and initdb's files are many.
    options.settings.push(("fsync".into(), "off".into()));
    options
}

fn psql(cluster: &Cluster, sql: &str) -> String {
    let output = Command::new("psql")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &cluster.url("postgres"), "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie is in /proc, but works nowhere any more.
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_new_cluster_is_ready_for_logical_replication_and_keeps_its_data_and_port() {
    let scratch = Scratch::new("kept");
    let cluster = Cluster::start(scratch.kept()).unwrap();
    assert_eq!(psql(&cluster, "SHOW wal_level"), "logical");
    assert_eq!(psql(&cluster, "SHOW server_encoding"), "UTF8");
    assert_eq!(psql(&cluster, "SHOW max_slot_wal_keep_size"), "4GB");
    assert_eq!(psql(&cluster, "SHOW listen_addresses"), "127.0.0.1");
    psql(&cluster, "CREATE TABLE kept AS SELECT 42 AS answer");
    let port = cluster.port();
    assert_eq!(cluster_major(&scratch.0.join("pg")), Some(cluster.binaries().version.major));
    cluster.stop().unwrap();
    assert!(!scratch.0.join("pg/postmaster.pid").exists());

    let cluster = Cluster::start(scratch.kept()).unwrap();
    assert_eq!(cluster.port(), port);
    assert_eq!(psql(&cluster, "SELECT answer FROM kept"), "42");
    assert!(cluster.notices().is_empty(), "{:?}", cluster.notices());
}

#[test]
fn fsync_is_on_unless_it_is_switched_off_and_given_settings_win() {
    let mut options = options(Storage::Ephemeral("/tmp".into()));
    options.settings =
        vec![("shared_buffers".into(), "32MB".into()), ("cluster_name".into(), "it's \\ me".into())];
    let cluster = Cluster::start(options).unwrap();
    assert_eq!(psql(&cluster, "SHOW fsync"), "on");
    assert_eq!(psql(&cluster, "SHOW shared_buffers"), "32MB");
    assert_eq!(psql(&cluster, "SHOW cluster_name"), "it's \\ me");
}

#[test]
fn comes_back_after_every_kind_of_shutdown_with_what_was_committed() {
    let mut cluster = Cluster::start(options(Storage::Ephemeral("/tmp".into()))).unwrap();
    let port = cluster.port();
    psql(&cluster, "CREATE TABLE t (how text)");
    for how in [Shutdown::Smart, Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill] {
        psql(&cluster, &format!("INSERT INTO t VALUES ('{how:?}')"));
        let pid = cluster.pid().unwrap();
        cluster.down(how).unwrap();
        assert!(cluster.pid().is_none() && !is_alive(pid));
        cluster.up().unwrap();
        assert_eq!(cluster.port(), port);
    }
    cluster.restart().unwrap();
    assert_eq!(
        psql(&cluster, "SELECT string_agg(how, ' ' ORDER BY how) FROM t"),
        "Fast Immediate Kill Smart"
    );
}

#[test]
fn one_that_has_ended_by_itself_is_known_and_comes_back() {
    let mut cluster = Cluster::start(options(Storage::Ephemeral("/tmp".into()))).unwrap();
    assert!(!cluster.has_ended().unwrap());
    let pid = cluster.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !cluster.has_ended().unwrap() {
        assert!(Instant::now() < deadline, "it has not ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.down(Shutdown::Immediate).unwrap();
    assert!(!cluster.has_ended().unwrap(), "one that is down has been brought down");
    cluster.up().unwrap();
    assert_eq!(psql(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_frozen_server_answers_nobody_goes_on_and_can_be_stopped() {
    let mut cluster = Cluster::start(options(Storage::Ephemeral("/tmp".into()))).unwrap();
    let url = cluster.url("postgres");
    let ask = move || {
        let mut command = Command::new("psql");
        command.args(["-XAtq", "-d", &url, "-c", "SELECT 1"]).stdout(Stdio::null()).spawn().unwrap()
    };
    cluster.freeze().unwrap();
    let mut asking = ask();
    let state = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(state(cluster.pid().unwrap()).contains(") T "));
    assert!(asking.try_wait().unwrap().is_none());
    cluster.thaw().unwrap();
    assert!(asking.wait().unwrap().success());
    let pid = cluster.pid().unwrap();
    cluster.freeze().unwrap();
    drop(cluster);
    assert!(!is_alive(pid));
}

/// Copies a data folder without what belongs to a running server; small files only.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let copied = Command::new("cp").arg("-R").arg(from.join(".")).arg(to).status()?;
    assert!(copied.success());
    Ok(())
}

#[test]
fn a_cluster_can_begin_as_a_copy_of_another() {
    let scratch = Scratch::new("copy");
    let mut first = Cluster::start(scratch.kept()).unwrap();
    psql(&first, "CREATE TABLE kept AS SELECT 42 AS answer");
    let system = "SELECT system_identifier FROM pg_control_system()";
    let system_id = psql(&first, system);
    first.down(Shutdown::Fast).unwrap();
    let under = || options(Storage::Ephemeral("/tmp".into()));
    let second = Cluster::start_filled(under(), |folder| copy(first.data_dir(), folder)).unwrap();
    assert_eq!(psql(&second, "SELECT answer FROM kept"), "42");
    assert_eq!(psql(&second, system), system_id);
    first.up().unwrap();
    assert_ne!(first.port(), second.port());
    let error = Cluster::start_filled(under(), |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}

#[test]
fn an_ephemeral_cluster_leaves_nothing() {
    let scratch = Scratch::new("ephemeral");
    let cluster = Cluster::start(options(Storage::Ephemeral(scratch.0.clone()))).unwrap();
    let (pid, socket_dir) = (cluster.pid().unwrap(), cluster.socket_dir().to_owned());
    assert!(socket_dir.join(format!(".s.PGSQL.{}", cluster.port())).exists());
    drop(cluster);
    assert!(!is_alive(pid) && !socket_dir.exists());
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn a_long_path_gets_its_socket_elsewhere_and_that_is_removed() {
    let scratch = Scratch::new("long");
    let deep = scratch.0.join("x".repeat(100));
    let cluster = Cluster::start(options(Storage::Kept(deep.join("pg")))).unwrap();
    let socket_dir = cluster.socket_dir().to_owned();
    assert!(
        socket_dir.as_os_str().len() < 80 && socket_dir.join(format!(".s.PGSQL.{}", cluster.port())).exists()
    );
    cluster.stop().unwrap();
    assert!(!socket_dir.exists() && deep.join("pg/PG_VERSION").exists());
}

#[test]
fn a_folder_that_the_servers_user_cannot_reach_is_replaced_and_that_is_said() {
    let scratch = Scratch::new("closed");
    let closed = scratch.0.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let options = || options(Storage::Kept(closed.join("pg")));
    let cluster = Cluster::start(options()).unwrap();
    psql(&cluster, "CREATE TABLE kept AS SELECT 1");
    let data_dir = cluster.data_dir().to_owned();
    // Only root runs PostgreSQL as somebody else.
    let moved = data_dir != closed.join("pg");
    assert_eq!(cluster.notices().iter().any(|notice| notice.contains(data_dir.to_str().unwrap())), moved);
    cluster.stop().unwrap();
    assert!(cluster_major(&closed.join("pg")).is_some());
    let cluster = Cluster::start(options()).unwrap();
    assert_eq!((cluster.data_dir(), psql(&cluster, "SELECT count(*) FROM kept").as_str()), (&*data_dir, "1"));
    drop(cluster);
    if moved {
        assert!(data_dir.starts_with("/var/tmp"));
        std::fs::remove_dir_all(data_dir.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_stale_pid_file_with_an_id_in_use_by_another_process_does_not_stop_a_start() {
    let scratch = Scratch::new("stale");
    let mut cluster = Cluster::start(scratch.kept()).unwrap();
    psql(&cluster, "CREATE TABLE kept AS SELECT 1");
    cluster.down(Shutdown::Kill).unwrap();
    drop(cluster);
    let file = scratch.0.join("pg/postmaster.pid");
    let text = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    let cluster = Cluster::start(scratch.kept()).unwrap();
    assert_eq!(psql(&cluster, "SELECT count(*) FROM kept"), "1");
}

#[test]
fn a_second_user_of_a_folder_is_refused_with_the_first_ones_process() {
    let scratch = Scratch::new("twice");
    let _first = Cluster::start(scratch.kept()).unwrap();
    let error = Cluster::start(scratch.kept()).unwrap_err();
    assert!(
        matches!(&error, Error::InUse { holder, .. } if *holder == std::process::id().to_string()),
        "{error}"
    );
    assert_eq!(error.code(), Code::PostgresDataUnusable);
}

#[test]
fn a_folder_that_is_not_ours_is_not_touched() {
    let scratch = Scratch::new("foreign");
    let theirs = scratch.0.join("pg");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("PG_VERSION"), "15\n").unwrap();
    let error = Cluster::start(scratch.kept()).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&theirs).unwrap().count(), 1);
}

#[test]
fn a_cluster_of_another_version_is_refused_by_name() {
    let scratch = Scratch::new("version");
    Cluster::start(scratch.kept()).unwrap().stop().unwrap();
    std::fs::write(scratch.0.join("pg/PG_VERSION"), "9.6\n").unwrap();
    let error = Cluster::start(scratch.kept()).unwrap_err();
    assert!(error.to_string().contains("was made by PostgreSQL 9.6"), "{error}");
}

#[test]
fn a_taken_port_is_an_error_if_asked_for_and_a_notice_if_remembered() {
    let scratch = Scratch::new("port");
    let cluster = Cluster::start(scratch.kept()).unwrap();
    let port = cluster.port();
    cluster.stop().unwrap();
    let _other = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut asked = scratch.kept();
    asked.port = Some(port);
    let error = Cluster::start(asked).unwrap_err();
    assert!(matches!(error, Error::PortTaken { port: taken } if taken == port), "{error}");

    let cluster = Cluster::start(scratch.kept()).unwrap();
    assert_ne!(cluster.port(), port);
    assert!(cluster.notices()[0].contains(&port.to_string()), "{:?}", cluster.notices());
}

#[test]
fn a_failed_start_shows_the_end_of_the_log_and_leaves_nothing_running() {
    let scratch = Scratch::new("failed");
    let mut options = scratch.kept();
    options.settings.push(("shared_buffers".into(), "many".into()));
    let error = Cluster::start(options).unwrap_err();
    assert!(error.to_string().contains("invalid value for parameter \"shared_buffers\""), "{error}");
    assert_eq!(error.code(), Code::PostgresStartFailed);
    Cluster::start(scratch.kept()).unwrap();
}

/// The name of the test that plays the process that is killed.
const VICTIM: &str = "starts_a_cluster_and_waits_to_be_killed";

/// Not a test by itself: run by the next ones as a process of its own, with a folder in its environment.
#[test]
fn starts_a_cluster_and_waits_to_be_killed() {
    let Some(folder) = std::env::var_os("WALDELTA_VICTIM_FOLDER").map(PathBuf::from) else { return };
    let storage = match std::env::var_os("WALDELTA_VICTIM_EPHEMERAL") {
        Some(_) => Storage::Ephemeral(folder.clone()),
        None => Storage::Kept(folder.join("pg")),
    };
    let cluster = Cluster::start(options(storage)).unwrap();
    std::fs::write(folder.join("victim.new"), cluster.pid().unwrap().to_string()).unwrap();
    std::fs::rename(folder.join("victim.new"), folder.join("victim")).unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

/// Runs the victim, and gives its process and the server's process id once the server is up.
fn victim(scratch: &Scratch, ephemeral: bool) -> (Child, u32) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", VICTIM]).env("WALDELTA_VICTIM_FOLDER", &scratch.0).stdout(Stdio::null());
    if ephemeral {
        command.env("WALDELTA_VICTIM_EPHEMERAL", "yes");
    }
    let child = command.spawn().unwrap();
    wait_until("the victim's server is up", || scratch.0.join("victim").exists());
    let pid = std::fs::read_to_string(scratch.0.join("victim")).unwrap().parse().unwrap();
    (child, pid)
}

#[test]
fn kill_9_of_our_process_stops_the_server_cleanly() {
    let scratch = Scratch::new("leash");
    let (mut process, server) = victim(&scratch, false);
    kill(process.id(), "-KILL");
    process.wait().unwrap();
    wait_until("the server is gone", || !is_alive(server));
    let log = std::fs::read_to_string(scratch.0.join("pg.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn kill_9_of_our_process_removes_an_ephemeral_cluster() {
    let scratch = Scratch::new("leash-ephemeral");
    let (mut process, _) = victim(&scratch, true);
    kill(process.id(), "-KILL");
    process.wait().unwrap();
    wait_until("only the victim's note is left", || std::fs::read_dir(&scratch.0).unwrap().count() == 1);
}

#[test]
fn a_server_left_running_is_stopped_and_the_start_goes_on_with_its_data() {
    let scratch = Scratch::new("orphan");
    let (mut process, server) = victim(&scratch, false);
    // Freeze the server, so that whatever stops it when our process is gone cannot be done before the next start.
    kill(server, "-STOP");
    kill(process.id(), "-KILL");
    process.wait().unwrap();
    kill(server, "-CONT");
    let cluster = Cluster::start(scratch.kept()).unwrap();
    assert!(!is_alive(server));
    assert_eq!(psql(&cluster, "SELECT 1"), "1");
}

#[test]
#[ignore = "make test-fetch: downloads a PostgreSQL"]
fn fetched_programs_run_a_cluster() {
    let scratch = Scratch::new("fetched");
    let binaries = waldelta_pglocal::fetch(&scratch.0).unwrap();
    assert_eq!(waldelta_pglocal::fetch(&scratch.0).unwrap(), binaries);
    let cluster = Cluster::start(Options::new(binaries, Storage::Ephemeral("/tmp".into()))).unwrap();
    assert_eq!(psql(&cluster, "SHOW wal_level"), "logical");
}

#[test]
fn missing_programs_are_named() {
    let wanted = Wanted { bindir: Some("/nonexistent/bin".into()), major: None };
    let error = find(&wanted, &Environment::default()).unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/bin cannot be used: it has no `postgres`");
    let wanted = Wanted { bindir: None, major: Some(99) };
    let error = find(&wanted, &Environment { path: std::env::var_os("PATH"), home: None }).unwrap_err();
    assert!(error.to_string().contains("install one (Debian: apt-get install postgresql"), "{error}");
}
