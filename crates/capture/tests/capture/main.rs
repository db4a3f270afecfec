//! Capture against a real PostgreSQL, from a commit to history. Each file is a scenario.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

mod altered_types;
mod authentication;
mod baseline;
mod ddl;
mod encoding;
mod encryption;
mod identity;
mod idle;
mod outages;
mod refusals;
mod repair;
mod setup;
mod stall;
mod streaming;
mod undecodable;
mod wal2json;
