//! `waldelta run`: capture a database and serve its changes, or one of the two.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::cli::RunOptions;
use crate::config::Config;
use crate::failure::EXIT_CAPTURE_STOPPED;
use crate::listener::Listeners;
use crate::open_files::OpenFiles;
use crate::service::{Hangups, Opening, Outcome, Service, StopSignals};
use crate::systemd;

/// Runs until a signal comes.
pub(crate) async fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&options.options)?;
    let role = options.role.unwrap_or(config.server.role);
    config.server.role = role;
    let mut source = config.source()?;
    // Keys that cannot be used are told now, and not when history is open.
    config.access()?;
    let files = OpenFiles::raise();
    let listeners = Listeners::bind(&config, files)?;
    let mut signals = StopSignals::listen()?;
    let hangups = Hangups::listen(&options.options, role)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        role = role.as_str(),
        source = source.target.redacted(),
        listen = %listeners.clients.address()?,
        "starting"
    );
    if role.serves() {
        files.tell(config.server.sessions_max);
    }
    let history_config = config.history()?;
    let opening = Opening::begin(config.policy()?, listeners, CancellationToken::new())?;
    systemd::ready();
    let history = tokio::select! {
        history = opening.history(&history_config, &mut source) => history?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before history was reached");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let slot = source.slot.clone();
    let service = Service::start(config, source, history, opening, Some(hangups)).await?;
    let outcome = service.wait(&mut signals).await?;
    if role.captures() {
        // A stopped service leaves a slot that keeps WAL: whoever stops it for good must know.
        tracing::info!(
            slot,
            "stopped; the slot keeps WAL at the source until the service runs again; to take it away: waldelta remove --yes"
        );
    } else {
        tracing::info!("stopped");
    }
    match outcome {
        Outcome::Stopped => Ok(ExitCode::SUCCESS),
        Outcome::CaptureStopped => Ok(ExitCode::from(EXIT_CAPTURE_STOPPED)),
    }
}
