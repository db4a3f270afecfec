//! Capture against a real PostgreSQL, from a commit to history. Each file is a scenario.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

mod authentication;
mod baseline;
mod encryption;
mod idle;
mod outages;
mod refusals;
mod setup;
mod stall;
mod streaming;
