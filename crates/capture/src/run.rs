//! Capture over many connections: start, run, and after a failure wait and start again, or stop where only a decision
//! helps.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_wal::EndLsn;

use crate::backoff::Backoff;
use crate::listed::Left;
use crate::start::start;
use crate::status::Status;
use crate::{Config, Error, pump};

/// Another instance captures: this one looks as often as this whether it still does.
const STANDBY_WAIT_MAX: Duration = Duration::from_secs(1);

/// Captures until `stop` is cancelled, reconnecting with growing waits; returns early only when going on would lose
/// or double something, or needs a decision: the error names the state and the cure.
///
/// # Errors
/// Only such as are not retryable.
pub async fn run(
    config: Config,
    history: History,
    status: Arc<Status>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut backoff = Backoff::new();
    let mut failed_before = None;
    let mut left = Left::default();
    loop {
        let durable_before = status.read().durable;
        let Err(mut error) = attempt(&config, &history, &status, &stop, &mut left).await else {
            return Ok(());
        };
        if let Error::TablesChanged { missing, since } = &error {
            left.miss(missing, *since);
        }
        count_times(&mut error, &mut failed_before);
        if !error.is_retryable() {
            status.stopped(error.code(), error.chain());
            return Err(error);
        }
        status.reconnecting(&error);
        // A connection that made something durable was a good one: the next failure is a new one. Time says nothing, since
        // one that fails for the same reason each time can take long to do so.
        if status.read().durable > durable_before {
            backoff.reset();
        }
        let wait = match &error {
            // A standby: the lock tells at once when the other is gone, so it may be asked often.
            Error::History(waldelta_history::Error::LeaseHeld { .. }) => backoff.wait().min(STANDBY_WAIT_MAX),
            _ => backoff.wait(),
        };
        tracing::warn!(
            code = error.code().as_str(),
            error = error.chain(),
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "capture was interrupted; trying again"
        );
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Ok(());
        }
        status.reconnected();
    }
}

/// Counts how often the source has failed at the same transaction. `before` is where it did the last time; what else went
/// wrong in between says nothing.
fn count_times(error: &mut Error, before: &mut Option<(EndLsn, String, u32)>) {
    let Error::SourceCannotDecode { durable, sqlstate, times, .. } = error else { return };
    *times = match before {
        Some((place, code, times)) if place == durable && code == sqlstate => *times + 1,
        _ => 1,
    };
    *before = Some((*durable, sqlstate.clone(), *times));
}

/// One connection, from its start to its end; `Ok` when stopped.
async fn attempt(
    config: &Config,
    history: &History,
    status: &Status,
    stop: &CancellationToken,
    left: &mut Left,
) -> Result<(), Error> {
    let Some(started) = stop.run_until_cancelled(start(config, history, left)).await else { return Ok(()) };
    let started = started?;
    status.streaming(started.head.durable_end, started.wal_end);
    tracing::info!(slot = config.source.slot, from = %started.head.durable_end, "capture streams");
    pump::run(config, status, started, stop).await
}
