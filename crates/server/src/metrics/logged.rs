//! Counts the warnings and errors of the log by their codes: whatever part tells them, and however often.

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

/// The layer that counts.
pub(crate) struct Problems;

impl<S: Subscriber> Layer<S> for Problems {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut found = Found(None);
        event.record(&mut found);
        counter!(PROBLEMS, "level" => level, "code" => found.0.map_or(NONE, Code::as_str)).increment(1);
    }
}

/// The code of an event. Whatever else is called so, and is none, makes no label.
struct Found(Option<Code>);

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "code" {
            self.0 = Code::ALL.iter().copied().find(|code| code.as_str() == value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
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
                r#"waldelta_problems_total{level="warn",code="none"} 1"#,
            ]
        );
    }
}
