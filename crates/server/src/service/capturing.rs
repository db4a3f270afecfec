//! The tasks of a process that captures: capture itself, what the log is told of it, and what feeds the sessions while another
//! instance writes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_capture::State;
use waldelta_history::History;
use waldelta_source::Source;
use waldelta_wal::Code;

use super::Pauses;
use crate::failure;

/// What stands in the way of a beginning is looked at again after this long.
const BEGIN_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Captures until `stop`, but for when it is paused.
pub(super) async fn run_capture(
    config: waldelta_capture::Config,
    history: History,
    status: Arc<waldelta_capture::Status>,
    pauses: Pauses,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut paused = pauses.watch();
    loop {
        let by = paused.borrow_and_update().clone();
        if let Some(by) = by {
            status.paused(&by);
            // Whoever may resume it is held here.
            if stop.run_until_cancelled(paused.changed()).await.is_none() {
                return Ok(());
            }
            status.starting();
            continue;
        }
        let pause = stop.child_token();
        let mut running = pin!(capture_until(config.clone(), history.clone(), status.clone(), pause.clone()));
        tokio::select! {
            ended = &mut running => return ended,
            _ = paused.changed() => {}
        }
        pause.cancel();
        let ended = running.await;
        // What stands in its way is found again when it goes on.
        if stop.is_cancelled() {
            return ended;
        }
    }
}

/// Sets capture up where that has not been done, then runs it. What stands in the way of that may be taken away meanwhile:
/// it is tried until then, and the error is only given back when capture is to end.
async fn capture_until(
    config: waldelta_capture::Config,
    history: History,
    status: Arc<waldelta_capture::Status>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    while let Err(error) = begin_unless_begun(&config.source, &history).await {
        let is_retryable = error.is_retryable();
        let code = error.code();
        let error = anyhow::Error::new(error);
        if is_retryable {
            tracing::warn!(error = failure::chain_text(&error), "cannot begin yet; trying again");
        } else {
            status.stopped(code, failure::chain_text(&error));
        }
        if stop.run_until_cancelled(tokio::time::sleep(BEGIN_RETRY_DELAY)).await.is_none() {
            return if is_retryable { Ok(()) } else { Err(error) };
        }
    }
    waldelta_capture::run(config, history, status, stop).await.map_err(anyhow::Error::new)
}

pub(super) async fn begin_unless_begun(
    source: &Source,
    history: &History,
) -> Result<(), waldelta_capture::Error> {
    if history.captured().await?.is_none() {
        let head = waldelta_capture::setup::begin(source, history, false).await?;
        tracing::info!(from = %head.durable_end, slot = source.slot, "history begins");
    }
    Ok(())
}

/// Serves what another instance writes, while this one does not.
pub(super) async fn follow(
    history: History,
    capture: Arc<waldelta_capture::Status>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Box::pin(waldelta_capture::follow(&history, &capture, stop)).await;
    Ok(())
}

/// Tells the log of each change of capture's state once, with its name: of failures that come again and again the first.
pub(super) async fn tell_states(
    capture: Arc<waldelta_capture::Status>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut states = capture.states();
    let mut told = None;
    loop {
        let state = states.borrow_and_update().clone();
        let holder = match &state {
            State::Standby { holder } => holder.clone(),
            _ => String::new(),
        };
        let what = (state.as_str(), state.name(), holder);
        if told.as_ref() != Some(&what) {
            tell_state(&state);
            told = Some(what);
        }
        // The status, which has the sender, is held here.
        if stop.run_until_cancelled(states.changed()).await.is_none() {
            return Ok(());
        }
    }
}

fn tell_state(state: &State) {
    let name = state.name();
    let fix = state.code().map(|code| code.explanation().fix);
    match state {
        State::Starting | State::Streaming => tracing::info!("capture is {name}"),
        State::Paused { by } => {
            tracing::warn!(by, "capture is paused on the console; the slot keeps WAL until it is resumed");
        }
        State::Standby { holder } => tracing::info!(
            code = Code::HistoryLeaseHeld.as_str(),
            "this instance stands by: history is written by {holder}; clients are served with what it writes"
        ),
        State::Reconnecting { code, message } => {
            tracing::warn!(code = code.as_str(), name, error = message, fix, "capture is interrupted");
        }
        State::Stopped { code, message } => tracing::error!(
            code = code.as_str(),
            name,
            error = message,
            fix,
            "capture has stopped and needs a decision; clients are served with what is durable"
        ),
    }
}
