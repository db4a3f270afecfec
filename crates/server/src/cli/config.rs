//! The flags of `waldelta config`.

use clap::{Args, Subcommand};

use super::Options;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether a configuration can be used, and what its rules come to; exit code 0: it can, 1: not, 2: not known
    Check(ConfigCheckOptions),
    /// Show every setting that is in force and where it comes from: default, file, variable, flag; nothing that may be secret
    Show(ConfigShowOptions),
    /// Print a JSON Schema of the file, for editors
    Schema,
    /// Print a file with every setting, its default and what it is
    Example,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShowOptions {
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheckOptions {
    #[command(flatten)]
    pub options: Options,
    /// Without asking the source which tables there are
    #[arg(long, env = "WALDELTA_CONFIG_CHECK_OFFLINE", hide_env_values = true)]
    pub offline: bool,
    /// Print JSON
    #[arg(long, env = "WALDELTA_CONFIG_CHECK_JSON", hide_env_values = true)]
    pub json: bool,
}
