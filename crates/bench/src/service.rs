//! The binary that is measured, as a child process.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running `waldelta run`.
pub(crate) struct Service {
    child: Child,
    port: u16,
    /// Its log.
    pub log: PathBuf,
}

impl Service {
    /// Starts it on a free port; returns as soon as the process is there.
    pub(crate) async fn start(
        binary: &Path,
        source: &str,
        history: &str,
        slot: &str,
    ) -> anyhow::Result<Self> {
        Self::start_with(binary, source, history, slot, &[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn start_with(
        binary: &Path,
        source: &str,
        history: &str,
        slot: &str,
        more: &[&OsStr],
    ) -> anyhow::Result<Self> {
        let port = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let log = std::env::temp_dir().join(format!("waldelta-bench-{slot}.log"));
        let child = Command::new(binary)
            .args(["run", "--database-url", source, "--history-url", history, "--slot", slot])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(more)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).context("make a log file")?)
            .kill_on_drop(true)
            .spawn()
            .context("start waldelta")?;
        Ok(Service { child, port, log })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("it has ended by itself")
    }

    /// Where clients connect.
    pub(crate) fn stream_url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1/stream", self.port)
    }

    /// Waits until its log has this.
    pub(crate) async fn says(&self, text: &str) -> anyhow::Result<()> {
        let looking = async {
            while !std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, looking)
            .await
            .with_context(|| format!("it never says {text:?}; see {}", self.log.display()))
    }

    /// Waits until it captures.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let asking = async {
            while !self.is_ready().await.unwrap_or(false) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, asking)
            .await
            .with_context(|| format!("not ready in time; see {}", self.log.display()))
    }

    async fn is_ready(&self) -> anyhow::Result<bool> {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.write_all(b"GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer.split(' ').nth(1) == Some("200"))
    }

    /// Ends it as a crash would (SIGKILL).
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill waldelta")
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid()?;
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        anyhow::ensure!(asked.success(), "SIGTERM could not be sent");
        let status =
            tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.context("it did not stop")??;
        anyhow::ensure!(status.success(), "it ended with {status}; see {}", self.log.display());
        Ok(())
    }
}
