//! Moves changes from a replication slot into history, and tells the slot only what is durable there.
//!
//! It knows nothing of clients.

mod leadership;
pub mod recover;
mod run;
mod start;

pub mod states;

mod baseline;
pub mod setup;

mod pump;

mod columns;
mod intake;
mod lines;
mod listed;
mod lookup;
mod outlines;
mod shape;
mod skipping;
mod wal2json;

mod batch;
mod progress;

mod appender;
mod promotion;

pub mod walsender;

mod drift;
mod joining;
mod questions;
mod repairs;
mod resetting;
mod shown;
mod synchronous;
mod watch;

mod drain;

mod backoff;

mod budget;
mod error;
mod lag;
mod metrics;
mod status;
mod tables;
mod trail;
mod trend;

#[cfg(feature = "guard")]
#[doc(hidden)]
pub mod guard;

use std::time::Duration;

pub use budget::{Budget, Verdict};
pub use drain::{Drained, drain};
pub use error::Error;
pub use lag::{Lag, Stage};
pub use leadership::follow;
pub use metrics::describe as describe_metrics;
pub use repairs::NeedsRepair;
pub use resetting::reset_tables;
pub use run::run;
pub use shown::ShownAt;
pub use status::{Canary, Reading, State, Status};
pub use tables::TableReading;

use waldelta_source::Source;

/// What happens where history would have a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// Capture stops in a named state, and `waldelta recover` goes on.
    #[default]
    Stop,
    /// Capture goes on by itself with a new epoch, and says so; tables that need repair are reset by themselves.
    NewEpoch,
}

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
    /// What happens where history would have a gap.
    pub on_gap: OnGap,
    /// A writer of history that has not renewed its lease for this long is taken over.
    pub takeover_after: Duration,
}

/// Smallest piece that a large transaction is cut into.
const PIECE_BYTES_MIN: usize = 64 << 10;

impl Config {
    /// The bounds of one append.
    fn limits(&self) -> batch::Limits {
        batch::Limits { rows_max: self.batch_rows_max.max(1), bytes_max: self.batch_bytes_max.max(1) }
    }

    /// Bytes of a piece that a large transaction is cut into, at most.
    fn piece_bytes_max(&self) -> usize {
        (self.batch_bytes_max / 2).max(PIECE_BYTES_MIN)
    }
}
