//! The running service: capture, fan-out and listener under one supervisor, from start to a graceful stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use waldelta_capture::State;
use waldelta_fanout::Fanout;
use waldelta_history::History;
use waldelta_source::Source;
use waldelta_wal::Code;

use crate::config::Config;
use crate::failure::{self, Failure};
use crate::http::{self, Operations};
use crate::status::Observer;
use crate::supervise::{Ended, Supervisor};

/// A part that failed for a passing reason is started again after this long.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// While history cannot be reached at the start, it is tried again after this long.
const OPEN_RETRY_DELAY: Duration = Duration::from_secs(2);

/// A service whose parts are all started.
pub(crate) struct Service {
    supervisor: Supervisor,
    stop: CancellationToken,
    stop_timeout: Duration,
    observer: Arc<Observer>,
}

/// How often a state that is waited for once at the start is looked at.
const ANNOUNCE_POLL: Duration = Duration::from_millis(20);

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As asked.
    Stopped,
    /// As asked, but capture had stopped before in a state that needs a decision.
    CaptureStopped,
}

/// Opens history, waiting for its database when it is only out of reach for now. What that can hold decides how values of
/// the source are written.
pub(crate) async fn open_history(
    config: &waldelta_history::Config,
    source: &mut Source,
    stop: &CancellationToken,
) -> anyhow::Result<History> {
    loop {
        match try_open_history(config, source).await {
            Ok(history) => return Ok(history),
            Err(error) if error.is_retryable() && !stop.is_cancelled() => {
                let error = anyhow::Error::new(error);
                tracing::warn!(error = failure::chain_text(&error), "history is out of reach; trying again");
                tokio::select! {
                    () = tokio::time::sleep(OPEN_RETRY_DELAY) => {}
                    () = stop.cancelled() => return Err(error.context("open history")),
                }
            }
            Err(error) => return Err(anyhow::Error::new(error).context("open history")),
        }
    }
}

/// The same, once.
pub(crate) async fn try_open_history(
    config: &waldelta_history::Config,
    source: &mut Source,
) -> Result<History, waldelta_history::Error> {
    let history = History::open(config).await?;
    source.values.ascii_escapes_only = history.encoding().await? != "UTF8";
    Ok(history)
}

impl Service {
    /// Starts all parts on a bound listener.
    pub(crate) fn start(
        config: Config,
        source: Source,
        history: History,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new().install_recorder().context("install the metrics recorder")?;
        let fanout = Fanout::new(config.fanout(), history.clone(), source.clone());
        let capture = Arc::new(waldelta_capture::Status::new());
        let observer =
            Arc::new(Observer { capture: capture.clone(), history: history.clone(), fanout: fanout.clone() });
        let operations =
            Operations { observer: observer.clone(), metrics: recorder.clone(), stop: stop.clone() };
        let app = fanout.router_with(http::router(operations));

        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.spawn("listener", serve(listener, app, stop.clone()));
        supervisor.spawn("metrics", upkeep(recorder, stop.clone()));
        supervisor.spawn("fanout", run_fanout(fanout, stop.clone()));
        supervisor.spawn("states", tell_states(capture.clone(), stop.clone()));
        supervisor.spawn("head", watch_head(history.clone(), stop.clone()));
        supervisor.spawn("follow", follow(history.clone(), capture.clone(), stop.clone()));
        supervisor.spawn("capture", run_capture(config.capture(source), history, capture, stop.clone()));
        let stop_timeout = Duration::from_millis(config.server.stop_timeout_ms);
        Ok(Service { supervisor, stop, stop_timeout, observer })
    }

    /// Calls `announce` once, when capture is streaming for the first time.
    pub(crate) fn when_capturing(&mut self, announce: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
        let (status, stop) = (self.observer.capture.clone(), self.stop.clone());
        self.supervisor.spawn("announcer", async move {
            while status.read().state != State::Streaming {
                if stop.run_until_cancelled(tokio::time::sleep(ANNOUNCE_POLL)).await.is_none() {
                    return Ok(());
                }
            }
            announce()
        });
    }

    /// Waits until a signal or a failed part ends the service, then stops all parts.
    pub(crate) async fn wait(mut self, signals: &mut StopSignals) -> anyhow::Result<Outcome> {
        let failed = loop {
            tokio::select! {
                signal = signals.next() => {
                    tracing::info!(signal, "stopping");
                    break None;
                }
                () = self.stop.cancelled() => break None,
                ended = self.supervisor.next() => match ended {
                    // Capture that needs a decision leaves the clients served with what is durable. One that has
                    // fallen over without a word, by a panic, ends the service: it would look alive.
                    Some(Ended { name: "capture", result: Err(_) }) if self.capture_has_stopped() => {}
                    Some(Ended { name: "announcer", result: Ok(()) }) => {}
                    Some(Ended { name, result }) => break Some((name, result)),
                    None => break None,
                },
            }
        };
        let mut capture_stopped = self.capture_has_stopped();
        tokio::select! {
            ended = self.supervisor.stop(self.stop_timeout) => {
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

    fn capture_has_stopped(&self) -> bool {
        matches!(self.observer.capture.read().state, State::Stopped { .. })
    }
}

fn needs_decision(ended: &Ended) -> bool {
    ended.name == "capture" && ended.result.as_ref().is_err_and(|error| failure::code_of(error).is_some())
}

/// Tells the log of each change of capture's state once, with its name: of failures that come again and again the first.
async fn tell_states(capture: Arc<waldelta_capture::Status>, stop: CancellationToken) -> anyhow::Result<()> {
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

/// Serves what another instance writes, while this one does not.
async fn follow(
    history: History,
    capture: Arc<waldelta_capture::Status>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    Box::pin(waldelta_capture::follow(&history, &capture, stop)).await;
    Ok(())
}

/// Ends the service when history goes back, because it was restored from a backup or dropped and begun anew. Sessions and
/// what is kept ready for them have positions that history may never come to, or come to with other changes; a service that
/// is started again admits clients by what history has, and tells them where they must begin anew.
async fn watch_head(history: History, stop: CancellationToken) -> anyhow::Result<()> {
    let mut heads = history.feed().watch();
    let mut highest = *heads.borrow_and_update();
    while let Some(Ok(())) = stop.run_until_cancelled(heads.changed()).await {
        let head = *heads.borrow_and_update();
        if head >= highest {
            highest = head;
            continue;
        }
        // In the moment in which this instance becomes the writer, the feed may be filled from an older look once.
        let stored = loop {
            match history.captured().await {
                Ok(captured) => break captured.map(|(_, stored)| stored),
                Err(error) => tracing::debug!(%error, "read the head of history"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(RESTART_DELAY)).await.is_none() {
                return Ok(());
            }
        };
        if stored.is_none_or(|stored| stored < highest) {
            let message = format!("history went back from {} to {}", highest.cursor(), head.cursor());
            return Err(Failure::error(Code::HistoryWentBack, message));
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener, app: axum::Router, stop: CancellationToken) -> anyhow::Result<()> {
    // A session's frames are small and wanted at once.
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve")
}

async fn upkeep(
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut timer = tokio::time::interval(Duration::from_secs(10));
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        recorder.run_upkeep();
    }
    Ok(())
}

/// Runs the fan-out; a failure (history out of reach) starts it again, since its truth is in history.
async fn run_fanout(fanout: Fanout, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        if let Err(error) = fanout.run(stop.clone()).await {
            let error = anyhow::Error::new(error);
            tracing::warn!(error = failure::chain_text(&error), "fan-out failed; starting again");
            stop.run_until_cancelled(tokio::time::sleep(RESTART_DELAY)).await;
        }
    }
    Ok(())
}

/// Sets capture up where that has not been done, then runs it. What stands in the way of that may be taken away meanwhile:
/// it is tried until then, and the error is only given back when capture is to end.
async fn run_capture(
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
        if stop.run_until_cancelled(tokio::time::sleep(OPEN_RETRY_DELAY)).await.is_none() {
            return if is_retryable { Ok(()) } else { Err(error) };
        }
    }
    waldelta_capture::run(config, history, status, stop).await.map_err(anyhow::Error::new)
}

async fn begin_unless_begun(source: &Source, history: &History) -> Result<(), waldelta_capture::Error> {
    if history.captured().await?.is_none() {
        let head = waldelta_capture::setup::begin(source, history, false).await?;
        tracing::info!(from = %head.durable_end, slot = source.slot, "history begins");
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
