//! A client's copy, and what it may be told: each transaction of the model that concerns it, whole, once, in order, but for what
//! its snapshot shows and what it did itself.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;
use waldelta_wal::{Lsn, PgSnapshot, Position};

use super::model::{Commit, Model, TABLES};
use crate::lock::lock;

/// A filter over the key.
pub(super) const LOW: &str = "id < 4";

pub(super) fn is_low(id: i64) -> bool {
    id < 4
}

/// What a client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    Everything,
    T,
    TAndU,
    LowOfT,
}

impl Follows {
    pub(super) const ALL: [Follows; 4] = [Follows::Everything, Follows::T, Follows::TAndU, Follows::LowOfT];

    pub(super) fn subscriptions(self) -> serde_json::Value {
        let of = |id: &str, table: &str| serde_json::json!({"id": id, "table": table});
        match self {
            Follows::Everything => serde_json::json!([of("s1", "*")]),
            Follows::T => serde_json::json!([of("s1", "t")]),
            Follows::TAndU => serde_json::json!([of("s1", "t"), of("s2", "u")]),
            Follows::LowOfT => serde_json::json!([{"id": "s1", "table": "t", "where": LOW}]),
        }
    }

    fn has(self, table: usize, id: i64) -> bool {
        match self {
            Follows::Everything => true,
            Follows::T => table == 0,
            Follows::TAndU => table < 2,
            Follows::LowOfT => table == 0 && is_low(id),
        }
    }
}

/// Rows by table and id.
type Rows = BTreeMap<(usize, i64), String>;

/// What a client has, and keeps while it is away.
#[derive(Clone)]
pub(super) struct Copy {
    me: String,
    follows: Follows,
    include_own: bool,
    pub at: Option<Position>,
    rows: Rows,
    /// From here on the rows are exactly the source's.
    consistent_at: Position,
}

/// What is known of one connection.
pub(super) struct Connection {
    since: Instant,
    /// Since when it has been live.
    pub live: Option<Instant>,
    /// What its last snapshot shows.
    shows: Option<PgSnapshot>,
    snapshot: Option<(String, Rows)>,
    must_begin_anew: bool,
    /// The last cursor, also one inside a transaction.
    told: Option<Position>,
    /// The changes of a transaction whose end has not come.
    parts: Vec<ToldChange>,
    pub seen: Seen,
}

/// What came up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub frames: u64,
    pub transactions: u64,
    pub parts: u64,
    pub snapshots: u64,
    pub resets: u64,
    pub left_out: u64,
    pub own_told: u64,
    /// Transactions that were not told because the snapshot shows them.
    pub shown: u64,
    pub told_live: u64,
}

#[derive(Deserialize)]
struct Frame {
    r#type: String,
    cursor: Option<String>,
    prev: Option<String>,
    consistent_at: Option<String>,
    head: Option<String>,
    floor: Option<String>,
    mode: Option<String>,
    id: Option<String>,
    table: Option<String>,
    #[serde(default)]
    rows: Vec<Row>,
    #[serde(default)]
    own: bool,
    last: Option<bool>,
    #[serde(default)]
    changes: Vec<ToldChange>,
    code: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Row {
    id: i64,
    v: String,
}

#[derive(Clone, Deserialize)]
struct ToldChange {
    seq: u32,
    op: String,
    table: String,
    key: Key,
    data: Option<Row>,
}

#[derive(Clone, Deserialize)]
struct Key {
    id: i64,
}

/// What a frame was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Transaction(Position),
    Live,
    GoAway,
    Error(String),
    Other,
}

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl Connection {
    pub(super) fn new(at: Option<Position>) -> Self {
        Connection {
            since: Instant::now(),
            live: None,
            shows: None,
            snapshot: None,
            must_begin_anew: at.is_none(),
            told: at,
            parts: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn shows(&self, commit: &Commit) -> bool {
        self.shows.as_ref().is_some_and(|shows| shows.visible(commit.xid()))
    }
}

fn parse(text: Option<&str>) -> Result<Position, String> {
    let text = text.ok_or("a cursor is missing")?;
    text.parse().map_err(|_| format!("cursor {text}"))
}

fn table_of(name: &str) -> Result<usize, String> {
    let name = name.strip_prefix("public.").ok_or_else(|| format!("table {name}"))?;
    TABLES.iter().position(|table| *table == name).ok_or_else(|| format!("table {name}"))
}

impl Copy {
    pub(super) fn new(me: String, follows: Follows, include_own: bool) -> Self {
        Copy { me, follows, include_own, at: None, rows: BTreeMap::new(), consistent_at: Position::default() }
    }

    pub(super) fn hello(&self) -> serde_json::Value {
        let mut hello = serde_json::json!({
            "type": "hello", "client_id": self.me, "subscriptions": self.follows.subscriptions(),
            "own_changes": if self.include_own { "include" } else { "skip" },
        });
        if let Some(at) = self.at {
            hello["after"] = at.to_string().into();
        }
        hello
    }

    /// Takes a frame; what is wrong with it otherwise.
    pub(super) fn take(&mut self, on: &mut Connection, model: &Model, text: &str) -> Result<Told, String> {
        let frame: Frame = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        on.seen.frames += 1;
        self.take_frame(on, model, &frame).map_err(|wrong| format!("{wrong}: {text}, at {:?}", self.at))
    }

    fn take_frame(&mut self, on: &mut Connection, model: &Model, frame: &Frame) -> Result<Told, String> {
        let breaks =
            matches!(frame.r#type.as_str(), "heartbeat" | "live" | "snapshot_begin" | "snapshot_end");
        ensure!(!breaks || on.parts.is_empty(), "inside a transaction");
        match frame.r#type.as_str() {
            "welcome" => {
                let (head, floor) = (parse(frame.head.as_deref())?, parse(frame.floor.as_deref())?);
                ensure!(head <= model.head().cursor(), "a head that is not durable");
                match frame.mode.as_deref() {
                    Some("resume") => {
                        let at = self.at.ok_or("resumed what is not there")?;
                        ensure!(floor <= at && at <= head, "resumed out of what there is");
                    }
                    _ => on.must_begin_anew = true,
                }
            }
            "reset" => {
                on.seen.resets += 1;
                on.must_begin_anew = true;
                (on.live, on.shows) = (None, None);
                on.parts.clear();
            }
            "snapshot_begin" => {
                ensure!(on.must_begin_anew, "a snapshot that nobody wants");
                on.snapshot = Some((frame.id.clone().ok_or("no id")?, BTreeMap::new()));
            }
            "rows" => {
                let table = table_of(frame.table.as_deref().ok_or("no table")?)?;
                let (_, rows) = on.snapshot.as_mut().ok_or("rows outside of a snapshot")?;
                rows.extend(frame.rows.iter().map(|row| ((table, row.id), row.v.clone())));
            }
            "snapshot_end" => self.end_snapshot(on, model, frame)?,
            "tx" => return self.transaction(on, model, frame),
            "live" => {
                self.pass_to(on, model, parse(frame.cursor.as_deref())?)?;
                on.live = Some(Instant::now());
                self.check(model)?;
                return Ok(Told::Live);
            }
            "heartbeat" => self.pass_to(on, model, parse(frame.cursor.as_deref())?)?,
            "goaway" => return Ok(Told::GoAway),
            "error" => return Ok(Told::Error(frame.code.clone().unwrap_or_default())),
            _ => {}
        }
        Ok(Told::Other)
    }

    fn end_snapshot(&mut self, on: &mut Connection, model: &Model, frame: &Frame) -> Result<(), String> {
        let (cursor, consistent_at) =
            (parse(frame.cursor.as_deref())?, parse(frame.consistent_at.as_deref())?);
        let (id, rows) = on.snapshot.take().ok_or("no snapshot has begun")?;
        let fence =
            id.split('-').nth(1).and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or("its id")?;
        let state = lock(&model.state);
        let snapshot = state.snapshots.get(&Lsn(fence).0).ok_or("a snapshot that nobody took")?.clone();
        let shown = state.rows_in(&snapshot);
        // What lies at or below its cursor it has to show.
        let durable = state.commits.iter().take_while(|commit| commit.position() <= cursor);
        let unseen =
            durable.filter(|commit| !commit.ops.is_empty() && !snapshot.visible(commit.xid())).count();
        drop(state);
        ensure!(unseen == 0, "{unseen} transactions below its cursor are not in the snapshot");
        self.rows = rows;
        self.compare(&shown)?;
        ensure!(consistent_at >= cursor, "consistent before its cursor");
        (self.at, on.told, self.consistent_at) = (Some(cursor), Some(cursor), consistent_at);
        (on.shows, on.live, on.must_begin_anew) = (Some(snapshot), None, false);
        on.seen.snapshots += 1;
        Ok(())
    }

    /// Nothing lies between where it is and this position that it should have been told.
    fn pass_to(&mut self, on: &mut Connection, model: &Model, cursor: Position) -> Result<(), String> {
        ensure!(cursor <= model.head().cursor(), "a cursor that is not durable");
        self.pass_before(on, model, cursor)?;
        if let Some(commit) = model.at(cursor).filter(|_| self.at != Some(cursor)) {
            ensure!(!self.concerns(on, &commit), "{cursor} is lost");
        }
        (self.at, on.told) = (Some(cursor), Some(cursor));
        Ok(())
    }

    fn pass_before(&self, on: &mut Connection, model: &Model, cursor: Position) -> Result<(), String> {
        ensure!(!on.must_begin_anew, "nothing may come before the snapshot");
        let at = self.at.ok_or("it has nothing")?;
        ensure!(cursor >= at, "a cursor goes back");
        for commit in model.between(at, cursor) {
            ensure!(!self.concerns(on, &commit), "{} is lost", commit.position());
            on.seen.shown += u64::from(on.shows(&commit) && !commit.ops.is_empty());
        }
        Ok(())
    }

    /// Whether it has to be told of it.
    fn concerns(&self, on: &Connection, commit: &Commit) -> bool {
        let follows = commit.ops.iter().any(|op| self.follows.has(op.table, op.id));
        !on.shows(commit) && (follows || commit.has_author(&self.me))
    }

    fn transaction(&mut self, on: &mut Connection, model: &Model, frame: &Frame) -> Result<Told, String> {
        let (cursor, prev) = (parse(frame.cursor.as_deref())?, parse(frame.prev.as_deref())?);
        let last = frame.last.ok_or("neither the last part nor another")?;
        let told = on.told.ok_or("it has nothing")?;
        ensure!(cursor > told, "twice, or out of order");
        ensure!(Some(prev) <= self.at, "a gap");
        ensure!(cursor.is_whole() == last, "a cursor that does not fit the part");
        let whole = Position::whole(cursor.epoch, cursor.commit_lsn);
        ensure!(told.is_whole() || told.commit_lsn == cursor.commit_lsn, "half of a transaction");
        on.told = Some(cursor);
        on.parts.extend(frame.changes.iter().cloned());
        if !last {
            on.seen.parts += 1;
            return Ok(Told::Other);
        }
        let commit = model.at(whole).ok_or("a transaction that never was")?;
        ensure!(commit.durable.get().is_some(), "it is not durable");
        self.pass_before(on, model, whole)?;
        let changes = std::mem::take(&mut on.parts);
        self.check_told(on, &commit, frame.own, &changes)?;
        self.at = Some(whole);
        on.seen.transactions += 1;
        on.seen.told_live += u64::from(on.live.is_some());
        Ok(Told::Transaction(whole))
    }

    /// Whether these changes are what is to be told of it. What is left out as its own the client has by itself: it does that.
    fn check_told(
        &mut self,
        on: &mut Connection,
        commit: &Commit,
        own: bool,
        changes: &[ToldChange],
    ) -> Result<(), String> {
        ensure!(own == commit.has_author(&self.me), "whose it is");
        let is_held = on.shows(commit);
        let mut told = changes.iter().peekable();
        let (mut own_told, mut own_left_out) = (0u64, 0u64);
        for op in &commit.ops {
            let follows = self.follows.has(op.table, op.id) && !is_held;
            let is_mine = commit.is_by(&self.me, op.seq);
            let change = told.next_if(|change| change.seq == op.seq);
            if follows {
                // Told, or known because it did that itself; both in their order.
                match op.value {
                    Some(value) => self.rows.insert((op.table, op.id), super::model::text(value)),
                    None => self.rows.remove(&(op.table, op.id)),
                };
            }
            match change {
                Some(change) => {
                    ensure!(follows, "change {} is not for it", op.seq);
                    own_told += u64::from(is_mine);
                    let op_of = if op.value.is_some() { ["insert", "update"] } else { ["delete", "delete"] };
                    let value = op.value.map(super::model::text);
                    let is_right = op_of.contains(&change.op.as_str())
                        && (table_of(&change.table)?, change.key.id) == (op.table, op.id)
                        && change.data.as_ref().map(|data| &data.v) == value.as_ref()
                        && change.data.as_ref().is_none_or(|data| data.id == op.id);
                    ensure!(is_right, "change {} is told as another", op.seq);
                }
                None if !follows => {}
                None => {
                    ensure!(is_mine, "change {} is missing", op.seq);
                    own_left_out += 1;
                }
            }
        }
        ensure!(told.next().is_none(), "changes that are not its own, or not in order");
        ensure!(own_told == 0 || own_left_out == 0, "some of its own changes");
        if own_left_out > 0 {
            ensure!(!self.include_own, "it wants its own changes");
            ensure!(on.live.is_some(), "its own changes are told until it is live");
            ensure!(commit.began >= on.since, "what began before it came is told");
        }
        if own_told > 0 {
            // They are told for as long as a snapshot may be older than what the client did.
            let is_exact = self.is_exact();
            let began_after = is_exact && on.live.is_some_and(|live| commit.began > live);
            ensure!(self.include_own || !began_after, "its own changes are left out");
        }
        on.seen.left_out += own_left_out;
        on.seen.own_told += own_told;
        Ok(())
    }

    /// Whether it says that it is exact.
    pub(super) fn is_exact(&self) -> bool {
        self.at.is_some_and(|at| at >= self.consistent_at)
    }

    /// Where it says that it is exact, it has what the source had then.
    pub(super) fn check(&self, model: &Model) -> Result<(), String> {
        match self.at {
            Some(at) if self.is_exact() => self.compare(&model.fold(at)),
            _ => Ok(()),
        }
    }

    fn compare(&self, rows: &BTreeMap<(usize, i64), u64>) -> Result<(), String> {
        let followed = rows.iter().filter(|((table, id), _)| self.follows.has(*table, *id));
        let expected: BTreeMap<_, _> =
            followed.map(|(row, value)| (*row, super::model::text(*value))).collect();
        let is_other = |row: &&(usize, i64)| expected.get(row) != self.rows.get(row);
        let others: Vec<_> = expected.keys().chain(self.rows.keys()).filter(is_other).collect();
        ensure!(others.is_empty(), "it has other rows than there are: {others:?}");
        Ok(())
    }
}
