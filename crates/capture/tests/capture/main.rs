//! Capture against a real PostgreSQL, from a commit to history. Each file is a scenario.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

mod added_tables;
mod altered_types;
mod authentication;
mod baseline;
mod budget;
mod ddl;
mod encoding;
mod encryption;
mod failover;
mod identity;
mod idle;
mod outages;
mod pooler;
mod recover;
mod refusals;
mod repair;
mod resets;
mod setup;
mod skip;
mod slot_states;
mod stall;
mod streaming;
mod undecodable;
mod wal2json;
