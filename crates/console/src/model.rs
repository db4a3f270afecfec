//! What the console shows and does, seen from the console.

use std::future::Future;
use std::time::SystemTime;

use crate::{Kind, Refusal, Value};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, in lower case.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// What they mean, with their unit.
    pub about: &'static str,
}

/// A table, which is made when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name, in lower case: `SHOW NAME` and `SELECT * FROM name`.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Its columns; rows have as many values.
    pub columns: &'static [Column],
}

/// What can be done. Only administrators may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `PAUSE`.
    Pause,
    /// `RESUME`.
    Resume,
    /// `RELOAD`.
    Reload,
    /// `KILL` a session, by its id.
    Kill(String),
}

/// What a console is of.
pub trait Model: Send + Sync + 'static {
    /// What it answers to `SELECT version()`, and as `server_version`.
    fn version(&self) -> String;

    /// Now.
    fn now(&self) -> SystemTime;

    /// The tables, in the order in which they are listed.
    fn tables(&self) -> &'static [Table];

    /// The rows of one of them, read in one moment.
    fn rows(&self, table: &'static Table) -> impl Future<Output = Result<Vec<Vec<Value>>, Refusal>> + Send;

    /// Does it, for this user, and says what was done in a line.
    fn act(&self, command: Command, user: &str) -> impl Future<Output = Result<String, Refusal>> + Send;
}
