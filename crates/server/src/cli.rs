//! The command line. Every flag has an environment variable; the configuration file has what both leave out.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use waldelta_wal::TableName;

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
    #[arg(long, global = true, env = "WALDELTA_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How it is logged
    #[arg(
        long,
        global = true,
        env = "WALDELTA_LOG_FORMAT",
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
    Run(Options),
    /// Print the SQL that prepares a database (or apply it)
    Init(InitOptions),
    /// Say what is missing or will go wrong, and how to mend it
    Doctor(DoctorOptions),
    /// Show changes as they commit
    Tail(TailOptions),
    /// Show where a running service is
    Status(StatusOptions),
    /// Show, then with --yes drop, what Waldelta has put into the database
    Remove(RemoveOptions),
}

/// What all commands that touch the databases share.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Configuration file (TOML)
    #[arg(long, env = "WALDELTA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The database to capture, such as postgresql://user@host/db; PG* variables and ~/.pgpass fill it up
    #[arg(long, env = "WALDELTA_DATABASE_URL", value_name = "URL")]
    pub database_url: Option<String>,
    /// Where history is kept [default: in the captured database]
    #[arg(long, env = "WALDELTA_HISTORY_URL", value_name = "URL")]
    pub history_url: Option<String>,
    /// Name of the publication
    #[arg(long, env = "WALDELTA_PUBLICATION", value_name = "NAME")]
    pub publication: Option<String>,
    /// Name of the replication slot
    #[arg(long, env = "WALDELTA_SLOT", value_name = "NAME")]
    pub slot: Option<String>,
    /// Address to serve on
    #[arg(long, env = "WALDELTA_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    /// Folder of the private cluster
    #[arg(long, env = "WALDELTA_DEV_DATA", default_value = ".waldelta/pg", value_name = "DIR")]
    pub data: PathBuf,
    /// Use a cluster that is removed on exit
    #[arg(long, env = "WALDELTA_DEV_EPHEMERAL")]
    pub ephemeral: bool,
    /// Folder with PostgreSQL's programs [default: search, then fetch]
    #[arg(long, env = "WALDELTA_DEV_PG_BINDIR", value_name = "DIR")]
    pub pg_bindir: Option<PathBuf>,
    /// Port of the private PostgreSQL [default: a free one, then the same again]
    #[arg(long, env = "WALDELTA_DEV_PORT", value_name = "PORT")]
    pub port: Option<u16>,
    /// Never fetch PostgreSQL
    #[arg(long, env = "WALDELTA_DEV_OFFLINE")]
    pub offline: bool,
    /// Address to serve on
    #[arg(long, env = "WALDELTA_LISTEN", default_value = "127.0.0.1:7654", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    #[command(flatten)]
    pub options: Options,
    /// Tables to capture [default: all that can be]
    #[arg(long = "table", env = "WALDELTA_INIT_TABLES", value_name = "SCHEMA.TABLE", value_delimiter = ',')]
    pub tables: Vec<TableName>,
    /// Also capture tables without primary key, insert-only: their owner's UPDATE and DELETE will fail
    #[arg(long, env = "WALDELTA_INIT_ALLOW_KEYLESS")]
    pub allow_keyless: bool,
    /// Do it instead of printing it
    #[arg(long, env = "WALDELTA_INIT_APPLY")]
    pub apply: bool,
    /// Do it, and write the rows that exist already into history
    #[arg(long, env = "WALDELTA_INIT_BASELINE")]
    pub baseline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TailOptions {
    /// The running service
    #[arg(long, env = "WALDELTA_URL", default_value = "http://127.0.0.1:7654", value_name = "URL")]
    pub url: String,
    /// Tables to follow: names, `schema.*` or `*`
    #[arg(
        long = "table",
        env = "WALDELTA_TAIL_TABLES",
        default_value = "*",
        value_name = "TABLE",
        value_delimiter = ','
    )]
    pub tables: Vec<String>,
    /// Begin after this cursor or LSN [default: now]
    #[arg(long, env = "WALDELTA_TAIL_AFTER", value_name = "CURSOR")]
    pub after: Option<String>,
    /// Begin with a snapshot of the tables
    #[arg(long, env = "WALDELTA_TAIL_SNAPSHOT", conflicts_with = "after")]
    pub snapshot: bool,
    /// Show old rows too, where the source gives them
    #[arg(long, env = "WALDELTA_TAIL_OLD")]
    pub old: bool,
    /// Print the frames as they come, one JSON object a line
    #[arg(long, env = "WALDELTA_JSON")]
    pub json: bool,
    /// Stop after this many transactions
    #[arg(long, env = "WALDELTA_TAIL_LIMIT", value_name = "N")]
    pub limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// The running service
    #[arg(long, env = "WALDELTA_URL", default_value = "http://127.0.0.1:7654", value_name = "URL")]
    pub url: String,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveOptions {
    #[command(flatten)]
    pub options: Options,
    /// Do it instead of showing it
    #[arg(long, env = "WALDELTA_REMOVE_YES")]
    pub yes: bool,
    /// Drop history too: every recorded change is gone for good
    #[arg(long, env = "WALDELTA_REMOVE_HISTORY")]
    pub history: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// Containers are configured by environment: a flag without a variable would be out of their reach.
    #[test]
    fn every_flag_has_an_environment_variable() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = argument.get_id();
                assert!(argument.get_env().is_some(), "{} --{name}", command.get_name());
            }
        }
    }
}
