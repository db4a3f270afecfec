//! The `waldelta` program as a process: started, watched, stopped, killed.

use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const LOG_LINES_SHOWN: usize = 40;

/// How to start the program. `--listen` with a free port is added, and stays the same over restarts.
#[derive(Clone, Debug, Default)]
pub struct ServiceOptions {
    /// Command line, such as `["run", "--database-url", url]`.
    pub args: Vec<OsString>,
    /// Environment over the test's own.
    pub env: Vec<(OsString, OsString)>,
    /// Limits of open files, soft and hard; `None`: the test's own.
    pub open_files: Option<(u64, u64)>,
}

impl ServiceOptions {
    /// `waldelta` with these arguments.
    pub fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        ServiceOptions { args: args.into_iter().map(Into::into).collect(), ..ServiceOptions::default() }
    }

    /// With this variable in the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With one more word on the command line, or some.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(more.into_iter().map(Into::into));
        self
    }

    /// With these limits of open files.
    #[must_use]
    pub fn open_files(mut self, soft: u64, hard: u64) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// With these fault points, such as `history::before_commit=panic`, which ends the program as kill -9 would; it must be
    /// built with them.
    #[must_use]
    pub fn failpoints(self, failpoints: &str) -> Self {
        self.env("FAILPOINTS", failpoints)
    }
}

/// A running program. Dropping it kills it; its log is kept if the test failed.
#[derive(Debug)]
pub struct Service {
    options: ServiceOptions,
    port: u16,
    log: PathBuf,
    child: Child,
    status: Option<ExitStatus>,
}

impl Service {
    /// Starts it and waits until it is ready.
    pub async fn start(options: ServiceOptions) -> Self {
        let mut service = Self::spawn(options);
        service.wait_ready().await;
        service
    }

    /// Starts it without waiting, for one that is expected to end.
    pub fn spawn(options: ServiceOptions) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("waldelta-service-{}-{number}.log", std::process::id()));
        File::create(&log).unwrap();
        let child = launch(&options, port, &log);
        Service { options, port, log, child, status: None }
    }

    /// Starts it again on the same port after it has ended, and waits until it is ready.
    pub async fn start_again(&mut self) {
        self.start_again_with(self.options.clone()).await;
    }

    /// Starts it again with other options, on the same port.
    pub async fn start_again_with(&mut self, options: ServiceOptions) {
        self.spawn_again_with(options);
        self.wait_ready().await;
    }

    /// The same without waiting, for one that may not become ready soon.
    pub fn spawn_again_with(&mut self, options: ServiceOptions) {
        assert!(self.exited().is_some(), "the service still runs");
        self.child = launch(&options, self.port, &self.log);
        (self.options, self.status) = (options, None);
    }

    /// Waits until `/readyz` says so. Panics with the log when the program ends instead, or takes too long.
    pub async fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.exited() {
                panic!("the service ended before it was ready ({status}); {}", self.log_tail());
            }
            let answer = self.try_request("GET", "/readyz", "").await;
            if matches!(answer, Ok((200, _))) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not ready in {READY_TIMEOUT:?} ({answer:?}); {}",
                self.log_tail()
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether it has opened history and answers what it is asked, ready or not.
    pub async fn is_listening(&self) -> bool {
        let answer = self.try_request("GET", "/v1/status", "").await;
        answer.is_ok_and(|(code, body)| !(code == 503 && body.contains("WD-STARTING")))
    }

    /// What `/readyz` says; `None` where nobody answers.
    pub async fn ready(&self) -> Option<(u16, String)> {
        self.try_request("GET", "/readyz", "").await.ok()
    }

    /// The port it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An HTTP URL on it: `service.http("/v1/status")`.
    pub fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The URL of its stream.
    pub fn stream(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/stream", self.port)
    }

    /// `GET` of a path: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.try_request("GET", path, "").await;
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}; {}", self.log_tail()))
    }

    /// `POST` of a JSON body to a path: status and body.
    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let answer = self.try_request("POST", path, body).await;
        answer.unwrap_or_else(|error| panic!("POST {path}: {error}; {}", self.log_tail()))
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(STOP_TIMEOUT).await;
    }

    /// Asks it to stop (SIGTERM), and does not wait for that.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to stop (SIGTERM) and waits: how it ended. Panics with the log when it takes too long.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(STOP_TIMEOUT).await
    }

    /// SIGHUP: it reads its configuration again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP: it stands still.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended by itself, and says how.
    pub async fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the service still runs after {patience:?}; {}",
                self.log_tail()
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    /// How it has ended; `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Memory that it has in RAM, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that it ever had in RAM, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Everything that it has printed so far, restarts included.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        // Who has ended and was not waited for yet has no memory.
        let Some(line) = status.lines().find_map(|line| line.strip_prefix(field)) else { return 0 };
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn signal(&self, signal: Signal) {
        assert!(self.status.is_none(), "the service has ended; {}", self.log_tail());
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), signal).unwrap();
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "end of {}:\n{}",
            self.log.display(),
            lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
        )
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    async fn try_request(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let length = body.len();
            let head = format!(
                "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
                self.port
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let broken =
                || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not an answer: {text:?}"));
            let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
            Ok((status, body.to_owned()))
        };
        timeout(HTTP_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

fn launch(options: &ServiceOptions, port: u16, log: &PathBuf) -> Child {
    let log = File::options().append(true).open(log).unwrap();
    let program = program();
    let mut command = match options.open_files {
        None => Command::new(&program),
        Some((soft, hard)) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"")]);
            shell.arg(&program);
            shell
        }
    };
    command.args(&options.args).arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| {
        panic!("run {} (build it first: cargo build -p waldelta): {error}", program.display())
    })
}

/// `WALDELTA_TEST_PROGRAM`, else the program in the build folder that this test, or this program, was built into.
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("WALDELTA_TEST_PROGRAM") {
        return program.into();
    }
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    let built = if folder.ends_with("deps") { folder.parent().unwrap() } else { folder };
    built.join("waldelta")
}
