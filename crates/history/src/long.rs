//! Telling the log of what takes long: what is done in a moment is not told at all.

use std::time::Duration;

use tokio::time::{Instant, interval_at};

/// From here on it is long, and is told again and again.
const LONG: Duration = Duration::from_secs(10);

/// Does the work; while it takes long the log has what is waited for, and in the end how long it was.
pub(crate) async fn told<T>(until: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let mut again = interval_at(begun + LONG, LONG);
    let mut work = Box::pin(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if begun.elapsed() > LONG {
                    tracing::info!(seconds = begun.elapsed().as_secs(), "waited until {until}");
                }
                return done;
            }
            _ = again.tick() => {
                tracing::info!(seconds = begun.elapsed().as_secs(), "still waiting until {until}");
            }
        }
    }
}
