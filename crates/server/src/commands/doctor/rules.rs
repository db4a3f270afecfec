//! What the doctor looks at in the configuration itself: whether its rules show what is meant. `waldelta config check` says more.

use waldelta_source::Source;
use waldelta_source::checks::{self, Check, Kind};
use waldelta_wal::Code;

use crate::commands::config::{Level, misfits, purpose};
use crate::config::Config;
use crate::failure::{self, chain_text};
use crate::service::published;

const NAME: &str = "rules";

/// Every check of the configuration, in the order in which they are made.
pub(super) const LIST: &[Kind] = &[Kind {
    name: NAME,
    looks_at: "Whether the rules of the configuration fit the tables that are captured, and whether somebody can see something.",
    codes: &[Code::RuleMisfit, Code::RuleUndecidable, Code::TableNotCaptured, Code::ConfigInvalid],
}];

/// Runs them.
pub(super) async fn checks(config: &Config, source: &Source) -> Vec<Check> {
    let checks = rules(config, source).await;
    for check in &checks {
        debug_assert!(checks::is_listed(check, LIST), "{check:?} is not in the list of checks");
    }
    checks
}

async fn rules(config: &Config, source: &Source) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(finding) = purpose(config) {
        checks.push(Check::warning(NAME, Code::ConfigInvalid, finding.why, finding.fix));
    }
    if config.rules.is_empty() {
        let open = "there are no rules, and nobody has to authenticate: every client sees everything";
        return if checks.is_empty() { vec![Check::ok(NAME, open.to_owned())] } else { checks };
    }
    let tables = match published(source).await {
        Ok(tables) => tables,
        Err(error) => {
            let code = failure::code_of(&error).unwrap_or(Code::SourceUnreachable);
            checks.push(Check::unknown(NAME, code, chain_text(&error), None));
            return checks;
        }
    };
    let found = misfits(config, &tables);
    for finding in &found {
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == finding.code);
        let (code, text) = (code.unwrap_or(Code::RuleMisfit), format!("{}: {}", finding.place, finding.why));
        checks.push(match finding.level {
            Level::Warning => Check::warning(NAME, code, text, finding.fix.clone()),
            Level::Failed | Level::Unknown => Check::failed(NAME, code, text, finding.fix.clone()),
        });
    }
    if checks.is_empty() {
        let text = format!("{} rules fit {} tables", config.rules.len(), tables.len());
        checks.push(Check::ok(NAME, text));
    }
    checks
}
