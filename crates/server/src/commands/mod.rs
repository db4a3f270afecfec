//! The commands, a file each.

mod asking;
mod bench;
mod config;
mod dev;
mod doctor;
mod healthcheck;
mod init;
mod manual;
pub(crate) mod progress;
mod prune;
mod reach;
mod recover;
mod remove;
mod run;
mod skip;
mod status;
mod table;
mod tail;
mod token;
mod top;
mod verify;

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{Command, ConfigCommand};

/// Runs a command to its end.
pub(crate) async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(options) => dev::run(options).await,
        Command::Run(options) => run::run(&options).await,
        Command::Init(options) => init::run(&options).await,
        Command::Config(command) => match command {
            ConfigCommand::Check(options) => config::check(&options).await,
            ConfigCommand::Show(options) => config::show(&options),
            ConfigCommand::Schema => print(&format!("{:#}", crate::config::schema())),
            ConfigCommand::Example => print(crate::config::REFERENCE),
        },
        Command::Doctor(options) => doctor::run(&options).await,
        Command::Tail(options) => tail::run(&options).await,
        Command::Status(options) => status::run(&options).await,
        Command::Top(options) => Box::pin(top::run(&options)).await,
        Command::Healthcheck(options) => healthcheck::run(&options).await,
        Command::Recover(options) => Box::pin(recover::run(&options)).await,
        Command::Skip(options) => skip::run(&options).await,
        Command::Prune(options) => Box::pin(prune::run(&options)).await,
        Command::Verify(options) => Box::pin(verify::run(&options)).await,
        Command::Bench(options) => Box::pin(bench::run(&options)).await,
        Command::Table(command) => table::run(&command).await,
        Command::Token(command) => token::run(&command).await,
        Command::Remove(options) => remove::run(&options).await,
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    answer(text.trim_end()).map(|()| ExitCode::SUCCESS)
}

/// What a command says while it works: lines for people as it goes, or with `--json` one object at its end.
struct Saying {
    json: bool,
}

impl Saying {
    /// A line for people.
    fn line(&self, text: impl std::fmt::Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { answer(text) }
    }

    /// What came of it, for programs.
    fn end(&self, report: &impl Serialize) -> anyhow::Result<ExitCode> {
        if self.json {
            answer(serde_json::to_string_pretty(report)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what a command answers: on standard output, in colours where that is a terminal that is to have some, and without a panic
/// when the reader has gone (`| head`).
fn answer(text: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(anstream::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}
