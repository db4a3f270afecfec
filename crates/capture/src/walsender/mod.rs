//! The replication connection: our own, because none that exists keeps its feedback going while its consumer stalls.
//!
//! Blocking, on a thread of its own while it streams. It turns the socket into whole messages and the durable end into
//! status updates; what the messages mean, and what is durable, is others' business.

mod authentication;
mod commands;
mod connection;
mod error;
mod frames;
mod link;
mod reader;
mod server_error;
mod socket;
mod streaming;
mod timeline;
mod wal2json;

pub(crate) use commands::{CreatedSlot, System};
pub(crate) use connection::{ClientEncoding, Connection, CopyBoth};
pub use error::Error;
pub use frames::FrameError;
pub(crate) use frames::Frames;
pub(crate) use link::Link;
pub use server_error::ServerError;
pub(crate) use streaming::{Streaming, Timing};
pub(crate) use timeline::fork_of;
pub(crate) use wal2json::Asked;

/// Does something blocking on a thread of its own. Unlike the runtime's, nobody has to wait for it when all else ends.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("walsender-setup".into())
        .spawn(move || {
            // Nobody may be waiting any more.
            let _ = done.send(work());
        })
        .map_err(Error::Thread)?;
    outcome.await.unwrap_or_else(|_| Err(Error::Thread(std::io::Error::other("it panicked"))))
}
