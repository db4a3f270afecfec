//! `waldelta config show`: every setting that is in force, and where it comes from. Nothing that may be secret is shown.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use crate::cli::{self, ConfigShowOptions, Given};
use crate::commands::answer;
use crate::config::{Config, Setting, settings};
use crate::environment;
use crate::human::{FAINT, styled};

/// A setting, and where it comes from.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    value: toml::Value,
    origin: Origin,
    /// The flag, the variable or the file.
    from: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Origin {
    Default,
    File,
    Variable,
    Flag,
}

/// Prints them as TOML, with a comment each, or as JSON.
pub(crate) fn run(options: &ConfigShowOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let path = options.options.config.as_deref();
    let file = match path {
        // It was read a moment ago.
        Some(path) => std::fs::read_to_string(path).context("read the configuration file")?.parse()?,
        None => toml::Table::new(),
    };
    let given = cli::given();
    let shown = settings(&config).into_iter().map(|setting| {
        let path = path.map(|path| path.display().to_string());
        let given = given.get(&*setting.name);
        with_origin(setting, given, &file, path)
    });
    let shown: Vec<Shown> = shown.collect();
    match options.json {
        true => answer(serde_json::to_string_pretty(&shown)?)?,
        false => answer(text(&shown).trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn with_origin(setting: Setting, given: Option<&Given>, file: &toml::Table, path: Option<String>) -> Shown {
    let (origin, from) = match given {
        Some(Given::Flag(flag)) => (Origin::Flag, Some(format!("--{flag}"))),
        Some(Given::Variable(name)) => (Origin::Variable, Some(name.clone())),
        None if is_in(file, &setting.name) => (Origin::File, path),
        None => (Origin::Default, None),
    };
    Shown { name: setting.name, value: setting.value, origin, from }
}

/// Whether a file has a setting of this name.
fn is_in(file: &toml::Table, name: &str) -> bool {
    match name.split_once('.') {
        Some((first, rest)) => {
            file.get(first).and_then(toml::Value::as_table).is_some_and(|below| is_in(below, rest))
        }
        None => file.contains_key(name),
    }
}

fn text(shown: &[Shown]) -> String {
    let mut text = String::new();
    let mut section = "";
    let width =
        shown.iter().map(|one| line(one).chars().count()).filter(|width| *width <= 60).max().unwrap_or(0);
    for one in shown {
        let own = one.name.rsplit_once('.').map_or("", |(section, _)| section);
        // Writing into a string does not fail.
        if own != section {
            let _ = writeln!(text, "\n[{own}]");
            section = own;
        }
        let from = match &one.from {
            Some(from) => format!("# {from}"),
            None => styled(FAINT, "# default"),
        };
        let _ = writeln!(text, "{:width$}  {from}", line(one));
    }
    let variables = environment::postgres().variables;
    let mut names: Vec<&str> = variables.keys().map(String::as_str).collect();
    names.sort_unstable();
    if !names.is_empty() {
        let _ = writeln!(text, "\n# URLs are filled up by {}", names.join(", "));
    }
    text.trim_start().to_owned()
}

fn line(one: &Shown) -> String {
    let key = one.name.rsplit('.').next().unwrap_or_default();
    format!("{key} = {}", one.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_variables_and_these_over_the_file() {
        let file: toml::Table =
            "rules = []\n[server]\nlisten = '[::1]:1'\n[server.tls]\nkey = 'k'".parse().unwrap();
        let origin = |name: &str, given: Option<Given>| {
            let setting = Setting { name: name.into(), value: 1.into(), is_default: false };
            let shown = with_origin(setting, given.as_ref(), &file, Some("w.toml".into()));
            (shown.origin, shown.from.unwrap_or_default())
        };
        let flag = || Some(Given::Flag("listen".into()));
        assert_eq!(origin("server.listen", flag()), (Origin::Flag, "--listen".into()));
        let variable = || Some(Given::Variable("WALDELTA_LISTEN".into()));
        assert_eq!(origin("server.listen", variable()), (Origin::Variable, "WALDELTA_LISTEN".into()));
        for name in ["server.listen", "server.tls.key", "rules"] {
            assert_eq!(origin(name, None), (Origin::File, "w.toml".into()));
        }
        for name in ["server.role", "server.tls.certificate", "source.url"] {
            assert_eq!(origin(name, None), (Origin::Default, String::new()));
        }
    }

    #[test]
    fn what_is_shown_is_toml_again() {
        let shown = settings(&Config::default());
        let shown: Vec<Shown> =
            shown.into_iter().map(|setting| with_origin(setting, None, &toml::Table::new(), None)).collect();
        let read: toml::Table = anstream::adapter::strip_str(&text(&shown)).to_string().parse().unwrap();
        assert_eq!(read, toml::Table::try_from(Config::default()).unwrap());
    }
}
