//! Capture stopped for a while by an operator, and let go on.

use tokio::sync::watch;

/// Shared between who pauses and what is paused.
#[derive(Clone)]
pub(crate) struct Pauses(watch::Sender<Option<String>>);

impl Pauses {
    /// Nothing is paused.
    pub(crate) fn new() -> Self {
        Pauses(watch::Sender::new(None))
    }

    /// Pauses; `by` whom. Who has paused it first has.
    pub(crate) fn pause(&self, by: &str) {
        self.0.send_if_modified(|paused| {
            let is_new = paused.is_none();
            if is_new {
                *paused = Some(by.to_owned());
            }
            is_new
        });
    }

    /// Lets it go on; false where it was not paused.
    pub(crate) fn resume(&self) -> bool {
        self.0.send_if_modified(|paused| paused.take().is_some())
    }

    /// Who has paused it, as it changes.
    pub(super) fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_paused_by_one_and_resumed_once() {
        let pauses = Pauses::new();
        let seen = pauses.watch();
        assert!(!pauses.resume());
        pauses.pause("ops");
        pauses.pause("another");
        assert_eq!(seen.borrow().as_deref(), Some("ops"));
        assert!(pauses.resume() && !pauses.resume());
        assert_eq!(*seen.borrow(), None);
    }
}
