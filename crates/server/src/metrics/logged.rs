//! Counts the warnings and errors of the log by their codes: whatever part tells them, and however often.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use metrics::{Unit, counter, describe_counter};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use waldelta_wal::Code;

const PROBLEMS: &str = "waldelta_problems_total";
/// What has no code.
const NONE: &str = "none";

/// Tells the recorder what the metric means.
pub(super) fn describe_metrics() {
    describe_counter!(
        PROBLEMS,
        Unit::Count,
        "Lines of the log that are a warning or an error, by `level` and `code` (of libraries, and of what has no code: `none`)"
    );
}

/// How many are kept to be shown.
const KEPT_MAX: usize = 100;
/// Of a message so much is kept.
const MESSAGE_CHARS_MAX: usize = 500;

/// The last of them, oldest first.
static LAST: Mutex<VecDeque<Problem>> = Mutex::new(VecDeque::new());

/// A warning or an error of the log.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub at: SystemTime,
    /// `warn`, `error`.
    pub level: &'static str,
    pub code: Option<Code>,
    /// What the log says, with what failed.
    pub message: String,
}

/// The last ones, oldest first.
pub(crate) fn last() -> Vec<Problem> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// The layer that counts, and keeps the last ones.
pub(crate) struct Problems;

impl<S: Subscriber> Layer<S> for Problems {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let found = Found::of(event);
        let (code, message) = (found.code, found.words());
        counter!(PROBLEMS, "level" => level, "code" => code.map_or(NONE, Code::as_str)).increment(1);
        #[expect(clippy::disallowed_methods, reason = "when it was is for people")]
        let at = SystemTime::now();
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT_MAX {
            last.pop_front();
        }
        last.push_back(Problem { at, level, code, message });
    }
}

/// What is kept of an event. Whatever is called a code, and is none, makes no label.
#[derive(Default)]
pub(crate) struct Found {
    pub code: Option<Code>,
    message: String,
    pub error: String,
}

impl Found {
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let mut found = Found::default();
        event.record(&mut found);
        found
    }

    /// What it says, with what failed.
    pub(crate) fn words(&self) -> String {
        let Found { message, error, .. } = self;
        let words = if error.is_empty() { message.clone() } else { format!("{message}: {error}") };
        words.chars().take(MESSAGE_CHARS_MAX).collect()
    }
}

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = Code::ALL.iter().copied().find(|code| code.as_str() == value),
            "error" => value.clone_into(&mut self.error),
            "message" => value.clone_into(&mut self.message),
            _ => {}
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if matches!(field.name(), "error" | "message") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn warnings_and_errors_are_counted_by_their_codes_and_nothing_else_becomes_one() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(Problems), || {
                tracing::error!(code = Code::SlotMissing.as_str(), "one");
                tracing::error!(code = Code::SlotMissing.as_str(), "two");
                tracing::warn!(code = "a row's value", "three");
                tracing::warn!(code = Some(Code::SlotLost.as_str()), other = 7, "four");
                tracing::info!(code = Code::SlotLost.as_str(), "five");
                tracing::warn!(error = "why", "six");
            });
        });
        let text = handle.render();
        let mut told: Vec<&str> = text.lines().filter(|line| line.starts_with(PROBLEMS)).collect();
        told.sort_unstable();
        assert_eq!(
            told,
            [
                r#"waldelta_problems_total{level="error",code="WD-SLOT-MISSING"} 2"#,
                r#"waldelta_problems_total{level="warn",code="WD-SLOT-LOST"} 1"#,
                r#"waldelta_problems_total{level="warn",code="none"} 2"#,
            ]
        );
        let last: Vec<String> = last().into_iter().map(|problem| problem.message).collect();
        assert!(last.ends_with(&["three", "four", "six: why"].map(str::to_owned)), "{last:?}");
    }
}
