//! One connected client: `state` decides, `actor` performs.
//!
//! There is no queue per client. A session is a position; it reads the shared tail of its scope when it can, and feed or
//! history when it cannot.

pub(crate) mod actor;
pub(crate) mod delivery;
mod gate;
pub(crate) mod hydrate;
pub(crate) mod outbox;
pub(crate) mod private;
pub(crate) mod socket;
pub(crate) mod state;
mod watching;
