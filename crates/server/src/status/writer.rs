//! Who writes history, as a process knows it that only serves clients: what it last saw, and what follows from that for them.
//!
//! Looking is done elsewhere, see `service::following`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};
use serde::{Deserialize, Serialize};
use waldelta_capture::NeedsRepair;
use waldelta_history::{Gap, Writing};
use waldelta_wal::Code;

/// A writer renews its lease every five seconds: one that has not for so long stands still, or its database does.
const SILENT_AFTER: Duration = Duration::from_secs(15);

const STATE: &str = "waldelta_writer_state";
const SILENT: &str = "waldelta_writer_silent_seconds";
const UNMOVED: &str = "waldelta_history_unmoved_seconds";

/// Who writes history.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct WriterStatus {
    /// `writing`; `absent`: nobody does, and clients are served with what is durable; `not_begun`: there is nothing to serve yet;
    /// `unknown`: history has not answered.
    pub state: String,
    /// The instance that writes, or the last one that did.
    pub holder: Option<String>,
    /// Since it last renewed its lease, by the clock of history's server.
    pub silent_seconds: Option<f64>,
    /// Since the durable end last moved.
    pub unmoved_seconds: Option<f64>,
    /// Code of what is wrong.
    pub code: Option<String>,
    /// What is wrong.
    pub message: Option<String>,
    /// How to mend it.
    pub fix: Option<String>,
}

impl WriterStatus {
    /// Whether there is anything to serve, current or not.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.state.as_str(), "writing" | "absent")
    }

    /// One line, whatever the state.
    pub(crate) fn headline(&self) -> String {
        let holder = self.holder.as_deref().unwrap_or("nobody");
        let message = self.message.as_deref().unwrap_or_default();
        match (self.state.as_str(), self.silent_seconds) {
            ("writing", Some(silent)) if silent > SILENT_AFTER.as_secs_f64() => {
                format!("history is written by {holder}, which has been silent for {silent:.0} s")
            }
            ("writing", _) => format!("history is written by {holder}"),
            _ => message.to_owned(),
        }
    }
}

/// The tables that are not whole in history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unwhole {
    pub needs_repair: Vec<NeedsRepair>,
    pub joining: Vec<NeedsRepair>,
}

/// What was last seen.
#[derive(Debug)]
pub(crate) struct Watched {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    writer: Answer,
    gaps: Vec<Gap>,
}

/// What history said when it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was not asked yet.
    NotYet,
    /// It has not begun.
    NotBegun,
    /// Who writes, or wrote last.
    Known(Writing),
    /// It did not say.
    Failed(Code, String),
}

/// Tells the recorder what the metrics mean.
pub(crate) fn describe_metrics() {
    describe_gauge!(
        STATE,
        "By `state`: 1 for what is known of the instance that writes history, 0 for the rest"
    );
    describe_gauge!(
        SILENT,
        Unit::Seconds,
        "Since the instance that writes history last renewed its lease; NaN while it is not known"
    );
    describe_gauge!(
        UNMOVED,
        Unit::Seconds,
        "Since anything became durable in history; NaN while it is not known"
    );
}

impl Watched {
    /// Nothing seen yet.
    pub(crate) fn new() -> Self {
        Watched { seen: Mutex::new(Seen { writer: Answer::NotYet, gaps: Vec::new() }) }
    }

    /// Takes note of an answer; tells the log where it is another one.
    pub(crate) fn saw(&self, answer: Answer) {
        let before = std::mem::replace(&mut self.lock().writer, answer.clone());
        if is_other(&before, &answer) {
            tell(&answer);
        }
    }

    /// Takes note of the gaps that are open.
    pub(crate) fn saw_gaps(&self, gaps: Vec<Gap>) {
        self.lock().gaps = gaps;
    }

    /// Who writes.
    pub(crate) fn read(&self) -> WriterStatus {
        WriterStatus::from(&self.lock().writer)
    }

    /// The tables that are not whole.
    pub(crate) fn tables(&self) -> Unwhole {
        let gaps = self.lock().gaps.clone();
        let (needs_repair, joining) = gaps.iter().partition::<Vec<_>, _>(|gap| gap.needs_repair());
        let named = |gaps: Vec<&Gap>| gaps.into_iter().map(|gap| NeedsRepair::new(gap, |_| None)).collect();
        Unwhole { needs_repair: named(needs_repair), joining: named(joining) }
    }

    /// Puts it into the metrics.
    pub(crate) fn record(&self) {
        let status = self.read();
        for state in ["writing", "absent", "not_begun", "unknown"] {
            gauge!(STATE, "state" => state).set(f64::from(u8::from(status.state == state)));
        }
        gauge!(SILENT).set(status.silent_seconds.unwrap_or(f64::NAN));
        gauge!(UNMOVED).set(status.unmoved_seconds.unwrap_or(f64::NAN));
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Each change of it is one assignment.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&Answer> for WriterStatus {
    fn from(answer: &Answer) -> Self {
        let (state, code, message) = match answer {
            Answer::NotYet => ("unknown", None, "history has not been asked yet".to_owned()),
            Answer::NotBegun => {
                ("not_begun", Some(Code::HistoryNotBegun), "history has not begun".to_owned())
            }
            Answer::Known(writing) if writing.is_there => ("writing", None, String::new()),
            Answer::Known(writing) => {
                let last = writing
                    .holder
                    .as_ref()
                    .map_or_else(String::new, |holder| format!("; the last was {holder}"));
                let message = format!("nobody writes history, what is durable is served{last}");
                ("absent", Some(Code::HistoryUnwritten), message)
            }
            Answer::Failed(code, message) => ("unknown", Some(*code), message.clone()),
        };
        let writing = match answer {
            Answer::Known(writing) => Some(writing),
            _ => None,
        };
        WriterStatus {
            state: state.to_owned(),
            holder: writing.and_then(|writing| writing.holder.clone()),
            silent_seconds: writing.and_then(|writing| writing.silent).map(|silent| silent.as_secs_f64()),
            unmoved_seconds: writing.map(|writing| writing.unmoved.as_secs_f64()),
            code: code.map(|code| code.as_str().to_owned()),
            message: Some(message).filter(|message| !message.is_empty()),
            fix: code.map(|code| code.explanation().fix.to_owned()),
        }
    }
}

/// Whether it says something that the one before did not: ages grow all the time.
fn is_other(before: &Answer, now: &Answer) -> bool {
    let words = |answer: &Answer| {
        let status = WriterStatus::from(answer);
        (status.state, status.holder, status.code)
    };
    words(before) != words(now)
}

fn tell(answer: &Answer) {
    let status = WriterStatus::from(answer);
    let headline = status.headline();
    match &status.code {
        None => tracing::info!("{headline}"),
        Some(code) => tracing::warn!(code, fix = status.fix, "{headline}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waldelta_wal::{Epoch, Lsn};

    fn writing(is_there: bool, silent_s: u64) -> Answer {
        Answer::Known(Writing {
            holder: Some("the one".to_owned()),
            is_there,
            silent: Some(Duration::from_secs(silent_s)),
            unmoved: Duration::from_secs(7),
        })
    }

    #[test]
    fn what_is_durable_is_served_whether_somebody_writes_or_not() {
        let watched = Watched::new();
        let serves = |answer: Answer| {
            watched.saw(answer);
            (watched.read().serves(), watched.read().headline())
        };
        assert_eq!(serves(Answer::NotYet), (false, "history has not been asked yet".to_owned()));
        assert_eq!(serves(Answer::NotBegun), (false, "history has not begun".to_owned()));
        assert_eq!(serves(writing(true, 3)), (true, "history is written by the one".to_owned()));
        assert_eq!(
            serves(writing(true, 40)),
            (true, "history is written by the one, which has been silent for 40 s".to_owned())
        );
        assert_eq!(
            serves(writing(false, 3)),
            (true, "nobody writes history, what is durable is served; the last was the one".to_owned())
        );
        assert_eq!(watched.read().code.as_deref(), Some("WD-HISTORY-UNWRITTEN"));
        assert_eq!(watched.read().unmoved_seconds, Some(7.0));
        let failed = Answer::Failed(Code::HistoryUnreachable, "cut".to_owned());
        assert_eq!(serves(failed), (false, "cut".to_owned()));
    }

    #[test]
    fn only_what_is_new_is_told() {
        assert!(!is_other(&writing(true, 1), &writing(true, 2)));
        assert!(is_other(&writing(true, 1), &writing(false, 1)));
        assert!(is_other(&Answer::NotYet, &Answer::NotBegun));
    }

    #[test]
    fn a_table_that_joins_needs_no_repair() {
        let watched = Watched::new();
        let gap = |reason: &str| Gap {
            epoch: Epoch(1),
            table_oid: Some(1),
            table: None,
            from: Lsn(1),
            to: None,
            reason: reason.to_owned(),
            found_at_us: 0,
        };
        watched.saw_gaps(vec![gap("rewritten"), gap(Gap::JOINING)]);
        let tables = watched.tables();
        assert_eq!((tables.needs_repair.len(), tables.joining.len()), (1, 1));
        assert_eq!(tables.needs_repair[0].reason, "rewritten");
    }
}
