//! The machine while it is measured on: how busy it is, and what a stretch of time cost on all of its processors.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

/// How long the machine is looked at to see whether it is quiet.
const LOOK: Duration = Duration::from_millis(500);
/// Quiet enough: this part of its processors does something.
const BUSY_MAX: f64 = 0.2;
/// Longer than this nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stretch of time, of which it is told how long it was and what the machine worked in it.
pub(crate) struct Stretch {
    began: Instant,
    busy_before: f64,
}

/// What a stretch was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub seconds: f64,
    /// Of all processors, for whomever.
    pub cpu_seconds: f64,
}

impl Stretch {
    /// From now on.
    pub(crate) fn begin() -> anyhow::Result<Self> {
        Ok(Stretch { busy_before: busy_seconds()?, began: Instant::now() })
    }

    /// So far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Until now.
    pub(crate) fn end(self) -> anyhow::Result<Span> {
        let seconds = self.began.elapsed().as_secs_f64();
        Ok(Span { seconds, cpu_seconds: busy_seconds()? - self.busy_before })
    }
}

/// Seconds that all processors together have worked since the machine started, for whomever.
pub(crate) fn busy_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("read what the processors did")?;
    let ticks = busy_ticks(&stat).context("what the processors did")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// All but idle, iowait and what other guests took: fields 4, 5 and 8 of the first line.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

/// Waits until the machine has little to do, but not for ever. Whether it had.
pub(crate) async fn quiet() -> anyhow::Result<bool> {
    let processors = std::thread::available_parallelism()?.get() as f64;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let (before, began) = (busy_seconds()?, Instant::now());
        sleep(LOOK).await;
        let busy = (busy_seconds()? - before) / (began.elapsed().as_secs_f64() * processors);
        if busy < BUSY_MAX {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::busy_ticks;

    #[test]
    fn what_waits_and_what_others_took_is_no_work() {
        assert_eq!(busy_ticks("cpu  10 1 5 1000 70 2 3 44 0 0\ncpu0 1 2 3"), Some(21));
        assert_eq!(busy_ticks("cpu"), None);
    }
}
