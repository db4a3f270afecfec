//! The tasks of a process that serves clients and does not capture: it follows the history that another writes, and looks who
//! that is.
//!
//! It never takes the writer's lease. A notification that is lost costs it a second at most, see `waldelta_history::follow`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Error, History};
use waldelta_wal::Code;

use crate::failure;
use crate::status::{Answer, Watched};

/// Following that failed for good is tried again after this long.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// History that could not be followed for longer makes a process unready: tried again, it failed again.
pub(super) const UNFOLLOWED_MAX: Duration = Duration::from_secs(15);
/// How often it is looked who writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Which tables need repair is asked once in so many looks.
const LOOKS_PER_GAPS: u32 = 5;
/// One look may take so long; readers of the same connections may be before it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Feeds the sessions with what another process makes durable.
pub(crate) async fn follow(history: History, stop: CancellationToken) -> anyhow::Result<()> {
    while let Err(error) = Box::pin(history.follow(stop.clone())).await {
        let error = anyhow::Error::new(error);
        tracing::warn!(error = failure::chain_text(&error), "history cannot be followed; trying again");
        stop.run_until_cancelled(tokio::time::sleep(FOLLOW_AGAIN_AFTER)).await;
    }
    Ok(())
}

/// Looks who writes, for status, readiness, metrics and the log.
pub(super) async fn watch_writer(
    history: History,
    watched: Arc<Watched>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        let answer = match in_time(&stop, history.writing()).await {
            None => return Ok(()),
            Some(Ok(None)) => Answer::NotBegun,
            Some(Ok(Some(writing))) => Answer::Known(writing),
            Some(Err((code, message))) => Answer::Failed(code, message),
        };
        let is_known = matches!(answer, Answer::Known(_));
        watched.saw(answer);
        if is_known && looks % LOOKS_PER_GAPS == 0 {
            // One that failed is asked again soon enough.
            if let Some(Ok(gaps)) = in_time(&stop, history.open_gaps()).await {
                watched.saw_gaps(gaps);
            }
        }
        looks = if is_known { looks.wrapping_add(1) } else { 0 };
    }
    Ok(())
}

/// The answer, or why there is none; `None` when the process stops.
async fn in_time<T>(
    stop: &CancellationToken,
    asked: impl Future<Output = Result<T, Error>>,
) -> Option<Result<T, (Code, String)>> {
    let answer = stop.run_until_cancelled(tokio::time::timeout(LOOK_TIMEOUT, asked)).await?;
    Some(match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err((error.code(), failure::chain_text(&anyhow::Error::new(error)))),
        Err(_elapsed) => {
            Err((Code::HistoryUnreachable, format!("history has not answered for {LOOK_TIMEOUT:?}")))
        }
    })
}
