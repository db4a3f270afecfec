//! The list of sessions, as operators see it, and from which it is known how many there are.
//!
//! Each session writes its own entry, which nobody else waits for: the list itself is locked only when one comes or goes, and to
//! be read.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use waldelta_wal::Position;

use crate::SessionReading;
use crate::clients::{NOTE_EVERY, Visit};
use crate::lock::lock;
use crate::registry::Client;
use crate::session::state::session_name;

/// Where a session is, as operators see it.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub client: Option<Whose>,
    pub state: &'static str,
    pub cursor: Position,
    pub acked: Option<Position>,
    pub sent_bytes: u64,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    /// See [`crate::clients::key`].
    pub key: Arc<str>,
    pub client_id: Arc<str>,
    pub subject: Option<Arc<str>>,
}

impl Whose {
    pub(crate) fn of(client: &Client) -> Self {
        let Client { key, id, subject, .. } = client.clone();
        Whose { key, client_id: id, subject }
    }
}

/// A session in the list.
#[derive(Debug)]
pub(crate) struct Entry {
    standing: Mutex<Standing>,
    /// What it speaks.
    protocol: &'static str,
    /// What its program calls itself.
    user_agent: Option<Arc<str>>,
    /// When it was written last that its client is here.
    noted_at: Mutex<Option<Instant>>,
    /// Ends the session; see [`crate::session::state::Seat`].
    ends: CancellationToken,
    /// It is to end because an operator wants that.
    is_dismissed: AtomicBool,
}

/// The sessions by number.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

impl Sessions {
    pub(crate) fn add(
        &self,
        number: u64,
        protocol: &'static str,
        user_agent: Option<Arc<str>>,
        ends: CancellationToken,
    ) -> Arc<Entry> {
        let standing = Standing {
            client: None,
            state: "connecting",
            cursor: Position::default(),
            acked: None,
            sent_bytes: 0,
        };
        let standing = Mutex::new(standing);
        let (noted_at, is_dismissed) = (Mutex::default(), AtomicBool::new(false));
        let entry = Arc::new(Entry { standing, protocol, user_agent, noted_at, ends, is_dismissed });
        lock(&self.entries).insert(number, entry.clone());
        entry
    }

    pub(crate) fn remove(&self, number: u64) {
        lock(&self.entries).remove(&number);
    }

    /// Lets a session go; false where there is none of this name.
    pub(crate) fn dismiss(&self, session: &str) -> bool {
        let entries = lock(&self.entries);
        let found = entries.iter().find(|(number, _)| session_name(**number) == session);
        if let Some((_, entry)) = found {
            entry.is_dismissed.store(true, Ordering::Release);
            entry.ends.cancel();
        }
        found.is_some()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.entries).len()
    }

    /// The sessions there are, oldest first.
    pub(crate) fn readings(&self) -> Vec<SessionReading> {
        lock(&self.entries).iter().map(|(number, entry)| entry.reading(*number)).collect()
    }

    /// The keys of the clients that have sessions.
    pub(crate) fn keys(&self) -> HashSet<Arc<str>> {
        let entries = lock(&self.entries);
        entries
            .values()
            .filter_map(|entry| Some(lock(&entry.standing).client.as_ref()?.key.clone()))
            .collect()
    }

    /// Those whose clients were not noted for a while.
    pub(crate) fn to_note(&self, now: Instant) -> Vec<Arc<Entry>> {
        lock(&self.entries).values().filter(|entry| entry.is_due(now)).cloned().collect()
    }
}

impl Entry {
    /// Whether an operator has let it go.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.is_dismissed.load(Ordering::Acquire)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut lock(&self.standing));
    }

    /// The visit that is to be noted; `None` while the client is not known.
    pub(crate) fn visit(&self) -> Option<Visit> {
        let key = lock(&self.standing).client.as_ref()?.key.clone();
        Some(Visit { key, protocol: self.protocol, user_agent: self.user_agent.clone() })
    }

    /// What it speaks.
    pub(crate) fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// What its program calls itself.
    pub(crate) fn user_agent(&self) -> Option<Arc<str>> {
        self.user_agent.clone()
    }

    /// Whether its client is to be noted by now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let known = lock(&self.standing).client.is_some();
        known && lock(&self.noted_at).is_none_or(|noted| now.saturating_duration_since(noted) >= NOTE_EVERY)
    }

    pub(crate) fn noted(&self, now: Instant) {
        *lock(&self.noted_at) = Some(now);
    }

    fn reading(&self, number: u64) -> SessionReading {
        let standing = lock(&self.standing).clone();
        let client = standing.client.as_ref();
        SessionReading {
            session: session_name(number),
            client_id: client.map(|client| client.client_id.to_string()).unwrap_or_default(),
            subject: client.and_then(|client| Some(client.subject.as_deref()?.to_owned())),
            state: standing.state,
            cursor: standing.cursor.to_string(),
            acked: standing.acked.map(|acked| acked.to_string()),
            sent_bytes: standing.sent_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::position;

    #[test]
    fn a_client_is_to_be_noted_when_it_is_known_and_then_now_and_again() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let entry = sessions.add(1, "p", Some("agent".into()), CancellationToken::new());
        assert!(sessions.to_note(now).is_empty() && entry.visit().is_none());
        let standing = Standing {
            client: Some(Whose { key: "k".into(), client_id: "web-7".into(), subject: Some("s".into()) }),
            state: "live",
            cursor: position(10),
            acked: None,
            sent_bytes: 3,
        };
        entry.update(|known| *known = standing);
        assert_eq!(sessions.to_note(now).len(), 1);
        entry.noted(now);
        assert!(sessions.to_note(now + NOTE_EVERY / 2).is_empty());
        assert_eq!(sessions.to_note(now + NOTE_EVERY).len(), 1);
        let readings = sessions.readings();
        assert_eq!(
            (&*readings[0].session, &*readings[0].client_id, readings[0].state),
            ("s1", "web-7", "live")
        );
        assert_eq!((readings[0].subject.as_deref(), sessions.keys()), (Some("s"), ["k".into()].into()));
        assert!(!sessions.dismiss("s2") && !entry.is_dismissed());
        assert!(sessions.dismiss("s1") && entry.is_dismissed() && entry.ends.is_cancelled());
        sessions.remove(1);
        assert_eq!((sessions.count(), sessions.to_note(now + NOTE_EVERY).len()), (0, 0));
    }
}
