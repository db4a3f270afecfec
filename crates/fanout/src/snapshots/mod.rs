//! Snapshots that are shared: the source is read once, as fast as it can be, and everybody who wants the same takes it from
//! here at a pace of its own.
//!
//! ```text
//!  source ──COPY──► reading ──compressed frames──► tape ──► follower ──► session, HTTP
//!                   (in Fanout::run)               └─ kept in the library while it is of worth
//! ```
//!
//! How a snapshot joins the stream is the business of [`reading`]; what a session makes of it, of the state machine. A client
//! that is slow, or gone, costs the source nothing.

mod chunk;
mod extract;
mod follow;
mod growth;
mod library;
mod places;
mod reading;
mod tape;

use std::time::Duration;

pub(crate) use chunk::{Chunk, pack_line};
pub(crate) use extract::schema;
pub(crate) use follow::{Follower, Told};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
pub(crate) use growth::{Gaps, hear_of};
pub(crate) use library::Library;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::inner::Inner;

/// How often it is looked at what history has grown by, and at who takes too long.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Reads what is ordered until `stop` is cancelled. How many readings hold the source at the same time is bounded by the library.
pub(crate) async fn run(inner: &Inner, stop: &CancellationToken) {
    let library = &inner.snapshots;
    let mut orders = library.orders().await;
    let mut readings = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(tape) = orders.recv() => readings.push(Box::pin(reading::run(tape, inner))),
            Some(()) = readings.next(), if !readings.is_empty() => {}
            _ = look.tick() => {
                library.look(inner.history.feed());
                inner.metrics.snapshot_bytes.set(library.held() as f64);
            }
        }
    }
    while let Ok(tape) = orders.try_recv() {
        reading::refuse(&tape, library);
    }
}

#[cfg(test)]
mod tests;
