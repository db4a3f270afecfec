//! What a walsender says, turned into committed transactions: purely.
//!
//! Bytes in, values out. No sockets, no SQL, no clock, no async; a test reads this crate's manifest and fails when that
//! changes.
//!
//! An [`Assembler`] takes the messages of pgoutput (or what a [`Translator`] makes of wal2json's lines) and gives out
//! [`Piece`]s of transactions. What the stream does not say of a table it asks for, right before the first row that needs
//! it. A [`RowEncoder`] turns rows of the stream and of COPY into JSON that equals, as jsonb, what `to_jsonb` gives, for
//! built-in types, arrays, enums, domains, composites and hstore; every other type is its text.
//!
//! What jsonb cannot hold is stored as something that it can, and the column named as flagged:
//!
//! - a json value with `\u0000`, half a surrogate pair, a number beyond numeric, or nested too deep: a string of its text;
//! - a text that is not UTF-8, out of a database without encoding: a string of its bytes, in hexadecimal behind `\x`;
//! - a composite value that does not fit what is known of its type, which was altered unseen: a string of its text;
//! - a value that is too large, by itself or with the others of its row: an error that names the column, or, with
//!   [`Oversize::Reference`], an object `{"$too_large":{"bytes":…,"sha256":"…"}}` of its text's length and checksum.

mod lsn;
mod position;
mod xid;

mod shape;
mod table;
mod transaction;

mod reader;

mod envelope;
mod pgoutput;
mod relation;

mod builtin;
mod kind;

mod json;
mod jsonb;

mod array;
mod composite;
mod hstore;
mod quoted;
mod scalar;
mod value;

mod oversize;
mod row;

mod copy_text;

mod assemble;
mod ddl;
mod error;
mod images;
mod message;
mod open;
mod orders;
mod reset;
mod skip;
mod tables;

mod wal2json;

mod chain;
mod code;

pub use assemble::{Assembler, Output};
pub use builtin::type_name;
pub use chain::chain_text;
pub use code::{Code, Explanation};
pub use copy_text::{CopyText, CopyTextError};
pub use envelope::{Envelope, StatusUpdate};
pub use error::AssembleError;
pub use kind::{ArrayKind, CompositeKind, Field, Kind, Scalar};
pub use lsn::{EndLsn, Lsn, ParseLsnError};
pub use pgoutput::{Message, OldTuple, Tuple};
pub use position::{Epoch, ParseCursorError, Position};
pub use reader::ReadError;
pub use relation::{ColumnFacts, Relation, RelationColumn};
pub use reset::{RESET_PREFIX, Reset};
pub use row::{EncodeError, Oversize, RowEncoder, RowNotes, Value, ValuePolicy};
pub use shape::schema_json;
pub use skip::Skip;
pub use table::{Column, ParseTableNameError, ReplicaIdentity, Table, TableName, quote_ident};
pub use transaction::{
    AUTHOR_PREFIX, Author, Change, DDL_PREFIX, FENCE_PREFIX, Operation, Piece, Repair, RepairReason,
    TransactionHead, TruncateOptions,
};
pub use value::ValueError;
pub use wal2json::{Misfit, Translated, Translator, Wal2jsonError, options as wal2json_options};
pub use xid::{ParseSnapshotError, PgSnapshot, XidWidener};

/// Target of the events, at level `trace`, that say how far a transaction has come in this process: `stage` is one of `received`,
/// `appending`, `durable`, `routing` and `writing`. Who wants to know where time goes compares their times.
pub const STAGE: &str = "waldelta::stage";
