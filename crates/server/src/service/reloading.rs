//! Reading the configuration again while the service runs, on SIGHUP: rules, limits, who may connect from where, whose tokens are
//! taken, and the listener's certificate.
//!
//! All of it is looked at before any of it is taken: the file, whether its rules fit the tables that there are, the files that it
//! names. What is not good changes nothing, and the log and the status say where and why. What needs a restart is named, and
//! left. Nothing takes effect that is not in the audit before.
//!
//! A rule that does not fit although it is in force already stands in nobody's way: a renewed certificate is taken beside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use waldelta_access::Access;
use waldelta_console::{User, Users};
use waldelta_fanout::{Finding, LivePolicy};
use waldelta_history::{AuditAction, AuditEntry, History};
use waldelta_source::{Source, catalog};
use waldelta_wal::{Code, Table};

use crate::cli::Options;
use crate::config::{Config, RuleConfig};
use crate::failure::{self, Failure};
use crate::listener::Certificates;
use crate::role::Role;
use crate::systemd;

/// The databases are asked for their tables for so long, each.
const TABLES_TIMEOUT: Duration = Duration::from_secs(10);
/// Writing the audit may take this long.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Tables change too: how often it is looked whether the rules fit them.
const LOOK_EVERY: Duration = Duration::from_secs(60);

const RELOADS: &str = "waldelta_config_reloads_total";

/// Tells the recorder what the metric means.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(
        RELOADS,
        metrics::Unit::Count,
        "Times the configuration was read again, by `result`: applied, refused"
    );
}

/// SIGHUP, from the moment it is made on: from then on it no longer ends the process.
pub(crate) struct Hangups {
    signal: Signal,
    options: Options,
    role: Role,
}

impl Hangups {
    /// Begins to listen. `options` and `role` are those of the command line, which win over the file again.
    pub(crate) fn listen(options: &Options, role: Role) -> anyhow::Result<Self> {
        let signal = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
        Ok(Hangups { signal, options: options.clone(), role })
    }
}

/// What is told of the configuration that is in force.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct ConfigStatus {
    /// How long ago it was read.
    pub read_seconds: f64,
    /// The code of why it could not be taken when it was last read again; absent when it was.
    pub code: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// Settings that differ in the file and wait for a restart.
    pub waiting: Vec<String>,
    /// Rules that do not fit the tables: whom they are for sees nothing of these.
    pub rules: Vec<RuleStatus>,
}

/// A rule that does not fit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct RuleStatus {
    /// Its number in the file, from 1.
    pub rule: usize,
    /// The table that it does not fit.
    pub table: String,
    pub code: String,
    pub message: String,
    /// The statement that mends it, where there is one.
    pub fix: Option<String>,
}

impl From<&Finding> for RuleStatus {
    fn from(finding: &Finding) -> Self {
        RuleStatus {
            rule: finding.rule,
            table: finding.table.to_string(),
            code: finding.code.as_str().to_owned(),
            message: finding.message.clone(),
            fix: finding.fix.clone(),
        }
    }
}

/// What status and reloads share.
pub(crate) struct Reloads {
    told: Mutex<Told>,
    /// Somebody in this process wants it read again.
    wanted: Notify,
    /// Whether it ever is.
    is_heard: AtomicBool,
    /// Counts how often it was read again.
    ended: watch::Sender<u64>,
}

struct Told {
    config: Config,
    read_at: Instant,
    failure: Option<(Code, String)>,
    waiting: Vec<String>,
    rules: Vec<RuleStatus>,
}

impl Reloads {
    /// Read just now, and taken.
    pub(crate) fn new(config: Config) -> Self {
        let (failure, waiting, rules) = (None, Vec::new(), Vec::new());
        let told = Told { config, read_at: Instant::now(), failure, waiting, rules };
        let (is_heard, ended) = (AtomicBool::new(false), watch::Sender::new(0));
        Reloads { told: Mutex::new(told), wanted: Notify::new(), is_heard, ended }
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> Config {
        self.lock().config.clone()
    }

    /// Has it read again and waits for that: how it ended, or `None` where nobody reads it again.
    pub(crate) async fn ask(&self, patience: Duration) -> Option<Result<(), (&'static str, String)>> {
        if !self.is_heard.load(Ordering::Acquire) {
            return None;
        }
        let mut ended = self.ended.subscribe();
        self.wanted.notify_one();
        if tokio::time::timeout(patience, ended.changed()).await.is_err() {
            return Some(Err((Code::ConfigInvalid.as_str(), "it is still being read".to_owned())));
        }
        let told = self.lock();
        let failure = told.failure.as_ref();
        Some(failure.map_or(Ok(()), |(code, message)| Err((code.as_str(), message.clone()))))
    }

    pub(crate) fn read(&self) -> ConfigStatus {
        let told = self.lock();
        ConfigStatus {
            read_seconds: told.read_at.elapsed().as_secs_f64(),
            code: told.failure.as_ref().map(|(code, _)| code.as_str().to_owned()),
            message: told.failure.as_ref().map(|(_, message)| message.clone()),
            waiting: told.waiting.clone(),
            rules: told.rules.clone(),
        }
    }

    fn taken(&self, config: Config, waiting: Vec<String>) {
        let mut told = self.lock();
        (told.config, told.read_at, told.failure, told.waiting) = (config, Instant::now(), None, waiting);
    }

    fn refused(&self, code: Code, message: String) {
        self.lock().failure = Some((code, message));
    }

    /// What does not fit now; true where that is news.
    fn fits(&self, rules: Vec<RuleStatus>) -> bool {
        let mut told = self.lock();
        let is_news = told.rules != rules;
        told.rules = rules;
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // No holder leaves it half changed.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of a running service that take another configuration.
pub(super) struct Reloading {
    /// What is in force.
    pub config: Config,
    pub source: Source,
    pub history: History,
    /// By which all listeners go.
    pub policy: LivePolicy,
    pub access: Access,
    pub certificates: Option<Arc<Certificates>>,
    /// Who may use the console; `None`: nobody is named.
    pub console_users: Option<Users>,
    pub reloads: Arc<Reloads>,
}

/// A configuration that is good.
struct Fresh {
    config: Config,
    policy: waldelta_fanout::Policy,
    access: waldelta_access::Config,
    changed: Vec<&'static str>,
    waiting: Vec<String>,
    /// What of other rules does not fit; `None`: they are those in force.
    findings: Option<Vec<Finding>>,
    /// What is in the certificate's files now, which may be others.
    certificates: Option<Certificates>,
    /// Whom the console's file names now.
    console_users: Option<BTreeMap<String, User>>,
}

impl Reloading {
    /// Reads again whenever it is asked to, until told to stop. `None`: nobody asks, but it is looked whether the rules fit.
    pub(super) async fn run(
        mut self,
        mut hangups: Option<Hangups>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        for result in ["applied", "refused"] {
            metrics::counter!(RELOADS, "result" => result).increment(0);
        }
        self.reloads.is_heard.store(hangups.is_some(), Ordering::Release);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(options) = asked(&mut hangups, &self.reloads.wanted) => {
                    stop.run_until_cancelled(self.reload(&options.0, options.1)).await;
                }
                _ = looks.tick() => {
                    stop.run_until_cancelled(self.look()).await;
                }
            }
        }
    }

    async fn reload(&mut self, options: &Options, role: Role) {
        systemd::reloading();
        let outcome = match self.prepare(options, role).await {
            Ok(fresh) => self.apply(fresh).await,
            Err(error) => Err(error),
        };
        let result = match &outcome {
            Ok(()) => "applied",
            Err(error) => {
                let code = failure::code_of(error).unwrap_or(Code::ConfigInvalid);
                let message = failure::chain_text(error);
                tracing::error!(
                    code = code.as_str(),
                    error = message,
                    "the configuration was read again and is not taken; nothing has changed"
                );
                self.reloads.refused(code, message);
                "refused"
            }
        };
        metrics::counter!(RELOADS, "result" => result).increment(1);
        systemd::ready();
        self.reloads.ended.send_modify(|times| *times += 1);
    }

    /// Looks at everything, and changes nothing.
    async fn prepare(&self, options: &Options, role: Role) -> anyhow::Result<Fresh> {
        let mut config = Config::load(options)?;
        config.server.role = role;
        if config.requires_authentication() != self.config.requires_authentication() {
            let message = "authentication cannot be turned on or off while the service runs: restart it";
            return Err(Failure::error(Code::ConfigInvalid, message));
        }
        let access = config.access()?;
        let certificates = self.certificates(&config)?;
        let policy = config.policy()?;
        let findings = match config.rules == self.config.rules {
            true => None,
            false => Some(self.new_findings(&config).await?),
        };
        let (mut changed, waiting) = self.config.differences(&config)?;
        // Another file waits for a restart; what is in the one that was read then does not.
        let console_users = match &self.console_users {
            Some(known) => Some(self.config.console.users()?).filter(|users| !known.are(users)),
            None => None,
        };
        changed.extend(console_users.as_ref().map(|_| "console.users_file"));
        Ok(Fresh { config, policy, access, changed, waiting, findings, certificates, console_users })
    }

    /// The certificate to be shown from now on. Whether there is one at all waits for a restart.
    fn certificates(&self, fresh: &Config) -> anyhow::Result<Option<Certificates>> {
        match (&self.certificates, fresh.server.tls.files()) {
            (Some(_), Some((certificate, key))) => Certificates::load(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    /// What of other rules than those in force does not fit the tables.
    ///
    /// # Errors
    /// When a rule closes a table that does not close it already.
    async fn new_findings(&self, fresh: &Config) -> anyhow::Result<Vec<Finding>> {
        if fresh.rules.is_empty() {
            return Ok(Vec::new());
        }
        let tables = tables(&self.source, &self.history).await?;
        let findings = fresh.policy()?.rules.check(&tables);
        let in_force = self.config.policy()?.rules.check(&tables);
        let is_known = |finding: &&Finding| {
            in_force.iter().any(|known| is_same((known, &self.config.rules), (finding, &fresh.rules)))
        };
        match findings.iter().find(|finding| closes(finding) && !is_known(finding)) {
            Some(finding) => Err(Failure::error(finding.code, misfit(finding))),
            None => Ok(findings),
        }
    }

    /// Writes it into the audit, and then takes it.
    async fn apply(&mut self, fresh: Fresh) -> anyhow::Result<()> {
        let Fresh { config, policy, access, changed, waiting, findings, certificates, console_users } = fresh;
        let (before, after) = (self.config.rules_fingerprint(), config.rules_fingerprint());
        let mut entries = vec![AuditEntry::new(AuditAction::ConfigReloaded {
            changed: changed.clone(),
            waiting: waiting.clone(),
        })];
        if before != after {
            let rules = config.rules.len();
            entries.push(AuditEntry::new(AuditAction::RulesChanged { before, after, rules }));
        }
        match tokio::time::timeout(AUDIT_TIMEOUT, self.history.audit(&entries)).await {
            Ok(written) => written.context("write into the audit that the configuration changes")?,
            Err(_) => {
                let message = "the audit that the configuration changes could not be written in time";
                return Err(Failure::error(Code::HistoryUnreachable, message));
            }
        }
        if let (Some(shown), Some(fresh)) = (&self.certificates, &certificates) {
            shown.take(fresh);
        }
        if let (Some(users), Some(fresh)) = (&self.console_users, console_users) {
            users.take(fresh);
        }
        self.access.configure(access);
        self.policy.apply(policy);
        self.config.take(&config);
        // Removed is by the process that writes history alone.
        self.history.retain(self.config.history.retain.0);
        for setting in &waiting {
            tracing::warn!(setting, "differs in the configuration file and waits for a restart");
        }
        tracing::info!(
            ?changed,
            rules = self.config.rules.len(),
            "the configuration was read again and is taken"
        );
        self.reloads.taken(self.config.clone(), waiting);
        match findings {
            Some(findings) => self.tell(&findings),
            // Tables change too.
            None => self.look().await,
        }
        Ok(())
    }

    /// Whether the rules in force fit the tables. They stay in force: what does not fit shows nothing to anybody.
    async fn look(&self) {
        let Ok(policy) = self.config.policy() else { return };
        if self.config.rules.is_empty() {
            return self.tell(&[]);
        }
        match tables(&self.source, &self.history).await {
            Ok(tables) => self.tell(&policy.rules.check(&tables)),
            Err(error) => {
                let error = failure::chain_text(&error);
                tracing::debug!(error, "whether the rules fit the tables cannot be said for now");
            }
        }
    }

    fn tell(&self, findings: &[Finding]) {
        if !self.reloads.fits(findings.iter().map(RuleStatus::from).collect()) {
            return;
        }
        for finding in findings {
            let (code, what) = (finding.code.as_str(), misfit(finding));
            match closes(finding) {
                true => tracing::error!(code, what, "nobody whom the rule is for sees the table"),
                false => tracing::warn!(code, what, "a rule is for nothing"),
            }
        }
    }
}

/// The next time that somebody asks; `None`, or never, where nobody can.
async fn asked(hangups: &mut Option<Hangups>, wanted: &Notify) -> Option<(Options, Role)> {
    match hangups {
        None => std::future::pending().await,
        Some(hangups) => {
            tokio::select! {
                signal = hangups.signal.recv() => signal?,
                () = wanted.notified() => {}
            }
            Some((hangups.options.clone(), hangups.role))
        }
    }
}

/// Whether a rule that does not fit closes a table; else it is for a table that is not there, or not yet.
pub(crate) fn closes(finding: &Finding) -> bool {
    finding.code != Code::TableNotCaptured
}

/// Whether the same rule, wherever it is in the file, does not fit the same table for the same reason.
fn is_same((known, before): (&Finding, &[RuleConfig]), (found, after): (&Finding, &[RuleConfig])) -> bool {
    let of = |finding: &Finding, rules: &'_ [RuleConfig]| rules.get(finding.rule.wrapping_sub(1)).cloned();
    (&known.table, known.code, &known.message) == (&found.table, found.code, &found.message)
        && of(known, before) == of(found, after)
}

/// What does not fit, in one line.
fn misfit(finding: &Finding) -> String {
    let Finding { rule, table, message, fix, .. } = finding;
    let fix = fix.as_ref().map_or_else(String::new, |fix| format!("; {fix}"));
    format!("rules[{rule}], for {table}: {message}{fix}")
}

/// The tables there are: as the source has them now, else as history knew them last.
async fn tables(source: &Source, history: &History) -> anyhow::Result<Vec<Table>> {
    match tokio::time::timeout(TABLES_TIMEOUT, published(source)).await {
        Ok(Ok(tables)) => return Ok(tables),
        Ok(Err(error)) => {
            tracing::debug!(error = failure::chain_text(&error), "the source does not tell its tables");
        }
        Err(_) => tracing::debug!("the source does not tell its tables in time"),
    }
    let known = tokio::time::timeout(TABLES_TIMEOUT, history.tables()).await;
    let known = known
        .map_err(|_| Failure::error(Code::HistoryUnreachable, "history does not tell its tables in time"))?;
    let known = known.context("read which tables there are")?;
    Ok(known.iter().map(|table| Table::clone(table)).collect())
}

/// The tables of the publication, as the source has them now.
pub(crate) async fn published(source: &Source) -> anyhow::Result<Vec<Table>> {
    let client = source.connect().await.context("connect to the source")?;
    let tables = catalog::published_tables(&client, source).await.context("read which tables there are")?;
    Ok(tables.into_iter().map(|published| published.table).collect())
}

#[cfg(test)]
mod tests;
