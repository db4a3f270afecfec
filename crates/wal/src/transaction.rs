//! What the source did: transactions and the changes in them, in commit order.

use std::sync::Arc;

use bytes::Bytes;

use crate::lsn::{EndLsn, Lsn};
use crate::position::{Epoch, Position};
use crate::table::Table;

/// What is known of a transaction when its first byte arrives (pgoutput's Begin carries the commit LSN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHead {
    /// Incarnation of the source.
    pub epoch: Epoch,
    /// Where its commit record begins.
    pub commit_lsn: Lsn,
    /// Transaction id, widened to 64 bits (`xid8`).
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
    /// Fence ids (see [`FENCE_PREFIX`]) in this piece: whoever waits for one wants it stored at once.
    pub urgent: bool,
}

/// One row operation (or other entry) of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Order in the transaction, from 0.
    pub seq: u32,
    /// What was done.
    pub operation: Operation,
    /// The shape of the table at this change; `None` for a message.
    pub table: Option<Arc<Table>>,
    /// Compact JSON array of the key's values: of the row after the change, or of the row deleted. `None` where the
    /// table has no key, for `truncate` and `message`.
    pub row_key: Option<Bytes>,
    /// The row after the change as a JSON object; columns that the source did not send are absent.
    /// For a `message`: `{"prefix":…,"content":…}`.
    pub data: Option<Bytes>,
    /// The row before the change as far as the source gives it, as a JSON object.
    pub old_data: Option<Bytes>,
    /// Names of the columns absent from `data` because the source did not send them (unchanged TOAST).
    pub unchanged: Vec<String>,
    /// Names of the `json` columns whose value jsonb cannot hold (`\u0000`, half a surrogate pair, a number beyond
    /// numeric), in `data` or `old_data`: there it is a JSON string of its text.
    pub kept_as_text: Vec<String>,
    /// Who made the change, if the transaction said so before it.
    pub author: Option<Arc<Author>>,
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
    /// A row that existed before history began.
    Baseline,
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
            Operation::Baseline => "baseline",
        }
    }

    /// The operation of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        use Operation::*;
        [Insert, Update, Delete, Truncate, Message, Baseline]
            .into_iter()
            .find(|operation| operation.as_str() == name)
    }
}

/// Prefix of the logical message by which `waldelta.set_client` names the author of what follows in the transaction.
/// Content: `{"client_id":"…","metadata":…}`.
pub const AUTHOR_PREFIX: &str = "waldelta.author";

/// Prefix of the logical message by which a snapshot asks that everything committed before it be stored at once.
pub const FENCE_PREFIX: &str = "waldelta.fence";
