//! This program in another mode, as a child that answers each line on its standard input with one line: what is measured beside the
//! service has its own process, and so its own processor time, memory and open files.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// An answer may take this long: thousands connect, or catch up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The child; it ends with its input, and when this is dropped.
pub(crate) struct Driven {
    pid: u32,
    /// One command at a time.
    pipes: Mutex<Pipes>,
    _child: Child,
}

struct Pipes {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Driven {
    /// Starts it in this mode.
    pub(crate) fn start(mode: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", mode.join(" ")))?;
        let pid = child.id().context("its process id")?;
        let commands = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Driven { pid, pipes: Mutex::new(Pipes { commands, answers }), _child: child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What it says to a command.
    pub(crate) async fn ask(&self, command: &str) -> anyhow::Result<String> {
        let mut pipes = self.pipes.lock().await;
        pipes.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let verb = command.split(' ').next().unwrap_or_default();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, pipes.answers.next_line()).await;
        answer
            .with_context(|| format!("{verb}: no answer"))??
            .with_context(|| format!("{verb}: it has ended"))
    }
}
