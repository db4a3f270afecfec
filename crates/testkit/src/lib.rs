//! What tests of all crates share: real databases, real clients, the real program. For development only.
//!
//! - [`TestDatabase`]: an empty database of one test's own, on a PostgreSQL that all tests of a run share.
//! - [`TestCluster`]: a PostgreSQL of one test's own, to be killed, frozen, copied, followed by a standby; [`Route`]: an
//!   address that leads to one server and then to another; [`SmallDisk`]: one that fills up.
//! - [`WsClient`] and [`Replica`]: a client that follows the service and notices when the protocol is broken.
//! - [`recorder`]: clients that keep what they were told, and the check of all of them against history afterwards.
//! - [`fold`]: history folded into tables, by its meaning alone.
//! - [`HttpStream`]: an answer over HTTP, read as it comes.
//! - [`Service`]: the `waldelta` program as a process.
//! - [`tls`]: certificates of this machine, and a client that trusts them.
//! - [`Dice`]: everything random in a test, from one seed.
//! - [`generated`]: whether a file that is made from the code is as it should be.
//! - [`json_schema`]: whether JSON is as it is described; [`pgbench`], [`wait_until`], [`source_rows`].
//!
//! Everything panics when it fails, with what it was doing: a test that cannot set up its world has failed.
#![expect(clippy::unwrap_used, reason = "in a test kit a panic is the report")]

mod canonical;
mod cluster;
mod database;
mod dice;
pub mod fold;
mod generated;
mod http_stream;
pub mod json_schema;
pub mod left_behind;
pub mod pgbench;
pub mod recorder;
mod replica;
mod route;
mod service;
pub mod shared;
mod small_disk;
mod standby;
pub mod tls;
mod unpacking;
mod wait;
mod websocket;

pub use canonical::canonical;
pub use cluster::{TestCluster, test_binaries, test_program};
pub use database::{TestDatabase, connect, source_rows};
pub use dice::Dice;
pub use generated::generated;
pub use http_stream::{Event, HttpStream};
pub use replica::{Replica, Violation};
pub use route::Route;
pub use service::{Service, ServiceOptions, program};
pub use small_disk::SmallDisk;
pub use unpacking::PackedFrames;
pub use wait::wait_until;
pub use waldelta_pglocal::Shutdown;
pub use websocket::{ConnectOptions, Frame, WsClient};
