//! The running service: the parts that a process of its role has, under one supervisor, from start to a graceful stop.
//!
//! A stop goes from the clients inwards: first the service is no longer ready, then its clients are asked to go elsewhere and let
//! go, while they still get what commits; only then capture, listener and the rest end.

mod capturing;
mod following;
mod opening;
mod pausing;
mod reloading;
mod roles;
mod serving;
mod surfaces;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
pub(crate) use following::follow;
use metrics_exporter_prometheus::PrometheusHandle;
pub(crate) use opening::{Opening, open_history_as_it_is, try_open_history};
pub(crate) use pausing::Pauses;
pub(crate) use reloading::{ConfigStatus, Hangups, Reloads, RuleStatus, closes, describe_metrics, published};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use waldelta_capture::State;

use crate::status::{Observer, RECENT_STEP};
use crate::supervise::{Ended, Supervisor};
use crate::{failure, logging, systemd};

/// What letting clients go may take beyond the time in which they are asked to: close frames and their answers.
const CLOSING_TIME: Duration = Duration::from_secs(3);
/// How often a state that is waited for once at the start is looked at.
const ANNOUNCE_POLL: Duration = Duration::from_millis(20);

/// A service whose parts are all started.
pub(crate) struct Service {
    supervisor: Supervisor,
    /// Cancelled: the service is no longer ready, and clients are to go.
    leaving: CancellationToken,
    /// Cancelled: everything is to end.
    stop: CancellationToken,
    drain: Duration,
    stop_timeout: Duration,
    observer: Arc<Observer>,
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Stopped,
    /// As asked, but capture had stopped before in a state that needs a decision.
    CaptureStopped,
}

impl Service {
    /// Calls `announce` once, when capture is streaming for the first time.
    pub(crate) fn when_capturing(&mut self, announce: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
        let (Some(status), stop) = (self.observer.capture.clone(), self.stop.clone()) else { return };
        self.supervisor.spawn("announcer", async move {
            while status.read().state != State::Streaming {
                if stop.run_until_cancelled(tokio::time::sleep(ANNOUNCE_POLL)).await.is_none() {
                    return Ok(());
                }
            }
            announce()
        });
    }

    /// Waits until a signal or a failed part ends the service, then stops all parts. After a failed part nobody is asked to go
    /// first: what clients would get meanwhile is not to be relied on.
    pub(crate) async fn wait(mut self, signals: &mut StopSignals) -> anyhow::Result<Outcome> {
        let mut asked = false;
        let failed = loop {
            tokio::select! {
                signal = signals.next() => {
                    tracing::info!(signal, "stopping");
                    systemd::stopping();
                    asked = true;
                    break None;
                }
                () = self.stop.cancelled() => break None,
                ended = self.supervisor.next() => match ended {
                    // Capture that needs a decision leaves the clients served with what is durable. One that has
                    // fallen over without a word, by a panic, ends the service: it would look alive.
                    Some(Ended { name: "capture", result: Err(_) }) if self.capture_has_stopped() => {}
                    // Their work is done.
                    Some(Ended { name: "announcer" | "indexes" | "opening", result: Ok(()) }) => {}
                    Some(Ended { name, result }) => break Some((name, result)),
                    None => break None,
                },
            }
        };
        let mut capture_stopped = self.capture_has_stopped();
        tokio::select! {
            ended = self.end(asked) => {
                // One that needs a decision says so when it is ended, also where it was just having another look.
                capture_stopped |= ended.iter().any(needs_decision);
            }
            signal = signals.next() => tracing::warn!(signal, "asked again: stopping at once"),
        }
        match failed {
            Some((name, Err(error))) => Err(error.context(format!("run the {name}"))),
            _ if capture_stopped => Ok(Outcome::CaptureStopped),
            _ => Ok(Outcome::Stopped),
        }
    }

    /// Ends all parts, those that failed meanwhile are given back; before that the clients are let go, if there is time for it.
    async fn end(mut self, has_time: bool) -> Vec<Ended> {
        let mut failed = Vec::new();
        if has_time && self.observer.fanout.is_some() {
            self.leaving.cancel();
            let let_go = self.supervisor.until("fanout", &mut failed);
            if tokio::time::timeout(self.drain + CLOSING_TIME, let_go).await.is_err() {
                tracing::warn!("not all clients could be let go in time");
            }
        }
        failed.extend(self.supervisor.stop(self.stop_timeout).await);
        failed
    }

    fn capture_has_stopped(&self) -> bool {
        let capture = self.observer.capture.as_ref();
        capture.is_some_and(|capture| matches!(capture.read().state, State::Stopped { .. }))
    }
}

fn needs_decision(ended: &Ended) -> bool {
    ended.name == "capture" && ended.result.as_ref().is_err_and(|error| failure::code_of(error).is_some())
}

/// Takes in what was measured, so that it does not pile up, and samples some of it.
async fn upkeep(
    recorder: PrometheusHandle,
    observer: Arc<Observer>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut timer = tokio::time::interval(RECENT_STEP);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        // What is rendered is taken in first.
        observer.sample(&recorder.render());
        logging::tell_unwritten();
    }
    Ok(())
}

/// Ctrl-C and SIGTERM, from the moment it is made on: none is missed in between.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Begins to listen; from here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }

    /// Waits for the next one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests;
