//! What is looked at, and what was found: the worst first. Every view that says whether all is well says this, and so do notices.

use serde::{Deserialize, Serialize};

use super::Status;

/// One thing that is looked at.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Check {
    /// `capture`, `writer`, `slot`, `lag`, `table`, `config`.
    pub of: String,
    /// What was found: of capture and who writes the name of the state, of the slot its verdict, of a table the table's.
    pub name: String,
    /// How bad that is.
    pub severity: Severity,
    /// Code of the failure, where it is one.
    pub code: Option<String>,
    /// What is the case, in words.
    pub message: Option<String>,
    /// What mends it.
    pub fix: Option<String>,
}

/// How bad something is; the worst is the first.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something is lost, or nothing comes, unless somebody acts soon.
    Critical,
    /// Somebody should look.
    Warning,
    /// It is so, and may be so.
    Info,
    /// All is well.
    Ok,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
            Severity::Ok => "ok",
        }
    }
}

impl Check {
    fn new(of: &str, name: &str, severity: Severity) -> Self {
        Check { of: of.to_owned(), name: name.to_owned(), severity, code: None, message: None, fix: None }
    }

    fn because(self, code: Option<&String>, message: Option<&str>, fix: Option<&String>) -> Self {
        Check { code: code.cloned(), message: message.map(str::to_owned), fix: fix.cloned(), ..self }
    }
}

/// Everything that is looked at. Lag is a warning above `lag_seconds_max`; 0: never.
pub(super) fn checks(status: &Status, lag_seconds_max: f64) -> Vec<Check> {
    let mut found = Vec::new();
    if let Some(capture) = &status.capture {
        let severity = match capture.state.as_str() {
            "stopped" => Severity::Critical,
            "reconnecting" | "paused" => Severity::Warning,
            "streaming" => Severity::Ok,
            _ => Severity::Info,
        };
        let message = capture.message.as_deref().or(capture.holder.as_deref());
        let check = Check::new("capture", &capture.name, severity);
        found.push(check.because(capture.code.as_ref(), message, capture.fix.as_ref()));
        if capture.commits_wait {
            let words = "commits at the source wait for capture";
            let check = Check::new("capture", "synchronous_standby", Severity::Critical);
            found.push(check.because(None, Some(words), None));
        }
        let over = capture.lag_seconds.filter(|seconds| lag_seconds_max > 0.0 && *seconds > lag_seconds_max);
        let (name, severity) =
            if over.is_some() { ("behind", Severity::Warning) } else { ("ok", Severity::Ok) };
        let words = over
            .map(|seconds| format!("history is {seconds:.0} s behind, {} bytes of WAL", capture.lag_bytes));
        found.push(Check::new("lag", name, severity).because(None, words.as_deref(), None));
    }
    if let Some(writer) = &status.writer {
        let severity = if writer.state == "writing" { Severity::Ok } else { Severity::Critical };
        let check = Check::new("writer", &writer.state, severity);
        found.push(check.because(writer.code.as_ref(), writer.message.as_deref(), writer.fix.as_ref()));
    }
    if let Some(slot) = &status.slot {
        let severity = match slot.verdict.as_str() {
            "ok" => Severity::Ok,
            "warning" => Severity::Warning,
            _ => Severity::Critical,
        };
        let check = Check::new("slot", &slot.verdict, severity);
        found.push(check.because(None, Some(&slot.room()), slot.fix.as_ref()));
    }
    for table in &status.needs_repair {
        let check = Check::new("table", &table.table, Severity::Warning);
        found.push(check.because(None, Some(&table.explanation), None));
    }
    let config = &status.config;
    let (name, severity) =
        if config.code.is_some() { ("refused", Severity::Warning) } else { ("taken", Severity::Ok) };
    let check = Check::new("config", name, severity);
    found.push(check.because(config.code.as_ref(), config.message.as_deref(), None));
    found.sort_by_key(|check| check.severity);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{status, writer};

    fn told(status: &Status, lag_seconds_max: f64) -> Vec<String> {
        let found = checks(status, lag_seconds_max);
        let bad = found.iter().filter(|check| check.severity != Severity::Ok);
        bad.map(|check| format!("{} {} {}", check.severity.as_str(), check.of, check.name)).collect()
    }

    #[test]
    fn what_is_the_case_is_named_with_how_bad_it_is_the_worst_first() {
        let mut it = status("streaming", "streaming");
        assert_eq!(told(&it, 0.0), ["warning slot warning", "warning table public.t"]);
        assert_eq!(told(&it, 0.4), ["warning lag behind", "warning slot warning", "warning table public.t"]);
        it.slot.as_mut().unwrap().verdict = "lost".into();
        let capture = it.capture.as_mut().unwrap();
        (capture.state, capture.name, capture.commits_wait) = ("stopped".into(), "slot_lost".into(), true);
        (capture.message, capture.fix) = (Some("it is lost".into()), Some("do this".into()));
        assert_eq!(
            told(&it, 0.6),
            [
                "critical capture slot_lost",
                "critical capture synchronous_standby",
                "critical slot lost",
                "warning table public.t"
            ]
        );
        let first = &checks(&it, 0.0)[0];
        assert_eq!((first.message.as_deref(), first.fix.as_deref()), (Some("it is lost"), Some("do this")));
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
        assert_eq!(told(&it, 1.0), ["critical writer absent", "warning config refused"]);
    }
}
