//! How much was stored of each table, and how fast. Their number is bounded: whoever makes a table a minute makes no metric a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::Counter;
use waldelta_wal::Table;

use crate::metrics;

/// Tables that are counted apart. The others are counted together, in the metrics alone.
const TABLES_MAX: usize = 200;
/// The rate is that of the last whole one of these.
const WINDOW: Duration = Duration::from_secs(10);

/// What was stored of one table since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct TableReading {
    /// As it was in the changes that were stored last.
    pub table: Arc<Table>,
    /// Changes of it, its truncates and resets among them.
    pub changes: u64,
    /// Changes a second, over about the last ten seconds.
    pub changes_per_second: f64,
    /// When the last of them were stored.
    pub stored_at: Instant,
}

/// The tables that were counted, by object id.
#[derive(Default)]
pub(crate) struct Tables {
    counted: HashMap<u32, Counted>,
    others: Option<Counter>,
}

struct Counted {
    table: Arc<Table>,
    counter: Counter,
    changes: u64,
    stored_at: Instant,
    rate: Rate,
}

/// Changes of this window and of the one before.
struct Rate {
    began_at: Instant,
    now: u64,
    before: u64,
}

impl Rate {
    fn turn(&mut self, now: Instant) {
        let windows = now.saturating_duration_since(self.began_at).as_nanos() / WINDOW.as_nanos();
        match windows {
            0 => return,
            1 => (self.before, self.now) = (self.now, 0),
            _ => (self.before, self.now) = (0, 0),
        }
        self.began_at += WINDOW * u32::try_from(windows).unwrap_or(u32::MAX);
    }

    /// As if the window before had been even, of which the part counts that is not ten seconds ago.
    fn read(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let since = now.saturating_duration_since(self.began_at).as_secs_f64() / WINDOW.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is for people")]
        let changes = self.now as f64 + self.before as f64 * (1.0 - since.min(1.0));
        changes / WINDOW.as_secs_f64()
    }
}

impl Tables {
    pub(crate) fn count(&mut self, of_tables: &[(Arc<Table>, u64)], now: Instant) {
        for (table, changes) in of_tables {
            let has_room = self.counted.len() < TABLES_MAX;
            if !has_room && !self.counted.contains_key(&table.oid) {
                self.others.get_or_insert_with(|| metrics::of_table(None)).increment(*changes);
                continue;
            }
            let counted = self.counted.entry(table.oid).or_insert_with(|| Counted {
                table: table.clone(),
                counter: metrics::of_table(Some(&table.name)),
                changes: 0,
                stored_at: now,
                rate: Rate { began_at: now, now: 0, before: 0 },
            });
            if counted.table.name != table.name {
                counted.counter = metrics::of_table(Some(&table.name));
            }
            counted.table = table.clone();
            counted.rate.turn(now);
            counted.rate.now += changes;
            counted.changes += changes;
            counted.stored_at = now;
            counted.counter.increment(*changes);
        }
    }

    pub(crate) fn read(&mut self, now: Instant) -> Vec<TableReading> {
        let mut tables: Vec<TableReading> = self
            .counted
            .values_mut()
            .map(|counted| TableReading {
                table: counted.table.clone(),
                changes: counted.changes,
                changes_per_second: counted.rate.read(now),
                stored_at: counted.stored_at,
            })
            .collect();
        tables.sort_by(|one, other| one.table.name.cmp(&other.table.name));
        tables
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_map().entries(self.counted.iter().map(|(oid, counted)| (oid, counted.changes))).finish()
    }
}

#[cfg(test)]
mod tests {
    use waldelta_wal::{ReplicaIdentity, TableName};

    use super::*;

    fn table(oid: u32) -> Arc<Table> {
        Arc::new(Table {
            oid,
            version: 1,
            name: TableName { schema: "public".into(), name: format!("t{oid:03}") },
            columns: Vec::new(),
            key: Vec::new(),
            identity: ReplicaIdentity::Default,
        })
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |tenths| start + WINDOW / 10 * tenths;
        let mut tables = Tables::default();
        let rate = |tables: &mut Tables, tenths| tables.read(at(tenths))[0].changes_per_second;
        tables.count(&[(table(1), 100)], at(0));
        assert_eq!(rate(&mut tables, 5), 10.0);
        assert_eq!(rate(&mut tables, 15), 5.0, "half of it is ten seconds ago");
        tables.count(&[(table(1), 30)], at(15));
        assert_eq!(rate(&mut tables, 15), 8.0);
        assert_eq!(rate(&mut tables, 20), 3.0);
        assert_eq!(rate(&mut tables, 45), 0.0);
        assert_eq!((tables.read(at(45))[0].changes, tables.read(at(45))[0].stored_at), (130, at(15)));
    }

    #[test]
    fn as_many_tables_as_there_is_room_for_are_counted_apart() {
        let now = Instant::now();
        let mut tables = Tables::default();
        for oid in 0..300 {
            tables.count(&[(table(oid), 1), (table(oid), 1)], now);
        }
        let read = tables.read(now);
        assert_eq!(read.len(), TABLES_MAX);
        assert!(read.iter().all(|table| table.changes == 2));
        assert!(read.is_sorted_by_key(|table| table.table.oid), "by name");
    }
}
