//! Processes: one that is run to its end, and what one has cost so far, as the kernel tells it.

use std::process::Stdio;

use anyhow::Context;
use tokio::process::Command;

/// Runs it to its end, which has to be a success; what it printed.
pub(crate) async fn run(what: &str, command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let done = done.with_context(|| format!("run {what}"))?;
    anyhow::ensure!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(done.stdout)
}

/// Memory in RAM, in bytes.
pub(crate) fn rss_bytes(pid: u32) -> anyhow::Result<u64> {
    kilobytes(pid, "VmRSS:").map(|kilobytes| kilobytes * 1024)
}

/// Of that, what is no file's: its heap and its stacks.
pub(crate) fn anonymous_bytes(pid: u32) -> anyhow::Result<u64> {
    kilobytes(pid, "RssAnon:").map(|kilobytes| kilobytes * 1024)
}

/// The most memory in RAM that it had since [`forget_peak`], in bytes.
pub(crate) fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    kilobytes(pid, "VmHWM:").map(|kilobytes| kilobytes * 1024)
}

/// From here on its peak is counted anew (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forget its peak of memory")
}

fn kilobytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("its memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Time on the processors, of all its threads, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read its times")?;
    Ok(ticks(&stat).context("its times")? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The same of a process with all of its children, those included that have ended.
pub(crate) fn family_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut total = 0;
    for entry in std::fs::read_dir("/proc").context("read the processes")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // One that has just ended is counted by its parent.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{child}/stat")) else { continue };
        if child == pid {
            total +=
                ticks(&stat).context("its times")? + ended_ticks(&stat).context("its children's times")?;
        } else if parent_in(&stat) == Some(pid) {
            total += ticks(&stat).context("a child's times")?;
        }
    }
    Ok(total as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Its parent.
pub(crate) fn parent(pid: u32) -> anyhow::Result<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read its parent")?;
    parent_in(&stat).context("its parent")
}

/// User and system time.
fn ticks(stat: &str) -> Option<u64> {
    Some(field(stat, 14)? + field(stat, 15)?)
}

/// The same of children that have ended and were waited for.
fn ended_ticks(stat: &str) -> Option<u64> {
    Some(field(stat, 16)? + field(stat, 17)?)
}

fn parent_in(stat: &str) -> Option<u32> {
    field(stat, 4)?.try_into().ok()
}

/// A field by its number in proc(5), counted behind the name, which may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 4 0 100";
        assert_eq!((ticks(stat), parent_in(stat), ended_ticks(stat)), (Some(150), Some(1), Some(0)));
        let pid = std::process::id();
        let memory = [rss_bytes(pid).unwrap(), peak_bytes(pid).unwrap(), anonymous_bytes(pid).unwrap()];
        assert!(memory.iter().all(|bytes| *bytes > 0) && cpu_seconds(pid).unwrap() >= 0.0);
    }
}
