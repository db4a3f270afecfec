//! Which settings were given to this process beside the file.

use std::collections::HashMap;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use super::Cli;

/// The settings that have a flag of their own (its name as the parser knows it).
const SETTINGS: [(&str, &str); 8] = [
    ("source.url", "database_url"),
    ("history.url", "history_url"),
    ("source.publication", "publication"),
    ("source.slot", "slot"),
    ("source.plugin", "plugin"),
    ("capture.oversize", "oversize"),
    ("capture.on_gap", "on_gap"),
    ("server.listen", "listen"),
];

/// How a setting was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// By a flag of this name.
    Flag(String),
    /// By an environment variable of this name.
    Variable(String),
}

/// The settings that were given to this process, by name.
pub(crate) fn given() -> HashMap<&'static str, Given> {
    given_by(&Cli::command().get_matches())
}

fn given_by(matches: &ArgMatches) -> HashMap<&'static str, Given> {
    let all = Cli::command();
    let mut command = &all;
    let mut matches = matches;
    while let Some((name, below)) = matches.subcommand() {
        let Some(known) = command.find_subcommand(name) else { break };
        (command, matches) = (known, below);
    }
    let of = |(setting, id): (&'static str, &str)| {
        let argument = command.get_arguments().find(|argument| argument.get_id() == id)?;
        let given = match matches.value_source(id)? {
            ValueSource::CommandLine => Given::Flag(argument.get_long()?.to_owned()),
            ValueSource::EnvVariable => Given::Variable(argument.get_env()?.to_string_lossy().into_owned()),
            _ => return None,
        };
        Some((setting, given))
    };
    SETTINGS.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_a_setting_is_known_by_it() {
        let line = "waldelta config show --database-url a --history-url b --publication c --slot d \
            --plugin wal2json --oversize reference --on-gap new_epoch --listen 127.0.0.1:1";
        let given = given_by(&Cli::command().get_matches_from(line.split_whitespace()));
        let flag = |flag: &str| Given::Flag(flag.to_owned());
        assert_eq!(given.len(), SETTINGS.len());
        assert_eq!(given["source.url"], flag("database-url"));
        assert_eq!(given["capture.on_gap"], flag("on-gap"));
    }
}
