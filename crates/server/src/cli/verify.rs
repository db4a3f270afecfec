//! The flags of `waldelta verify`.

use clap::Args;
use waldelta_history::SealName;
use waldelta_wal::Position;

use super::Options;

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    #[command(flatten)]
    pub options: Options,
    /// Read again only what lies behind this cursor [default: everything that was sealed and is still there]
    #[arg(long, env = "WALDELTA_VERIFY_FROM", hide_env_values = true, value_name = "CURSOR")]
    pub from: Option<Position>,
    /// A seal that was printed earlier and kept elsewhere: it must be there as it was
    #[arg(long, env = "WALDELTA_VERIFY_EXPECT", hide_env_values = true, value_name = "SEAL")]
    pub expect: Option<SealName>,
    /// Print JSON
    #[arg(long, env = "WALDELTA_JSON", hide_env_values = true)]
    pub json: bool,
}
