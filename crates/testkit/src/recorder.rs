//! A client that keeps what it was told instead of applying it, for checking all sessions of a run afterwards against history:
//! what lay between its cursors, which cursors it could store, and whether what it has is what history folds to.
//!
//! It is lenient while it listens and strict when it is checked: see [`check`]. It follows tables by name, whole or a part of each
//! ([`Filter`]), that have a key and keep their shape; others are for [`Replica`](crate::Replica).

mod check;
mod filter;
mod history;
mod note;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use check::{Checked, Kind, Violation, check};
pub use filter::{Filter, Seen};
pub use history::HistoryLog;
use note::Note;
use serde_json::{Value, json};
use waldelta_wal::Position;

/// What the recorders of a run share: a frame that was sent to many is read and kept once.
#[derive(Debug, Default)]
pub struct Archive {
    notes: Mutex<HashMap<Box<str>, Arc<Note>>>,
}

impl Archive {
    fn note(&self, frame: &str) -> Result<Arc<Note>, String> {
        if let Some(note) = self.lock().get(frame) {
            return Ok(note.clone());
        }
        let note = Arc::new(Note::parse(frame)?);
        if note.is_shared() {
            self.lock().insert(frame.into(), note.clone());
        }
        Ok(note)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<Note>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since this was first asked for. A writer may note the moment before it begins a transaction as `begun` in the
/// metadata of its author: then it is known whether the author was live before.
pub fn moment() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    FIRST.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// What a frame means for whoever drives a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The client has caught up.
    Live,
    /// It is to connect elsewhere after this time.
    GoAway(Duration),
    /// Anything else.
    Other,
}

/// One client, over all of its sessions.
#[derive(Clone, Debug)]
pub struct Recorder {
    client_id: String,
    tables: BTreeSet<String>,
    /// Of tables that it does not follow whole: the part.
    filters: Arc<BTreeMap<String, Filter>>,
    archive: Arc<Archive>,
    /// Where it began: its tables were empty there. `None`: with a snapshot.
    began_at: Option<Position>,
    sessions: Vec<Vec<Arc<Note>>>,
    position: Option<Position>,
    /// Up to here its last snapshot may be ahead.
    consistent_at: Option<Position>,
}

impl Recorder {
    /// All that it was told, session by session, for people.
    pub fn text(&self) -> String {
        format!("{:#?}", self.sessions)
    }

    /// A client that has nothing yet and follows these tables.
    pub fn new(client_id: &str, tables: &[&str], archive: &Arc<Archive>) -> Self {
        Recorder {
            client_id: client_id.to_owned(),
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            filters: Arc::default(),
            archive: archive.clone(),
            began_at: None,
            sessions: Vec::new(),
            position: None,
            consistent_at: None,
        }
    }

    /// It begins after this cursor, where its tables are empty, and so without a snapshot.
    #[must_use]
    pub fn starting_at(mut self, position: Position) -> Self {
        (self.began_at, self.position) = (Some(position), Some(position));
        self
    }

    /// It follows these parts of its tables, by their names. Recorders with the same are checked together.
    #[must_use]
    pub fn of_parts(mut self, filters: &Arc<BTreeMap<String, Filter>>) -> Self {
        self.filters = filters.clone();
        self
    }

    /// Whether its rows are ahead of its cursor: not every table can be gone on with from there.
    pub fn is_ahead(&self) -> bool {
        self.position.is_some() && self.position < self.consistent_at
    }

    /// Its name.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The cursor that it has stored.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// How often it has connected.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Begins a session: a `hello` from where it is.
    pub fn hello(&mut self) -> Value {
        self.sessions.push(Vec::new());
        let subscription = |(number, table): (usize, &String)| {
            let mut subscription = json!({"id": format!("s{number}"), "table": table});
            let Some(filter) = self.filters.get(table) else { return subscription };
            if let Some(condition) = &filter.condition {
                subscription["where"] = condition.clone().into();
            }
            if filter.asks_for_columns {
                subscription["columns"] = filter.columns.clone().into();
            }
            subscription
        };
        let subscriptions: Vec<Value> = self.tables.iter().enumerate().map(subscription).collect();
        let mut hello = json!({"type": "hello", "client_id": self.client_id, "subscriptions": subscriptions});
        if let Some(position) = self.position {
            hello["after"] = position.to_string().into();
        }
        hello
    }

    /// Takes one frame of the session.
    ///
    /// # Errors
    /// What is no frame of the protocol, or ends the session by an error.
    pub fn record(&mut self, frame: &str) -> Result<Heard, String> {
        let note = self.archive.note(frame)?;
        let heard = match &*note {
            Note::Error { code, message } => return Err(format!("{code}: {message}")),
            Note::GoAway { retry } => Heard::GoAway(*retry),
            Note::Moved { is_live: true, .. } => Heard::Live,
            _ => Heard::Other,
        };
        if let Note::SnapshotEnd { consistent_at, .. } = &*note {
            self.consistent_at = Some(*consistent_at);
        }
        match &*note {
            Note::Transaction { cursor, last: true, .. }
            | Note::SnapshotEnd { cursor, .. }
            | Note::Moved { cursor, .. } => self.position = Some(*cursor),
            Note::Reset { tables: None } => self.position = None,
            _ => {}
        }
        let session = self.sessions.last_mut().ok_or("a frame before hello")?;
        session.push(note);
        Ok(heard)
    }
}
