//! A console that psql, drivers and dashboards speak to as if it were a PostgreSQL: `SHOW CLIENTS`, small `SELECT`s over the same rows, and a
//! few commands for administrators.
//!
//! It decides nothing and knows nothing of what is shown: tables, rows and commands are those of a [`Model`]. A statement is read
//! (`statement`), a `SELECT` is planned against the tables' columns (`plan`) and run over rows that are in memory (`term`, `run`); the
//! protocol is a library's (`handler`).

mod catalog;
mod config;
mod handler;
mod listen;
mod model;
mod plan;
mod refusal;
mod run;
mod statement;
mod term;
mod value;

#[cfg(test)]
mod testing;

pub use config::{Config, User, Users, Verifier, VerifierError};
pub use listen::serve;
pub use model::{Column, Command, Model, Table};
pub use refusal::Refusal;
pub use value::{Kind, Value};
