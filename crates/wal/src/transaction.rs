//! What the source did: transactions and the changes in them, in commit order.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::lsn::{EndLsn, Lsn};
use crate::position::{Epoch, Position};
use crate::table::Table;

/// What is known of a transaction when its first byte arrives (pgoutput's Begin carries the commit LSN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHead {
    /// Incarnation of the source.
    pub epoch: Epoch,
    /// Where its commit record begins. For a logical message that belongs to no transaction, the last byte of its record:
    /// at its end the next commit record may begin.
    pub commit_lsn: Lsn,
    /// Transaction id, widened to 64 bits (`xid8`); 0 for a logical message that belongs to no transaction.
    pub xid: u64,
    /// Commit time, in microseconds since 1970-01-01 UTC, by the source's clock: informational only.
    pub committed_at_us: i64,
}

impl TransactionHead {
    /// The position of the whole transaction: its cursor.
    pub fn position(&self) -> Position {
        Position::whole(self.epoch, self.commit_lsn)
    }
}

/// A run of changes of one committed transaction. Most transactions are one piece, the first and the last.
///
/// A large transaction arrives in several pieces so that memory stays bounded. Nothing of it may become visible before
/// the piece that has `end`: until then it can still be cut off and sent again from its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The transaction that this is a part of.
    pub head: TransactionHead,
    /// Whether it is the transaction's first piece.
    pub first: bool,
    /// Changes, `seq` counted through all pieces from 0 without a gap. May be empty: a transaction that touched
    /// only what is not captured still moves the position.
    pub changes: Vec<Change>,
    /// In the last piece: where the transaction's commit record ends, which is what the slot is told.
    pub end: Option<EndLsn>,
    /// Shapes that first appear in this transaction, each before the first change that has it.
    pub new_tables: Vec<Arc<Table>>,
    /// Tables whose rows changed in this transaction in a way that no change tells.
    pub repairs: Vec<Repair>,
    /// A fence (see [`FENCE_PREFIX`]) or the canary is in this piece: whoever waits for it wants it stored at once.
    pub urgent: bool,
}

/// A table whose rows are no longer what its changes add up to, from this transaction on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repair {
    /// Object id of the table.
    pub table_oid: u32,
    /// What has happened to it.
    pub reason: RepairReason,
}

/// Why the rows of a table are no longer what its changes add up to: mostly what changes rows and sends no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepairReason {
    /// `ALTER TABLE` wrote all rows anew: another type, a volatile default.
    Rewritten,
    /// A column was added with a default, which all existing rows have since.
    DefaultAdded,
    /// A column was renamed: existing rows have the value under another name.
    ColumnRenamed,
    /// A column came, went or was renamed more than once before the catalog was asked which one it is: it may be one of today's.
    ColumnsUnclear,
    /// Partitions were attached, detached or dropped, where changes are published as the root's.
    PartitionsChanged,
    /// A partition was truncated or written anew, where changes are published as the root's.
    PartitionEmptied,
    /// A composite type in one of its columns was altered.
    TypeChanged,
    /// A value of an enum in one of its columns was renamed.
    EnumRenamed,
    /// Changes of it were left out, because an operator said so.
    Skipped,
}

impl RepairReason {
    /// The name that history stores and status shows.
    pub fn as_str(self) -> &'static str {
        match self {
            RepairReason::Rewritten => "rewritten",
            RepairReason::DefaultAdded => "default_added",
            RepairReason::ColumnRenamed => "column_renamed",
            RepairReason::ColumnsUnclear => "columns_unclear",
            RepairReason::PartitionsChanged => "partitions_changed",
            RepairReason::PartitionEmptied => "partition_emptied",
            RepairReason::TypeChanged => "type_changed",
            RepairReason::EnumRenamed => "enum_renamed",
            RepairReason::Skipped => "skipped",
        }
    }

    /// The reason of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        use RepairReason::*;
        [
            Rewritten,
            DefaultAdded,
            ColumnRenamed,
            ColumnsUnclear,
            PartitionsChanged,
            PartitionEmptied,
            TypeChanged,
            EnumRenamed,
            Skipped,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

/// One row operation (or other entry) of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Order in the transaction, from 0.
    pub seq: u32,
    /// What was done.
    pub operation: Operation,
    /// The shape of the table at this change; `None` for a message, a reset, and where a whole transaction was left out.
    pub table: Option<Arc<Table>>,
    /// Compact JSON array of the key's values: of the row after the change, or of the row deleted. `None` where the
    /// table has no key, for `truncate`, `message` and `reset`. For a `skip` that of the row which was left out, where it is
    /// short and can be told.
    pub row_key: Option<Bytes>,
    /// The row after the change as a JSON object; columns that the source did not send are absent.
    /// For a `message`: `{"prefix":…,"content":…}`. For a `schema`: the table's new shape, see [`crate::schema_json`]. For
    /// a `reset`: [`Reset`](crate::Reset). For a `skip`: [`Skip::to_json`](crate::Skip::to_json).
    pub data: Option<Bytes>,
    /// The row before the change as far as the source gives it, as a JSON object.
    pub old_data: Option<Bytes>,
    /// Names of the columns absent from `data` because the source did not send them (unchanged TOAST).
    pub unchanged: Vec<String>,
    /// Names of the columns whose value in `data` or `old_data` is not what `to_jsonb` gives, because jsonb cannot hold
    /// that: see [`RowNotes::flagged`](crate::RowNotes::flagged). Of a `message`: `content` where it is too large.
    pub flagged: Vec<String>,
    /// How a `truncate` was written.
    pub truncate: TruncateOptions,
    /// Name of the replication origin, where the transaction was replayed on the source from somewhere else.
    pub origin: Option<Arc<str>>,
    /// Who made the change, if the transaction said so before it; a `schema` and a `reset` are nobody's, and so is a whole
    /// transaction that was left out.
    pub author: Option<Arc<Author>>,
}

/// How a TRUNCATE was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TruncateOptions {
    /// `CASCADE`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cascade: bool,
    /// `RESTART IDENTITY`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart_identity: bool,
}

/// The author of changes, as `waldelta.set_client` named it in the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Author {
    /// The client id.
    pub client_id: String,
    /// What it attached, as JSON text; `None` where it attached nothing.
    pub metadata: Option<String>,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row came into being.
    Insert,
    /// A row changed, its key perhaps too.
    Update,
    /// A row went away.
    Delete,
    /// All rows of a table went away.
    Truncate,
    /// A logical message; also left by a transaction that has an author but no captured change, so that its
    /// author can be told that it is durable.
    Message,
    /// The table has another shape from here on.
    Schema,
    /// A row that existed before history began.
    Baseline,
    /// The table is to be read afresh: see [`Reset`](crate::Reset).
    Reset,
    /// Something was left out here, because an operator said so: see [`Skip`](crate::Skip).
    Skip,
}

impl Operation {
    /// The name used in `change_history` and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Message => "message",
            Operation::Schema => "schema",
            Operation::Baseline => "baseline",
            Operation::Reset => "reset",
            Operation::Skip => "skip",
        }
    }

    /// The operation of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        use Operation::*;
        [Insert, Update, Delete, Truncate, Message, Schema, Baseline, Reset, Skip]
            .into_iter()
            .find(|operation| operation.as_str() == name)
    }
}

/// Prefix of the logical message by which `waldelta.set_client` names the author of what follows in the transaction.
/// Content: `{"client_id":"…","metadata":…}`.
pub const AUTHOR_PREFIX: &str = "waldelta.author";

/// Prefix of the logical message by which a snapshot asks that everything committed before it be stored at once.
pub const FENCE_PREFIX: &str = "waldelta.fence";

/// Prefix of the logical message by which the source's event trigger tells of DDL.
pub const DDL_PREFIX: &str = "waldelta.ddl";
