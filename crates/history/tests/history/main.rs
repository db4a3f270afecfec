//! History on a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "the functions of tests may panic as tests may")]

mod append;
mod audit;
mod baseline;
mod clients;
mod clock_set_back;
mod encoding;
mod epochs;
mod feed;
mod gaps;
mod indexes;
mod lease;
mod lease_model;
mod messages;
mod paging;
mod partitions;
mod poison;
mod progress_row;
mod refusals;
mod resets;
mod retention;
mod retention_steps;
mod retention_unseen;
mod row_gaps;
mod rows;
mod schema;
mod seals;
mod shapes;
mod sizes;
mod skips;
mod support;
mod tokens;
