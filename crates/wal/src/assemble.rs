//! From messages to committed transactions, in commit order.
//!
//! With protocol 1 the walsender sends a transaction only when it has committed, whole and alone; so there is one open
//! transaction at most. What leaves here is whole transactions, or the pieces of a large one. Nothing is skipped
//! silently: what cannot be understood is an error, since a gap is worse than a halt. What an operator orders to be left out
//! is passed over without being decoded, and a change in its place says so.
//!
//! After a reconnect the source sends everything anew, shapes too, so the caller makes a new assembler.

use std::ops::Range;
use std::sync::Arc;

use crate::ddl::Ddl;
use crate::error::AssembleError;
use crate::images;
use crate::lsn::{EndLsn, Lsn};
use crate::message::{MessageTooLarge, read_author, write_message};
use crate::open::{OpenTransaction, Rows, TooManyChanges};
use crate::orders::Orders;
use crate::pgoutput::{Message, OldTuple, Tuple};
use crate::position::Epoch;
use crate::relation::Relation;
use crate::reset::{RESET_PREFIX, Reset};
use crate::row::ValuePolicy;
use crate::shape::schema_json;
use crate::skip::Skip;
use crate::table::Table;
use crate::tables::{Defined, Found, Tables};
use crate::transaction::{
    AUTHOR_PREFIX, DDL_PREFIX, FENCE_PREFIX, Operation, Piece, TransactionHead, TruncateOptions,
};
use crate::xid::XidWidener;

/// What a message completed.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A committed transaction, or a piece of one.
    Piece(Piece),
    /// The message was not taken: it is about a table that has to be defined first. The caller makes a [`Table`] of the
    /// shape ([`Relation::to_table`]), gives it to [`Assembler::define`], and then pushes the same message again.
    ///
    /// A table is asked for again, perhaps unchanged, whenever its shape was sent again: not all that the catalog says of
    /// it shows in the stream.
    Undefined(Relation),
}

/// Assembles the transactions of one replication connection.
pub struct Assembler {
    epoch: Epoch,
    durable: EndLsn,
    piece_bytes_max: usize,
    policy: ValuePolicy,
    xids: XidWidener,
    orders: Orders,
    tables: Tables,
    open: Option<OpenTransaction>,
    sent_at_us: i64,
}

impl Assembler {
    /// Assembles from the start of a connection.
    ///
    /// `durable` is the end up to where history has everything: transactions below are dropped. `xid_reference` is a
    /// recent 64-bit transaction id of the source. A transaction of more than about `piece_bytes_max` bytes leaves in
    /// pieces; a piece exceeds that by one message at most.
    pub fn new(
        epoch: Epoch,
        durable: EndLsn,
        xid_reference: u64,
        piece_bytes_max: usize,
        policy: ValuePolicy,
    ) -> Self {
        Assembler {
            epoch,
            durable,
            piece_bytes_max,
            policy,
            xids: XidWidener::new(xid_reference),
            orders: Orders::default(),
            tables: Tables::new(policy),
            open: None,
            sent_at_us: 0,
        }
    }

    /// Leaves out what was ordered to be left out: in its place comes a change of [`Operation::Skip`]. Tables that it concerns
    /// need repair. Of very many orders only the first ones are taken: those after them are for the next connection.
    #[must_use]
    pub fn skipping(self, skips: Vec<Skip>) -> Self {
        Assembler { orders: Orders::new(skips), ..self }
    }

    /// Says when the walsender sent what is pushed next, in microseconds since 1970-01-01 UTC: the only time that a message
    /// which belongs to no transaction has.
    pub fn sent_at(&mut self, sent_at_us: i64) {
        self.sent_at_us = sent_at_us;
    }

    /// Whether a transaction has begun and not ended yet.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next message: the data of [`Envelope::XLogData`](crate::Envelope::XLogData).
    ///
    /// # Errors
    /// When the message cannot be understood where it stands. The assembler is of no use afterwards.
    pub fn push(&mut self, message: &[u8]) -> Result<Option<Output>, AssembleError> {
        if self.pass_over(message) {
            return Ok(None);
        }
        let message = Message::parse(message)?;
        if let Some(relation) = self.undefined(&message) {
            return Ok(Some(Output::Undefined(relation.clone())));
        }
        match message {
            Message::Begin { commit_lsn, committed_at_us, xid } => {
                self.begin(commit_lsn, committed_at_us, xid)?
            }
            Message::Commit { commit_lsn, end, .. } => return self.commit(commit_lsn, end),
            Message::Relation(relation) => self.tables.shape(relation, self.open_lsn()),
            Message::Type { oid, schema, name } => self.tables.type_is_called(oid, schema, name),
            Message::Origin { name, .. } => self.transaction("an origin")?.set_origin(name),
            Message::Insert { relation, new } => self.row(relation, Operation::Insert, None, Some(new))?,
            Message::Update { relation, old, new } => {
                self.row(relation, Operation::Update, old, Some(new))?
            }
            Message::Delete { relation, old } => self.row(relation, Operation::Delete, Some(old), None)?,
            Message::Truncate { relations, cascade, restart_identity } => {
                self.truncate(&relations, TruncateOptions { cascade, restart_identity })?
            }
            Message::Logical { transactional: false, lsn, prefix, content } => {
                return self.message_alone(lsn, prefix, content);
            }
            Message::Logical { prefix, content, .. } => self.message(prefix, content)?,
        }
        Ok(self.cut_if_full())
    }

    /// The stream has ended inside a transaction that was ordered to be left out whole, because the source cannot send it.
    /// This stands for it. It ends right behind the beginning of its commit record, which is enough to go on from there:
    /// what commits later comes, and it does not come again. Which tables it concerns nobody knows.
    pub fn leave_out(&mut self) -> Option<Piece> {
        let open = self.open.take_if(|open| open.is_left_out())?;
        let end = EndLsn(Lsn(open.head.commit_lsn.0.checked_add(1)?));
        open.finish(end).ok()
    }

    /// Defines the table that an [`Output::Undefined`] asked for. Defining it again as it is changes nothing.
    ///
    /// `changed`: history knows an earlier version of it and not this one, so its next change is preceded by one that
    /// tells the shape.
    ///
    /// # Errors
    /// When the table was not asked for, or does not fit the shape sent.
    pub fn define(&mut self, table: Arc<Table>, changed: bool) -> Result<(), AssembleError> {
        let transaction = self.open_lsn();
        self.tables.define(table, changed, transaction)
    }

    /// Asks for a table again before its next row: the catalog says something new of it that the stream does not tell.
    pub fn forget(&mut self, table_oid: u32) {
        self.tables.forget(table_oid);
    }

    /// The table that has to be defined before this message can be taken. Rows of a transaction that history has are not
    /// looked at, so nobody needs to know what their table was like then.
    fn undefined(&self, message: &Message<'_>) -> Option<&Relation> {
        self.open.as_ref().filter(|open| !open.durable)?;
        match message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => self.tables.undefined(&[*relation]),
            Message::Truncate { relations, .. } => self.tables.undefined(relations),
            Message::Begin { .. }
            | Message::Commit { .. }
            | Message::Origin { .. }
            | Message::Relation(_)
            | Message::Type { .. }
            | Message::Logical { .. } => None,
        }
    }

    fn open_lsn(&self) -> Option<Lsn> {
        self.open.as_ref().map(|open| open.head.commit_lsn)
    }

    fn transaction(&mut self, what: &'static str) -> Result<&mut OpenTransaction, AssembleError> {
        self.open.as_mut().ok_or(AssembleError::OutsideTransaction { what })
    }

    fn begin(&mut self, commit_lsn: Lsn, committed_at_us: i64, xid: u32) -> Result<(), AssembleError> {
        if let Some(open) = self.open_lsn() {
            return Err(AssembleError::NestedBegin { open, begun: commit_lsn });
        }
        let xid = self.xids.widen(xid);
        let head = TransactionHead { epoch: self.epoch, commit_lsn, xid, committed_at_us };
        self.open = Some(self.opened(head));
        Ok(())
    }

    fn opened(&self, head: TransactionHead) -> OpenTransaction {
        OpenTransaction::new(head, self.durable.includes(head.commit_lsn), self.orders.of(head.commit_lsn))
    }

    /// Rows and origins of a transaction that is left out say no more than which tables it concerns: that much is read even
    /// where the rest cannot be. Shapes in it hold for what follows it too.
    fn pass_over(&mut self, message: &[u8]) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.is_left_out()) else { return false };
        let relations = match message {
            [b'I' | b'U' | b'D', a, b, c, d, ..] => vec![u32::from_be_bytes([*a, *b, *c, *d])],
            [b'T', ..] => match Message::parse(message) {
                Ok(Message::Truncate { relations, .. }) => relations,
                _ => Vec::new(),
            },
            [b'I' | b'U' | b'D' | b'O', ..] => Vec::new(),
            _ => return false,
        };
        for relation in relations {
            match self.tables.canary(relation) {
                Some(canary) => open.urgent |= canary,
                None => open.concerns(relation),
            }
        }
        true
    }

    fn commit(&mut self, committed: Lsn, end: EndLsn) -> Result<Option<Output>, AssembleError> {
        let Some(open) = self.open.take() else {
            return Err(AssembleError::OutsideTransaction { what: "a commit" });
        };
        let commit_lsn = open.head.commit_lsn;
        if commit_lsn != committed || !end.includes(commit_lsn) {
            return Err(AssembleError::CommitMismatch { open: commit_lsn, committed });
        }
        if open.durable { Ok(None) } else { finish(open, end) }
    }

    fn row(
        &mut self,
        relation: u32,
        operation: Operation,
        old: Option<OldTuple<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Result<(), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::OutsideTransaction { what: "a row" })?;
        if open.durable {
            return Ok(());
        }
        let defined = match self.tables.find(relation)? {
            Found::Captured(defined) => defined,
            Found::Ours { canary } => {
                open.urgent |= canary;
                return Ok(());
            }
        };
        // The shape first: its JSON lies before the row's.
        tell_shape(open, defined)?;
        if open.skips_next() {
            let row_key = images::write_short_key(&defined.encoder, old, new, &mut open.arena);
            return skip(open, Some(&defined.table), row_key);
        }
        match images::write(&defined.encoder, old, new, &mut open.arena) {
            Ok(rows) => add(open, operation, Some(&defined.table), rows),
            Err(source) => {
                let row_key = images::write_short_key(&defined.encoder, old, new, &mut open.arena);
                let text = |range| String::from_utf8_lossy(&open.arena[range]).into_owned();
                Err(AssembleError::Row {
                    table: defined.table.name.clone(),
                    commit_lsn: open.head.commit_lsn,
                    seq: open.next_seq(),
                    row_key: row_key.map(text),
                    source: Box::new(source),
                })
            }
        }
    }

    fn truncate(&mut self, relations: &[u32], options: TruncateOptions) -> Result<(), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::OutsideTransaction { what: "a truncate" })?;
        if open.durable {
            return Ok(());
        }
        for relation in relations {
            match self.tables.find(*relation)? {
                Found::Captured(defined) => {
                    tell_shape(open, defined)?;
                    if open.skips_next() {
                        skip(open, Some(&defined.table), None)?;
                        continue;
                    }
                    let rows = Rows { truncate: options, ..Rows::default() };
                    add(open, Operation::Truncate, Some(&defined.table), rows)?;
                }
                Found::Ours { canary } => open.urgent |= canary,
            }
        }
        Ok(())
    }

    fn message(&mut self, prefix: &[u8], content: &[u8]) -> Result<(), AssembleError> {
        let policy = self.policy;
        let open = self.transaction("a transactional message")?;
        if open.durable {
            return Ok(());
        }
        if prefix == FENCE_PREFIX.as_bytes() {
            open.urgent = true;
            return Ok(());
        }
        if prefix == DDL_PREFIX.as_bytes()
            && let Some(ddl) = Ddl::read(content)
        {
            ddl.repairs.into_iter().for_each(|repair| open.needs_repair(repair));
            ddl.forget.into_iter().for_each(|table_oid| self.tables.forget(table_oid));
            return Ok(());
        }
        if open.is_left_out() {
            return Ok(());
        }
        if prefix == RESET_PREFIX.as_bytes()
            && let Some(resets) = Reset::read(content, policy)
        {
            return resets.iter().try_for_each(|reset| add_reset(open, reset));
        }
        if prefix == AUTHOR_PREFIX.as_bytes()
            && let Some(author) = read_author(content, policy)
        {
            let commit_lsn = open.head.commit_lsn;
            return open
                .set_author(author)
                .map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn });
        }
        add_message(open, prefix, content, policy)
    }

    /// A message that belongs to no transaction comes between two, at its place in the WAL, even where nothing committed.
    /// It becomes a transaction of its own, of one change and without an id. It acts as nothing but a message: what it says
    /// is no part of any transaction.
    ///
    /// Its LSN is where its record ends, and a commit record may begin right there. So its position is the last byte of
    /// its record, where no record begins.
    fn message_alone(
        &mut self,
        lsn: Lsn,
        prefix: &[u8],
        content: &[u8],
    ) -> Result<Option<Output>, AssembleError> {
        if let Some(open) = self.open_lsn() {
            return Err(AssembleError::InsideTransaction { open });
        }
        let (commit_lsn, end) = (Lsn(lsn.0.saturating_sub(1)), EndLsn(lsn));
        // A fence that waits for nothing is none, and nobody's message.
        if self.durable.includes(commit_lsn) || prefix == FENCE_PREFIX.as_bytes() {
            return Ok(None);
        }
        let head =
            TransactionHead { epoch: self.epoch, commit_lsn, xid: 0, committed_at_us: self.sent_at_us };
        let mut open = self.opened(head);
        if !open.is_left_out() {
            add_message(&mut open, prefix, content, self.policy)?;
        }
        finish(open, end)
    }

    fn cut_if_full(&mut self) -> Option<Output> {
        let open = self.open.as_mut()?;
        (open.piece_bytes() > self.piece_bytes_max).then(|| Output::Piece(open.cut()))
    }
}

fn finish(open: OpenTransaction, end: EndLsn) -> Result<Option<Output>, AssembleError> {
    let commit_lsn = open.head.commit_lsn;
    let piece = open.finish(end).map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn })?;
    Ok(Some(Output::Piece(piece)))
}

/// Says what a table's shape is before its first change: to whom stores it, and as a change where it was another before.
fn tell_shape(open: &mut OpenTransaction, defined: &mut Defined) -> Result<(), AssembleError> {
    if !std::mem::replace(&mut defined.announced, true) {
        open.announce(Arc::clone(&defined.table));
    }
    if !std::mem::replace(&mut defined.changed, false) {
        return Ok(());
    }
    if open.skips_next() {
        return skip(open, Some(&defined.table), None);
    }
    let start = open.arena.len();
    schema_json(&defined.table, &mut open.arena);
    let rows = Rows { data: Some(start..open.arena.len()), ..Rows::default() };
    add(open, Operation::Schema, Some(&defined.table), rows)
}

fn add_message(
    open: &mut OpenTransaction,
    prefix: &[u8],
    content: &[u8],
    policy: ValuePolicy,
) -> Result<(), AssembleError> {
    if open.skips_next() {
        return skip(open, None, None);
    }
    let start = open.arena.len();
    let (commit_lsn, seq) = (open.head.commit_lsn, open.next_seq());
    let flagged = write_message(prefix, content, policy, &mut open.arena)
        .map_err(|MessageTooLarge { bytes }| AssembleError::MessageTooLarge { commit_lsn, seq, bytes })?;
    let rows = Rows { data: Some(start..open.arena.len()), flagged, ..Rows::default() };
    add(open, Operation::Message, None, rows)
}

fn add_reset(open: &mut OpenTransaction, reset: &Reset) -> Result<(), AssembleError> {
    if open.skips_next() {
        return skip(open, None, None);
    }
    let start = open.arena.len();
    reset.write(&mut open.arena);
    let rows = Rows { data: Some(start..open.arena.len()), ..Rows::default() };
    add(open, Operation::Reset, None, rows)
}

/// What stands in the place of the next change.
fn skip(
    open: &mut OpenTransaction,
    table: Option<&Arc<Table>>,
    row_key: Option<Range<usize>>,
) -> Result<(), AssembleError> {
    let commit_lsn = open.head.commit_lsn;
    open.skip_next(table.cloned(), row_key)
        .map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn })
}

fn add(
    open: &mut OpenTransaction,
    operation: Operation,
    table: Option<&Arc<Table>>,
    rows: Rows,
) -> Result<(), AssembleError> {
    let commit_lsn = open.head.commit_lsn;
    open.add(operation, table.cloned(), rows)
        .map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn })
}
