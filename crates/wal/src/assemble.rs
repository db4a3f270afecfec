//! From messages to committed transactions, in commit order.
//!
//! With protocol 1 the walsender sends a transaction only when it has committed, whole and alone; so there is one open
//! transaction at most. What leaves here is whole transactions, or the pieces of a large one. Nothing is skipped
//! silently: what cannot be understood is an error, since a gap is worse than a halt.
//!
//! After a reconnect the source sends everything anew, shapes too, so the caller makes a new assembler.

use std::collections::HashMap;
use std::sync::Arc;

use crate::code::Code;
use crate::lsn::{EndLsn, Lsn};
use crate::message::{read_author, write_message};
use crate::open::{OpenTransaction, Rows, TooManyChanges};
use crate::pgoutput::{Message, OldTuple, Tuple};
use crate::position::Epoch;
use crate::reader::ReadError;
use crate::relation::{Relation, UnsupportedType, qualified_type_name};
use crate::row::{EncodeError, RowEncoder, RowNotes, Value};
use crate::table::{ReplicaIdentity, Table, TableName};
use crate::transaction::{AUTHOR_PREFIX, FENCE_PREFIX, Operation, Piece, TransactionHead};
use crate::xid::XidWidener;

/// The schema whose tables are ours: their rows never become changes.
const OUR_SCHEMA: &str = "waldelta";
/// Our table whose rows are signs of life. Those of the others say nothing: a publication of all tables has history's own
/// rows in it, and must not make each append bring the next.
const CANARY: &str = "canary";

/// What a message completed.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A committed transaction, or a piece of one.
    Piece(Piece),
    /// A table is about to appear in rows, perhaps in a new shape. Before the next message the caller makes a [`Table`] of
    /// it ([`Relation::to_table`]) and gives it to [`Assembler::define`].
    ///
    /// It may come again unchanged, where its primary key could have changed without a sign in it.
    Relation(Relation),
}

/// The stream cannot be followed further. Sending it again would not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A message has not the form that the protocol gives it.
    #[error("a message from the walsender cannot be read")]
    Message(#[from] ReadError),
    /// A transaction begins inside another.
    #[error("transaction {begun} begins inside transaction {open}")]
    NestedBegin {
        /// Commit LSN of the transaction that is open.
        open: Lsn,
        /// Commit LSN of the one that begins.
        begun: Lsn,
    },
    /// Something that belongs into a transaction came outside of one.
    #[error("{what} outside of a transaction")]
    OutsideTransaction {
        /// What came.
        what: &'static str,
    },
    /// A commit is not that of the transaction which began.
    #[error("transaction {open} ends with the commit of {committed}")]
    CommitMismatch {
        /// Commit LSN that the transaction began with.
        open: Lsn,
        /// Commit LSN that it ends with.
        committed: Lsn,
    },
    /// A row or a definition of a table whose shape was never sent.
    #[error("the shape of the table with object id {oid} was never sent")]
    UnknownRelation {
        /// The table's object id.
        oid: u32,
    },
    /// Rows arrive, but the caller has not defined the table.
    #[error("table {table} has rows before it was defined")]
    NotDefined {
        /// The table.
        table: TableName,
    },
    /// A definition does not fit the shape that was sent.
    #[error("the definition of table {table} does not fit the shape that the source sends")]
    DefinitionMismatch {
        /// The table.
        table: TableName,
    },
    /// A table has a type that is not supported.
    #[error(transparent)]
    UnsupportedType(#[from] UnsupportedType),
    /// A row cannot be turned into JSON.
    #[error("a row of table {table} in transaction {commit_lsn} cannot be turned into JSON")]
    Row {
        /// The table.
        table: TableName,
        /// Commit LSN of the transaction.
        commit_lsn: Lsn,
        /// What is wrong with the row.
        #[source]
        source: Box<EncodeError>,
    },
    /// A transaction has more changes than positions can number.
    #[error("transaction {commit_lsn} has more than 4294967295 changes")]
    TooManyChanges {
        /// Commit LSN of the transaction.
        commit_lsn: Lsn,
    },
}

impl AssembleError {
    /// The stable code that users see.
    pub fn code(&self) -> Code {
        match self {
            AssembleError::UnsupportedType(error) => error.code(),
            AssembleError::Row { source, .. } => source.code(),
            AssembleError::Message(_)
            | AssembleError::NestedBegin { .. }
            | AssembleError::OutsideTransaction { .. }
            | AssembleError::CommitMismatch { .. }
            | AssembleError::UnknownRelation { .. }
            | AssembleError::NotDefined { .. }
            | AssembleError::DefinitionMismatch { .. }
            | AssembleError::TooManyChanges { .. } => Code::WalUnreadable,
        }
    }
}

/// Assembles the transactions of one replication connection.
pub struct Assembler {
    epoch: Epoch,
    durable: EndLsn,
    piece_bytes_max: usize,
    xids: XidWidener,
    /// By object id: bounded by the tables and types that the source has.
    relations: HashMap<u32, Known>,
    type_names: HashMap<u32, String>,
    open: Option<OpenTransaction>,
}

/// What is known of a table.
enum Known {
    /// It is one of ours. A row of the canary says that it arrived, one of the others nothing.
    Ours {
        canary: bool,
    },
    /// The caller has not defined it yet.
    Undefined(Relation),
    Defined(Box<Defined>),
}

struct Defined {
    relation: Relation,
    table: Arc<Table>,
    encoder: RowEncoder,
    /// Whether a piece has it among its new tables.
    announced: bool,
}

impl Assembler {
    /// Assembles from the start of a connection.
    ///
    /// `durable` is the end up to where history has everything: transactions below are dropped. `xid_reference` is a
    /// recent 64-bit transaction id of the source. A transaction of more than about `piece_bytes_max` bytes leaves in
    /// pieces; a piece exceeds that by one row at most.
    pub fn new(epoch: Epoch, durable: EndLsn, xid_reference: u64, piece_bytes_max: usize) -> Self {
        Assembler {
            epoch,
            durable,
            piece_bytes_max,
            xids: XidWidener::new(xid_reference),
            relations: HashMap::new(),
            type_names: HashMap::new(),
            open: None,
        }
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
        match Message::parse(message)? {
            Message::Begin { commit_lsn, committed_at_us, xid } => {
                self.begin(commit_lsn, committed_at_us, xid)?
            }
            Message::Commit { commit_lsn, end, .. } => return self.commit(commit_lsn, end),
            Message::Relation(relation) => return Ok(self.relation(relation).map(Output::Relation)),
            Message::Type { oid, schema, name } => {
                self.type_names.insert(oid, qualified_type_name(schema, name));
            }
            // Where a change came from in the end is not recorded.
            Message::Origin { .. } => {
                self.transaction("an origin")?;
            }
            Message::Insert { relation, new } => self.row(relation, Operation::Insert, None, Some(new))?,
            Message::Update { relation, old, new } => {
                self.row(relation, Operation::Update, old, Some(new))?
            }
            Message::Delete { relation, old } => self.row(relation, Operation::Delete, Some(old), None)?,
            Message::Truncate { relations, .. } => self.truncate(&relations)?,
            // One that is not transactional can come anywhere, and says nothing about what has committed.
            Message::Logical { transactional: false, .. } => {}
            Message::Logical { prefix, content, .. } => self.message(prefix, content)?,
        }
        Ok(self.cut_if_full())
    }

    /// Defines the table that an [`Output::Relation`] asked for. Defining it again as it is changes nothing.
    ///
    /// # Errors
    /// When the table was not asked for, does not fit the shape sent, or has a type that is not supported.
    pub fn define(&mut self, table: Arc<Table>) -> Result<(), AssembleError> {
        let oid = table.oid;
        let relation = match self.relations.get(&oid) {
            Some(Known::Undefined(relation)) => relation,
            Some(Known::Defined(defined)) if defined.table == table => return Ok(()),
            Some(Known::Defined(defined)) => &defined.relation,
            Some(Known::Ours { .. }) | None => return Err(AssembleError::UnknownRelation { oid }),
        };
        if !fits(&table, relation) {
            return Err(AssembleError::DefinitionMismatch { table: relation.table_name() });
        }
        let encoder = RowEncoder::new(&table)?;
        let defined = Defined { relation: relation.clone(), table, encoder, announced: false };
        self.relations.insert(oid, Known::Defined(Box::new(defined)));
        Ok(())
    }

    fn transaction(&mut self, what: &'static str) -> Result<&mut OpenTransaction, AssembleError> {
        self.open.as_mut().ok_or(AssembleError::OutsideTransaction { what })
    }

    fn begin(&mut self, commit_lsn: Lsn, committed_at_us: i64, xid: u32) -> Result<(), AssembleError> {
        if let Some(open) = &self.open {
            return Err(AssembleError::NestedBegin { open: open.head.commit_lsn, begun: commit_lsn });
        }
        let xid = self.xids.widen(xid);
        let head = TransactionHead { epoch: self.epoch, commit_lsn, xid, committed_at_us };
        self.open = Some(OpenTransaction::new(head, self.durable.includes(commit_lsn)));
        Ok(())
    }

    fn commit(&mut self, committed: Lsn, end: EndLsn) -> Result<Option<Output>, AssembleError> {
        let Some(open) = self.open.take() else {
            return Err(AssembleError::OutsideTransaction { what: "a commit" });
        };
        let commit_lsn = open.head.commit_lsn;
        if commit_lsn != committed || !end.includes(commit_lsn) {
            return Err(AssembleError::CommitMismatch { open: commit_lsn, committed });
        }
        if open.durable {
            return Ok(None);
        }
        let piece =
            open.finish(end).map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn })?;
        Ok(Some(Output::Piece(piece)))
    }

    /// Remembers a table's shape; returns it where the caller has to define the table.
    fn relation(&mut self, mut relation: Relation) -> Option<Relation> {
        let oid = relation.oid;
        if relation.schema == OUR_SCHEMA {
            self.relations.insert(oid, Known::Ours { canary: relation.name == CANARY });
            return None;
        }
        for column in &mut relation.columns {
            column.type_name = self.type_names.get(&column.type_oid).cloned();
        }
        if let Some(Known::Defined(defined)) = self.relations.get(&oid)
            && defined.relation == relation
        {
            // DEFAULT marks the primary key. Under the others it can change unseen, and only the catalog knows it.
            return (relation.identity != ReplicaIdentity::Default).then_some(relation);
        }
        self.relations.insert(oid, Known::Undefined(relation.clone()));
        Some(relation)
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
        let defined = match defined(&mut self.relations, relation)? {
            Found::Captured(defined) => defined,
            Found::Ours { canary } => {
                open.urgent |= canary;
                return Ok(());
            }
        };
        let commit_lsn = open.head.commit_lsn;
        let rows = encode(&defined.encoder, old, new, &mut open.arena).map_err(|source| {
            AssembleError::Row { table: defined.table.name.clone(), commit_lsn, source: Box::new(source) }
        })?;
        add(open, operation, Some(defined), rows)
    }

    fn truncate(&mut self, relations: &[u32]) -> Result<(), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::OutsideTransaction { what: "a truncate" })?;
        if open.durable {
            return Ok(());
        }
        for relation in relations {
            match defined(&mut self.relations, *relation)? {
                Found::Captured(defined) => add(open, Operation::Truncate, Some(defined), Rows::default())?,
                Found::Ours { canary } => open.urgent |= canary,
            }
        }
        Ok(())
    }

    fn message(&mut self, prefix: &[u8], content: &[u8]) -> Result<(), AssembleError> {
        let open = self.transaction("a transactional message")?;
        if open.durable {
            return Ok(());
        }
        if prefix == FENCE_PREFIX.as_bytes() {
            open.urgent = true;
            return Ok(());
        }
        if prefix == AUTHOR_PREFIX.as_bytes()
            && let Some(author) = read_author(content)
        {
            let commit_lsn = open.head.commit_lsn;
            return open
                .set_author(author)
                .map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn });
        }
        let start = open.arena.len();
        write_message(prefix, content, &mut open.arena);
        let rows = Rows { data: Some(start..open.arena.len()), ..Rows::default() };
        add(open, Operation::Message, None, rows)
    }

    fn cut_if_full(&mut self) -> Option<Output> {
        let open = self.open.as_mut()?;
        (open.piece_bytes() > self.piece_bytes_max).then(|| Output::Piece(open.cut()))
    }
}

/// Whether a definition has the columns that the source sends.
fn fits(table: &Table, relation: &Relation) -> bool {
    let same_columns = table.columns.len() == relation.columns.len()
        && table.columns.iter().zip(&relation.columns).all(|(ours, theirs)| {
            ours.name == theirs.name && ours.type_oid == theirs.type_oid && ours.identity == theirs.identity
        });
    let key_ascends = table.key.is_sorted_by(|a, b| a < b);
    let key_exists = table.key.last().is_none_or(|last| usize::from(*last) < table.columns.len());
    same_columns && key_ascends && key_exists
}

/// What the table of an object id is.
enum Found<'a> {
    Captured(&'a mut Defined),
    Ours { canary: bool },
}

/// The table of this object id.
fn defined(relations: &mut HashMap<u32, Known>, oid: u32) -> Result<Found<'_>, AssembleError> {
    match relations.get_mut(&oid) {
        Some(Known::Defined(defined)) => Ok(Found::Captured(defined)),
        Some(Known::Ours { canary }) => Ok(Found::Ours { canary: *canary }),
        Some(Known::Undefined(relation)) => Err(AssembleError::NotDefined { table: relation.table_name() }),
        None => Err(AssembleError::UnknownRelation { oid }),
    }
}

/// Adds a change, and the table's shape before its first one.
fn add(
    open: &mut OpenTransaction,
    operation: Operation,
    defined: Option<&mut Defined>,
    rows: Rows,
) -> Result<(), AssembleError> {
    let commit_lsn = open.head.commit_lsn;
    let table = defined.map(|defined| {
        if !std::mem::replace(&mut defined.announced, true) {
            open.announce(Arc::clone(&defined.table));
        }
        Arc::clone(&defined.table)
    });
    open.add(operation, table, rows).map_err(|TooManyChanges| AssembleError::TooManyChanges { commit_lsn })
}

/// Writes what is known of a row before and after a change.
fn encode(
    encoder: &RowEncoder,
    old: Option<OldTuple<'_>>,
    new: Option<Tuple<'_>>,
    arena: &mut Vec<u8>,
) -> Result<Rows, EncodeError> {
    let mut rows = Rows::default();
    let old_tuple = old.map(|(OldTuple::Key(tuple) | OldTuple::Full(tuple))| tuple);
    for tuple in [old_tuple, new].into_iter().flatten() {
        check_count(encoder, &tuple)?;
        // About what it takes: the wire has five bytes a value that JSON has not, JSON the key and what it escapes.
        arena.reserve(encoder.labels_bytes() + tuple.wire_bytes());
    }
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            rows.row_key = write_key(encoder, new.values(), arena)?;
            rows.data = Some(write_row(encoder, new.values(), arena, &mut rows, true)?);
        }
        (Some(old), None) => {
            rows.row_key = write_key(encoder, old_values(encoder, old), arena)?;
            rows.old_data = Some(write_row(encoder, old_values(encoder, old), arena, &mut rows, false)?);
        }
        (Some(old), Some(new)) => {
            // What was not sent did not change, so where the old value is known it is the new one too.
            let merged = new.values().zip(old_values(encoder, old)).map(|(new, old)| match new {
                Value::Unchanged => old,
                sent => sent,
            });
            rows.row_key = write_key(encoder, merged.clone(), arena)?;
            rows.data = Some(write_row(encoder, merged, arena, &mut rows, true)?);
            rows.old_data = Some(write_row(encoder, old_values(encoder, old), arena, &mut rows, false)?);
        }
    }
    Ok(rows)
}

fn check_count(encoder: &RowEncoder, tuple: &Tuple<'_>) -> Result<(), EncodeError> {
    let (expected, found) = (encoder.column_count(), tuple.len());
    if expected == found { Ok(()) } else { Err(EncodeError::ColumnCount { expected, found }) }
}

/// The values of an old row; a key-only one says nothing about columns outside the replica identity.
fn old_values<'a>(encoder: &RowEncoder, old: OldTuple<'a>) -> impl Iterator<Item = Value<'a>> + Clone {
    let (tuple, full) = match old {
        OldTuple::Key(tuple) => (tuple, false),
        OldTuple::Full(tuple) => (tuple, true),
    };
    let known = move |(value, identity)| if full || identity { value } else { Value::Unchanged };
    tuple.values().zip(encoder.identity_columns()).map(known)
}

fn write_key<'a>(
    encoder: &RowEncoder,
    values: impl Iterator<Item = Value<'a>>,
    arena: &mut Vec<u8>,
) -> Result<Option<std::ops::Range<usize>>, EncodeError> {
    let start = arena.len();
    let has_key = encoder.encode_key(values, arena)?;
    Ok(has_key.then_some(start..arena.len()))
}

/// Writes a row and notes what its JSON does not say. What is absent is named for the new row only: there it is a value
/// that exists but was not sent.
fn write_row<'a>(
    encoder: &RowEncoder,
    values: impl Iterator<Item = Value<'a>>,
    arena: &mut Vec<u8>,
    rows: &mut Rows,
    new: bool,
) -> Result<std::ops::Range<usize>, EncodeError> {
    let start = arena.len();
    let RowNotes { unchanged, kept_as_text } = encoder.encode_object(values, arena)?;
    let name = |index: u16| encoder.column_name(index).to_owned();
    if new {
        rows.unchanged = unchanged.into_iter().map(name).collect();
    }
    for index in kept_as_text {
        if !rows.kept_as_text.iter().any(|known| known == encoder.column_name(index)) {
            rows.kept_as_text.push(name(index));
        }
    }
    Ok(start..arena.len())
}
