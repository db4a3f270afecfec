//! A source and its history, as lists: what commits, when a snapshot shows it and when it is durable.
//!
//! Ids are given out when transactions begin, so they commit in another order. A commit record may begin exactly where the one
//! before ends. What has committed may be durable, and so be told, long before a snapshot shows it, also with an id at or above
//! the `xmax` of one; until then nobody else changes its rows. Answers to questions are in [`super::answers`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;
use waldelta_history::{Entry, Feed, Head, Large, Touched, Transaction};
use waldelta_testkit::Dice;
use waldelta_wal::{
    Author, Change, EndLsn, Epoch, Lsn, Operation, PgSnapshot, Position, Table, TransactionHead,
};

use crate::lock::lock;
use crate::testing::{change, table};

pub(super) const TABLES: [&str; 3] = ["t", "u", "w"];
/// Rows of each table at most: few, so that transactions meet.
pub(super) const IDS: u64 = 8;
const START: u64 = 0x1000;
const FIRST_XID: u64 = 700;
/// A transaction with more changes than this is kept in history alone.
const WHOLE_MAX: usize = 12;

/// What a change does to a row: its new value, or `None` where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub seq: u32,
    pub table: usize,
    pub id: i64,
    pub value: Option<u64>,
}

/// A transaction in the WAL.
pub(super) struct Commit {
    pub transaction: Arc<Transaction>,
    pub ops: Vec<Op>,
    pub began: Instant,
    /// From then on snapshots show it.
    pub visible: Instant,
    pub durable: OnceLock<Instant>,
    end: u64,
}

impl Commit {
    pub(super) fn position(&self) -> Position {
        self.transaction.head.position()
    }

    pub(super) fn xid(&self) -> u64 {
        self.transaction.head.xid
    }

    pub(super) fn is_by(&self, client: &str, seq: u32) -> bool {
        let author = self.transaction.changes[seq as usize].author.as_ref();
        author.is_some_and(|author| author.client_id == client)
    }

    pub(super) fn has_author(&self, client: &str) -> bool {
        self.ops.iter().any(|op| self.is_by(client, op.seq))
    }

    fn entry(&self, dice: &mut Dice) -> Entry {
        if self.ops.len() <= WHOLE_MAX {
            return Entry::Whole(self.transaction.clone());
        }
        let touched = (!dice.once_in(3)).then(|| {
            let changes = &self.transaction.changes;
            let mut tables: Vec<_> =
                changes.iter().filter_map(|change| Some(change.table.as_ref()?.name.clone())).collect();
            tables.sort();
            tables.dedup();
            let mut authors: Vec<Arc<Author>> =
                changes.iter().filter_map(|change| change.author.clone()).collect();
            authors.dedup();
            Touched { tables, authors }
        });
        Entry::Large(Arc::new(Large { head: self.transaction.head, touched }))
    }
}

/// The source and its history.
pub(super) struct Model {
    pub seed: u64,
    pub began: Instant,
    pub tables: Vec<Arc<Table>>,
    pub state: Mutex<State>,
}

pub(super) struct State {
    dice: Dice,
    /// The WAL.
    pub commits: Vec<Arc<Commit>>,
    end: u64,
    next_xid: u64,
    /// Transactions that have begun.
    open: Vec<(u64, Instant)>,
    aborted: Vec<u64>,
    /// How many are durable.
    pub stored: usize,
    durable_end: u64,
    /// Of the process that runs.
    pub feed: Arc<Feed>,
    pub floor: Position,
    rows: BTreeMap<(usize, i64), u64>,
    /// When the last change of a row becomes visible.
    busy: BTreeMap<(usize, i64), Instant>,
    values: u64,
    /// What each snapshot that was opened shows, by its fence.
    pub snapshots: BTreeMap<u64, PgSnapshot>,
    pub connections: i64,
    pub newest: BTreeMap<String, (i64, i64)>,
    /// Snapshots opened while something durable was invisible with an id at or above their `xmax`.
    pub ahead_of_snapshots: u64,
}

pub(super) fn text(value: u64) -> String {
    let padding = if value.is_multiple_of(5) { 700 } else { 3 };
    format!("{value}{}", "x".repeat(padding))
}

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        let head = Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(START)) };
        let state = State {
            dice: Dice::of(seed, "model"),
            commits: Vec::new(),
            end: START,
            next_xid: FIRST_XID,
            open: Vec::new(),
            aborted: Vec::new(),
            stored: 0,
            durable_end: START,
            feed: Arc::new(Feed::new(head, 0)),
            floor: head.cursor(),
            rows: BTreeMap::new(),
            busy: BTreeMap::new(),
            values: 0,
            snapshots: BTreeMap::new(),
            connections: 0,
            newest: BTreeMap::new(),
            ahead_of_snapshots: 0,
        };
        let tables = TABLES.iter().map(|name| Arc::new(table(name))).collect();
        Model { seed, began: Instant::now(), tables, state: Mutex::new(state) }
    }

    /// One thing happens at the source: a transaction begins, commits or is rolled back. Clients among `authors` write.
    /// Says what has committed.
    pub(super) fn happen(&self, authors: u64) -> Option<String> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.open.is_empty() || state.open.len() < 4 && state.dice.once_in(3) {
            state.open.push((state.next_xid, Instant::now()));
            state.next_xid += 1;
            return None;
        }
        let which = state.dice.index(state.open.len());
        let (xid, began) = state.open.remove(which);
        if state.dice.once_in(12) {
            state.aborted.push(xid);
            return None;
        }
        let count = match state.dice.roll(20) {
            0 => 15 + state.dice.roll(10),
            1..6 => 3 + state.dice.roll(4),
            _ => 1 + state.dice.roll(2),
        };
        let author = state.dice.roll(authors * 2);
        let author =
            (author < authors).then(|| Arc::new(Author { client_id: format!("c{author}"), metadata: None }));
        // What came before in the same transaction is nobody's.
        let authored_from = if state.dice.once_in(4) { 1 } else { 0 };
        let (mut changes, mut ops) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let row = (state.dice.index(TABLES.len()), state.dice.roll(IDS).cast_signed());
            if state.busy.get(&row).is_some_and(|visible| *visible > Instant::now()) {
                continue;
            }
            let seq = u32::try_from(changes.len()).unwrap();
            let Some((op, told)) = self.operate(state, seq, row) else { continue };
            let author = author.clone().filter(|_| seq >= authored_from);
            changes.push(Change { author, ..told });
            ops.push(op);
        }
        let visible = Instant::now()
            + match state.dice.roll(12) {
                0 => state.dice.ms(1, 2_000),
                1..4 => state.dice.ms(1, 100),
                _ => std::time::Duration::ZERO,
            };
        state.busy.extend(ops.iter().map(|op| ((op.table, op.id), visible)));
        state.append(xid, changes, ops, began, visible);
        let commit = state.commits.last()?;
        let author = author.as_ref().map(|author| &author.client_id);
        let hidden = visible - Instant::now();
        Some(format!("{} of {xid} by {author:?}, hidden for {hidden:?}: {:?}", commit.position(), commit.ops))
    }

    fn operate(&self, state: &mut State, seq: u32, row: (usize, i64)) -> Option<(Op, Change)> {
        let (table, id) = row;
        let of = |operation| change(seq, operation, &self.tables[table], id);
        let before = state.rows.get(&row).copied();
        if state.dice.once_in(4) {
            before?;
            state.rows.remove(&row);
            let old_data = Some(Bytes::from(format!(r#"{{"id":{id}}}"#)));
            let change = Change { old_data, ..of(Operation::Delete) };
            return Some((Op { seq, table, id, value: None }, change));
        }
        state.values += 1;
        let value = state.values;
        state.rows.insert(row, value);
        let operation = if before.is_some() { Operation::Update } else { Operation::Insert };
        let data = Some(Bytes::from(format!(r#"{{"id":{id},"v":"{}"}}"#, text(value))));
        Some((Op { seq, table, id, value: Some(value) }, Change { data, ..of(operation) }))
    }

    /// Some of what has committed becomes durable; all of it, if `everything`.
    pub(super) fn store(&self, everything: bool) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let waiting = state.commits.len() - state.stored;
        let count = if everything { waiting } else { waiting.min(1 + state.dice.index(6)) };
        let mut entries = Vec::new();
        for commit in &state.commits[state.stored..state.stored + count] {
            let _ = commit.durable.set(Instant::now());
            if !commit.ops.is_empty() {
                entries.push(commit.entry(&mut state.dice));
            }
            state.durable_end = commit.end;
        }
        state.stored += count;
        state.feed.publish(entries, state.head());
    }

    /// What everybody can see is not kept for ever.
    pub(super) fn prune(&self) {
        let mut state = lock(&self.state);
        let seen = state.commits[..state.stored].iter().take_while(|commit| commit.visible <= Instant::now());
        let seen: Vec<Position> = seen.map(|commit| commit.position()).collect();
        if seen.len() > 4 {
            let at = seen[state.dice.index(seen.len() - 2)];
            state.floor = state.floor.max(at);
        }
    }

    pub(super) fn head(&self) -> Head {
        lock(&self.state).head()
    }

    /// What is durable at or below this position, in order; all of it, by its ops.
    pub(super) fn fold(&self, upto: Position) -> BTreeMap<(usize, i64), u64> {
        let state = lock(&self.state);
        let commits = state.commits.iter().take_while(|commit| commit.position() <= upto);
        fold(commits.flat_map(|commit| &commit.ops))
    }

    /// The transactions after one position and before another one.
    pub(super) fn between(&self, after: Position, before: Position) -> Vec<Arc<Commit>> {
        let state = lock(&self.state);
        let from = state.commits.partition_point(|commit| commit.position() <= after);
        let to = state.commits.partition_point(|commit| commit.position() < before);
        state.commits[from.min(to)..to].to_vec()
    }

    pub(super) fn at(&self, position: Position) -> Option<Arc<Commit>> {
        let state = lock(&self.state);
        let found = state.commits.binary_search_by_key(&position, |commit| commit.position()).ok()?;
        Some(state.commits[found].clone())
    }
}

pub(super) fn fold<'a>(ops: impl Iterator<Item = &'a Op>) -> BTreeMap<(usize, i64), u64> {
    let mut rows = BTreeMap::new();
    for op in ops {
        match op.value {
            Some(value) => rows.insert((op.table, op.id), value),
            None => rows.remove(&(op.table, op.id)),
        };
    }
    rows
}

impl State {
    pub(super) fn head(&self) -> Head {
        Head { epoch: Epoch(1), durable_end: EndLsn(Lsn(self.durable_end)) }
    }

    pub(super) fn next_xid(&self) -> u64 {
        self.next_xid
    }

    fn append(&mut self, xid: u64, changes: Vec<Change>, ops: Vec<Op>, began: Instant, visible: Instant) {
        // A record may begin where the one before ends.
        let lsn = self.end + *self.dice.pick(&[0, 0, 8, 64]);
        let committed_at_us = i64::try_from(lsn).unwrap();
        let head = TransactionHead { epoch: Epoch(1), commit_lsn: Lsn(lsn), xid, committed_at_us };
        self.end = lsn + 16 + self.dice.roll(3) * 8;
        let transaction = Arc::new(Transaction { head, changes });
        let (durable, end) = (OnceLock::new(), self.end);
        self.commits.push(Arc::new(Commit { transaction, ops, began, visible, durable, end }));
    }

    /// Something of ours commits that no table shows; where its record is.
    pub(super) fn emit_fence(&mut self) -> Lsn {
        let xid = self.next_xid;
        self.next_xid += 1;
        let at = self.end;
        self.append(xid, Vec::new(), Vec::new(), Instant::now(), Instant::now());
        Lsn(at)
    }

    /// What a snapshot taken now shows, as PostgreSQL counts it.
    pub(super) fn look(&self) -> PgSnapshot {
        let now = Instant::now();
        let committed = self.commits.iter().filter(|commit| commit.visible <= now).map(|commit| commit.xid());
        let mut over: Vec<u64> = committed.chain(self.aborted.iter().copied()).collect();
        over.sort_unstable();
        let xmax = over.last().map_or(FIRST_XID, |last| last + 1);
        let in_progress: Vec<u64> =
            (FIRST_XID..xmax).filter(|xid| over.binary_search(xid).is_err()).collect();
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        let list: Vec<String> = in_progress.iter().map(u64::to_string).collect();
        format!("{xmin}:{xmax}:{}", list.join(",")).parse().unwrap()
    }

    /// The rows that a snapshot shows.
    pub(super) fn rows_in(&self, snapshot: &PgSnapshot) -> BTreeMap<(usize, i64), u64> {
        fold(
            self.commits
                .iter()
                .filter(|commit| snapshot.visible(commit.xid()))
                .flat_map(|commit| &commit.ops),
        )
    }
}
