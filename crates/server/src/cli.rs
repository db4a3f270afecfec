//! The command line. Every flag has an environment variable; the configuration file has what both leave out.
//!
//! Help names the variables but not what they hold: a URL may have a password in it.

mod config;
mod given;
mod token;
mod verify;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use config::{ConfigCheckOptions, ConfigCommand, ConfigShowOptions};
pub(crate) use given::{Given, given};
use serde::{Deserialize, Serialize};
pub(crate) use token::{
    BearerToken, CreateTokenOptions, ListTokensOptions, RevokeTokenOptions, TokenCommand,
};
pub(crate) use verify::VerifyOptions;
use waldelta_history::Retention;
use waldelta_source::Plugin;
use waldelta_source::setup::{Mode, Provider};
use waldelta_wal::{Lsn, TableName};

use crate::role::Role;

/// Streams every committed PostgreSQL change to every client that may see it, and keeps it for good.
#[derive(Debug, Parser)]
#[command(name = "waldelta", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub log: LogOptions,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// What is logged, such as `info` or `warn,waldelta_capture=debug`
    #[arg(
        long,
        global = true,
        env = "WALDELTA_LOG",
        hide_env_values = true,
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How it is logged
    #[arg(
        long,
        global = true,
        env = "WALDELTA_LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        default_value = "auto",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise
    Auto,
    /// For people
    Pretty,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: a private PostgreSQL, a demo table, capture and fan-out, with nothing to configure
    Dev(DevOptions),
    /// Capture a database and serve its changes
    Run(RunOptions),
    /// Print the SQL that prepares a database (or apply it)
    Init(InitOptions),
    /// Look at a configuration before a service runs with it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what is missing or will go wrong, and how to mend it
    Doctor(DoctorOptions),
    /// Show changes as they commit
    Tail(TailOptions),
    /// Show where a running service is
    Status(StatusOptions),
    /// Watch a running service: lag, the way from the source to the clients, tables, sessions
    Top(TopOptions),
    /// Ask whether a service is ready, where there is no curl: exit code 0 or 1
    Healthcheck(HealthcheckOptions),
    /// Show, then with --yes do, what lets capture go on: a new epoch, or tables read afresh
    Recover(RecoverOptions),
    /// Leave out a change or transaction that stops capture
    Skip(SkipOptions),
    /// Show, then with --yes do, what removing old history would remove
    Prune(PruneOptions),
    /// Compare history with its seals: whether anything of it was altered since
    Verify(VerifyOptions),
    /// Measure how fast what the slot holds is read and decoded here; nothing is stored, and the slot stays where it is
    Bench(BenchOptions),
    /// Add tables to what is captured, or take them out
    #[command(subcommand)]
    Table(TableCommand),
    /// Make tokens for clients and operators, show them, take them back
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show, then with --yes drop, what Waldelta has put into the database
    Remove(RemoveOptions),
    /// Print what a shell reads to complete commands and flags
    Completions(CompletionsOptions),
    /// Write manual pages into a folder
    Man(ManOptions),
}

/// What all commands that touch the databases share.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Configuration file (TOML)
    #[arg(long, env = "WALDELTA_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The database to capture, such as postgresql://user@host/db; PG* variables and ~/.pgpass fill it up
    #[arg(long, env = "WALDELTA_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where history is kept [default: in the captured database]
    #[arg(long, env = "WALDELTA_HISTORY_URL", hide_env_values = true, value_name = "URL")]
    pub history_url: Option<String>,
    /// Name of the publication
    #[arg(long, env = "WALDELTA_PUBLICATION", hide_env_values = true, value_name = "NAME")]
    pub publication: Option<String>,
    /// Name of the replication slot
    #[arg(long, env = "WALDELTA_SLOT", hide_env_values = true, value_name = "NAME")]
    pub slot: Option<String>,
    /// Output plugin of the slot; wal2json loses some things [default: pgoutput]
    #[arg(
        long,
        env = "WALDELTA_PLUGIN",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(Plugin::ALL.map(Plugin::name)).try_map(|name| name.parse::<Plugin>()),
        value_name = "PLUGIN"
    )]
    pub plugin: Option<Plugin>,
    /// What becomes of a value that is too large for jsonb [default: poison]
    #[arg(long, env = "WALDELTA_OVERSIZE", hide_env_values = true, value_enum, value_name = "WHAT")]
    pub oversize: Option<Oversize>,
    /// What happens where history would have a gap [default: stop]
    #[arg(long, env = "WALDELTA_ON_GAP", hide_env_values = true, value_enum, value_name = "WHAT")]
    pub on_gap: Option<OnGap>,
    /// Address to serve on
    #[arg(long, env = "WALDELTA_LISTEN", hide_env_values = true, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub options: Options,
    /// What this process does: of several on one history, one captures and any number serve clients [default: all]
    #[arg(long, env = "WALDELTA_ROLE", hide_env_values = true, value_enum, value_name = "ROLE")]
    pub role: Option<Role>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum OnGap {
    /// Capture stops in a named state
    #[default]
    Stop,
    /// Capture goes on with a new epoch
    NewEpoch,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Oversize {
    /// Capture stops at it
    #[default]
    Poison,
    /// Its size and checksum are stored in its place
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    /// Folder of the private cluster
    #[arg(
        long,
        env = "WALDELTA_DEV_DATA",
        hide_env_values = true,
        default_value = ".waldelta/pg",
        value_name = "DIR"
    )]
    pub data: PathBuf,
    /// Use a cluster that is removed on exit
    #[arg(long, env = "WALDELTA_DEV_EPHEMERAL", hide_env_values = true)]
    pub ephemeral: bool,
    /// Folder with PostgreSQL's programs [default: search, then fetch]
    #[arg(long, env = "WALDELTA_DEV_PG_BINDIR", hide_env_values = true, value_name = "DIR")]
    pub pg_bindir: Option<PathBuf>,
    /// Port of the private PostgreSQL [default: a free one, then the same again]
    #[arg(long, env = "WALDELTA_DEV_PORT", hide_env_values = true, value_name = "PORT")]
    pub port: Option<u16>,
    /// Never fetch PostgreSQL
    #[arg(long, env = "WALDELTA_DEV_OFFLINE", hide_env_values = true)]
    pub offline: bool,
    /// Address to serve on
    #[arg(
        long,
        env = "WALDELTA_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:7654",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    #[command(flatten)]
    pub options: Options,
    /// Tables to capture [default: all that can be]
    #[arg(
        long = "table",
        env = "WALDELTA_INIT_TABLES",
        hide_env_values = true,
        value_name = "SCHEMA.TABLE",
        value_delimiter = ','
    )]
    pub tables: Vec<TableName>,
    /// Also capture tables without primary key, insert-only: their owner's UPDATE and DELETE will fail
    #[arg(long, env = "WALDELTA_INIT_ALLOW_KEYLESS", hide_env_values = true)]
    pub allow_keyless: bool,
    /// Who runs the server: what is printed is done there in its own way [default: found out]
    #[arg(
        long,
        env = "WALDELTA_PROVIDER",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(Provider::ALL.map(Provider::name)).try_map(|name| name.parse::<Provider>()),
        value_name = "PROVIDER"
    )]
    pub provider: Option<Provider>,
    /// What the role of the URL does by itself: dev: everything, as a superuser; managed: all but event triggers, as the
    /// tables' owner; manual: nothing, what is printed is for an administrator [default: by what it may do]
    #[arg(
        long,
        env = "WALDELTA_INIT_MODE",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(Mode::ALL.map(Mode::name)).try_map(|name| name.parse::<Mode>()),
        value_name = "MODE"
    )]
    pub mode: Option<Mode>,
    /// The role that the service will run as, which gets what it needs and no more [default: that of the URL]
    #[arg(long, env = "WALDELTA_INIT_ROLE", hide_env_values = true, value_name = "ROLE")]
    pub role: Option<String>,
    /// Do it instead of printing it
    #[arg(long, env = "WALDELTA_INIT_APPLY", hide_env_values = true)]
    pub apply: bool,
    /// Do it, and write the rows that exist already into history
    #[arg(long, env = "WALDELTA_INIT_BASELINE", hide_env_values = true)]
    pub baseline: bool,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
    /// Who runs the server: its fixes are in that provider's own way [default: found out]
    #[arg(
        long,
        env = "WALDELTA_PROVIDER",
        hide_env_values = true,
        value_parser = PossibleValuesParser::new(Provider::ALL.map(Provider::name)).try_map(|name| name.parse::<Provider>()),
        value_name = "PROVIDER"
    )]
    pub provider: Option<Provider>,
    /// A warning, or a question that could not be answered, counts as a failure
    #[arg(long, env = "WALDELTA_DOCTOR_STRICT", hide_env_values = true)]
    pub strict: bool,
}

/// Where a running service is, and as whom to ask it.
#[derive(Debug, Args)]
pub(crate) struct ServiceOptions {
    /// The running service
    #[arg(
        long,
        env = "WALDELTA_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7654",
        value_name = "URL"
    )]
    pub url: String,
    /// Who is trusted to have signed the certificate of an https URL [default: whom this machine trusts]
    #[arg(long, env = "WALDELTA_CA_FILE", hide_env_values = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// What to authenticate with, where the service demands it; better given by the variable, which no list of processes shows
    #[arg(long, env = "WALDELTA_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<BearerToken>,
}

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Print what it shows as JSON instead, one object a line each time
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
    /// How often it is asked, in milliseconds
    #[arg(
        long,
        env = "WALDELTA_TOP_INTERVAL_MS",
        hide_env_values = true,
        default_value_t = 1_000,
        value_name = "MS"
    )]
    pub interval_ms: u64,
    /// Print it once, as wide as the terminal or 80 columns, and end
    #[arg(long, env = "WALDELTA_TOP_ONCE", hide_env_values = true)]
    pub once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TailOptions {
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Read history itself, with no service between: all of it, as the role of the database may. Nothing is written, and the slot is left alone
    #[arg(long, env = "WALDELTA_TAIL_DIRECT", hide_env_values = true)]
    pub direct: bool,
    #[command(flatten)]
    pub options: Options,
    /// Tables to follow, as with --table
    #[arg(value_name = "TABLE", conflicts_with = "tables")]
    pub named: Vec<String>,
    /// Tables to follow: names, `schema.*` or `*`
    #[arg(
        long = "table",
        env = "WALDELTA_TAIL_TABLES",
        hide_env_values = true,
        default_value = "*",
        value_name = "TABLE",
        value_delimiter = ','
    )]
    pub tables: Vec<String>,
    /// Only rows of which this is true, as behind SQL's WHERE; of one table by its name
    #[arg(long = "where", env = "WALDELTA_TAIL_WHERE", hide_env_values = true, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Begin after this cursor or LSN [default: now]
    #[arg(
        long,
        visible_alias = "since",
        env = "WALDELTA_TAIL_AFTER",
        hide_env_values = true,
        value_name = "CURSOR"
    )]
    pub after: Option<String>,
    /// Begin with a snapshot of the tables
    #[arg(long, env = "WALDELTA_TAIL_SNAPSHOT", hide_env_values = true, conflicts_with = "after")]
    pub snapshot: bool,
    /// Show old rows too, where the source gives them
    #[arg(long, env = "WALDELTA_TAIL_OLD", hide_env_values = true)]
    pub old: bool,
    /// Show of an update what it has changed, from what to what, where the source gives old rows
    #[arg(long, env = "WALDELTA_TAIL_DIFF", hide_env_values = true, conflicts_with = "json")]
    pub diff: bool,
    /// Print the frames as they come, one JSON object a line
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
    /// Stop after this many transactions
    #[arg(long, env = "WALDELTA_TAIL_LIMIT", hide_env_values = true, value_name = "N")]
    pub limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthcheckOptions {
    #[command(flatten)]
    pub service: ServiceOptions,
    /// Only whether the process lives, whatever it waits for
    #[arg(long, env = "WALDELTA_HEALTHCHECK_LIVE", hide_env_values = true)]
    pub live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// The folder, which is made where it is missing
    #[arg(long, env = "WALDELTA_MAN_OUT", hide_env_values = true, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverOptions {
    #[command(flatten)]
    pub options: Options,
    /// Do it instead of showing it
    #[arg(long, env = "WALDELTA_RECOVER_YES", hide_env_values = true)]
    pub yes: bool,
    /// Only tables of these names, of those that need repair [default: all of them]
    #[arg(
        long = "table",
        env = "WALDELTA_RECOVER_TABLES",
        hide_env_values = true,
        value_name = "SCHEMA.TABLE",
        value_delimiter = ','
    )]
    pub tables: Vec<TableName>,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SkipOptions {
    #[command(flatten)]
    pub options: Options,
    /// Commit LSN of the transaction, as the message of the stop names it
    #[arg(long, env = "WALDELTA_SKIP_LSN", hide_env_values = true, value_name = "LSN")]
    pub lsn: Lsn,
    /// The change's number in it [default: the whole transaction]
    #[arg(long, env = "WALDELTA_SKIP_SEQ", hide_env_values = true, value_name = "N")]
    pub seq: Option<u32>,
    /// Why, for those who read history later
    #[arg(long, env = "WALDELTA_SKIP_WHY", hide_env_values = true, value_name = "TEXT")]
    pub why: String,
    /// Who decides [default: the role of the history database]
    #[arg(long, env = "WALDELTA_SKIP_BY", hide_env_values = true, value_name = "NAME")]
    pub by: Option<String>,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneOptions {
    #[command(flatten)]
    pub options: Options,
    /// How much to keep, such as 30d, 12h or 200GB [default: what history.retain says]
    #[arg(long, env = "WALDELTA_PRUNE_KEEP", hide_env_values = true, value_name = "HOW_MUCH")]
    pub keep: Option<Retention>,
    /// Also what clients that were here within the last hour have yet to read
    #[arg(long, env = "WALDELTA_PRUNE_FORCE", hide_env_values = true)]
    pub force: bool,
    /// Do it instead of showing it
    #[arg(long, env = "WALDELTA_PRUNE_YES", hide_env_values = true, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Only show it, which is what happens without --yes too
    #[arg(long, env = "WALDELTA_PRUNE_DRY_RUN", hide_env_values = true)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    /// Begin to capture tables
    Add(TableOptions),
    /// Stop capturing tables; what history has of them stays
    Remove(TableOptions),
}

#[derive(Debug, Args)]
pub(crate) struct TableOptions {
    #[command(flatten)]
    pub options: Options,
    /// The tables
    #[arg(
        long = "table",
        env = "WALDELTA_TABLES",
        hide_env_values = true,
        value_name = "SCHEMA.TABLE",
        value_delimiter = ',',
        required = true
    )]
    pub tables: Vec<TableName>,
    /// Also tables without primary key, insert-only: their owner's UPDATE and DELETE will fail
    #[arg(long, env = "WALDELTA_INIT_ALLOW_KEYLESS", hide_env_values = true)]
    pub allow_keyless: bool,
    /// Do it instead of printing it
    #[arg(long, env = "WALDELTA_TABLE_APPLY", hide_env_values = true)]
    pub apply: bool,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveOptions {
    #[command(flatten)]
    pub options: Options,
    /// Do it instead of showing it
    #[arg(long, env = "WALDELTA_REMOVE_YES", hide_env_values = true)]
    pub yes: bool,
    /// Drop history too: every recorded change is gone for good
    #[arg(long, env = "WALDELTA_REMOVE_HISTORY", hide_env_values = true)]
    pub history: bool,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Every command, with those below it, by its whole name.
    fn commands() -> Vec<(String, clap::Command)> {
        fn below(name: &str, command: &clap::Command, all: &mut Vec<(String, clap::Command)>) {
            for command in command.get_subcommands() {
                let name = format!("{name} {}", command.get_name());
                let is_group = command.get_subcommands().next().is_some();
                if !is_group {
                    all.push((name.clone(), command.clone()));
                }
                below(&name, command, all);
            }
        }
        let mut all = Vec::new();
        below("waldelta", &Cli::command(), &mut all);
        all
    }

    /// Containers are configured by environment: a flag without a variable would be out of their reach.
    #[test]
    fn every_flag_has_an_environment_variable() {
        for (command, arguments) in commands() {
            for argument in arguments.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = argument.get_id();
                assert!(argument.get_env().is_some(), "{command} --{name}");
                assert!(argument.is_hide_env_values_set(), "{command} --{name} shows a value");
            }
        }
    }

    /// The page is what `--help` prints; `make docs` writes it.
    #[test]
    fn the_reference_page_is_what_help_prints() {
        let mut page = String::from(
            "# Command line\n\n<!-- Made from crates/server/src/cli.rs by `make docs`. -->\n\n\
             Exit codes: 0 done; 1 failed, a check failed (with `doctor --strict`: or warns, or could not be answered), or the\n\
             service is not ready; 2 the command line is wrong; 3 capture had stopped in a state that needs a decision.\n",
        );
        for (name, command) in commands() {
            let help = command.term_width(100).bin_name(&name).render_long_help().to_string();
            let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
            page.push_str(&format!("\n## {name}\n\n```text\n{help}```\n"));
        }
        waldelta_testkit::generated("docs/reference/cli.md", &page);
    }
}
