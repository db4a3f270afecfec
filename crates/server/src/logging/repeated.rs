//! Warnings and errors that come again and again: a loop that tries for hours what cannot succeed, or somebody who tries passwords. The first
//! few of a minute are written, and how many more there were is written later; all of them are counted.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::metrics::logged::Found;

/// What is the same is written so often in a minute.
const WRITTEN_MAX: u64 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// Different ones that are told apart at most; of more, all are written.
const KNOWN_MAX: usize = 1_000;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// What was said lately.
struct Known {
    hasher: RandomState,
    lines: HashMap<u64, Line>,
}

/// What is the same: said at the same place of the code, with the same code and failure. All else (addresses, pauses) may differ.
struct Line {
    since: Instant,
    times: u64,
    level: &'static str,
    what: String,
}

/// What was not written, of one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unwritten {
    pub times: u64,
    pub level: &'static str,
    pub what: String,
}

/// Tells the log how often more what was said. For whoever has a timer: inside a layer nothing can be said.
pub(crate) fn tell_unwritten() {
    for Unwritten { times, level, what } in unwritten(Instant::now()) {
        tracing::warn!(times, level, what, "this was said more often, and not written");
    }
}

/// Of the minutes that are over.
fn unwritten(now: Instant) -> Vec<Unwritten> {
    let mut known = known();
    let Some(known) = known.as_mut() else { return Vec::new() };
    let mut unwritten = Vec::new();
    known.lines.retain(|_, line| {
        let is_over = now.duration_since(line.since) >= MINUTE;
        if is_over && line.times > WRITTEN_MAX {
            let (times, what) = (line.times - WRITTEN_MAX, line.what.clone());
            unwritten.push(Unwritten { times, level: line.level, what });
        }
        !is_over
    });
    unwritten
}

/// Whether it is to be written. What was not written in a minute that is over has to have been told before a new one begins.
fn is_written(site: Identifier, level: Level, found: &Found, now: Instant) -> bool {
    let mut known = known();
    let known = known.get_or_insert_with(|| Known { hasher: RandomState::new(), lines: HashMap::new() });
    let key =
        known.hasher.hash_one(Said { site, code: found.code.map(|code| code.as_str()), error: &found.error });
    if !known.lines.contains_key(&key) && known.lines.len() >= KNOWN_MAX {
        return true;
    }
    let line = known.lines.entry(key).or_insert_with(|| Line {
        since: now,
        times: 0,
        level: if level == Level::ERROR { "error" } else { "warn" },
        what: found.words(),
    });
    line.times += 1;
    line.times <= WRITTEN_MAX
}

#[derive(Hash)]
struct Said<'a> {
    site: Identifier,
    code: Option<&'static str>,
    error: &'a str,
}

fn known() -> MutexGuard<'static, Option<Known>> {
    // No holder leaves it half changed.
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The layer that writes, but for what is said too often. It is no filter of it: see [`super::logged`].
pub(super) struct Unrepeated<L>(pub L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Unrepeated<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        // The levels are in the order of how much they tell.
        if *metadata.level() <= Level::WARN && metadata.target() != module_path!() {
            let found = Found::of(event);
            if !is_written(metadata.callsite(), *metadata.level(), &found, Instant::now()) {
                return;
            }
        }
        self.0.on_event(event, context);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.0.enabled(metadata, context)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_loop_says_is_written_a_few_times_and_what_differs_always() {
        let written = Written::default();
        let to = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || to.clone());
        let all = tracing_subscriber::registry().with(Unrepeated(layer));
        tracing::subscriber::with_default(all, || {
            for pause in 0..40 {
                tracing::warn!(error = "refused", pause, "loop: trying again");
                tracing::info!(pause, "plain");
            }
            for code in ["refused", "timed out"] {
                for _ in 0..3 {
                    tracing::warn!(error = code, "other");
                }
            }
            tell_unwritten();
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("loop: trying again").count(), 10, "{text}");
        assert_eq!(text.matches("plain").count(), 40);
        assert_eq!(text.matches("other").count(), 6, "two failures, three times each");
        assert!(!text.contains("more often"), "the minute is not over");
        let later = unwritten(Instant::now() + MINUTE);
        let told = Unwritten { times: 30, level: "warn", what: "loop: trying again: refused".into() };
        assert!(later.contains(&told), "{later:?}");
        assert!(!unwritten(Instant::now() + MINUTE).contains(&told), "it is told once");
    }
}
