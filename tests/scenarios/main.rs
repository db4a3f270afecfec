//! End to end, on the real binary, real PostgreSQL and real sockets: a module per promise, so that the folder's
//! listing says what Waldelta does.
#![expect(unreachable_pub, reason = "a test binary exports nothing: `pub` says what other modules use")]
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod load;
mod oracle;
mod setting;
mod stops;

use waldelta_testkit::fold;

mod added_table;
mod audit;
mod browser;
mod budget;
mod canary;
mod clocks;
mod command_line;
mod commit_at_the_end;
mod commit_order;
mod confined_role;
mod crowd;
mod described;
mod disturbed_snapshots;
mod doctor;
mod dropped_database;
mod every_change;
mod every_value;
mod failover;
mod filters;
mod full_disk;
mod generated;
mod http_clients;
mod independent_decoder;
mod issuers;
mod kill_nine;
mod large_row;
mod large_transaction;
mod late_joiner;
mod least_privilege;
mod listener;
mod local_only;
mod lost_rights;
mod many_transactions;
mod measured;
mod metrics;
mod not_yet_visible;
mod notify;
mod own_changes;
mod pgbench;
mod postgres_restart;
mod prepared;
mod published_rows;
mod refitted;
mod reload;
mod replaced_elsewhere;
mod restored_backup;
mod resume;
mod retention;
mod roles;
mod rolling_restart;
mod savepoints;
mod schema_over_time;
mod shared_snapshots;
mod skip;
mod slot_ahead;
mod slot_lost;
mod stalled_history;
mod standby_instance;
mod standby_source;
mod stop_in_a_stall;
mod stuck_client;
mod table_command;
mod table_repair;
mod token_command;
mod two_tenants;
mod verify;
