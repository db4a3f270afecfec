//! The check of a whole run, offline: every session of every client against what history says.
//!
//! I8: from `consistent_at` on, what a client has is what history folds to at its cursor. I9: its cursor never goes back, and what
//! was told between two of its cursors is exactly what history has of its tables there. I10: each cursor that it could store ends a
//! transaction, or is the last position before an end that was stored.
//!
//! Up to `consistent_at` of a snapshot the rows may be ahead: there it is only checked that nothing is told that is not in history.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use waldelta_wal::Position;

use super::Recorder;
use super::history::HistoryLog;
use super::note::{Change, Note, Op};
use super::rows::Rows;

/// Violations that are listed at most.
const LISTED_MAX: usize = 20;

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Sessions of all clients.
    pub sessions: usize,
    /// Whole transactions that were told, to all of them together.
    pub transactions: usize,
    /// Changes in these.
    pub changes: usize,
    /// Changes that were not told to their author.
    pub left_out: usize,
    /// Times that the rows of a client were compared with history.
    pub states: usize,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// To whom.
    pub client: String,
    /// In which of its sessions, from 0.
    pub session: usize,
    /// The cursor of the frame.
    pub at: Option<Position>,
    /// How.
    pub kind: Kind,
}

/// How a promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The cursor does not go on from the client's own.
    NotAhead {
        /// The client's cursor.
        of: Option<Position>,
    },
    /// `prev` says that something before it was not told.
    Gap {
        /// What it says.
        prev: Position,
    },
    /// `prev` hides a transaction that concerns the client: a gap there would not be noticed.
    PrevTooLow {
        /// The transaction.
        hidden: Position,
    },
    /// A transaction that concerns the client was not told.
    Missing {
        /// The transaction.
        transaction: Position,
    },
    /// History has no such transaction.
    NotInHistory,
    /// A change of the transaction was not told.
    Lacks {
        /// Its number.
        seq: u32,
    },
    /// A change was told that is not one of the transaction, or not of the client's tables, or that was told already.
    Surplus {
        /// Its number.
        seq: u32,
    },
    /// A change was told as something else than it is.
    Altered {
        /// Its number.
        seq: u32,
    },
    /// A change was told to its author, which was live before it made it.
    Echoed {
        /// Its number.
        seq: u32,
    },
    /// The client could store a cursor that is no place in history.
    NoPlace,
    /// The client has other rows than history folds to.
    StateDiffers {
        /// One of them.
        sample: String,
    },
    /// A frame that cannot be understood where it stands.
    OutOfPlace {
        /// Why.
        why: String,
    },
}

impl Kind {
    /// The invariant that it breaks.
    pub fn invariant(&self) -> &'static str {
        match self {
            Kind::StateDiffers { .. } => "I8",
            Kind::NoPlace => "I10",
            _ => "I9",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.map_or_else(String::new, |at| format!(" at {at}"));
        let Violation { client, session, kind, .. } = self;
        write!(f, "{}: {client}, session {session}{at}: {kind:?}", kind.invariant())
    }
}

/// Checks every session of every client.
///
/// # Errors
/// What was broken, the first of each client first.
pub fn check(recorders: &[Recorder], history: &HistoryLog) -> Result<Checked, Vec<Violation>> {
    let (mut checked, mut violations) = (Checked::default(), Vec::new());
    // History as those who follow the same parts of tables are to see it.
    let mut views: Vec<(&Recorder, HistoryLog)> = Vec::new();
    let are_alike = |one: &Recorder, other: &Recorder| {
        Arc::ptr_eq(&one.filters, &other.filters) && one.tables == other.tables
    };
    for recorder in recorders.iter().filter(|recorder| !recorder.filters.is_empty()) {
        if views.iter().all(|(other, _)| !are_alike(other, recorder)) {
            views.push((recorder, history.through(&recorder.tables, &recorder.filters)));
        }
    }
    for recorder in recorders {
        let view = views.iter().find(|(other, _)| are_alike(other, recorder));
        let mut walk = Walk::new(recorder, view.map_or(history, |(_, view)| view));
        for (session, notes) in recorder.sessions.iter().enumerate() {
            walk.begin(session);
            notes.iter().for_each(|note| walk.take(note));
        }
        checked.sessions += recorder.sessions.len();
        checked.transactions += walk.checked.transactions;
        checked.changes += walk.checked.changes;
        checked.left_out += walk.checked.left_out;
        checked.states += walk.checked.states;
        violations.extend(walk.violations);
        violations.truncate(LISTED_MAX);
    }
    if violations.is_empty() { Ok(checked) } else { Err(violations) }
}

/// One client on its way through its sessions.
struct Walk<'a> {
    client: &'a str,
    tables: &'a BTreeSet<String>,
    history: &'a HistoryLog,
    session: usize,
    /// When this session became live, see [`moment`](super::moment).
    live_since: Option<u64>,
    position: Option<Position>,
    rows: Rows,
    /// Up to here the rows may be ahead.
    consistent_at: Option<Position>,
    /// The last such place of all its snapshots. What lies before it and was in the rows was nothing for the client.
    was_ahead_until: Option<Position>,
    /// Tables that were reset and have not come again.
    missing: BTreeSet<String>,
    staged: Option<(Rows, BTreeSet<String>)>,
    /// Keys' columns by table, of this session.
    keys: HashMap<&'a str, &'a [String]>,
    /// Parts of a transaction whose last part has not come.
    pending: Vec<&'a Change>,
    /// The cursor of the last of them: pages go on from there.
    part: Option<Position>,
    /// Its rows differ: said once.
    differs: bool,
    checked: Checked,
    violations: Vec<Violation>,
}

impl<'a> Walk<'a> {
    fn new(recorder: &'a Recorder, history: &'a HistoryLog) -> Self {
        Walk {
            client: &recorder.client_id,
            tables: &recorder.tables,
            history,
            session: 0,
            live_since: None,
            position: recorder.began_at,
            rows: Rows::default(),
            consistent_at: None,
            was_ahead_until: None,
            missing: BTreeSet::new(),
            staged: None,
            keys: HashMap::new(),
            pending: Vec::new(),
            part: None,
            differs: false,
            checked: Checked::default(),
            violations: Vec::new(),
        }
    }

    /// What was not complete when the connection ended is forgotten.
    fn begin(&mut self, session: usize) {
        (self.session, self.live_since) = (session, None);
        self.staged = None;
        self.keys.clear();
        self.pending.clear();
        self.part = None;
    }

    fn take(&mut self, note: &'a Note) {
        match note {
            Note::Schema { table, key } => {
                self.keys.insert(table, key);
            }
            Note::Reset { tables } => self.reset(tables.as_deref()),
            Note::SnapshotBegin => {
                // Of what was reset, or of everything.
                let expected = if self.missing.is_empty() { self.tables } else { &self.missing };
                self.staged = Some((Rows::default(), expected.clone()));
            }
            Note::Rows { table, rows } => {
                let (Some((staged, _)), Some(key)) = (&mut self.staged, self.keys.get(table.as_str())) else {
                    return self.say(None, Kind::OutOfPlace { why: format!("rows of {table}") });
                };
                for row in rows {
                    match row.key(key).filter(|_| !key.is_empty()) {
                        Some(key) => staged.put(table, key, row.clone()),
                        None => {
                            let why = format!("a row of {table} without key");
                            return self.say(None, Kind::OutOfPlace { why });
                        }
                    }
                }
            }
            Note::SnapshotEnd { cursor, consistent_at } => self.snapshot_end(*cursor, *consistent_at),
            Note::Transaction { cursor, prev, own, last, changes } => {
                self.transaction(*cursor, *prev, *own, *last, changes);
            }
            Note::Moved { cursor, is_live, heard } => {
                if *is_live {
                    self.live_since.get_or_insert(*heard);
                }
                self.moved(*cursor);
            }
            Note::GoAway { .. } | Note::Error { .. } | Note::Other => {}
        }
    }

    fn reset(&mut self, tables: Option<&[String]>) {
        self.pending.clear();
        self.part = None;
        match tables {
            Some(tables) => self.missing.extend(tables.iter().cloned()),
            None => {
                (self.position, self.consistent_at) = (None, None);
                self.missing.clear();
            }
        }
    }

    fn snapshot_end(&mut self, cursor: Position, consistent_at: Position) {
        let Some((staged, tables)) = self.staged.take() else {
            return self.say(Some(cursor), Kind::OutOfPlace { why: "the end of no snapshot".to_owned() });
        };
        if self.position.is_some_and(|position| position != cursor) {
            self.say(Some(cursor), Kind::NotAhead { of: self.position });
        }
        for table in &tables {
            self.rows.replace(table, &staged);
            self.missing.remove(table);
        }
        self.check_place(cursor);
        self.position = Some(cursor);
        self.consistent_at = self.consistent_at.max(Some(consistent_at));
        self.was_ahead_until = self.was_ahead_until.max(Some(consistent_at));
        self.compare();
    }

    fn transaction(
        &mut self,
        cursor: Position,
        prev: Option<Position>,
        own: bool,
        last: bool,
        changes: &'a [Change],
    ) {
        let Some(position) = self.position.filter(|position| *position < cursor) else {
            return self.say(Some(cursor), Kind::NotAhead { of: self.position });
        };
        let is_ahead = self.consistent_at.is_some_and(|consistent_at| cursor <= consistent_at);
        if let Some(prev) = prev {
            if Some(prev) > self.part.max(Some(position)) {
                self.say(Some(cursor), Kind::Gap { prev });
            }
            let from = self.was_ahead_until.map_or(prev, |until| prev.max(until));
            let whole = Position::whole(cursor.epoch, cursor.commit_lsn);
            if let Some(hidden) = self.history.between(from, whole, self.tables) {
                self.say(Some(cursor), Kind::PrevTooLow { hidden });
            }
        }
        self.pending.extend(changes);
        self.part = (!last).then_some(cursor);
        if !last {
            return;
        }
        let told = std::mem::take(&mut self.pending);
        let wanted = self.history.told(cursor, self.tables);
        match &wanted {
            None => self.say(Some(cursor), Kind::NotInHistory),
            Some(wanted) => self.compare_changes(cursor, &told, wanted, own, is_ahead),
        }
        self.nothing_missing(position, cursor);
        self.checked.transactions += 1;
        self.checked.changes += told.len();
        // What an author is not told it has: it has made it.
        let has = match wanted {
            Some(wanted) if own && !is_ahead => wanted,
            _ => told,
        };
        let has: Vec<Change> = has.into_iter().cloned().collect();
        self.rows.apply(&has);
        self.position = Some(cursor);
        self.compare();
    }

    fn moved(&mut self, cursor: Position) {
        self.check_place(cursor);
        let Some(position) = self.position.filter(|position| *position <= cursor) else {
            return self.say(Some(cursor), Kind::NotAhead { of: self.position });
        };
        // What is at the cursor is to be told too.
        self.nothing_missing(position, cursor);
        if position < cursor && self.history.told(cursor, self.tables).is_some_and(|told| !told.is_empty()) {
            self.miss(cursor, cursor);
        }
        self.position = Some(cursor);
        self.compare();
    }

    /// Everything of the client's tables that lies between two of its cursors was told.
    fn nothing_missing(&mut self, position: Position, cursor: Position) {
        let from = self.consistent_at.map_or(position, |consistent_at| position.max(consistent_at));
        if let Some(transaction) = self.history.between(from, cursor, self.tables) {
            self.miss(cursor, transaction);
        }
    }

    fn miss(&mut self, cursor: Position, transaction: Position) {
        if self.consistent_at.is_none_or(|consistent_at| transaction > consistent_at) {
            self.say(Some(cursor), Kind::Missing { transaction });
        }
    }

    /// Both have the same changes in the same order. What was told may lack those of the client itself where it is told that it is an
    /// author, and any where its rows may be ahead.
    fn compare_changes(
        &mut self,
        cursor: Position,
        told: &[&Change],
        wanted: &[&Change],
        own: bool,
        is_ahead: bool,
    ) {
        let mut left = wanted.iter().peekable();
        let lacks = |walk: &mut Self, seq: u32| {
            let is_own = own && walk.history.own(cursor, seq, walk.client).is_some();
            walk.checked.left_out += usize::from(is_own && !is_ahead);
            if !is_own && !is_ahead {
                walk.say(Some(cursor), Kind::Lacks { seq });
            }
        };
        for change in told {
            let same_place = |other: &Change| {
                (other.seq, &other.table, &other.key) == (change.seq, &change.table, &change.key)
            };
            while let Some(next) = left.next_if(|next| !same_place(next) && next.seq <= change.seq) {
                lacks(self, next.seq);
            }
            let began_live = |begun| self.live_since.is_some_and(|live_since| live_since < begun);
            if !is_ahead
                && self.history.own(cursor, change.seq, self.client).flatten().is_some_and(began_live)
            {
                self.say(Some(cursor), Kind::Echoed { seq: change.seq });
            }
            match left.next_if(|next| same_place(next)) {
                None => self.say(Some(cursor), Kind::Surplus { seq: change.seq }),
                Some(next) if is_same(next, change) => {}
                Some(_) => self.say(Some(cursor), Kind::Altered { seq: change.seq }),
            }
        }
        for next in left {
            lacks(self, next.seq);
        }
    }

    fn check_place(&mut self, cursor: Position) {
        if !self.history.is_place(cursor) {
            self.say(Some(cursor), Kind::NoPlace);
        }
    }

    /// The rows are what history folds to, where they can be.
    fn compare(&mut self) {
        let Some(position) = self.position else { return };
        if self.consistent_at.is_some_and(|consistent_at| position < consistent_at) {
            return;
        }
        self.consistent_at = None;
        if self.differs || !self.missing.is_empty() {
            return;
        }
        self.checked.states += 1;
        let (rows, history) = (&self.rows, self.history);
        let other = self.tables.iter().find(|table| rows.digest(table) != history.digest(table, position));
        if let Some(table) = other {
            let sample = rows.difference(&history.rows(position), table);
            self.differs = true;
            self.say(Some(position), Kind::StateDiffers { sample });
        }
    }

    fn say(&mut self, at: Option<Position>, kind: Kind) {
        if self.violations.len() < LISTED_MAX {
            let (client, session) = (self.client.to_owned(), self.session);
            self.violations.push(Violation { client, session, at, kind });
        }
    }
}

/// Whether a change was told as what it is. What a delete has beside its key says nothing.
fn is_same(wanted: &Change, told: &Change) -> bool {
    let data = |change: &Change| match change.op {
        Op::Delete => None,
        _ => change.data.clone(),
    };
    wanted.op == told.op && data(wanted) == data(told) && wanted.unchanged == told.unchanged
}
