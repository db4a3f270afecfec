//! What is known of a server from outside: its `postmaster.pid`, and who works in its data folder.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::Error;
use crate::folder::{failed, ignore_missing};

/// How often a condition is looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A server left over from an earlier run has this long to end by itself, then this long after it is told to drop
/// everything.
const LEFT_OVER_FAST: Duration = Duration::from_secs(30);
const LEFT_OVER_IMMEDIATE: Duration = Duration::from_secs(10);

/// Whether the server with this process id says in `postmaster.pid` that it takes connections. Its last line is the
/// one that `pg_ctl` waits for.
pub(crate) fn is_ready(data_dir: &Path, pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(data_dir.join("postmaster.pid")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first().and_then(|line| line.parse().ok()) == Some(pid)
        && lines.get(7).is_some_and(|status| *status == "ready" || *status == "standby")
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = id.map_or(Err(rustix::io::Errno::SRCH), |id| rustix::process::kill_process(id, signal));
    sent.map_err(|errno| Error::Process {
        action: "signal",
        program: format!("process {pid}"),
        source: errno.into(),
    })
}

/// Sends a signal to everything that works in `data_dir`. What ends meanwhile need not hear it.
pub(crate) fn signal_all(data_dir: &Path, wanted: Signal) -> Result<(), Error> {
    for pid in inhabitants(data_dir) {
        match signal(pid, wanted) {
            Err(error) if works_in(pid, data_dir) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether this process is a server (or a part of one) in `data_dir`. Process ids are used again, so that the id in a
/// stale file proves nothing; PostgreSQL's processes work in their data folder.
fn works_in(pid: u32, data_dir: &Path) -> bool {
    let proc = Path::new("/proc");
    if proc.join("self").exists() {
        std::fs::read_link(proc.join(pid.to_string()).join("cwd")).is_ok_and(|cwd| cwd == data_dir)
    } else {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        id.is_some_and(|id| rustix::process::test_kill_process(id).is_ok())
    }
}

/// Any process in `data_dir`: after kill -9 of a server its backends end a moment later. Empty where there is no /proc.
fn inhabitants(data_dir: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| works_in(*pid, data_dir)).collect()
}

/// Ends what an earlier run of ours left running in `data_dir`, and removes a `postmaster.pid` that nobody stands for.
/// The caller holds the folder's lock.
pub(crate) fn clear_left_over(data_dir: &Path) -> Result<(), Error> {
    let file = data_dir.join("postmaster.pid");
    let recorded = || std::fs::read_to_string(&file).ok()?.lines().next()?.trim().parse().ok();
    let Some(pid) = recorded() else { return Ok(()) };
    let gone = || !works_in(pid, data_dir) && inhabitants(data_dir).is_empty();
    for (how, patience) in [(Signal::INT, LEFT_OVER_FAST), (Signal::QUIT, LEFT_OVER_IMMEDIATE)] {
        if works_in(pid, data_dir) {
            signal(pid, how)?;
        }
        if wait(patience, gone) {
            break;
        }
    }
    if !gone() {
        return Err(Error::LeftOver { data_dir: data_dir.to_owned(), pid });
    }
    // PostgreSQL would refuse to start if some other process has this id by now. Without /proc we cannot know that
    // nobody is left, and it decides by itself.
    if Path::new("/proc/self").exists() {
        ignore_missing(std::fs::remove_file(&file)).map_err(failed("remove", &file))?;
    }
    Ok(())
}

/// Waits until nobody works in `data_dir` any more.
pub(crate) fn wait_empty(data_dir: &Path, patience: Duration) -> bool {
    wait(patience, || inhabitants(data_dir).is_empty())
}

fn wait(patience: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
