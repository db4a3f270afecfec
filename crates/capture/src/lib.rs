//! Moves changes from a replication slot into history, and tells the slot only what is durable there.
//!
//! It knows nothing of clients.

mod run;
mod start;

mod baseline;
pub mod setup;

mod pump;

mod intake;
mod lines;
mod listed;
mod lookup;
mod outlines;
mod shape;
mod wal2json;

mod batch;
mod progress;

mod appender;

pub mod walsender;

mod drift;
mod questions;
mod repairs;
mod watch;

mod backoff;

mod error;
mod metrics;
mod status;

use std::time::Duration;

pub use error::Error;
pub use repairs::NeedsRepair;
pub use run::run;
pub use status::{Canary, Reading, State, Status};
use waldelta_source::Source;

/// How capture behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is captured.
    pub source: Source,
    /// How the holder of the writer's lease is named, for people.
    pub holder: String,
    /// The socket is closed when history accepts nothing for this long while data waits (T).
    pub stall_timeout: Duration,
    /// How often the slot is told the durable end at the latest.
    pub feedback_interval: Duration,
    /// How often the canary row is updated; zero: never.
    pub canary_interval: Duration,
    /// Rows of one append at most.
    pub batch_rows_max: usize,
    /// Bytes of images of one append at most.
    pub batch_bytes_max: usize,
}
