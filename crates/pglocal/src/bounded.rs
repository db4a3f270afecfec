//! Runs a program to its end, or ends it when it takes too long.
//!
//! Not for servers, which are meant to go on.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a child is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// More output than this is cut.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// How a program ended.
pub(crate) struct Output {
    pub(crate) success: bool,
    /// What it printed, standard output before standard error.
    pub(crate) text: String,
}

/// Runs `command` for at most `timeout`.
pub(crate) fn output(command: &mut Command, timeout: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let readers = [
        child.stdout.take().map(|pipe| std::thread::spawn(move || read(pipe))),
        child.stderr.take().map(|pipe| std::thread::spawn(move || read(pipe))),
    ];
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no end within {} s", timeout.as_secs()),
            ));
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let texts = readers.into_iter().flatten().map(|reader| reader.join().unwrap_or_default());
    Ok(Output { success: status.success(), text: texts.collect() })
}

fn read(pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is still worth showing.
    let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last `lines` lines of a text, as one string.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
