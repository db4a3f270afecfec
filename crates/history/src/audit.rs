//! The audit: who came, who was turned away, who looked into the past, and what was changed by whom. Only ever added to.
//!
//! What an entry says is closed: codes, names of tables, cursors, counts, fingerprints. No value of a row, no token and no claim
//! but the subject fits into it. What happened together with a change of history's own is written in the same SQL transaction.
//! When something is worth an entry is not decided here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use sqlx::PgExecutor;
use waldelta_wal::{Code, EndLsn, Epoch, Lsn, Position, Skip};

use crate::error::sqlstate_is_poison;
use crate::{Error, History};

const WRITE: &str = include_str!("../../../sql/queries/write_audit.sql");
/// Characters of a subject, a client id or a name at most; the rest is left out.
const TEXT_CHARS_MAX: usize = 1_000;
/// Names in one entry at most.
const NAMES_MAX: usize = 1_000;

/// Something that happened, and who it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    happened: Instant,
    subject: Option<Arc<str>>,
    issuer: Option<Box<str>>,
    client_id: Option<Arc<str>>,
    address: Option<IpAddr>,
    action: AuditAction,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// A client was let in.
    SessionBegan {
        /// The session's name, as status and `welcome` have it; a request that asks once has none.
        session: Option<String>,
        /// What it came over: `websocket`, `sse`, `http`.
        transport: &'static str,
    },
    /// Clients were turned away, all from one address and for one reason.
    SessionRefused {
        /// Why.
        code: Code,
        /// How often, since the entry before.
        count: u64,
    },
    /// Somebody has read what a row was.
    RowHistoryRead {
        /// The table. Which row it was is not said: a key is a value too.
        table: String,
        /// What was read: `versions`, `as_of`.
        read: &'static str,
        /// How many versions, or states.
        count: u64,
        /// Up to where history was read.
        cursor: Option<Position>,
    },
    /// Who may see what is another now.
    RulesChanged {
        /// Fingerprint of the rules before.
        before: String,
        /// Of those from now on.
        after: String,
        /// How many these are.
        rules: usize,
    },
    /// The configuration was read anew.
    ConfigReloaded {
        /// The settings that were changed.
        changed: Vec<&'static str>,
        /// Those that differ and wait for a restart.
        waiting: Vec<String>,
    },
    /// A static token was made.
    TokenCreated {
        /// Its id, which is no secret.
        token: String,
        /// Whether it is one of an operator.
        is_admin: bool,
    },
    /// Tokens were taken back.
    TokenRevoked {
        /// The id of the static token, or of the JSON web token; `None`: all of the subject.
        token: Option<String>,
    },
    /// Old history was removed for good.
    HistoryPruned {
        /// The oldest cursor that can be resumed from now on.
        floor: Position,
        /// Partitions that were dropped.
        partitions: u64,
    },
    /// Capture went on in a new epoch.
    Recovered {
        /// The epoch before.
        epoch_before: Epoch,
        /// What was durable of it.
        durable_before: EndLsn,
        /// The new one.
        epoch: Epoch,
        /// Where it begins.
        start: EndLsn,
        /// Whether nothing is missing between the two.
        continues: bool,
    },
    /// An operator has ordered to leave something out.
    Skipped {
        /// Commit LSN of the transaction.
        lsn: Lsn,
        /// The change; `None`: the whole transaction.
        seq: Option<u32>,
    },
    /// Tables were added to what is captured.
    TablesAdded {
        /// Their names.
        tables: Vec<String>,
    },
    /// Tables are captured no longer.
    TablesRemoved {
        /// Their names.
        tables: Vec<String>,
    },
}

impl AuditAction {
    /// Its name, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            AuditAction::SessionBegan { .. } => "session_began",
            AuditAction::SessionRefused { .. } => "session_refused",
            AuditAction::RowHistoryRead { .. } => "row_history_read",
            AuditAction::RulesChanged { .. } => "rules_changed",
            AuditAction::ConfigReloaded { .. } => "config_reloaded",
            AuditAction::TokenCreated { .. } => "token_created",
            AuditAction::TokenRevoked { .. } => "token_revoked",
            AuditAction::HistoryPruned { .. } => "history_pruned",
            AuditAction::Recovered { .. } => "recovered",
            AuditAction::Skipped { .. } => "skipped",
            AuditAction::TablesAdded { .. } => "tables_added",
            AuditAction::TablesRemoved { .. } => "tables_removed",
        }
    }

    /// What its name does not say.
    fn detail(&self) -> Value {
        match self {
            AuditAction::SessionBegan { session, transport } => {
                json!({ "session": session, "transport": transport })
            }
            AuditAction::SessionRefused { code, count } => json!({ "code": code.as_str(), "count": count }),
            AuditAction::RowHistoryRead { table, read, count, cursor } => {
                let cursor = cursor.map(|cursor| cursor.to_string());
                json!({ "table": short(table), "read": read, "count": count, "cursor": cursor })
            }
            AuditAction::RulesChanged { before, after, rules } => {
                json!({ "before": before, "after": after, "rules": rules })
            }
            AuditAction::ConfigReloaded { changed, waiting } => {
                json!({ "changed": changed, "waiting": waiting })
            }
            AuditAction::TokenCreated { token, is_admin } => json!({ "token": token, "is_admin": is_admin }),
            AuditAction::TokenRevoked { token } => json!({ "token": token.as_deref().map(short) }),
            AuditAction::HistoryPruned { floor, partitions } => {
                json!({ "floor": floor.to_string(), "partitions": partitions })
            }
            AuditAction::Recovered { epoch_before, durable_before, epoch, start, continues } => json!({
                "epoch_before": epoch_before.0,
                "durable_before": durable_before.to_string(),
                "epoch": epoch.0,
                "start": start.to_string(),
                "continues": continues,
            }),
            AuditAction::Skipped { lsn, seq } => json!({ "lsn": lsn.to_string(), "seq": seq }),
            AuditAction::TablesAdded { tables } | AuditAction::TablesRemoved { tables } => {
                let names: Vec<String> = tables.iter().take(NAMES_MAX).map(|name| short(name)).collect();
                json!({ "tables": names, "count": tables.len() })
            }
        }
    }
}

impl AuditEntry {
    /// It happened just now.
    pub fn new(action: AuditAction) -> Self {
        let happened = Instant::now();
        AuditEntry { happened, subject: None, issuer: None, client_id: None, address: None, action }
    }

    /// It happened then.
    #[must_use]
    pub fn at(mut self, happened: Instant) -> Self {
        self.happened = happened;
        self
    }

    /// What an operator has ordered to be left out. Why stands in history, in its place.
    pub(crate) fn of_skip(skip: &Skip) -> Self {
        Self::new(AuditAction::Skipped { lsn: skip.lsn, seq: skip.seq }).by(&*skip.by)
    }

    /// Whose token it was; of an operator's order, who says so.
    #[must_use]
    pub fn by(mut self, subject: impl Into<Arc<str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Who signs for the subject; of a static token nobody does, and the name is empty.
    #[must_use]
    pub fn of_issuer(mut self, issuer: &str) -> Self {
        self.issuer = (!issuer.is_empty()).then(|| issuer.into());
        self
    }

    /// The client's own id.
    #[must_use]
    pub fn client(mut self, client_id: impl Into<Arc<str>>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Where it came from.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// What happened.
    pub fn action(&self) -> &AuditAction {
        &self.action
    }

    /// What its name does not say, and of which issuer the subject is.
    fn detail(&self) -> Value {
        let mut detail = self.action.detail();
        if let Some(issuer) = self.issuer.as_deref() {
            detail["issuer"] = short(issuer).into();
        }
        detail
    }

    /// Into the log as well: told once, when it is durable.
    pub(crate) fn log(&self) {
        tracing::info!(
            target: "waldelta::audit",
            action = self.action.name(),
            subject = self.subject.as_deref().map(short),
            client_id = self.client_id.as_deref().map(short),
            address = self.address.map(tracing::field::display),
            detail = %self.detail(),
            "audit"
        );
    }
}

impl History {
    /// Writes entries, in this order and all in one statement; durable when it returns. A text that the database's encoding has
    /// no place for is written with its characters escaped.
    pub async fn audit(&self, entries: &[AuditEntry]) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let written = match write(self.pool(), entries).await {
            Err(error) if is_about_text(&error) => {
                write_columns(self.pool(), &Columns::of(entries).escaped()).await
            }
            result => result,
        };
        written.map_err(Error::Audit)?;
        entries.iter().for_each(AuditEntry::log);
        Ok(())
    }
}

/// Writes entries in the SQL transaction of what they tell of. Whoever commits it has them logged, see [`AuditEntry::log`].
pub(crate) async fn write(executor: impl PgExecutor<'_>, entries: &[AuditEntry]) -> Result<(), sqlx::Error> {
    write_columns(executor, &Columns::of(entries)).await
}

/// The same over the other kind of connection.
pub(crate) async fn write_over(
    client: &tokio_postgres::Client,
    entries: &[AuditEntry],
) -> Result<(), tokio_postgres::Error> {
    let Columns { waited, actions, subjects, client_ids, addresses, details } = Columns::of(entries);
    client
        .execute(WRITE, &[&waited, &actions, &subjects, &client_ids, &addresses, &details])
        .await
        .map(|_| ())
}

async fn write_columns(executor: impl PgExecutor<'_>, columns: &Columns) -> Result<(), sqlx::Error> {
    sqlx::query(WRITE)
        .bind(&columns.waited)
        .bind(&columns.actions)
        .bind(&columns.subjects)
        .bind(&columns.client_ids)
        .bind(&columns.addresses)
        .bind(&columns.details)
        .execute(executor)
        .await
        .map(|_| ())
}

/// Entries as the statement takes them.
struct Columns {
    waited: Vec<f64>,
    actions: Vec<String>,
    subjects: Vec<Option<String>>,
    client_ids: Vec<Option<String>>,
    addresses: Vec<Option<String>>,
    details: Vec<String>,
}

impl Columns {
    fn of(entries: &[AuditEntry]) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(short);
        Columns {
            waited: entries.iter().map(|entry| entry.happened.elapsed().as_secs_f64()).collect(),
            actions: entries.iter().map(|entry| entry.action.name().to_owned()).collect(),
            subjects: entries.iter().map(|entry| text(&entry.subject)).collect(),
            client_ids: entries.iter().map(|entry| text(&entry.client_id)).collect(),
            addresses: entries
                .iter()
                .map(|entry| entry.address.map(|address| address.to_canonical().to_string()))
                .collect(),
            details: entries.iter().map(|entry| entry.detail().to_string()).collect(),
        }
    }

    fn escaped(mut self) -> Self {
        let texts = self.subjects.iter_mut().chain(&mut self.client_ids).flatten();
        texts.for_each(|text| *text = escaped(text, ""));
        // What is not ASCII stands in strings of JSON alone, where a backslash is written twice.
        self.details.iter_mut().for_each(|detail| *detail = escaped(detail, "\\"));
        self
    }
}

fn is_about_text(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| sqlstate_is_poison(&code)))
}

/// No text of PostgreSQL has a NUL, and nobody's name is as long as a book.
fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// What is not ASCII as `\u{e9}`, after `before`.
fn escaped(text: &str, before: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            escaped.push_str(before);
            escaped.extend(c.escape_unicode());
        }
    }
    escaped
}
