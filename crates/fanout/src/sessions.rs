//! The list of sessions, as operators see it, and from which it is known how many there are.
//!
//! Each session writes its own entry, which nobody else waits for: the list itself is locked only when one comes or goes, and to
//! be read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use waldelta_wal::Position;

use crate::SessionReading;
use crate::clients::{NOTE_EVERY, Visit};
use crate::session::state::session_name;

/// Where a session is, as operators see it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub client_id: Option<Arc<str>>,
    pub state: &'static str,
    pub cursor: Position,
    pub acked: Option<Position>,
    pub sent_bytes: u64,
}

/// A session in the list.
#[derive(Debug)]
pub(crate) struct Entry {
    standing: Mutex<Standing>,
    /// What its program calls itself.
    user_agent: Option<Arc<str>>,
    /// When it was written last that its client is here.
    noted_at: Mutex<Option<Instant>>,
}

/// The sessions by number.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

impl Sessions {
    pub(crate) fn add(&self, number: u64, user_agent: Option<Arc<str>>) -> Arc<Entry> {
        let standing = Standing {
            client_id: None,
            state: "connecting",
            cursor: Position::default(),
            acked: None,
            sent_bytes: 0,
        };
        let entry =
            Arc::new(Entry { standing: Mutex::new(standing), user_agent, noted_at: Mutex::default() });
        lock(&self.entries).insert(number, entry.clone());
        entry
    }

    pub(crate) fn remove(&self, number: u64) {
        lock(&self.entries).remove(&number);
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.entries).len()
    }

    /// The sessions there are, oldest first.
    pub(crate) fn readings(&self) -> Vec<SessionReading> {
        lock(&self.entries).iter().map(|(number, entry)| entry.reading(*number)).collect()
    }

    /// Those whose clients were not noted for a while.
    pub(crate) fn to_note(&self, now: Instant) -> Vec<Arc<Entry>> {
        lock(&self.entries).values().filter(|entry| entry.is_due(now)).cloned().collect()
    }
}

impl Entry {
    pub(crate) fn update(&self, standing: Standing) {
        *lock(&self.standing) = standing;
    }

    /// The visit that is to be noted; `None` while the client is not known.
    pub(crate) fn visit(&self) -> Option<Visit> {
        let client_id = lock(&self.standing).client_id.clone()?;
        Some(Visit { client_id, user_agent: self.user_agent.clone() })
    }

    /// What its program calls itself.
    pub(crate) fn user_agent(&self) -> Option<Arc<str>> {
        self.user_agent.clone()
    }

    /// Whether its client is to be noted by now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let known = lock(&self.standing).client_id.is_some();
        known && lock(&self.noted_at).is_none_or(|noted| now.saturating_duration_since(noted) >= NOTE_EVERY)
    }

    pub(crate) fn noted(&self, now: Instant) {
        *lock(&self.noted_at) = Some(now);
    }

    fn reading(&self, number: u64) -> SessionReading {
        let standing = lock(&self.standing).clone();
        SessionReading {
            session: session_name(number),
            client_id: standing.client_id.as_deref().unwrap_or_default().to_owned(),
            state: standing.state,
            cursor: standing.cursor.to_string(),
            acked: standing.acked.map(|acked| acked.to_string()),
            sent_bytes: standing.sent_bytes,
        }
    }
}

/// No holder of these locks leaves them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::position;

    #[test]
    fn a_client_is_to_be_noted_when_it_is_known_and_then_now_and_again() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let entry = sessions.add(1, Some("agent".into()));
        assert!(sessions.to_note(now).is_empty() && entry.visit().is_none());
        let standing = Standing {
            client_id: Some("web-7".into()),
            state: "live",
            cursor: position(10),
            acked: None,
            sent_bytes: 3,
        };
        entry.update(standing);
        assert_eq!(sessions.to_note(now).len(), 1);
        entry.noted(now);
        assert!(sessions.to_note(now + NOTE_EVERY / 2).is_empty());
        assert_eq!(sessions.to_note(now + NOTE_EVERY).len(), 1);
        let readings = sessions.readings();
        assert_eq!(
            (&*readings[0].session, &*readings[0].client_id, readings[0].state),
            ("s1", "web-7", "live")
        );
        sessions.remove(1);
        assert_eq!((sessions.count(), sessions.to_note(now + NOTE_EVERY).len()), (0, 0));
    }
}
