//! A source with two tables, its WAL, and the history of it: lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use waldelta_history::{EpochSpan, Lineage, Transaction};
use waldelta_wal::{
    Change, EndLsn, Epoch, Lsn, Operation, Position, ReplicaIdentity, Table, TransactionHead,
};

use crate::session::delivery::Shows;
use crate::start::Extent;
use crate::testing::{change, reset_change, table};

pub(super) const TABLES: [&str; 2] = ["t", "u"];
/// WAL that a commit record takes.
const RECORD: u64 = 3;
const START: u64 = 100;

/// What a transaction does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Put {
        table: usize,
        id: i64,
    },
    Delete {
        table: usize,
        id: i64,
    },
    /// A row gets another key, which no row has.
    Move {
        table: usize,
        id: i64,
        to: i64,
    },
    Truncate {
        table: usize,
    },
    /// A row that changes and of which no change tells: the table needs repair.
    Unseen {
        table: usize,
        id: i64,
    },
    Reset {
        table: usize,
    },
}

type Rows = BTreeMap<i64, u64>;

/// A transaction in the WAL.
struct Commit {
    lsn: u64,
    changes: Vec<Change>,
    /// The tables after it, and whether their changes add up to that.
    after: [(Rows, bool); 2],
    resets: [bool; 2],
}

pub(super) struct Source {
    /// What its changes tell of rows before them.
    identity: ReplicaIdentity,
    /// The source as it is now: its whole WAL.
    wal: Vec<Commit>,
    /// Where the WAL ends.
    end: u64,
    /// How much of it is durable.
    stored: usize,
    /// What history has, of all epochs.
    pub(super) log: Vec<Arc<Transaction>>,
    durable_end: u64,
    epochs: Vec<EpochSpan>,
    floor: Position,
    values: u64,
    joining: [Joining; 2],
}

/// Whether a table joins.
#[derive(Clone, Copy, Default)]
struct Joining {
    /// How long the WAL was when that was seen.
    seen: Option<usize>,
    /// Which transaction of it has reset the table since, durably.
    reset_by: Option<usize>,
}

/// Ids are counted from 1, and those of transactions that were lost are given out again.
pub(super) fn xids_up_to(last: u64) -> Shows {
    Arc::new(move |xid| xid <= last)
}

pub(super) fn text(id: i64, value: u64) -> String {
    format!(r#"{{"id":{id},"v":"{value}"}}"#)
}

impl Source {
    pub(super) fn new(identity: ReplicaIdentity) -> Self {
        let first = EpochSpan {
            epoch: Epoch(1),
            previous: None,
            start: EndLsn(Lsn(START)),
            end: None,
            continues: false,
            fork: None,
            reason: String::new(),
            started_at_us: 0,
        };
        Source {
            identity,
            wal: Vec::new(),
            end: START,
            stored: 0,
            log: Vec::new(),
            durable_end: START,
            floor: Position::before(Epoch(1), first.start),
            epochs: vec![first],
            values: 0,
            joining: [Joining::default(); 2],
        }
    }

    pub(super) fn commit(&mut self, ops: &[Op]) {
        let mut after = self
            .wal
            .last()
            .map_or_else(|| [(Rows::new(), true), (Rows::new(), true)], |last| last.after.clone());
        let (mut changes, mut resets) = (Vec::new(), [false; 2]);
        for op in ops {
            let seq = u32::try_from(changes.len()).unwrap();
            self.values += 1;
            let value = self.values;
            match *op {
                Op::Put { table: index, id } => {
                    let before = after[index].0.insert(id, value);
                    let operation = if before.is_some() { Operation::Update } else { Operation::Insert };
                    let data = Some(Bytes::from(text(id, value)));
                    let old_data = before.and_then(|before| self.image_before(id, before));
                    changes.push(Change { data, old_data, ..change(seq, operation, &self.table(index), id) });
                }
                Op::Delete { table: index, id } => {
                    if let Some(before) = after[index].0.remove(&id) {
                        let key = || Bytes::from(format!(r#"{{"id":{id}}}"#));
                        let old_data = Some(self.image_before(id, before).unwrap_or_else(key));
                        changes.push(Change {
                            old_data,
                            ..change(seq, Operation::Delete, &self.table(index), id)
                        });
                    }
                }
                Op::Move { table: index, id, to } => {
                    if id == to || after[index].0.contains_key(&to) {
                        continue;
                    }
                    if let Some(before) = after[index].0.remove(&id) {
                        after[index].0.insert(to, value);
                        let key = || Bytes::from(format!(r#"{{"id":{id}}}"#));
                        let old_data = Some(self.image_before(id, before).unwrap_or_else(key));
                        let data = Some(Bytes::from(text(to, value)));
                        let update = change(seq, Operation::Update, &self.table(index), to);
                        changes.push(Change { data, old_data, ..update });
                    }
                }
                Op::Truncate { table: index } => {
                    after[index].0.clear();
                    let truncate = change(seq, Operation::Truncate, &self.table(index), 0);
                    changes.push(Change { row_key: None, ..truncate });
                }
                Op::Unseen { table: index, id } => {
                    after[index].0.insert(id, value);
                    after[index].1 = false;
                }
                Op::Reset { table: index } => {
                    resets[index] = true;
                    changes.push(reset_change(seq, TABLES[index]));
                }
            }
        }
        for (state, reset) in after.iter_mut().zip(resets) {
            state.1 |= reset;
        }
        self.wal.push(Commit { lsn: self.end, changes, after, resets });
        self.end += RECORD;
    }

    fn table(&self, index: usize) -> Arc<Table> {
        Arc::new(Table { identity: self.identity, ..table(TABLES[index]) })
    }

    /// The whole row before a change, where it is told.
    fn image_before(&self, id: i64, value: u64) -> Option<Bytes> {
        (self.identity == ReplicaIdentity::Full).then(|| text(id, value).into())
    }

    pub(super) fn join(&mut self, table: usize) {
        self.joining[table] = Joining { seen: Some(self.wal.len()), reset_by: None };
    }

    /// Makes transactions durable.
    pub(super) fn store(&mut self, count: usize) {
        let upto = self.stored.saturating_add(count).min(self.wal.len());
        for index in self.stored..upto {
            let commit = &self.wal[index];
            let head = TransactionHead {
                epoch: self.epoch(),
                commit_lsn: Lsn(commit.lsn),
                xid: index as u64 + 1,
                committed_at_us: 0,
            };
            if !commit.changes.is_empty() {
                self.log.push(Arc::new(Transaction { head, changes: commit.changes.clone() }));
            }
            self.durable_end = commit.lsn + RECORD;
            for (joining, reset) in self.joining.iter_mut().zip(commit.resets) {
                if reset && joining.reset_by.is_none() && joining.seen.is_some_and(|seen| seen <= index) {
                    joining.reset_by = Some(index);
                }
            }
        }
        self.stored = upto;
    }

    /// Loses the last transactions of the WAL. History goes on where it and the source have the same, or after a gap.
    pub(super) fn fork(&mut self, lost: usize, continues: bool) {
        let kept = self.wal.len().saturating_sub(lost);
        if let Some(first_lost) = self.wal.get(kept) {
            self.end = first_lost.lsn;
        }
        self.wal.truncate(kept);
        let fork = self.end;
        let ends = if continues { self.durable_end.min(fork) } else { self.durable_end };
        let start = if continues { ends } else { fork };
        self.stored = if continues { self.stored.min(kept) } else { kept };
        self.durable_end = start;
        for joining in &mut self.joining {
            // A reset that did not survive has not been.
            joining.reset_by = joining.reset_by.filter(|index| *index < kept);
            joining.seen = joining.seen.filter(|_| continues).map(|seen| seen.min(kept));
        }
        let before = self.epoch();
        if let Some(last) = self.epochs.last_mut() {
            last.end = Some(EndLsn(Lsn(ends)));
        }
        let span = EpochSpan {
            epoch: Epoch(before.0 + 1),
            previous: Some(before),
            start: EndLsn(Lsn(start)),
            end: None,
            continues,
            fork: Some(Lsn(fork)),
            reason: String::new(),
            started_at_us: 0,
        };
        if !continues {
            self.floor = Position::before(span.epoch, span.start);
        }
        self.epochs.push(span);
    }

    fn epoch(&self) -> Epoch {
        self.epochs.last().unwrap().epoch
    }

    pub(super) fn head(&self) -> Position {
        Position::before(self.epoch(), EndLsn(Lsn(self.durable_end)))
    }

    /// The feed begins anew with each epoch.
    pub(super) fn feed_floor(&self) -> Position {
        let span = self.epochs.last().unwrap();
        Position::before(span.epoch, span.start)
    }

    pub(super) fn lineage(&self) -> Lineage {
        Lineage::new(self.epochs.clone())
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { floor: self.floor, head: self.head(), lineage: self.lineage() }
    }

    /// Where the WAL ends now.
    pub(super) fn end_in(&self, epoch: Epoch) -> Position {
        Position::before(epoch, EndLsn(Lsn(self.end)))
    }

    pub(super) fn last_xid(&self) -> u64 {
        self.wal.len() as u64
    }

    pub(super) fn is_joining(&self, table: usize) -> bool {
        let Joining { seen, reset_by } = self.joining[table];
        seen.is_some() && reset_by.is_none()
    }

    pub(super) fn needs_repair(&self, table: usize) -> bool {
        self.is_joining(table) || self.wal.last().is_some_and(|last| !last.after[table].1)
    }

    /// Id and value of each row.
    pub(super) fn rows(&self, table: usize) -> impl Iterator<Item = (i64, u64)> {
        let rows = self.wal.last().map(|last| &last.after[table].0);
        rows.into_iter().flatten().map(|(id, value)| (*id, *value))
    }
}
