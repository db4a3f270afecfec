//! What a walsender says, turned into committed transactions: purely.
//!
//! Bytes in, values out. No sockets, no SQL, no clock, no async; a test reads this crate's manifest and fails when that
//! changes.

mod lsn;
mod position;
mod xid;

mod table;
mod transaction;

mod reader;

mod envelope;
mod pgoutput;
mod relation;

mod array;
mod json;
mod kind;
mod row;

mod copy_text;

mod assemble;
mod message;
mod open;

mod code;

pub use assemble::{AssembleError, Assembler, Output};
pub use code::{Code, Explanation};
pub use copy_text::{CopyText, CopyTextError};
pub use envelope::{Envelope, StatusUpdate};
pub use kind::{Kind, Scalar, ValueError, supported, type_name};
pub use lsn::{EndLsn, Lsn, ParseLsnError};
pub use pgoutput::{Message, OldTuple, Tuple};
pub use position::{Epoch, ParseCursorError, Position};
pub use reader::ReadError;
pub use relation::{Relation, RelationColumn, UnsupportedType};
pub use row::{EncodeError, RowEncoder, RowNotes, Value};
pub use table::{Column, ParseTableNameError, ReplicaIdentity, Table, TableName, quote_ident};
pub use transaction::{AUTHOR_PREFIX, Author, Change, FENCE_PREFIX, Operation, Piece, TransactionHead};
pub use xid::{ParseSnapshotError, PgSnapshot, XidWidener};
