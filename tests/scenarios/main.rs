//! End to end, on the real binary, real PostgreSQL and real sockets: a module per promise, so that the folder's
//! listing says what Waldelta does.
#![expect(unreachable_pub, reason = "a test binary exports nothing: `pub` says what other modules use")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod fold;
mod load;
mod oracle;
mod setting;

mod command_line;
mod commit_at_the_end;
mod commit_order;
mod every_change;
mod every_value;
mod generated;
mod kill_nine;
mod large_transaction;
mod late_joiner;
mod local_only;
mod not_yet_visible;
mod own_changes;
mod pgbench;
mod postgres_restart;
mod resume;
mod schema_over_time;
mod slot_ahead;
mod stuck_client;
