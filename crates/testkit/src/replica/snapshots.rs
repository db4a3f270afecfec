//! Snapshots and resets: rows that come at once, of everything or of some tables on the cursor of the stream.

use std::collections::{BTreeMap, BTreeSet};

use waldelta_wal::Position;

use super::frame::Object;
use super::schema::Schema;
use super::{Replica, Table, Violation, unknown};

/// A snapshot whose end has not come yet.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    begins_at: Position,
    /// Tables that were here already, and come again because other rows or columns of them were asked for. Without the end of the
    /// snapshot they are what they were.
    before: BTreeMap<String, (Table, Option<Schema>)>,
    /// Rows received, by table.
    pub(super) rows: BTreeMap<String, u64>,
    /// The tables that it is of, where it follows a reset of some. It need not have all of them: one may be gone since.
    reset: Option<BTreeSet<String>>,
}

impl Replica {
    pub(super) fn snapshot_begin(&mut self, frame: &Object) -> Result<(), Violation> {
        ensure!(self.snapshot.is_none(), "snapshot_begin inside a snapshot");
        let begins_at = frame.position("cursor")?;
        ensure!(
            self.position.is_none_or(|position| position <= begins_at),
            "a snapshot at {begins_at} goes back"
        );
        let reset = self.reset.take();
        let (mut rows, mut before) = (BTreeMap::new(), BTreeMap::new());
        for table in frame.objects("tables")? {
            let table = table.string("table")?;
            let expected = reset.as_ref().is_none_or(|reset| reset.contains(&table));
            ensure!(expected, "a snapshot of {table} after the reset of {reset:?}");
            if let Some(here) = self.tables.insert(table.clone(), Table::empty()) {
                before.insert(table.clone(), (here, self.shapes.get(&table).cloned()));
            }
            rows.insert(table, 0);
        }
        self.snapshot = Some(Snapshot { begins_at, before, rows, reset });
        Ok(())
    }

    /// An incomplete snapshot is worth nothing, and what it was taken for has to be taken again.
    pub(super) fn give_up_snapshot(&mut self) {
        let Some(Snapshot { rows, mut before, .. }) = self.snapshot.take() else { return };
        for name in rows.into_keys() {
            match before.remove(&name) {
                Some((table, shape)) => {
                    self.tables.insert(name.clone(), table);
                    self.shapes.extend(shape.map(|shape| (name, shape)));
                }
                None => _ = self.tables.remove(&name),
            }
        }
    }

    pub(super) fn snapshot_rows(&mut self, frame: &Object) -> Result<(), Violation> {
        let name = frame.string("table")?;
        let announced = self.snapshot.as_mut().and_then(|snapshot| snapshot.rows.get_mut(&name));
        let Some(received) = announced else {
            return Err(Violation(format!("rows of {name}, which no snapshot_begin announced")));
        };
        for row in frame.objects("rows")? {
            *received += 1;
            let row = row.row()?;
            let key = self
                .schemas
                .get(&name)
                .map_or_else(|| Err(unknown(&name)), |schema| schema.check(&name, &row, &[]))?;
            let table = self.tables.entry(name.clone()).or_default();
            match key {
                None => table.from_snapshot.push(row),
                Some(key) => {
                    let before = table.keyed.insert(key.clone(), row);
                    ensure!(before.is_none(), "the snapshot of {name} has key {key} twice");
                }
            }
        }
        Ok(())
    }

    pub(super) fn snapshot_end(&mut self, frame: &Object) -> Result<(), Violation> {
        let Some(Snapshot { begins_at, rows, reset, .. }) = self.snapshot.take() else {
            return Err(Violation("snapshot_end without snapshot_begin".into()));
        };
        let (cursor, consistent_at) = (frame.position("cursor")?, frame.position("consistent_at")?);
        ensure!(cursor >= begins_at, "a snapshot begins at {begins_at} and ends at {cursor}");
        // Of some tables: the stream stands still meanwhile.
        ensure!(
            self.position.is_none() || cursor == begins_at,
            "a snapshot of some tables begins at {begins_at} and ends at {cursor}"
        );
        ensure!(cursor.is_whole(), "a snapshot ends inside a transaction, at {cursor}");
        let mut counted = BTreeMap::new();
        for table in frame.objects("tables")? {
            counted.insert(table.string("table")?, table.number("rows")?);
        }
        ensure!(counted == rows, "snapshot_end counts {counted:?}, received {rows:?}");
        for table in rows.into_keys() {
            // Also where the copy had a later one: a shared snapshot may be older than what it replaces.
            if let Some(schema) = self.schemas.get(&table) {
                self.shapes.insert(table, schema.clone());
            }
        }
        for table in reset.unwrap_or_default() {
            self.missing.remove(&table);
        }
        self.is_regranting = false;
        self.consistent_at.insert(consistent_at);
        self.move_to(cursor);
        Ok(())
    }

    /// Without tables everything begins anew. With tables the stream goes on from where it is, and a transaction of which
    /// parts have come does so from its beginning.
    pub(super) fn reset(&mut self, frame: &Object) -> Result<(), Violation> {
        let tables: BTreeSet<String> = frame.strings("tables")?.into_iter().collect();
        self.resets.push(frame.string("reason")?);
        self.pending = None;
        self.live = false;
        if tables.is_empty() {
            (self.snapshot, self.reset) = (None, None);
            self.forget();
            return Ok(());
        }
        ensure!(self.position.is_some(), "a reset of {tables:?} before any snapshot");
        ensure!(self.snapshot.is_none(), "a reset of {tables:?} inside a snapshot");
        ensure!(self.reset.is_none(), "a reset of {tables:?} before the snapshot of {:?}", self.reset);
        for table in &tables {
            self.tables.remove(table);
            // What comes of it without a snapshot has the shape that was told last.
            match self.schemas.get(table) {
                Some(schema) => self.shapes.insert(table.clone(), schema.clone()),
                None => self.shapes.remove(table),
            };
        }
        self.is_regranting |= self.resets.last().is_some_and(|reason| reason == "permission_changed");
        self.missing.extend(tables.iter().cloned());
        self.reset = Some(tables);
        Ok(())
    }
}
