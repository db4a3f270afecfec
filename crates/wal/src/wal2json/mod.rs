//! The second, lossy way into the same model: lines of wal2json (format version 2) become the pgoutput messages that say
//! the same, and the one [`Assembler`](crate::Assembler) takes those. Opt-in, for sources where pgoutput is not to be had;
//! exactness comes before speed.
//!
//! wal2json names tables and columns but tells no shape, so the shape comes from the caller, who asks the catalog. A row
//! that does not fit is asked about once, and is an error when the answer does not fit either.
//!
//! What wal2json does not tell, so that nobody who reads only its lines can know it:
//!
//! - NaN and infinities in `real`, `double precision` and `numeric` are NULL (2.6 and later can print them). As part of the
//!   key that is an error here.
//! - Unchanged TOAST is absent, as is a column that was dropped: see the module `shape`.
//! - Updates and deletes without a replica identity are dropped, with a warning in the server's log.
//! - Object ids of tables: a table that takes another's name and has the same columns is taken for it.
//! - Shapes, so the catalog must do: rows between two changes of shape, read after both, fit neither. Type modifiers are
//!   those of the catalog when it was asked.
//! - Publications: row filters, column lists, which operations are published, partitions as their root. Tables are chosen
//!   by name at the start; a table that is renamed and a partition that is new vanish silently.
//! - Which tables were truncated by one statement, CASCADE, RESTART IDENTITY.
//! - Replication origins by name. Logical messages beyond their first zero byte.
//! - Any encoding but the database's own: it must be UTF8. `bytea_output` must be hex.
//!
//! Beyond that it sends every transaction of the database, also those that changed nothing captured.

mod options;

mod time;

mod line;
mod value;

mod shape;
mod write;

mod error;
mod translator;

pub use error::{Misfit, Wal2jsonError};
pub use options::options;
pub use translator::{Translated, Translator};
