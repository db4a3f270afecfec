//! What the catalog says of published tables, types and the server.

mod identity;
mod slot;

mod shape;
mod tables;

mod listing;

mod kinds;
mod resolve;

mod fingerprint;

pub use fingerprint::{Fingerprint, TableFingerprint, fingerprints};
pub use identity::{Identity, identity};
pub use kinds::kinds;
pub use listing::{ListedTable, Listing, listing, written};
pub use slot::{Slot, slot};
pub use tables::{
    PrintedTable, PublishedTable, printed_table, published_table, published_tables, table_by_name,
    table_by_oid,
};
