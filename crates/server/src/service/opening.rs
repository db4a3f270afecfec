//! Opening history at the start.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_source::Source;

use crate::failure;

/// While history cannot be reached at the start, it is tried again after this long.
const RETRY_DELAY: Duration = Duration::from_secs(2);

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
                    () = tokio::time::sleep(RETRY_DELAY) => {}
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
