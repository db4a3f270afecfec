//! How far something is that takes long, on the terminal: nothing is shown where standard error is none.

use std::io::Write;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAWN_EVERY: Duration = Duration::from_millis(100);
/// What is shown where the end is not known, and where it is.
const COUNTED: &str = "{spinner} {msg}: {human_pos} {prefix} ({elapsed}, {per_sec:0})";
const MEASURED: &str =
    "{spinner} {msg} [{bar:24}] {human_pos} of about {human_len} {prefix} ({elapsed}, still {eta})";

/// The one that is drawn now: whoever else writes to standard error has it step aside.
static DRAWN: RwLock<Option<ProgressBar>> = RwLock::new(None);

/// Something that is counted. Dropping it clears its line.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of so many, where that is about known; `counted`: what they are, such as `rows`.
    pub(crate) fn of(expected: Option<u64>, counted: &'static str, what: &str) -> Self {
        let template = if expected.is_some() { MEASURED } else { COUNTED };
        let bar = match expected {
            Some(expected) => ProgressBar::new(expected),
            None => ProgressBar::no_length(),
        };
        // A template of ours that could not be read would be seen in the test.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style.progress_chars("=> ")).with_prefix(counted);
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(REDRAWN_EVERY);
        *DRAWN.write().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Progress(bar)
    }

    /// Whether anybody sees it.
    pub(crate) fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }

    /// So many there are by now. More than were expected is no error: an estimate is one.
    pub(crate) fn at(&self, count: u64) {
        if self.0.length().is_some_and(|expected| expected < count) {
            self.0.set_length(count);
        }
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *DRAWN.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.finish_and_clear();
    }
}

/// Standard error beside what is drawn there.
pub(crate) struct Aside;

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &*DRAWN.read().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| std::io::stderr().write(bytes)),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
