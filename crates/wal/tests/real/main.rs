//! The crate against bytes captured from a real PostgreSQL (see `fixtures/capture.sh`), and against its own manifest.

#![expect(clippy::unwrap_used, reason = "the functions of tests may panic as tests may")]

mod damage;
mod errors;
mod manifest;
mod model;
mod nested;
mod same_json;
mod schema;
mod skipping;
mod stream;
mod targets;
mod values;
mod wal2json;
mod walsender;
mod wire;
