//! What is the case that somebody should know. Pure: made of a status.

use std::collections::BTreeMap;

use serde::Serialize;

use super::MESSAGE_CHARS_MAX;
use crate::status::Status;

/// Where something is the case: what it is of, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    /// `capture`, `writer`, `slot`, `lag`, `table`, `config`.
    of: &'static str,
    /// Of capture the name of the state, of a table the table's.
    name: String,
}

impl Place {
    pub(super) fn new(of: &'static str, name: &str) -> Self {
        Place { of, name: name.to_owned() }
    }

    #[cfg(test)]
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// What is the case there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Condition {
    /// `info`, `warning`, `critical`.
    severity: &'static str,
    /// Code of the failure, where it is one.
    code: Option<String>,
    /// What is the case, in words.
    message: Option<String>,
    /// What mends it.
    fix: Option<String>,
}

impl Condition {
    pub(super) fn new(severity: &'static str) -> Self {
        Condition { severity, ..Condition::default() }
    }

    pub(super) fn is_critical(&self) -> bool {
        self.severity == "critical"
    }

    fn with(self, code: Option<&String>, message: Option<&str>, fix: Option<&String>) -> Self {
        let short = |text: &str| text.chars().take(MESSAGE_CHARS_MAX).collect();
        Condition { code: code.cloned(), message: message.map(short), fix: fix.cloned(), ..self }
    }
}

/// Everything that is to be told. Lag is, above `lag_seconds_max`; 0: never.
pub(super) fn conditions(status: &Status, lag_seconds_max: f64) -> BTreeMap<Place, Condition> {
    let mut found = BTreeMap::new();
    if let Some(capture) = &status.capture {
        let severity = match capture.state.as_str() {
            "stopped" => Some("critical"),
            "reconnecting" => Some("warning"),
            "standby" => Some("info"),
            _ => None,
        };
        if let Some(severity) = severity {
            let message = capture.message.as_deref().or(capture.holder.as_deref());
            let condition =
                Condition::new(severity).with(capture.code.as_ref(), message, capture.fix.as_ref());
            found.insert(Place::new("capture", &capture.name), condition);
        }
        if capture.commits_wait {
            let words = "commits at the source wait for capture";
            let condition = Condition::new("critical").with(None, Some(words), None);
            found.insert(Place::new("capture", "synchronous_standby"), condition);
        }
        if let Some(seconds) =
            capture.lag_seconds.filter(|seconds| lag_seconds_max > 0.0 && *seconds > lag_seconds_max)
        {
            let words = format!("history is {seconds:.0} s behind, {} bytes of WAL", capture.lag_bytes);
            found.insert(Place::new("lag", "lag"), Condition::new("warning").with(None, Some(&words), None));
        }
    }
    if let Some(writer) = status.writer.as_ref().filter(|writer| writer.state != "writing") {
        let condition = Condition::new("critical").with(
            writer.code.as_ref(),
            writer.message.as_deref(),
            writer.fix.as_ref(),
        );
        found.insert(Place::new("writer", &writer.state), condition);
    }
    if let Some(slot) = status.slot.as_ref().filter(|slot| slot.verdict != "ok") {
        let severity = if slot.verdict == "warning" { "warning" } else { "critical" };
        let condition = Condition::new(severity).with(None, Some(&slot.room()), slot.fix.as_ref());
        found.insert(Place::new("slot", &slot.verdict), condition);
    }
    for table in &status.needs_repair {
        let condition = Condition::new("warning").with(None, Some(&table.explanation), None);
        found.insert(Place::new("table", &table.table), condition);
    }
    if status.config.code.is_some() {
        let condition = Condition::new("warning").with(
            status.config.code.as_ref(),
            status.config.message.as_deref(),
            None,
        );
        found.insert(Place::new("config", "refused"), condition);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{status, writer};

    fn told(status: &Status, lag_seconds_max: f64) -> Vec<String> {
        let found = conditions(status, lag_seconds_max);
        found.iter().map(|(place, what)| format!("{} {} {}", what.severity, place.of, place.name)).collect()
    }

    #[test]
    fn what_is_the_case_is_named_with_how_bad_it_is() {
        let mut it = status("streaming", "streaming");
        assert_eq!(told(&it, 0.0), ["warning slot warning", "warning table public.t"]);
        assert_eq!(told(&it, 0.4), ["warning lag lag", "warning slot warning", "warning table public.t"]);
        it.needs_repair.clear();
        it.slot.as_mut().unwrap().verdict = "lost".into();
        let capture = it.capture.as_mut().unwrap();
        (capture.state, capture.name, capture.commits_wait) = ("stopped".into(), "slot_lost".into(), true);
        (capture.message, capture.fix) = (Some("x".repeat(5_000)), Some("do this".into()));
        assert_eq!(
            told(&it, 0.6),
            ["critical capture slot_lost", "critical capture synchronous_standby", "critical slot lost"]
        );
        let stopped = &conditions(&it, 0.0)[&Place::new("capture", "slot_lost")];
        assert_eq!(stopped.message.as_ref().unwrap().len(), MESSAGE_CHARS_MAX);
        assert_eq!(stopped.fix.as_deref(), Some("do this"));
    }

    #[test]
    fn who_only_serves_tells_who_writes_while_nobody_does() {
        let mut it = status("streaming", "streaming");
        (it.capture, it.slot) = (None, None);
        it.needs_repair.clear();
        it.writer = Some(writer("writing", Some("the other")));
        assert_eq!(told(&it, 1.0), [""; 0]);
        it.writer = Some(writer("absent", Some("the other")));
        it.config.code = Some("WD-CONFIG-INVALID".into());
        assert_eq!(told(&it, 1.0), ["warning config refused", "critical writer absent"]);
    }
}
