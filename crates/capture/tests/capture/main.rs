//! Capture against a real PostgreSQL, from a commit to history. Each file is a scenario.

mod world;

mod authentication;
mod baseline;
mod idle;
mod outages;
mod refusals;
mod setup;
mod stall;
mod streaming;
