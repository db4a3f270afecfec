//! The statements that prepare a source and those that take the preparation away again.
//!
//! Their order is fixed: REPLICA IDENTITY before publication, publication before slot. No table of the application is
//! ever altered: what would have to change about one is suggested.

mod plan;

pub(crate) mod provider;

pub(crate) mod survey;
mod verdict;
mod wal2json;

pub(crate) mod ddl;
pub(crate) mod publication;
mod role;

mod build;
mod prospect;

mod apply;
mod removal;

mod membership;

pub use apply::apply;
pub(crate) use build::ours;
pub use build::plan;
pub use membership::{Membership, add_tables, change, remove_tables};
pub use plan::{Plan, Step, StepKind, Wish};
pub use prospect::{Mode, ParseModeError, Prospect, Way, prospect};
pub use provider::{ParseProviderError, Provider};
pub use removal::removal;
