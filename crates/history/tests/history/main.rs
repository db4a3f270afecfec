//! History on a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "the functions of tests may panic as tests may")]

mod append;
mod baseline;
mod feed;
mod lease;
mod paging;
mod partitions;
mod poison;
mod schema;
mod support;
