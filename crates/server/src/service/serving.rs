//! The tasks of a process that serves clients beside its listener: the fan-out, and the watch for a history that goes back.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use waldelta_fanout::Part;
use waldelta_history::History;
use waldelta_wal::{Code, chain_text};

use crate::failure::Failure;

/// A part that failed for a passing reason is started again after this long.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Runs a part of the fan-out, which ends when it is asked to: whoever is out of reach meanwhile is tried again inside.
pub(super) async fn run_part(part: Part) -> anyhow::Result<()> {
    part.run.await;
    Ok(())
}

/// Ends the service when history goes back, because it was restored from a backup or dropped and begun anew. Sessions and
/// what is kept ready for them have positions that history may never come to, or come to with other changes; a service that
/// is started again admits clients by what history has, and tells them where they must begin anew.
pub(super) async fn watch_head(history: History, stop: CancellationToken) -> anyhow::Result<()> {
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
                Err(error) => tracing::debug!(error = chain_text(&error), "read the head of history"),
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
