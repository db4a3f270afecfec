//! The client side against a real PostgreSQL and real sockets. History is written by hand, so that each test says exactly
//! which transactions there are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod changes;
mod epochs;
mod own;
mod resets;
mod sessions;
mod shapes;
mod slow;
mod snapshot;
mod standby;
mod stream;
mod support;
mod values;
