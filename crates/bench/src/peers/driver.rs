//! A peer's process: it prints what it has received, and ends when its standard input does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::drain::DRAIN_TIMEOUT;

const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running one.
pub(super) struct Driver {
    child: Child,
    /// What it prints.
    pub output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Driver {
    /// Starts it; what it complains of goes to a log in the folder.
    pub(super) fn start(name: &str, folder: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).context("make a log file")?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Driver { child, output, log })
    }

    /// Waits for its next line that begins with this word; the line without it.
    pub(super) async fn says(&mut self, word: &str) -> anyhow::Result<String> {
        let looking = async {
            loop {
                let mut line = String::new();
                anyhow::ensure!(self.output.read_line(&mut line).await? > 0, "it ended");
                if let Some(rest) = line.strip_prefix(word) {
                    break anyhow::Ok(rest.trim().to_owned());
                }
            }
        };
        let said = tokio::time::timeout(DRAIN_TIMEOUT, looking).await.context("it took too long");
        said.flatten().with_context(|| format!("see {}", self.log.display()))
    }

    /// Lets it end in its own time.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        let status = ended.with_context(|| format!("it does not stop; see {}", self.log.display()))??;
        anyhow::ensure!(status.success(), "it ended with {status}; see {}", self.log.display());
        Ok(())
    }
}
