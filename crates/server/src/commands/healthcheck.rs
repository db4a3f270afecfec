//! `waldelta healthcheck`: whether a service is ready, for whoever can run a program and has neither a shell nor curl.

use std::process::ExitCode;

use super::answer;
use super::asking::Asking;
use crate::cli::HealthcheckOptions;
use crate::failure::EXIT_FAILED;

/// Asks once; exit code 1 when it is not ready, or does not answer.
pub(crate) async fn run(options: &HealthcheckOptions) -> anyhow::Result<ExitCode> {
    let path = if options.live { "/livez" } else { "/readyz" };
    let (is_well, said) = Asking::new(&options.service)?.probe(path).await?;
    answer(said.trim_end())?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}
