//! What will go wrong, found before it does: `waldelta doctor`.
//!
//! Finds and advises; nothing is changed. Whether history agrees with the slot is not asked here.

mod list;

mod role;
mod server;

mod ddl;
mod identities;
mod plugin;
mod publication;
mod tables;

mod retention;
mod slot;
mod standbys;
mod transactions;

use std::time::{Duration, SystemTime};

pub use list::{Kind, LIST, is_listed};
use serde::{Serialize, Serializer};
use tokio_postgres::Client;
use waldelta_wal::{Code, TableName, chain_text};

use crate::setup::Provider;
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
    /// Its code, unless it ended well; as JSON its text.
    #[serde(serialize_with = "code_text")]
    pub code: Option<Code>,
    /// What was found.
    pub found: String,
    /// Why that is so, or what comes of it; unless it ended well.
    pub why: Option<&'static str>,
    /// SQL or setting that mends it.
    pub fix: Option<String>,
}

/// By what the source is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who runs the server; found out by itself where it shows.
    pub provider: Option<Provider>,
    /// The clock that the server's is compared with; without one that is not done.
    pub clock: Option<fn() -> SystemTime>,
    /// Transactions older than this are named.
    pub old_transaction: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { provider: None, clock: None, old_transaction: Duration::from_secs(600) }
    }
}

/// What the checks ask, and what for.
struct Subject<'a> {
    client: &'a Client,
    source: &'a Source,
    provider: Option<Provider>,
    options: &'a Options,
}

/// Runs all checks with the usual measures.
pub async fn run(source: &Source) -> Vec<Check> {
    run_with(source, &Options::default()).await
}

/// Runs all checks, each in a statement of its own, so that one that fails hides no other.
pub async fn run_with(source: &Source, options: &Options) -> Vec<Check> {
    let checks = ask_all(source, options).await;
    for check in &checks {
        debug_assert!(is_listed(check, LIST), "{check:?} is not in the list of checks");
    }
    checks
}

async fn ask_all(source: &Source, options: &Options) -> Vec<Check> {
    let client = match source.connect().await {
        Ok(client) => client,
        Err(error) => {
            let unreachable =
                Check::failed("reachable", error.code(), chain_text(&error), error.code().explanation().fix);
            return std::iter::once(unreachable).chain(server::pooler(source)).collect();
        }
    };
    let provider = match options.provider {
        Some(provider) => Some(provider),
        // Without an answer the advice is that for a server of one's own.
        None => Provider::detect(&client).await.unwrap_or_default(),
    };
    let subject = &Subject { client: &client, source, provider, options };
    // Who writes does so at the primary. Whether that can be reached is asked below.
    let primary = match &source.primary {
        Some(_) => source.connect_primary().await.ok(),
        None => None,
    };
    let writes = &Subject { client: primary.as_ref().unwrap_or(&client), source, provider, options };
    let mut checks = vec![settle("reachable", server::reachable(subject).await)];
    checks.extend(server::pooler(source));
    checks.push(settle("version", server::version(subject).await));
    checks.push(settle("primary", server::primary(subject).await));
    checks.push(settle("encoding", server::encoding(subject).await));
    checks.push(settle("wal_level", server::wal_level(subject).await));
    checks.push(settle("timeouts", server::timeouts(subject).await));
    if let Some(clock) = options.clock {
        checks.push(settle("clock", server::clock(subject, clock).await));
    }
    checks.push(settle("role", role::role(subject).await));
    checks.push(settle("publication", publication::publication(subject).await));
    checks.push(settle("tables", tables::tables(subject).await));
    checks.extend(plugin::checks(subject).await);
    checks.push(settle("identities", identities::identities(subject).await));
    checks.push(settle("select", tables::select(subject).await));
    checks.push(settle("row_security", tables::row_security(subject).await));
    checks.push(settle("canary", publication::canary(subject).await));
    checks.push(settle("ddl", ddl::ddl(subject).await));
    checks.push(settle("slot", slot::slot(subject).await));
    checks.push(settle("retained_wal", retention::retained_wal(subject).await));
    checks.push(settle("wal_limit", retention::wal_limit(subject).await));
    checks.push(settle("idle_timeout", retention::idle_timeout(subject).await));
    checks.push(settle("capacity", slot::capacity(subject).await));
    checks.push(settle("transactions", transactions::transactions(writes).await));
    checks.push(settle("prepared", transactions::prepared(writes).await));
    checks.push(settle("synchronous", standbys::synchronous(subject).await));
    checks.push(settle("failover", standbys::failover(subject).await));
    checks
}

/// Which of some tables, by object id, exist and are not published. For whoever knows what was captured before.
///
/// # Errors
/// When there is no connection, or the question fails.
pub async fn unpublished(source: &Source, oids: &[u32]) -> Result<Vec<TableName>, Error> {
    tables::unpublished(&source.connect().await?, source, oids).await
}

/// A question that could not be answered is an answer of its own.
fn settle(name: &'static str, answer: Result<Check, Error>) -> Check {
    answer.unwrap_or_else(|error| {
        Check::unknown(
            name,
            error.code(),
            chain_text(&error),
            Some(error.code().explanation().fix.to_owned()),
        )
    })
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Check { name, state: State::Ok, code: None, found: found.into(), why: None, fix: None }
    }

    /// It works, with a disadvantage.
    pub fn warning(name: &'static str, code: Code, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Check { state: State::Warning, ..Check::failed(name, code, found, fix) }
    }

    /// It cannot work.
    pub fn failed(name: &'static str, code: Code, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Check { state: State::Failed, ..Check::unknown(name, code, found, Some(fix.into())) }
    }

    /// It could not be found out; or there is nothing to find out, because something that it builds upon is missing and
    /// told elsewhere, with this code.
    pub fn unknown(name: &'static str, code: Code, found: impl Into<String>, fix: Option<String>) -> Self {
        let why = Some(code.explanation().cause);
        Check { name, state: State::Unknown, code: Some(code), found: found.into(), why, fix }
    }
}

fn code_text<S: Serializer>(code: &Option<Code>, serializer: S) -> Result<S::Ok, S::Error> {
    code.map(Code::as_str).serialize(serializer)
}

fn list(tables: &[TableName]) -> String {
    tables.iter().map(TableName::to_string).collect::<Vec<_>>().join(", ")
}
