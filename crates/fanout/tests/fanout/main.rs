//! The client side against a real PostgreSQL and real sockets. History is written by hand, so that each test says exactly
//! which transactions there are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authentication;
mod changes;
mod clients;
mod conformance;
mod crowd;
mod epochs;
mod event_stream;
mod frames;
mod hidden;
mod hostile_requests;
mod http;
mod http_access;
mod http_rules;
mod own;
mod packed;
mod parts;
mod permissions;
mod raw;
mod refitted;
mod resets;
mod room;
mod row_limits;
mod rows;
mod sessions;
mod shapes;
mod shared;
mod slow;
mod snapshot;
mod snapshot_http;
mod standby;
mod stream;
mod support;
mod values;
