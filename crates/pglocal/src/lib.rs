//! Finds or fetches a PostgreSQL and runs a private one: for `waldelta dev`, for tests and for benchmarks.
//!
//! It speaks no SQL: whoever starts a cluster connects to it. It reads no environment variables: what it needs of the
//! environment comes in as an [`Environment`]. All of it blocks.

mod account;
mod bounded;
mod cluster;
mod error;
mod fetch;
mod find;
mod folder;
mod leash;
mod postmaster;

pub use cluster::{Cluster, Options, Shutdown, Storage};
pub use error::Error;
pub use fetch::fetch;
pub use find::{Binaries, Environment, VERSION_MIN, Version, Wanted, find};
pub use folder::cluster_major;
