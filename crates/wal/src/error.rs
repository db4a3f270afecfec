//! Why a stream cannot be followed.

use crate::code::Code;
use crate::lsn::Lsn;
use crate::reader::ReadError;
use crate::row::EncodeError;
use crate::skip::Skip;
use crate::table::TableName;

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
    /// Something that belongs to no transaction came inside of one.
    #[error("a message that belongs to no transaction inside transaction {open}")]
    InsideTransaction {
        /// Commit LSN of the transaction that is open.
        open: Lsn,
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
    /// A definition does not fit the shape that was sent.
    #[error("the definition of table {table} does not fit the shape that the source sends")]
    DefinitionMismatch {
        /// The table.
        table: TableName,
    },
    /// A row cannot be turned into JSON.
    #[error(
        "{} cannot be turned into JSON",
        Skip::place(*commit_lsn, *seq, Some(&table.to_string()), row_key.as_deref())
    )]
    Row {
        /// The table.
        table: TableName,
        /// Commit LSN of the transaction.
        commit_lsn: Lsn,
        /// Number of the change in it, as history would count it.
        seq: u32,
        /// Its key, where that can be told.
        row_key: Option<String>,
        /// What is wrong with the row.
        #[source]
        source: Box<EncodeError>,
    },
    /// A logical message is too large for jsonb.
    #[error(
        "{}, a logical message of {bytes} bytes, is larger than jsonb holds",
        Skip::place(*commit_lsn, *seq, None, None)
    )]
    MessageTooLarge {
        /// Commit LSN of the transaction.
        commit_lsn: Lsn,
        /// Number of the change in it, as history would count it.
        seq: u32,
        /// Bytes of its prefix and content.
        bytes: usize,
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
            AssembleError::Row { source, .. } => source.code(),
            AssembleError::MessageTooLarge { .. } => Code::ValueTooLong,
            AssembleError::Message(_)
            | AssembleError::NestedBegin { .. }
            | AssembleError::OutsideTransaction { .. }
            | AssembleError::InsideTransaction { .. }
            | AssembleError::CommitMismatch { .. }
            | AssembleError::UnknownRelation { .. }
            | AssembleError::DefinitionMismatch { .. }
            | AssembleError::TooManyChanges { .. } => Code::WalUnreadable,
        }
    }
}
