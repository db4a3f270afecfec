//! The configuration: a TOML file, over it the environment and the flags, under it the defaults.
//!
//! Unknown keys are refused, with the key that was probably meant: a misspelt bound must not silently be no bound.

mod server;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use waldelta_pgconn::Target;
use waldelta_source::{Plugin, Source};
use waldelta_wal::{Code, ValuePolicy};

use crate::cli::{OnGap, Options, Oversize};
use crate::environment;
use crate::failure::Failure;
use server::ServerConfig;

/// The whole configuration. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub source: SourceConfig,
    pub history: HistoryConfig,
    pub capture: CaptureConfig,
    pub server: ServerConfig,
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
    /// The configuration file, if one is named, under the environment and the flags.
    pub(crate) fn load(options: &Options) -> anyhow::Result<Self> {
        let mut config = match &options.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| invalid(format!("read {}: {error}", path.display())))?;
                parse(&text, path)?
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
    pub(crate) fn fanout(&self) -> waldelta_fanout::Config {
        self.server.fanout()
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
        let mut at_least_one = at_least_one.into_iter().chain(self.server.at_least_one());
        if let Some((name, _)) = at_least_one.find(|(_, value)| *value == 0) {
            return Err(invalid(format!("{name} must be at least 1")));
        }
        if let Some(nonsense) = self.server.nonsense() {
            return Err(invalid(nonsense));
        }
        if self.capture.takeover_after_ms < TAKEOVER_AFTER_MS_MIN {
            return Err(invalid(format!(
                "capture.takeover_after_ms must be at least {TAKEOVER_AFTER_MS_MIN}: a writer that is well renews its lease every \
                 5 seconds"
            )));
        }
        Ok(())
    }
}

/// How this instance is named to the others: where it runs, and which process it is.
fn holder() -> String {
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
    let table: toml::Table = text.parse().map_err(|error| invalid(format!("{}: {error}", path.display())))?;
    let known = toml::Table::try_from(Config::default()).context("list the known settings")?;
    if let Some((key, meant)) = unknown_key(&table, &known, "") {
        let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        return Err(invalid(format!("{}: unknown setting `{key}`{hint}", path.display())));
    }
    toml::from_str(text).map_err(|error| invalid(format!("{}: {error}", path.display())))
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
        (Some(toml::Value::Table(known)), toml::Value::Table(table)) => {
            unknown_key(table, known, &format!("{prefix}{key}."))
        }
        (Some(_), _) => None,
    })
}

#[cfg(test)]
mod tests;
