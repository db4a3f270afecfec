//! What the catalog says of published tables, types and the server.

mod identity;
mod slot;
mod tables;

pub use identity::{Identity, identity};
pub(crate) use slot::PLUGIN;
pub use slot::{Slot, slot};
pub use tables::{PublishedTable, published_tables, table_by_oid, unsupported};
