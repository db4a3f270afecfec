//! A private PostgreSQL server: made on first use, started as our child, stopped with us.
//!
//! It listens on 127.0.0.1 and on a Unix socket that only its own user and root can reach, and asks nobody for a
//! password: whoever can connect to the port is superuser, so every user of this machine is trusted. It is for
//! development, not for data that matters.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::Account;
use crate::bounded;
use crate::error::Error;
use crate::find::Binaries;
use crate::folder::{Folder, failed, ignore_missing, write_for};
use crate::leash::Leash;
use crate::postmaster::{self, POLL_INTERVAL};

/// Name of the file with our settings in the data folder; it also marks the cluster as ours.
const SETTINGS_FILE: &str = "waldelta.conf";
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
/// A free port may be taken between finding and using it.
const PORT_ATTEMPTS_MAX: u32 = 5;
const KILLED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sessions that are there may go on in a [`Shutdown::Smart`].
const SMART_TIMEOUT: Duration = Duration::from_secs(3);
/// A log beyond this is put aside at the next start; one older log is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;
const TAIL_BYTES_MAX: u64 = 64 << 10;
const TAIL_LINES: usize = 12;

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In this folder, for the next start too. Its parent also gets the log and a lock file.
    Kept(PathBuf),
    /// In a new folder in this one, which is removed at stop, and also if our process is killed.
    Ephemeral(PathBuf),
}

/// How to run a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs.
    pub binaries: Binaries,
    /// Where the data is.
    pub storage: Storage,
    /// The port on 127.0.0.1; `None`: the one of the last start, else a free one.
    pub port: Option<u16>,
    /// Server settings, over our defaults.
    pub settings: Vec<(String, String)>,
    /// How long the server may take to become ready, recovery included.
    pub start_timeout: Duration,
    /// How long an orderly stop may take before the server is told to drop everything.
    pub stop_timeout: Duration,
}

impl Options {
    /// A free port, our default settings, a minute to start and half a minute to stop.
    pub fn new(binaries: Binaries, storage: Storage) -> Self {
        Options {
            binaries,
            storage,
            port: None,
            settings: Vec::new(),
            start_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// How a server is brought down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Nobody new is let in, and who is there may go on for a while; then as [`Shutdown::Fast`].
    Smart,
    /// Sessions are ended, everything is written: what an administrator does.
    Fast,
    /// Everything is dropped; the next start recovers from WAL.
    Immediate,
    /// kill -9 of the postmaster: a crash.
    Kill,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    folder: Folder,
    leash: Option<Leash>,
    child: Option<Child>,
    port: u16,
    notices: Vec<String>,
    /// Its processes were told to stand still.
    frozen: bool,
}

/// What puts the data of a new cluster into the folder that it is given.
type Fill<'a> = Box<dyn FnOnce(&Path) -> io::Result<()> + 'a>;

impl Cluster {
    /// Starts the cluster, after making it if it is not there. A server that an earlier process of ours left running in
    /// the folder is stopped first.
    pub fn start(options: Options) -> Result<Self, Error> {
        Self::start_with(options, None)
    }

    /// As [`Cluster::start`], but where there is no cluster yet, `fill` makes it instead of `initdb`: it puts the data of
    /// a cluster of ours (a copy, a backup) into the folder that it is given. Whose the files are is seen to afterwards.
    pub fn start_filled(options: Options, fill: impl FnOnce(&Path) -> io::Result<()>) -> Result<Self, Error> {
        Self::start_with(options, Some(Box::new(fill)))
    }

    fn start_with(options: Options, fill: Option<Fill<'_>>) -> Result<Self, Error> {
        let folder = match &options.storage {
            Storage::Kept(data_dir) => Folder::kept(data_dir)?,
            Storage::Ephemeral(under) => Folder::ephemeral(under)?,
        };
        let notices = folder.notice.iter().cloned().collect();
        // From here on, dropping it cleans up.
        let mut cluster =
            Cluster { options, folder, leash: None, child: None, port: 0, notices, frozen: false };
        cluster.leash = Some(Leash::tie(&cluster.folder)?);
        cluster.prepare(fill)?;
        postmaster::clear_left_over(&cluster.folder.data_dir)?;
        cluster.up_on_some_port()?;
        Ok(cluster)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket, as the `host` of a connection.
    pub fn socket_dir(&self) -> &Path {
        &self.folder.socket_dir
    }

    /// The folder of the data, which may be another one than was asked for (see [`Cluster::notices`]).
    pub fn data_dir(&self) -> &Path {
        &self.folder.data_dir
    }

    /// The server's log.
    pub fn log(&self) -> &Path {
        &self.folder.log
    }

    /// The programs it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.options.binaries
    }

    /// Process id of the postmaster; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it has ended by itself, such as for a disk that is full. [`Cluster::down`] and [`Cluster::up`] bring it back.
    pub fn has_ended(&mut self) -> Result<bool, Error> {
        let Some(child) = &mut self.child else { return Ok(false) };
        Ok(wait_for_exit(child, Duration::ZERO)?.is_some())
    }

    /// What the user should know: data kept elsewhere, another port than last time.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// URL of one of its databases, as superuser `postgres`.
    pub fn url(&self, dbname: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let encode =
            |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let dbname: String = dbname.bytes().map(encode).collect();
        format!("postgresql://postgres@127.0.0.1:{}/{dbname}", self.port)
    }

    /// SIGSTOP to the server and everything that belongs to it: the sockets stay open, and nobody answers.
    pub fn freeze(&mut self) -> Result<(), Error> {
        let Some(pid) = self.pid() else { return Ok(()) };
        self.frozen = true;
        // The one that makes others first.
        postmaster::signal(pid, Signal::STOP)?;
        postmaster::signal_all(&self.folder.data_dir, Signal::STOP)
    }

    /// SIGCONT: it goes on where it stood.
    pub fn thaw(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.frozen) {
            postmaster::signal_all(&self.folder.data_dir, Signal::CONT)?;
        }
        Ok(())
    }

    /// Brings the server down; [`Cluster::up`] brings it back on the same port. Nothing happens if it is down.
    pub fn down(&mut self, how: Shutdown) -> Result<(), Error> {
        // What stands still does not end.
        self.thaw()?;
        let Some(child) = &mut self.child else { return Ok(()) };
        let steps: &[(Signal, Duration)] = match how {
            Shutdown::Smart => &[
                (Signal::TERM, SMART_TIMEOUT),
                (Signal::INT, self.options.stop_timeout),
                (Signal::QUIT, KILLED_TIMEOUT),
                (Signal::KILL, KILLED_TIMEOUT),
            ],
            Shutdown::Fast => &[
                (Signal::INT, self.options.stop_timeout),
                (Signal::QUIT, KILLED_TIMEOUT),
                (Signal::KILL, KILLED_TIMEOUT),
            ],
            Shutdown::Immediate => &[(Signal::QUIT, KILLED_TIMEOUT), (Signal::KILL, KILLED_TIMEOUT)],
            Shutdown::Kill => &[(Signal::KILL, KILLED_TIMEOUT)],
        };
        let mut ended = None;
        for (signal, patience) in steps {
            ended = wait_for_exit(child, Duration::ZERO)?;
            if ended.is_none() {
                postmaster::signal(child.id(), *signal)?;
                ended = wait_for_exit(child, *patience)?;
            }
            if ended.is_some() {
                break;
            }
        }
        let pid = child.id();
        if ended.is_none() || !postmaster::wait_empty(&self.folder.data_dir, KILLED_TIMEOUT) {
            return Err(Error::LeftOver { data_dir: self.folder.data_dir.clone(), pid });
        }
        self.child = None;
        self.tell_leash(None)
    }

    /// Brings the server up again on the same port. Nothing happens if it is up.
    pub fn up(&mut self) -> Result<(), Error> {
        if self.child.is_some() {
            return Ok(());
        }
        postmaster::clear_left_over(&self.folder.data_dir)?;
        match self.up_on(self.port)? {
            Started::Ready => Ok(()),
            Started::PortTaken => Err(Error::PortTaken { port: self.port }),
        }
    }

    /// Down in an orderly way, and up again.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.down(Shutdown::Fast)?;
        self.up()
    }

    /// Stops the server and, if the cluster is ephemeral, removes it.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        // What is thrown away need not be written first.
        let how = if self.folder.ephemeral.is_some() { Shutdown::Immediate } else { Shutdown::Fast };
        self.down(how)?;
        self.leash = None;
        self.folder.clear()
    }

    /// Makes the cluster, or checks that the one that is there is ours and fits.
    fn prepare(&self, fill: Option<Fill<'_>>) -> Result<(), Error> {
        let Options { binaries, .. } = &self.options;
        let Folder { data_dir, account, .. } = &self.folder;
        if let Some(closed) = account.closed_on_the_way_to(&binaries.bindir) {
            return Err(Error::ProgramsClosed {
                bindir: binaries.bindir.clone(),
                closed,
                uid: account.uid(),
            });
        }
        let is_empty = match std::fs::read_dir(data_dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(failed("read", data_dir)(error)),
        };
        match fill {
            None if is_empty => return self.initialize(),
            Some(fill) if is_empty => self.fill(fill)?,
            _ => {}
        }
        let made_by = std::fs::read_to_string(data_dir.join("PG_VERSION")).ok();
        match made_by.as_deref().map(str::trim) {
            Some(made_by) if data_dir.join(SETTINGS_FILE).is_file() => {
                if made_by == binaries.version.major.to_string() {
                    return Ok(());
                }
                let (data_dir, made_by) = (data_dir.clone(), made_by.to_owned());
                Err(Error::OtherVersion { data_dir, made_by, found: binaries.version })
            }
            _ => Err(Error::Foreign { data_dir: data_dir.clone() }),
        }
    }

    /// Runs initdb beside the data folder and moves the result there, so that a kill in between leaves no half cluster.
    fn initialize(&self) -> Result<(), Error> {
        let account = &self.folder.account;
        let unfinished = self.folder.unfinished();
        ignore_missing(std::fs::remove_dir_all(&unfinished)).map_err(failed("remove", &unfinished))?;
        let run = |locale: &str| -> Result<bounded::Output, Error> {
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&unfinished)
                .map_err(failed("create", &unfinished))?;
            account.own(&unfinished)?;
            let mut initdb = self.program("initdb", *account);
            initdb.current_dir("/").arg("--pgdata").arg(&unfinished);
            initdb.args([
                "--username=postgres",
                "--encoding=UTF8",
                "--auth=trust",
                "--no-instructions",
                locale,
            ]);
            if self.folder.ephemeral.is_some() {
                // It does not outlive us, let alone the machine.
                initdb.arg("--no-sync");
            }
            let source = |source| Error::Process { action: "run", program: "initdb".into(), source };
            bounded::output(&mut initdb, INITDB_TIMEOUT).map_err(source)
        };
        let mut answer = run("--locale=C.UTF-8")?;
        if !answer.success && answer.text.contains("invalid locale") {
            ignore_missing(std::fs::remove_dir_all(&unfinished)).map_err(failed("remove", &unfinished))?;
            answer = run("--locale=C")?;
        }
        if !answer.success {
            return Err(Error::Initdb { output: bounded::tail(&answer.text, TAIL_LINES) });
        }
        let main = unfinished.join("postgresql.conf");
        let text = std::fs::read_to_string(&main).map_err(failed("read", &main))?;
        write_for(
            *account,
            &main,
            &format!(
                "{text}\n# What Waldelta needs; written anew at every start.\ninclude '{SETTINGS_FILE}'\n"
            ),
        )?;
        write_for(*account, &unfinished.join(SETTINGS_FILE), "")?;
        self.move_into_place()
    }

    fn fill(&self, fill: Fill<'_>) -> Result<(), Error> {
        let unfinished = self.folder.unfinished();
        ignore_missing(std::fs::remove_dir_all(&unfinished)).map_err(failed("remove", &unfinished))?;
        let create = std::fs::DirBuilder::new().mode(0o700).create(&unfinished);
        create.map_err(failed("create", &unfinished))?;
        fill(&unfinished).map_err(failed("fill", &unfinished))?;
        let settings = unfinished.join(SETTINGS_FILE);
        if settings.is_file() {
            // The port in it is that of the cluster that was copied.
            write_for(self.folder.account, &settings, "")?;
        }
        self.folder.account.own_all(&unfinished)?;
        self.move_into_place()
    }

    fn move_into_place(&self) -> Result<(), Error> {
        let (unfinished, data_dir) = (self.folder.unfinished(), &self.folder.data_dir);
        ignore_missing(std::fs::remove_dir(data_dir)).map_err(failed("replace", data_dir))?;
        std::fs::rename(&unfinished, data_dir).map_err(failed("move into place", data_dir))
    }

    fn up_on_some_port(&mut self) -> Result<(), Error> {
        if let Some(port) = self.options.port {
            return match self.up_on(port)? {
                Started::Ready => Ok(()),
                Started::PortTaken => Err(Error::PortTaken { port }),
            };
        }
        let last = self.last_port();
        let mut candidate = last;
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = match candidate.take() {
                Some(port) => port,
                None => free_port()?,
            };
            if let Started::Ready = self.up_on(port)? {
                if let Some(last) = last.filter(|last| *last != port) {
                    self.notices.push(format!(
                        "port {last} of the last start is in use: PostgreSQL is on {port} now"
                    ));
                }
                return Ok(());
            }
        }
        Err(Error::PortTaken { port: self.port })
    }

    /// Starts the server and waits until it is ready.
    fn up_on(&mut self, port: u16) -> Result<Started, Error> {
        self.port = port;
        if TcpListener::bind(("127.0.0.1", port)).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        {
            return Ok(Started::PortTaken);
        }
        let settings = self.settings(port);
        write_for(self.folder.account, &self.folder.data_dir.join(SETTINGS_FILE), &settings)?;
        let log = self.open_log()?;
        let log_start = log.metadata().map_err(failed("read", &self.folder.log))?.len();
        let mut command = self.program("postgres", self.folder.account);
        command.arg("-D").arg(&self.folder.data_dir).current_dir(&self.folder.data_dir);
        // Ctrl-C in the terminal is ours to answer: we stop it after the parts that use it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let failed_to = |action| move |source| Error::Process { action, program: "postgres".into(), source };
        let mut child = command.spawn().map_err(failed_to("run"))?;
        let pid = child.id();
        self.tell_leash(Some(pid))?;
        let deadline = Instant::now() + self.options.start_timeout;
        let failure = loop {
            if let Some(status) = child.try_wait().map_err(failed_to("wait for"))? {
                self.tell_leash(None)?;
                break format!("ended while starting ({status})");
            }
            if postmaster::is_ready(&self.folder.data_dir, pid) {
                self.child = Some(child);
                return Ok(Started::Ready);
            }
            if Instant::now() >= deadline {
                self.child = Some(child);
                self.down(Shutdown::Immediate)?;
                break format!("was not ready within {} s", self.options.start_timeout.as_secs());
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        let said = read_from(&self.folder.log, log_start);
        if said.contains("could not create any TCP/IP sockets") && said.contains("Address already in use") {
            return Ok(Started::PortTaken);
        }
        let tail = bounded::tail(&said, TAIL_LINES);
        Err(Error::Start { what: failure, log: self.folder.log.clone(), tail })
    }

    /// One of the programs, as the server's user and without our environment: `PG*` variables would change what it does.
    fn program(&self, name: &str, account: Account) -> Command {
        let mut command = Command::new(self.options.binaries.program(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        account.apply(&mut command);
        command
    }

    fn settings(&self, port: u16) -> String {
        let port = port.to_string();
        let socket_dir = self.folder.socket_dir.to_string_lossy();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", &socket_dir),
            ("unix_socket_permissions", "0700"),
            ("wal_level", "logical"),
            ("max_wal_senders", "16"),
            ("max_replication_slots", "32"),
            // A slot that nobody reads must not fill the disk of whoever tries this out.
            ("max_slot_wal_keep_size", "4GB"),
            ("shared_buffers", "64MB"),
            ("logging_collector", "off"),
        ];
        let theirs = self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "''");
        ours.into_iter()
            .chain(theirs)
            .map(|(name, value)| format!("{name} = '{}'\n", quoted(value)))
            .collect()
    }

    /// The port of the last start, from the settings that were written for it.
    fn last_port(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.folder.data_dir.join(SETTINGS_FILE)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("port = "))?;
        line.trim_matches('\'').parse().ok()
    }

    fn open_log(&self) -> Result<File, Error> {
        let log = &self.folder.log;
        if log.metadata().is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            std::fs::rename(log, log.with_extension("log.old")).map_err(failed("put aside", log))?;
        }
        OpenOptions::new().create(true).append(true).open(log).map_err(failed("open", log))
    }

    fn tell_leash(&mut self, pid: Option<u32>) -> Result<(), Error> {
        self.leash.as_mut().map_or(Ok(()), |leash| leash.hold(pid))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Who wants to know calls stop().
        let _ = self.end();
    }
}

enum Started {
    Ready,
    PortTaken,
}

fn free_port() -> Result<u16, Error> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let source =
        |source| Error::Process { action: "find a free port for", program: "postgres".into(), source };
    Ok(bound.map_err(source)?.port())
}

fn wait_for_exit(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>, Error> {
    let deadline = Instant::now() + patience;
    loop {
        let source = |source| Error::Process { action: "wait for", program: "postgres".into(), source };
        if let Some(status) = child.try_wait().map_err(source)? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What was appended to a log since it was `start` bytes long; the end of it, if it is much.
fn read_from(log: &Path, start: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
