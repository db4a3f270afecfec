//! All metrics as their parts describe them, and the reference page made of that.

use std::collections::BTreeMap;
use std::sync::Mutex;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use waldelta_testkit::generated;

/// What is said of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub kind: &'static str,
    pub unit: Option<Unit>,
    pub text: String,
}

impl Described {
    /// Its labels: they stand in backticks, and nothing else does but their values, which come behind a colon or in brackets.
    pub(super) fn labels(&self) -> Vec<&str> {
        let before_values = self.text.split(['(', ':']).next().unwrap_or_default();
        let words = self.text.split('`').skip(1).step_by(2);
        words.filter(|word| before_values.contains(&format!("`{word}`"))).collect()
    }
}

/// Everything that any role measures, by name.
pub(super) fn described() -> BTreeMap<String, Described> {
    let notes = Notes::default();
    metrics::with_local_recorder(&notes, super::describe);
    notes.0.into_inner().unwrap()
}

#[derive(Default)]
struct Notes(Mutex<BTreeMap<String, Described>>);

impl Notes {
    fn note(&self, kind: &'static str, key: KeyName, unit: Option<Unit>, text: SharedString) {
        let described = Described { kind, unit, text: text.into_owned() };
        let before = self.0.lock().unwrap().insert(key.as_str().to_owned(), described);
        assert_eq!(before, None, "{} is described twice", key.as_str());
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("counter", key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("gauge", key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("histogram", key, unit, text);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What the names of each part begin with, in the order of the page.
const PARTS: [(&str, &str); 10] = [
    ("waldelta_capture_", "Capture: from the slot into history"),
    ("waldelta_slot_", "The slot, and what room it has"),
    ("waldelta_source_", "The source"),
    ("waldelta_history_", "History"),
    ("waldelta_writer_", "Who writes history, of a process that only serves clients"),
    ("waldelta_fanout_", "Clients"),
    ("waldelta_access_", "Who asks"),
    ("waldelta_", "The process"),
    ("process_", "The process as the system sees it"),
    ("", "Else"),
];

const HEAD: &str = "\
# Metrics

<!-- Made from what the parts describe, by `make docs`. -->

`GET /metrics` answers in the text format of Prometheus; where and for whom is in [exposing it](../how-to/expose.md). A process has the metrics of
its [role](standby.md). Names end in their unit; sizes are bytes, times seconds, WAL positions bytes from the beginning of the WAL. No label
holds anything of a row, of a client or of a user; labels have a bounded number of values. Histograms are buckets, to be added up over processes:
`histogram_quantile(0.99, sum by (le) (rate(waldelta_fanout_commit_to_socket_seconds_bucket[1m])))`.

What of it to be alarmed by is in [alerts](alerts.md), a dashboard in [deploy/grafana](../../deploy/grafana/waldelta.json). Where the numbers are
shown as well (`/v1/status`, the page, `waldelta status`), they are the same reading.
";

#[test]
fn the_reference_page_has_every_metric() {
    let described = described();
    let mut page = HEAD.to_owned();
    let mut left: Vec<(&String, &Described)> = described.iter().collect();
    for (prefix, title) in PARTS {
        let (of_part, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(name, _)| name.starts_with(prefix));
        left = rest;
        if of_part.is_empty() {
            continue;
        }
        page.push_str(&format!("\n## {title}\n\n| metric | kind | labels | is |\n|---|---|---|---|\n"));
        for (name, described) in of_part {
            let labels: Vec<String> = described.labels().iter().map(|label| format!("`{label}`")).collect();
            let text = described.text.replace('|', "\\|");
            page.push_str(&format!("| `{name}` | {} | {} | {text} |\n", described.kind, labels.join(", ")));
        }
    }
    generated("docs/reference/metrics.md", &page);
}

#[test]
fn names_end_in_their_unit() {
    for (name, Described { kind, unit, text }) in described() {
        if name.starts_with("process_") {
            continue;
        }
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        let name = name.trim_end_matches("_total");
        match unit {
            Some(Unit::Seconds) => assert!(name.contains("_seconds"), "{name}"),
            Some(Unit::Bytes) => assert!(name.contains("_bytes"), "{name}"),
            Some(Unit::Count) | None => {
                assert!(!name.ends_with("_seconds") && !name.ends_with("_bytes"), "{name}");
            }
            Some(other) => panic!("{name} has the unit {other:?}"),
        }
        assert!(text.len() > 10 && !text.ends_with('.'), "{name}: {text}");
    }
}

#[test]
fn labels_are_what_stands_in_backticks_before_the_values() {
    let of = |text: &str| Described { kind: "gauge", unit: None, text: text.to_owned() };
    assert_eq!(of("Sessions, by `state`").labels(), ["state"]);
    assert_eq!(of("By `of` and `what`: an `x`").labels(), ["of", "what"]);
    assert_eq!(of("By `reason` (`own`)").labels(), ["reason"]);
    assert_eq!(of("None at all").labels(), [""; 0]);
}
