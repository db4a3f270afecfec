//! `waldelta run`: capture a database and serve its changes.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::cli::Options;
use crate::config::Config;
use crate::failure::EXIT_CAPTURE_STOPPED;
use crate::listener;
use crate::service::{Outcome, Service, StopSignals, open_history};

/// Runs until a signal comes.
pub(crate) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = Config::load(options)?;
    let mut source = config.source()?;
    let listener = listener::bind(config.server.listen).await?;
    let mut signals = StopSignals::listen()?;
    let stop = CancellationToken::new();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        source = source.target.redacted(),
        listen = %listener.local_addr()?,
        "starting"
    );
    let history_config = config.history()?;
    let history = tokio::select! {
        history = open_history(&history_config, &mut source, &stop) => history?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before history was reached");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let slot = source.slot.clone();
    let service = Service::start(config, source, history, listener, stop)?;
    let outcome = service.wait(&mut signals).await?;
    // A stopped service leaves a slot that keeps WAL: whoever stops it for good must know.
    tracing::info!(
        slot,
        "stopped; the slot keeps WAL at the source until the service runs again; to take it away: waldelta remove --yes"
    );
    match outcome {
        Outcome::Stopped => Ok(ExitCode::SUCCESS),
        Outcome::CaptureStopped => Ok(ExitCode::from(EXIT_CAPTURE_STOPPED)),
    }
}
