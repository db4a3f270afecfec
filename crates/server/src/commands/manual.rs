//! What a package brings beside the program: `waldelta completions` for shells, and `waldelta man`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use super::answer;
use crate::cli::{Cli, CompletionsOptions, ManOptions};

/// Prints what a shell reads to complete commands and flags.
pub(crate) fn completions(options: &CompletionsOptions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "waldelta", &mut script);
    std::io::stdout().write_all(&script).context("print it")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and one for each command into a folder.
pub(crate) fn man(options: &ManOptions) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&options.out).with_context(|| format!("make {}", options.out.display()))?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &options.out)
        .with_context(|| format!("write into {}", options.out.display()))?;
    answer(format_args!("written into {}", options.out.display()))?;
    Ok(ExitCode::SUCCESS)
}
