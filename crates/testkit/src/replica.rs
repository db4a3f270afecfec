//! A client's copy of its tables, made from the frames that the service sends, as docs/protocol.md says.
//!
//! It is strict where real clients are lenient: whatever the protocol rules out is a [`Violation`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use waldelta_wal::Position;

use crate::canonical::{canonical, object};
use frame::Object;
use schema::Schema;
use snapshots::Snapshot;

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Violation(format!($($text)+)));
        }
    };
}

mod frame;
mod schema;
mod snapshots;

/// What the service sent although the protocol rules it out, or what a frame lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Column values, each as canonical JSON.
type Row = BTreeMap<String, String>;

/// The copy, and how far it goes. A clone of it is what a client has that was restored from a backup.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    tables: BTreeMap<String, Table>,
    /// Of this session: the service says it again after a reconnect.
    schemas: BTreeMap<String, Schema>,
    /// The shape that the rows of each table have.
    shapes: BTreeMap<String, Schema>,
    position: Option<Position>,
    /// What the copy is of, as the service names it: stored together with the position.
    access: Option<String>,
    /// The same, to be stored with the next position.
    next_access: Option<String>,
    snapshot: Option<Snapshot>,
    /// Tables that were reset: the snapshot of them comes next.
    reset: Option<BTreeSet<String>>,
    /// Tables whose rows were dropped by a reset, and have not all come again: after a reconnect they are reset once more.
    missing: BTreeSet<String>,
    pending: Option<Pending>,
    /// What may be seen has changed, and the snapshot of the tables concerned has not come: no other connection tells it.
    is_regranting: bool,
    /// `consistent_at` of each snapshot, until the position has reached it.
    consistent_at: BTreeSet<Position>,
    /// A new epoch began before what it has was complete: it may have what did not survive, or lack what did.
    is_doubtful: bool,
    live: bool,
    transactions: u64,
    confirmed: Vec<Position>,
    resets: Vec<String>,
    errors: Vec<Value>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    /// By the key's canonical JSON.
    keyed: BTreeMap<String, Row>,
    /// Rows of a table without key: those of the snapshot, and those that came since, by place of their change.
    from_snapshot: Vec<Row>,
    inserted: BTreeMap<(Position, u64), Row>,
    /// All of its rows are here. Those of a table that joined while connected come with its reset.
    is_whole: bool,
}

/// The parts of a transaction whose last one has not come yet. Nothing of it is applied.
#[derive(Clone, Debug)]
struct Pending {
    last_part: Position,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    seq: u64,
    table: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Insert and update: apply by key, keep what is unchanged.
    Put {
        key: Option<String>,
        /// Of the insert half of a key change: the key before, deleted by the change just before this one.
        moved_from: Option<String>,
        data: Row,
        unchanged: Vec<String>,
    },
    Delete {
        key: String,
    },
    /// In a table without key: the row that goes away, and what comes instead of it.
    Replace {
        old: Row,
        data: Option<Row>,
        unchanged: Vec<String>,
    },
    Truncate,
    /// The rows that follow have another shape.
    Reshape(Schema),
    Message,
}

impl Replica {
    /// A client that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A `hello` for these subscriptions (objects as docs/protocol.md has them) from where the copy is.
    pub fn hello(&self, client_id: &str, subscriptions: &[Value]) -> Value {
        let mut hello = serde_json::json!({
            "type": "hello", "client_id": client_id, "subscriptions": subscriptions,
        });
        if let Some(position) = self.position {
            hello["after"] = position.to_string().into();
        }
        if let Some(access) = &self.access {
            hello["access"] = access.clone().into();
        }
        hello
    }

    /// The connection is gone: what was not complete is forgotten. The next `hello` goes on from [`Replica::position`].
    pub fn disconnected(&mut self) {
        self.give_up_snapshot();
        (self.reset, self.pending, self.next_access) = (None, None, None);
        if self.is_doubtful || self.is_regranting {
            self.forget();
        }
        self.schemas.clear();
        self.live = false;
    }

    /// How far the copy goes: it has every transaction up to here, completely. `None`: nothing yet.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// What the copy is of, as the service names what may be seen.
    pub fn access(&self) -> Option<&str> {
        self.access.as_deref()
    }

    /// Whether the service said that the copy has caught up, in this session.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the copy is exactly the source as of its position: its snapshot is complete and what the snapshot may
    /// have been ahead of has arrived.
    pub fn is_consistent(&self) -> bool {
        let complete = self.snapshot.is_none() && self.reset.is_none() && !self.is_doubtful;
        complete && self.position.is_some() && self.consistent_at.is_empty()
    }

    /// Whether it has to come back without a cursor: a new epoch began before its cursor had reached `consistent_at`, or
    /// before the snapshot of a table that was reset had come.
    pub fn must_begin_anew(&self) -> bool {
        self.is_doubtful
    }

    /// Complete transactions applied.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Transactions of this client itself that the service confirmed.
    pub fn confirmed(&self) -> &[Position] {
        &self.confirmed
    }

    /// Reasons of the resets received.
    pub fn resets(&self) -> &[String] {
        &self.resets
    }

    /// The `error` frames received.
    pub fn errors(&self) -> &[Value] {
        &self.errors
    }

    /// The rows of a table as canonical JSON objects, sorted; the same form as [`source_rows`](crate::source_rows).
    pub fn rows(&self, table: &str) -> Vec<String> {
        let Some(table) = self.tables.get(table) else { return Vec::new() };
        let all = table.keyed.values().chain(&table.from_snapshot).chain(table.inserted.values());
        let mut rows: Vec<String> = all.map(object).collect();
        rows.sort();
        rows
    }

    /// The row of a table with this key, such as `{"id":1}`, parsed. Numbers beyond a double lose digits here.
    pub fn row(&self, table: &str, key: &Value) -> Option<Value> {
        let key = canonical(&key.to_string()).ok()?;
        serde_json::from_str(&object(self.tables.get(table)?.keyed.get(&key)?)).ok()
    }

    /// Takes one frame.
    pub fn apply(&mut self, frame: &str) -> Result<(), Violation> {
        let frame = Object::parse(frame)?;
        let kind = frame.string("type")?;
        let breaks_a_transaction =
            matches!(kind.as_str(), "snapshot_begin" | "rows" | "snapshot_end" | "live" | "heartbeat");
        ensure!(!(breaks_a_transaction && self.pending.is_some()), "{kind} inside a transaction");
        let needs_its_rows = matches!(kind.as_str(), "schema" | "rows" | "tx" | "live" | "heartbeat");
        ensure!(!(needs_its_rows && self.reset.is_some()), "{kind} before the snapshot of {:?}", self.reset);
        match kind.as_str() {
            "welcome" => self.welcome(&frame),
            "schema" => self.schema(&frame),
            "snapshot_begin" => self.snapshot_begin(&frame),
            "rows" => self.snapshot_rows(&frame),
            "snapshot_end" => self.snapshot_end(&frame),
            "tx" => self.transaction(&frame),
            "live" => {
                self.live = true;
                self.advance(&frame)
            }
            "heartbeat" => self.advance(&frame),
            "reset" => self.reset(&frame),
            "access" => {
                self.next_access = Some(frame.string("access")?);
                Ok(())
            }
            "error" => {
                self.errors.push(frame.value()?);
                Ok(())
            }
            // Clients skip what they do not know.
            _ => Ok(()),
        }
    }

    fn welcome(&mut self, frame: &Object) -> Result<(), Violation> {
        let (head, floor) = (frame.position("head")?, frame.position("floor")?);
        let mode = frame.string("mode")?;
        self.next_access = Some(frame.string("access")?);
        ensure!(mode == "resume" || mode == "snapshot", "welcome with mode {mode:?}");
        if mode == "resume" {
            let position = *self.position.get_or_insert(head);
            ensure!(floor <= position, "welcome resumes {position}, which lies below its floor {floor}");
            self.doubt_before(head);
        }
        Ok(())
    }

    /// A new shape concerns the rows before it too, but not before what the open transaction did to them.
    fn schema(&mut self, frame: &Object) -> Result<(), Violation> {
        let (name, schema) = (frame.string("table")?, Schema::of_frame(frame)?);
        self.schemas.insert(name.clone(), schema.clone());
        match &mut self.pending {
            None => self.reshape(&name, schema),
            Some(pending) => {
                let seq = pending.changes.last().map_or(0, |change| change.seq);
                pending.changes.push(Change { seq, table: name, kind: Kind::Reshape(schema) });
                Ok(())
            }
        }
    }

    fn reshape(&mut self, name: &str, schema: Schema) -> Result<(), Violation> {
        if let Some(before) = self.shapes.get(name) {
            if schema.is_before(before) {
                return Ok(());
            }
            if let Some(table) = self.tables.get_mut(name).filter(|_| *before != schema) {
                schema.reshape(name, before, table)?;
            }
        }
        self.shapes.insert(name.to_owned(), schema);
        Ok(())
    }

    fn transaction(&mut self, frame: &Object) -> Result<(), Violation> {
        let (cursor, last) = (frame.position("cursor")?, frame.boolean("last")?);
        ensure!(cursor.is_whole() == last, "tx with cursor {cursor} and last {last}");
        let lsn = frame.string("lsn")?;
        ensure!(lsn == cursor.commit_lsn.to_string(), "tx with cursor {cursor} and lsn {lsn}");
        ensure!(self.snapshot.is_none(), "tx {cursor} inside a snapshot");
        let Some(position) = self.position else {
            return Err(Violation(format!("tx {cursor} before any snapshot")));
        };
        ensure!(cursor > position, "tx {cursor} comes after {position}");
        let prev = frame.nullable_position("prev")?;
        ensure!(
            prev.is_none_or(|prev| prev <= position),
            "gap: tx {cursor} follows {prev:?}, we are at {position}"
        );

        let mut pending = self.pending.take().unwrap_or(Pending { last_part: position, changes: Vec::new() });
        let continues = pending.last_part.is_whole() || same_transaction(pending.last_part, cursor);
        ensure!(continues && cursor > pending.last_part, "part {cursor} follows part {}", pending.last_part);
        pending.last_part = cursor;
        for change in frame.objects("changes")? {
            let change = self.change(&change)?;
            let before = pending.changes.last();
            // A key change is one change of the transaction, told as two.
            let is_second_half = before.is_some_and(|before| change.completes(before));
            let before = before.map(|before| before.seq);
            ensure!(
                is_second_half || before.is_none_or(|before| before < change.seq),
                "seq {} follows {before:?} in {cursor}",
                change.seq
            );
            pending.changes.push(change);
        }
        if !last {
            self.pending = Some(pending);
            return Ok(());
        }
        let mut deleted = None;
        for change in pending.changes {
            deleted = self.perform(cursor, change, deleted)?;
        }
        if frame.boolean("own")? {
            self.confirmed.push(cursor);
        }
        self.transactions += 1;
        self.move_to(cursor);
        Ok(())
    }

    fn move_to(&mut self, position: Position) {
        self.doubt_before(position);
        self.position = Some(position);
        self.access = self.next_access.take().or(self.access.take());
        self.consistent_at.retain(|consistent_at| position < *consistent_at);
    }

    /// The stream, or the source, is in the epoch of `position` now.
    fn doubt_before(&mut self, position: Position) {
        let ahead = self.consistent_at.first().copied();
        let incomplete = self.position.filter(|_| !self.missing.is_empty());
        self.is_doubtful |=
            [ahead, incomplete].into_iter().flatten().any(|other| other.epoch < position.epoch);
    }

    fn forget(&mut self) {
        self.tables.clear();
        self.missing.clear();
        self.consistent_at.clear();
        // It goes with the next position that there is.
        self.next_access = self.next_access.take().or(self.access.take());
        (self.position, self.is_doubtful, self.is_regranting) = (None, false, false);
    }

    fn change(&self, change: &Object) -> Result<Change, Violation> {
        let (seq, op) = (change.number("seq")?, change.string("op")?);
        if op == "message" {
            return Ok(Change { seq, table: String::new(), kind: Kind::Message });
        }
        let table = change.string("table")?;
        let key = change.key()?;
        let kind = match op.as_str() {
            "insert" | "update" => {
                let (data, unchanged) = (change.object("data")?.row()?, change.strings("unchanged")?);
                let schema = self.schemas.get(&table).ok_or_else(|| unknown(&table))?;
                let derived = schema.check(&table, &data, &unchanged)?;
                let shape = self.shapes.get(&table).filter(|shape| schema.is_before(shape));
                let data = shape.map_or_else(|| data.clone(), |shape| shape.row_from(schema, &data));
                ensure!(key == derived, "{op} of {table} has key {key:?}, and its data {derived:?}");
                let moved_from = change.moved_from()?;
                ensure!(moved_from.is_none() || op == "insert", "{op} of {table} that moved");
                match key {
                    None if op == "update" => {
                        Kind::Replace { old: change.object("old")?.row()?, data: Some(data), unchanged }
                    }
                    key => Kind::Put { key, moved_from, data, unchanged },
                }
            }
            "delete" => match key {
                Some(key) => Kind::Delete { key },
                None => {
                    Kind::Replace { old: change.object("old")?.row()?, data: None, unchanged: Vec::new() }
                }
            },
            "truncate" => Kind::Truncate,
            _ => return Err(Violation(format!("unknown operation {op:?}"))),
        };
        Ok(Change { seq, table, kind })
    }

    /// Applies a change; gives the row that it deleted, which may be the first half of a key change.
    fn perform(
        &mut self,
        position: Position,
        Change { seq, table: name, kind }: Change,
        deleted: Option<Row>,
    ) -> Result<Option<Row>, Violation> {
        if let Kind::Message = kind {
            return Ok(None);
        }
        if let Kind::Reshape(schema) = kind {
            self.reshape(&name, schema)?;
            return Ok(None);
        }
        let table = self.tables.entry(name.clone()).or_default();
        let is_ahead = self.consistent_at.last().is_some_and(|consistent_at| position <= *consistent_at);
        let is_ahead = is_ahead || !table.is_whole;
        match kind {
            Kind::Put { key: None, data, .. } => {
                table.inserted.insert((position, seq), data);
            }
            Kind::Put { key: Some(key), moved_from, mut data, unchanged } => {
                let here = table.keyed.get(&key);
                // What a snapshot is ahead of comes again after a reconnect: the row may be where it goes already, and
                // another one where it was.
                let before =
                    if moved_from.is_none() || is_ahead && here.is_some() { here } else { deleted.as_ref() };
                for column in unchanged {
                    let kept = before.and_then(|row| row.get(&column));
                    match kept.cloned() {
                        Some(value) => _ = data.insert(column, value),
                        None if is_ahead => {}
                        None => {
                            return Err(Violation(format!(
                                "{column} of {name} {key} is unchanged, but was never sent"
                            )));
                        }
                    }
                }
                table.keyed.insert(key, data);
            }
            Kind::Delete { key } => return Ok(table.keyed.remove(&key)),
            Kind::Replace { old, data, unchanged } => {
                ensure!(table.take(&old) || is_ahead, "{name} has no row {}", object(&old));
                if let Some(mut data) = data {
                    let kept = unchanged.into_iter().filter_map(|column| old.get_key_value(&column));
                    data.extend(kept.map(|(column, value)| (column.clone(), value.clone())));
                    table.inserted.insert((position, seq), data);
                }
            }
            Kind::Truncate => *table = Table::empty(),
            Kind::Reshape(_) | Kind::Message => {}
        }
        Ok(None)
    }

    /// `live` and `heartbeat`: there is nothing for us up to here.
    fn advance(&mut self, frame: &Object) -> Result<(), Violation> {
        let cursor = frame.position("cursor")?;
        ensure!(cursor.is_whole(), "a cursor to keep lies inside a transaction: {cursor}");
        let Some(position) = self.position else {
            // While the first snapshot runs, there is no position to keep.
            return Ok(());
        };
        ensure!(cursor >= position, "the cursor goes back from {position} to {cursor}");
        self.move_to(cursor);
        Ok(())
    }
}

impl Table {
    /// One of which it is known that it has no rows.
    fn empty() -> Self {
        Table { is_whole: true, ..Table::default() }
    }

    /// Takes one row away that is equal to this one; whether there was one.
    fn take(&mut self, row: &Row) -> bool {
        if let Some(index) = self.from_snapshot.iter().position(|other| other == row) {
            self.from_snapshot.swap_remove(index);
            return true;
        }
        let place = self.inserted.iter().find(|(_, other)| *other == row).map(|(place, _)| *place);
        place.is_some_and(|place| self.inserted.remove(&place).is_some())
    }
}

impl Change {
    /// Whether this is the insert of a key change and `before` its delete.
    fn completes(&self, before: &Change) -> bool {
        let Kind::Put { moved_from: Some(moved_from), .. } = &self.kind else { return false };
        let deletes = matches!(&before.kind, Kind::Delete { key } if key == moved_from);
        deletes && before.seq == self.seq && before.table == self.table
    }
}

fn same_transaction(a: Position, b: Position) -> bool {
    (a.epoch, a.commit_lsn) == (b.epoch, b.commit_lsn)
}

fn unknown(table: &str) -> Violation {
    Violation(format!("a row of {table} before its schema"))
}

#[cfg(test)]
mod tests;
