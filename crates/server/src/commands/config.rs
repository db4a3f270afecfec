//! `waldelta config`: what is in force (`show`), and with `check` whether a configuration can be used, and what its rules come to. Nothing is changed.

mod show;

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde::Serialize;
use waldelta_wal::{Code, Table, TableName};

pub(super) use self::show::run as show;
use super::answer;
use crate::cli::ConfigCheckOptions;
use crate::config::{Config, RuleConfig};
use crate::failure::{self, EXIT_FAILED};
use crate::human::{BAD, WARNING, styled};
use crate::listener::Certificates;
use crate::service::{closes, published};

/// Something could not be found out.
const EXIT_UNKNOWN: u8 = 2;

/// Something about a configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub level: Level,
    pub code: &'static str,
    /// The rule or the setting.
    pub place: String,
    pub why: String,
    /// What mends it.
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// It works, and is perhaps not what is meant.
    Warning,
    /// A running service would not take it, or show less than is meant.
    Failed,
    /// It could not be found out.
    Unknown,
}

/// What a rule does, and for whom.
#[derive(Debug, Serialize)]
struct Effect {
    rule: usize,
    table: String,
    /// The tables there are that it is for; absent where they were not asked for.
    tables: Option<Vec<String>>,
    r#for: String,
    columns: String,
    rows: String,
}

#[derive(Debug, Serialize)]
struct Report {
    findings: Vec<Finding>,
    rules: Vec<Effect>,
    /// Captured tables that no rule is for: nobody sees them.
    closed: Vec<String>,
}

/// Looks at all of it. Exit code 0 when it can be used, 1 when something is wrong with it, 2 when that could not be found out.
pub(crate) async fn check(options: &ConfigCheckOptions) -> anyhow::Result<ExitCode> {
    let report = match Config::load(&options.options) {
        Ok(config) => look(&config, options.offline).await,
        Err(error) => Report { findings: vec![failed(&error)], rules: Vec::new(), closed: Vec::new() },
    };
    if options.json {
        answer(serde_json::to_string_pretty(&report)?)?;
    } else {
        tell(&report)?;
    }
    let has = |level| report.findings.iter().any(|finding| finding.level == level);
    Ok(match (has(Level::Failed), has(Level::Unknown)) {
        (true, _) => ExitCode::from(EXIT_FAILED),
        (false, true) => ExitCode::from(EXIT_UNKNOWN),
        (false, false) => ExitCode::SUCCESS,
    })
}

async fn look(config: &Config, offline: bool) -> Report {
    let mut findings = Vec::new();
    if let Err(error) = config.access() {
        findings.push(failed(&error));
    }
    if let Some((certificate, key)) = config.server.tls.files()
        && let Err(error) = Certificates::load(certificate, key)
    {
        findings.push(failed(&error));
    }
    findings.extend(exposed(config));
    findings.extend(purpose(config));
    let tables = match (offline, config.source()) {
        (true, _) => None,
        (false, Err(error)) => {
            findings.push(failed(&error));
            None
        }
        (false, Ok(source)) => match published(&source).await {
            Ok(tables) => Some(tables),
            Err(error) => {
                findings.push(Finding { level: Level::Unknown, ..failed(&error) });
                None
            }
        },
    };
    if let Some(tables) = &tables {
        findings.extend(misfits(config, tables));
    }
    let is_open = config.rules.is_empty() && !config.requires_authentication();
    let closed = tables.iter().flatten().filter(|_| !is_open).map(|table| table.name.to_string());
    let rules: Vec<Effect> =
        (1..).zip(&config.rules).map(|(number, rule)| effect(number, rule, tables.as_deref())).collect();
    let is_seen =
        |name: &String| rules.iter().any(|rule| rule.tables.iter().flatten().any(|seen| seen == name));
    let closed = closed.filter(|name| !is_seen(name)).collect();
    Report { findings, rules, closed }
}

/// Addresses that others reach: without authentication none is listened on, without encryption they are warned of.
fn exposed(config: &Config) -> Vec<Finding> {
    let server = &config.server;
    let is_encrypted = server.tls.files().is_some() || !server.trusted_proxies.is_empty();
    // One that cannot be read was refused with the file.
    let operators = server.admin_listen().ok().flatten();
    let addresses = [("server.listen", Some(server.listen)), ("server.admin_listen", operators)];
    let exposed = addresses.into_iter().filter_map(|(place, address)| Some((place, address?)));
    let finding = |(place, address): (&str, SocketAddr)| {
        if !config.requires_authentication() {
            let why = format!("{address} can be reached by others, and nobody has to authenticate");
            return Some(of(Level::Failed, Code::ListenUnprotected, place, why));
        }
        let why = format!("{address} can be reached by others, and nothing is encrypted");
        (!is_encrypted).then(|| of(Level::Warning, Code::ListenUnencrypted, place, why))
    };
    exposed.filter(|(_, address)| !address.ip().is_loopback()).filter_map(finding).collect()
}

/// Rules that do not fit the tables there are.
pub(super) fn misfits(config: &Config, tables: &[Table]) -> Vec<Finding> {
    // Rules that cannot be read were refused with the file.
    let Ok(policy) = config.policy() else { return Vec::new() };
    let finding = |found: waldelta_fanout::Finding| Finding {
        level: if closes(&found) { Level::Failed } else { Level::Warning },
        code: found.code.as_str(),
        place: format!("rules[{}], for {}", found.rule, found.table),
        why: found.message,
        fix: found.fix.map_or_else(|| found.code.explanation().fix.to_owned(), |fix| format!("{fix};")),
    };
    policy.rules.check(tables).into_iter().map(finding).collect()
}

/// What works, and is hardly meant.
pub(super) fn purpose(config: &Config) -> Option<Finding> {
    let why = match (config.requires_authentication(), config.rules.is_empty()) {
        (true, true) => "clients must authenticate, and there is no rule: nobody sees anything",
        (false, false) if config.rules.iter().any(RuleConfig::asks_for_claims) => {
            "nobody authenticates, so nobody has claims: rules that ask for them are for nobody, and filters with :claims give nothing"
        }
        _ => return None,
    };
    Some(of(Level::Warning, Code::ConfigInvalid, "rules", why))
}

fn of(level: Level, code: Code, place: &str, why: impl Into<String>) -> Finding {
    let fix = match code {
        Code::ConfigInvalid => "add `[[rules]]`, or `[auth]`, as docs/reference/waldelta.toml has them",
        code => code.explanation().fix,
    };
    Finding { level, code: code.as_str(), place: place.to_owned(), why: why.into(), fix: fix.to_owned() }
}

fn failed(error: &anyhow::Error) -> Finding {
    let code = failure::code_of(error).unwrap_or(Code::ConfigInvalid);
    Finding {
        level: Level::Failed,
        code: code.as_str(),
        place: String::new(),
        why: failure::chain_text(error),
        fix: code.explanation().fix.to_owned(),
    }
}

fn effect(number: usize, rule: &RuleConfig, tables: Option<&[Table]>) -> Effect {
    let names = tables.map(|tables| tables.iter().map(|table| &table.name));
    let of_rule = |names: &mut dyn Iterator<Item = &TableName>| {
        names.filter(|name| is_for(&rule.table, name)).map(ToString::to_string).collect()
    };
    Effect {
        rule: number,
        table: rule.table.clone(),
        tables: names.map(|mut names| of_rule(&mut names)),
        r#for: rule.whom(),
        columns: match &rule.columns {
            None => "all".to_owned(),
            Some(columns) if columns.is_empty() => "the key alone".to_owned(),
            Some(columns) => format!("the key, {}", columns.join(", ")),
        },
        rows: rule.filter.clone().unwrap_or_else(|| "all".to_owned()),
    }
}

/// Whether a table is one of the pattern's: `schema.table`, `schema.*` or `*`.
fn is_for(pattern: &str, name: &TableName) -> bool {
    let schema = pattern.strip_suffix(".*").map(|schema| format!("{schema}.any").parse::<TableName>());
    match schema {
        _ if pattern == "*" => true,
        Some(schema) => schema.is_ok_and(|any| any.schema == name.schema),
        None => pattern.parse::<TableName>().is_ok_and(|table| table == *name),
    }
}

fn tell(report: &Report) -> anyhow::Result<()> {
    for finding in &report.findings {
        let mark = match finding.level {
            Level::Warning => styled(WARNING, "warning"),
            Level::Failed => styled(BAD, "FAILED "),
            Level::Unknown => styled(WARNING, "unknown"),
        };
        let place = match finding.place.as_str() {
            "" => String::new(),
            place => format!("{place}: "),
        };
        answer(format_args!("{mark}  {place}{} [{}]", finding.why, finding.code))?;
        answer(format_args!("         {}", finding.fix))?;
    }
    if !report.rules.is_empty() {
        answer(columns_of(&report.rules))?;
    }
    for table in &report.closed {
        answer(format_args!("nobody sees {table}: no rule is for it"))?;
    }
    if report.findings.is_empty() {
        answer("the configuration can be used")?;
    }
    Ok(())
}

/// A line for each rule, in columns.
fn columns_of(rules: &[Effect]) -> String {
    let head = ["rule", "table", "for", "columns", "rows"].map(str::to_owned);
    let line = |rule: &Effect| {
        let tables = match &rule.tables {
            Some(tables) if tables.len() != 1 || tables[0] != rule.table => {
                format!("{} ({})", rule.table, counted(tables.len()))
            }
            _ => rule.table.clone(),
        };
        [rule.rule.to_string(), tables, rule.r#for.clone(), rule.columns.clone(), rule.rows.clone()]
    };
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rules.iter().map(line)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [number, table, whom, columns, rows] in &lines {
        let [a, b, c, d] = widths;
        // Writing into a string does not fail.
        let _ = writeln!(text, "{number:a$}  {table:b$}  {whom:c$}  {columns:d$}  {rows}");
    }
    text
}

fn counted(tables: usize) -> String {
    match tables {
        1 => "1 table".to_owned(),
        tables => format!("{tables} tables"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_its_tables() {
        let name = |text: &str| text.parse::<TableName>().unwrap();
        for (pattern, table, is) in [
            ("*", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "ab.b", false),
            ("\"A b\".*", "\"A b\".c", true),
            ("a.b", "a.b", true),
            ("b", "public.b", true),
            ("a.b", "a.c", false),
            ("", "a.c", false),
        ] {
            assert_eq!(is_for(pattern, &name(table)), is, "{pattern} {table}");
        }
    }

    #[test]
    fn addresses_that_others_reach_are_told_as_they_are_at_the_start() {
        let told = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            exposed(&config).into_iter().map(|finding| (finding.place, finding.code)).collect::<Vec<_>>()
        };
        let tokens = "[auth]\nstatic_tokens = true\n[server]\n";
        let (clients, operators) = ("listen = '0.0.0.0:1'\n", "admin_listen = '[::]:2'\n");
        let both = |code| vec![("server.listen".to_owned(), code), ("server.admin_listen".to_owned(), code)];
        assert_eq!(told(""), []);
        assert_eq!(told("server.admin_listen = '127.0.0.1:2'"), []);
        assert_eq!(told(&format!("[server]\n{clients}{operators}")), both("WD-LISTEN-UNPROTECTED"));
        assert_eq!(told(&format!("[server]\n{operators}")), both("WD-LISTEN-UNPROTECTED")[1..]);
        assert_eq!(told(&format!("{tokens}{clients}{operators}")), both("WD-LISTEN-UNENCRYPTED"));
        assert_eq!(told(&format!("{tokens}{operators}")), both("WD-LISTEN-UNENCRYPTED")[1..]);
        for encrypted in ["tls = { certificate = 'c', key = 'k' }", "trusted_proxies = ['10.0.0.1']"] {
            assert_eq!(told(&format!("{tokens}{clients}{operators}{encrypted}")), []);
        }
    }

    #[test]
    fn says_what_each_rule_does_for_whom() {
        let text = "table = 'public.orders'\nclaims = { role = ['clerk', 'boss'] }\ncolumns = ['status']\n\
            where = 'tenant_id = :claims.tenant'";
        let first: RuleConfig = toml::from_str(text).unwrap();
        let second: RuleConfig = toml::from_str("table = 'public.*'").unwrap();
        let effects = [effect(1, &first, None), effect(2, &second, None)];
        assert_eq!(
            columns_of(&effects),
            "rule  table          for                      columns          rows\n\
             1     public.orders  role = \"clerk\" | \"boss\"  the key, status  tenant_id = :claims.tenant\n\
             2     public.*       everybody                all              all\n"
        );
    }
}
