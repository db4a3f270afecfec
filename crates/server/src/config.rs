//! The configuration: a TOML file, over it the environment and the flags, under it the defaults.
//!
//! Unknown keys are refused, with the key that was probably meant: a misspelt bound must not silently be no bound.

mod auth;
mod console;
mod listener;
mod notify;
mod policy;
mod retention;
mod schema;
mod server;
mod shown;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use waldelta_fanout::Limits;
use waldelta_pgconn::Target;
use waldelta_source::{Plugin, Source};
use waldelta_wal::{Code, ValuePolicy};

use crate::cli::{OnGap, Options, Oversize};
use crate::environment;
use crate::failure::Failure;
use auth::AuthConfig;
use console::ConsoleConfig;
pub(crate) use notify::NotifyConfig;
pub(crate) use policy::RuleConfig;
pub(crate) use retention::Retain;
pub(crate) use schema::{REFERENCE, schema};
use server::ServerConfig;
pub(crate) use shown::{Setting, settings};

/// The whole configuration. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub source: SourceConfig,
    pub history: HistoryConfig,
    pub capture: CaptureConfig,
    pub server: ServerConfig,
    pub auth: AuthConfig,
    pub limits: Limits,
    pub notify: NotifyConfig,
    pub console: ConsoleConfig,
    pub rules: Vec<RuleConfig>,
}

/// The captured database.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Connection string.
    pub url: String,
    /// Connection string of the primary, where `url` names a standby.
    pub primary_url: String,
    /// Name of the publication.
    pub publication: String,
    /// Name of the replication slot.
    pub slot: String,
    /// Its output plugin.
    pub plugin: Plugin,
}

/// Where history is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HistoryConfig {
    /// Connection string; empty: the captured database.
    pub url: String,
    /// Bytes of change images that the in-memory feed holds at most.
    pub feed_bytes_max: usize,
    /// Connections for reading at most.
    pub connections_max: u32,
    /// WAL bytes that one partition spans; takes effect with the next epoch.
    pub partition_bytes: u64,
    /// How much is kept: `off`, a time, a size.
    pub retain: Retain,
    /// Whether what is stored is sealed.
    pub seal: bool,
}

/// How capture behaves.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CaptureConfig {
    /// The replication connection is closed when history accepts nothing for this long while data waits.
    pub stall_timeout_ms: u64,
    /// The slot is told the durable end at least this often.
    pub feedback_interval_ms: u64,
    /// How often the canary row is updated; 0: never.
    pub canary_interval_ms: u64,
    /// Rows of one append at most.
    pub batch_rows_max: usize,
    /// Bytes of images of one append at most.
    pub batch_bytes_max: usize,
    /// What becomes of a value that is too large for jsonb.
    pub oversize: Oversize,
    /// What happens where history would have a gap.
    pub on_gap: OnGap,
    /// A writer of history that has not renewed its lease for this long is taken over.
    pub takeover_after_ms: u64,
}

/// What a running service takes anew, beside other files for `server.tls`: see [`Config::take`].
const LIVE: [&str; 6] =
    ["auth", "rules", "limits", "server.allowed_origins", "server.allowed_hosts", "history.retain"];

/// Twice the interval in which a writer renews its lease: less would take over from one that is well.
const TAKEOVER_AFTER_MS_MIN: u64 = 10_000;

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            url: String::new(),
            primary_url: String::new(),
            publication: "waldelta".into(),
            slot: "waldelta".into(),
            plugin: Plugin::default(),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig {
            url: String::new(),
            feed_bytes_max: 64 << 20,
            connections_max: 8,
            partition_bytes: 16 << 30,
            retain: Retain::default(),
            seal: false,
        }
    }
}

impl Default for CaptureConfig {
    fn default() -> Self {
        CaptureConfig {
            stall_timeout_ms: 5_000,
            feedback_interval_ms: 1_000,
            canary_interval_ms: 10_000,
            batch_rows_max: 10_000,
            batch_bytes_max: 8 << 20,
            oversize: Oversize::Poison,
            on_gap: OnGap::Stop,
            takeover_after_ms: 20_000,
        }
    }
}

impl Config {
    /// With one of each that there can be several of.
    fn complete() -> Self {
        Config { auth: AuthConfig::complete(), rules: vec![RuleConfig::complete()], ..Config::default() }
    }

    /// The configuration file, if one is named, under the environment and the flags.
    pub(crate) fn load(options: &Options) -> anyhow::Result<Self> {
        let mut config = match &options.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| invalid(format!("read {}: {error}", path.display())))?;
                let mut config = parse(&text, path)?;
                config.relative_to(path.parent().unwrap_or(Path::new("")));
                config
            }
        };
        let replace = |target: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                target.clone_from(value);
            }
        };
        replace(&mut config.source.url, &options.database_url);
        replace(&mut config.history.url, &options.history_url);
        replace(&mut config.source.publication, &options.publication);
        replace(&mut config.source.slot, &options.slot);
        config.source.plugin = options.plugin.unwrap_or(config.source.plugin);
        config.capture.oversize = options.oversize.unwrap_or(config.capture.oversize);
        config.capture.on_gap = options.on_gap.unwrap_or(config.capture.on_gap);
        config.server.listen = options.listen.unwrap_or(config.server.listen);
        config.check()?;
        Ok(config)
    }

    /// The same for whoever needs no leave: without rules, and without authentication.
    pub(crate) fn without_access(self) -> Self {
        Config { auth: AuthConfig::default(), rules: Vec::new(), ..self }
    }

    /// Files are named as seen from the folder of the configuration file.
    fn relative_to(&mut self, folder: &Path) {
        self.auth.relative_to(folder);
        self.server.tls.relative_to(folder);
        self.notify.relative_to(folder);
        self.console.relative_to(folder);
    }

    /// The captured database.
    pub(crate) fn source(&self) -> anyhow::Result<Source> {
        let environment = environment::postgres();
        let named =
            environment.variables.contains_key("PGHOST") || environment.variables.contains_key("PGDATABASE");
        if self.source.url.is_empty() && !named {
            return Err(invalid(
                "no database is named: give --database-url, WALDELTA_DATABASE_URL or source.url",
            ));
        }
        let target = Target::parse(&self.source.url, &environment).context("read the URL of the source")?;
        let SourceConfig { publication, slot, plugin, .. } = self.source.clone();
        let oversize = match self.capture.oversize {
            Oversize::Poison => waldelta_wal::Oversize::Poison,
            Oversize::Reference => waldelta_wal::Oversize::Reference,
        };
        // Whether history's database is in UTF-8 is for it to say, see `service::Opening`.
        let values = ValuePolicy { oversize, ascii_escapes_only: false };
        let primary = match self.source.primary_url.as_str() {
            "" => None,
            url => Some(Target::parse(url, &environment).context("read the URL of the primary")?),
        };
        Ok(Source { target, publication, slot, plugin, values, primary })
    }

    /// The history database: the captured one unless another is named; on its primary, where that is a standby.
    pub(crate) fn history(&self) -> anyhow::Result<waldelta_history::Config> {
        let named = [&self.history.url, &self.source.primary_url].into_iter().find(|url| !url.is_empty());
        let url = named.unwrap_or(&self.source.url);
        Ok(waldelta_history::Config {
            target: Target::parse(url, &environment::postgres())
                .context("read the URL of the history database")?,
            feed_bytes_max: self.history.feed_bytes_max,
            connections_max: self.history.connections_max,
            partition_bytes: self.history.partition_bytes,
        })
    }

    /// What capture needs.
    pub(crate) fn capture(&self, source: Source) -> waldelta_capture::Config {
        waldelta_capture::Config {
            source,
            holder: holder(),
            stall_timeout: Duration::from_millis(self.capture.stall_timeout_ms),
            feedback_interval: Duration::from_millis(self.capture.feedback_interval_ms),
            canary_interval: Duration::from_millis(self.capture.canary_interval_ms),
            batch_rows_max: self.capture.batch_rows_max,
            batch_bytes_max: self.capture.batch_bytes_max,
            on_gap: match self.capture.on_gap {
                OnGap::Stop => waldelta_capture::OnGap::Stop,
                OnGap::NewEpoch => waldelta_capture::OnGap::NewEpoch,
            },
            takeover_after: Duration::from_millis(self.capture.takeover_after_ms),
        }
    }

    /// What the client side needs.
    pub(crate) fn fanout(&self) -> anyhow::Result<waldelta_fanout::Config> {
        Ok(waldelta_fanout::Config { policy: self.policy()?, ..self.server.fanout() })
    }

    /// What of that can be changed while it runs.
    pub(crate) fn policy(&self) -> anyhow::Result<waldelta_fanout::Policy> {
        let rules = policy::rules(&self.rules, self.requires_authentication());
        let rules = rules.map_err(|error| invalid(error.to_string()))?;
        Ok(waldelta_fanout::Policy { rules, limits: self.limits.clone(), ..self.server.fanout().policy })
    }

    /// What of another configuration can be taken while this one is in force, by name, and the settings that would need a
    /// restart.
    pub(crate) fn differences(&self, other: &Config) -> anyhow::Result<(Vec<&'static str>, Vec<String>)> {
        let table = |config: &Config| toml::Table::try_from(config).context("list the settings");
        let mut ours = self.clone();
        let other_files = self.server.tls.has_other_files_than(&other.server.tls);
        if other_files {
            ours.server.tls.clone_from(&other.server.tls);
        }
        let (ours, theirs) = (table(&ours)?, table(other)?);
        let mut changed: Vec<_> =
            LIVE.into_iter().filter(|name| at(&ours, name) != at(&theirs, name)).collect();
        changed.extend(other_files.then_some("server.tls"));
        let mut waiting = Vec::new();
        differing(&ours, &theirs, "", &mut waiting);
        Ok((changed, waiting))
    }

    /// Takes what can be taken while this one is in force.
    pub(crate) fn take(&mut self, other: &Config) {
        (self.rules, self.limits) = (other.rules.clone(), other.limits.clone());
        self.auth.clone_from(&other.auth);
        self.history.retain = other.history.retain;
        self.server.allowed_origins.clone_from(&other.server.allowed_origins);
        self.server.allowed_hosts.clone_from(&other.server.allowed_hosts);
        if self.server.tls.has_other_files_than(&other.server.tls) {
            self.server.tls.clone_from(&other.server.tls);
        }
    }

    /// Tells these rules from others.
    pub(crate) fn rules_fingerprint(&self) -> String {
        let rules: Vec<_> = self.rules.iter().map(RuleConfig::rule).collect();
        waldelta_fanout::fingerprint(&rules)
    }

    fn check(&self) -> anyhow::Result<()> {
        let at_least_one = [
            ("history.feed_bytes_max", self.history.feed_bytes_max as u64),
            ("history.connections_max", self.history.connections_max.into()),
            ("history.partition_bytes", self.history.partition_bytes),
            ("capture.stall_timeout_ms", self.capture.stall_timeout_ms),
            ("capture.feedback_interval_ms", self.capture.feedback_interval_ms),
            ("capture.batch_rows_max", self.capture.batch_rows_max as u64),
            ("capture.batch_bytes_max", self.capture.batch_bytes_max as u64),
        ];
        let mut at_least_one = at_least_one
            .into_iter()
            .chain(self.server.at_least_one())
            .chain(policy::at_least_one(&self.limits));
        if let Some((name, _)) = at_least_one.find(|(_, value)| *value == 0) {
            return Err(invalid(format!("{name} must be at least 1")));
        }
        if let Some(nonsense) = self.server.nonsense() {
            return Err(invalid(nonsense));
        }
        if let Some(nonsense) = policy::nonsense(&self.limits) {
            return Err(invalid(nonsense));
        }
        if let Some(nonsense) = self.auth.nonsense() {
            return Err(invalid(nonsense));
        }
        if let Some(nonsense) = self.console.nonsense() {
            return Err(invalid(nonsense));
        }
        if let Some(nonsense) = self.notify.nonsense() {
            return Err(invalid(nonsense));
        }
        self.policy()?;
        if self.capture.takeover_after_ms < TAKEOVER_AFTER_MS_MIN {
            return Err(invalid(format!(
                "capture.takeover_after_ms must be at least {TAKEOVER_AFTER_MS_MIN}: a writer that is well renews its lease every \
                 5 seconds"
            )));
        }
        Ok(())
    }
}

/// A setting by its name.
fn at<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    match name.split_once('.') {
        Some((first, rest)) => at(table.get(first)?.as_table()?, rest),
        None => table.get(name),
    }
}

/// The names of settings that differ, but for those that a running service takes.
fn differing(ours: &toml::Table, theirs: &toml::Table, prefix: &str, names: &mut Vec<String>) {
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        let name = format!("{prefix}{key}");
        match (ours.get(key), theirs.get(key)) {
            _ if LIVE.contains(&name.as_str()) => {}
            (Some(toml::Value::Table(ours)), Some(toml::Value::Table(theirs))) => {
                differing(ours, theirs, &format!("{name}."), names);
            }
            (ours, theirs) if ours == theirs => {}
            _ => names.push(name),
        }
    }
}

/// How this instance is named to the others: where it runs, and which process it is.
pub(crate) fn holder() -> String {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    // Only Linux tells; elsewhere the process id must do.
    match std::fs::read_to_string("/proc/sys/kernel/hostname").map(|host| host.trim().to_owned()) {
        Ok(host) if !host.is_empty() => format!("waldelta {version} (pid {pid} on {host})"),
        _ => format!("waldelta {version} (pid {pid})"),
    }
}

fn invalid(message: impl Into<String>) -> anyhow::Error {
    Failure::error(Code::ConfigInvalid, message)
}

/// Reads a configuration file; an unknown key is refused with the one that was probably meant.
fn parse(text: &str, path: &Path) -> anyhow::Result<Config> {
    let unreadable = |error: toml::de::Error| unreadable(text, path, &error);
    let table: toml::Table = text.parse().map_err(unreadable)?;
    let known = toml::Table::try_from(Config::complete()).context("list the known settings")?;
    if let Some((key, meant)) = unknown_key(&table, &known, "") {
        let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        return Err(invalid(format!("{}: unknown setting `{key}`{hint}", path.display())));
    }
    toml::from_str(text).map_err(unreadable)
}

/// What is wrong and where; not the line itself, in which a password may stand, but for the name of the setting.
fn unreadable(text: &str, path: &Path, error: &toml::de::Error) -> anyhow::Error {
    let place = error.span().and_then(|span| {
        let before = text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        let setting =
            text[line_start..].split(['=', '\n']).next().map(str::trim).filter(|name| is_setting(name));
        let setting = setting.map_or_else(String::new, |name| format!(" ({name})"));
        Some(format!("line {line}, column {column}{setting}: "))
    });
    let why = without_value(error.message()).replace('\n', "; ");
    invalid(format!("{}: {}{why}", path.display(), place.unwrap_or_default()))
}

/// What is wrong with a value, without the value: of one with a type, what was expected; of one of ours, which come in backticks before
/// the rest, the rest.
fn without_value(message: &str) -> String {
    const TYPED: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    if TYPED.iter().any(|typed| message.starts_with(typed)) {
        // The last one: a value may have the word in it, what was expected has not.
        let expected = message.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
        let is_table = expected.starts_with("struct ");
        return format!("expected {}", if is_table { "a table" } else { expected });
    }
    match message.rsplit_once('`') {
        Some((_, rest)) if message.starts_with('`') => format!("it {}", rest.trim_start()),
        _ => message.to_owned(),
    }
}

/// Whether some setting has this name.
fn is_setting(name: &str) -> bool {
    fn is_in(value: &toml::Value, name: &str) -> bool {
        match value {
            toml::Value::Table(table) => table.iter().any(|(key, value)| key == name || is_in(value, name)),
            toml::Value::Array(items) => items.iter().any(|item| is_in(item, name)),
            _ => false,
        }
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    toml::Value::try_from(Config::complete()).is_ok_and(|known| is_in(&known, last))
}

/// The first key of `table` that is not in `known`, with the closest known one.
fn unknown_key(table: &toml::Table, known: &toml::Table, prefix: &str) -> Option<(String, Option<String>)> {
    table.iter().find_map(|(key, value)| match (known.get(key), value) {
        (None, _) => {
            let closest = known
                .keys()
                .map(|name| (strsim::jaro_winkler(key, name), name))
                .filter(|(likeness, _)| *likeness > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            Some((format!("{prefix}{key}"), closest.map(|(_, name)| format!("{prefix}{name}"))))
        }
        // Where none is known, they are names of somebody else.
        (Some(toml::Value::Table(known)), toml::Value::Table(table)) if !known.is_empty() => {
            unknown_key(table, known, &format!("{prefix}{key}."))
        }
        (Some(toml::Value::Array(known)), toml::Value::Array(items)) => {
            let known = known.first()?.as_table()?;
            let mut tables =
                items.iter().enumerate().filter_map(|(at, item)| Some((at + 1, item.as_table()?)));
            tables.find_map(|(number, table)| unknown_key(table, known, &format!("{prefix}{key}[{number}].")))
        }
        (Some(_), _) => None,
    })
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
