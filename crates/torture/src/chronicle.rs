//! What was done when: printed as it happens, and the last of it shown where a run fails.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Lines that are shown at a failure.
const RECENT_MAX: usize = 25;

/// The times are those since the run began.
#[derive(Debug)]
pub(crate) struct Chronicle {
    begun: Instant,
    recent: Mutex<VecDeque<String>>,
}

impl Chronicle {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Chronicle { begun: Instant::now(), recent: Mutex::default() }
    }

    /// Prints a line, and keeps it for a while.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        let text = format!("{:8.3} {what}", self.begun.elapsed().as_secs_f64());
        say(&text);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(text);
    }

    /// The last lines.
    pub(crate) fn recent(&self) -> Vec<String> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "the log of a run is what this program is for")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
