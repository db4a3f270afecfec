//! What will go wrong, found before it does: `waldelta doctor`.
//!
//! Finds and advises; nothing is changed. Whether history agrees with the slot is not asked here.

mod ddl;
mod identities;
mod plugin;
mod publication;
mod server;
mod slot;

use std::error::Error as _;

use serde::{Serialize, Serializer};
use waldelta_wal::{Code, TableName};

use crate::{Error, Source};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, with a disadvantage.
    Warning,
    /// Capture, or the snapshots that clients begin with, cannot work.
    Failed,
    /// Could not be found out, for instance for lack of a privilege.
    Unknown,
}

/// One check and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Short stable name, such as `wal_level`.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// Its code where it did not end well and there is one; as JSON its text.
    #[serde(serialize_with = "code_text")]
    pub code: Option<Code>,
    /// What was found.
    pub found: String,
    /// SQL or setting that mends it.
    pub fix: Option<String>,
}

/// Runs all checks, each in a statement of its own, so that one that fails hides no other.
pub async fn run(source: &Source) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(server::pooler(source));
    let client = match source.connect().await {
        Ok(client) => client,
        Err(error) => {
            checks.insert(
                0,
                Check::failed("reachable", error.code(), chain(&error), error.code().explanation().fix),
            );
            return checks;
        }
    };
    let client = &client;
    checks.insert(0, settle("reachable", server::reachable(client, source).await));
    checks.push(settle("version", server::version(client).await));
    checks.push(settle("primary", server::primary(client).await));
    checks.push(settle("encoding", server::encoding(client).await));
    checks.push(settle("wal_level", server::wal_level(client).await));
    checks.push(settle("role", server::role(client).await));
    checks.push(settle("publication", publication::publication(client, source).await));
    checks.extend(plugin::checks(client, source).await);
    checks.push(settle("identities", identities::identities(client, source).await));
    checks.push(settle("select", publication::select(client, source).await));
    checks.push(settle("row_security", publication::row_security(client, source).await));
    checks.push(settle("canary", publication::canary(client, source).await));
    checks.push(settle("ddl", ddl::ddl(client).await));
    checks.push(settle("slot", slot::slot(client, source).await));
    checks.push(settle("retained_wal", slot::retained_wal(client, source).await));
    checks.push(settle("capacity", slot::capacity(client, source).await));
    checks
}

/// A question that could not be answered is an answer of its own.
fn settle(name: &'static str, answer: Result<Check, Error>) -> Check {
    answer.unwrap_or_else(|error| Check {
        name,
        state: State::Unknown,
        code: Some(error.code()),
        found: chain(&error),
        fix: Some(error.code().explanation().fix.to_owned()),
    })
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Check { name, state: State::Ok, code: None, found: found.into(), fix: None }
    }

    fn warning(
        name: &'static str,
        code: impl Into<Option<Code>>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Check { name, state: State::Warning, code: code.into(), found: found.into(), fix: Some(fix.into()) }
    }

    fn failed(name: &'static str, code: Code, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Check { name, state: State::Failed, code: Some(code), found: found.into(), fix: Some(fix.into()) }
    }

    /// Nothing to find out, because something that it builds upon is missing and told elsewhere.
    fn beside_the_point(name: &'static str, found: impl Into<String>) -> Self {
        Check { name, state: State::Unknown, code: None, found: found.into(), fix: None }
    }
}

fn code_text<S: Serializer>(code: &Option<Code>, serializer: S) -> Result<S::Ok, S::Error> {
    code.map(Code::as_str).serialize(serializer)
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn list(tables: &[TableName]) -> String {
    tables.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
}
