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
    status_bytes(pid, "VmRSS:")
}

/// Of that, what is no file's: its heap and its stacks.
pub(crate) fn anonymous_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("its memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Time on the processors, of all its threads, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read its times")?;
    Ok(ticks(&stat).context("its times")? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 0 0 20 0 4 0 100";
        assert_eq!(ticks(stat), Some(150));
        let pid = std::process::id();
        assert!(rss_bytes(pid).unwrap() >= anonymous_bytes(pid).unwrap() && cpu_seconds(pid).unwrap() >= 0.0);
    }
}
