//! `waldelta doctor`: what is missing or will go wrong, and the SQL that mends it. Nothing is changed.

mod access;
mod history;
mod machine;
mod rules;

use std::process::ExitCode;

use waldelta_source::checks::{self, Check, State};

use super::answer;
use crate::cli::DoctorOptions;
use crate::config::Config;
use crate::failure::EXIT_FAILED;
use crate::human::{BAD, GOOD, WARNING, styled};

/// Runs every check; exit code 1 when one failed, and with `--strict` also when one warns or could not be answered.
pub(crate) async fn run(options: &DoctorOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let source = config.source()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the clock of this machine is what the server's, and the end of a certificate, are compared with"
    )]
    let clock = std::time::SystemTime::now;
    let measures =
        checks::Options { provider: options.provider, clock: Some(clock), ..checks::Options::default() };
    let mut checks = checks::run_with(&source, &measures).await;
    let takes_tokens = config.auth.static_tokens;
    checks.extend(history::checks(&source, &config.history()?, takes_tokens).await);
    checks.extend(rules::checks(&config, &source).await);
    checks.extend(access::checks(&config, clock()).await?);
    checks.extend(machine::checks(&config));
    let verdict = Verdict::of(&checks, options.strict);
    if options.json {
        answer(serde_json::to_string_pretty(&checks)?)?;
    } else {
        for check in &checks {
            show(check)?;
        }
        answer(verdict.words())?;
    }
    Ok(if verdict.is_well() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// What all checks come to.
struct Verdict {
    failed: usize,
    warnings: usize,
    unknown: usize,
    is_strict: bool,
}

impl Verdict {
    fn of(checks: &[Check], is_strict: bool) -> Self {
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        Verdict {
            failed: count(State::Failed),
            warnings: count(State::Warning),
            unknown: count(State::Unknown),
            is_strict,
        }
    }

    fn is_well(&self) -> bool {
        self.failed == 0 && !(self.is_strict && self.warnings + self.unknown > 0)
    }

    fn words(&self) -> String {
        let failed = match self.failed {
            0 if self.is_well() => return "nothing stands in the way".to_owned(),
            0 => "no check failed".to_owned(),
            1 => "1 check failed".to_owned(),
            more => format!("{more} checks failed"),
        };
        if !self.is_strict {
            return failed;
        }
        format!(
            "{failed}; {} warn and {} could not be answered, which --strict counts too",
            self.warnings, self.unknown
        )
    }
}

fn show(check: &Check) -> anyhow::Result<()> {
    let mark = match check.state {
        State::Ok => styled(GOOD, "ok     "),
        State::Warning => styled(WARNING, "warning"),
        State::Failed => styled(BAD, "FAILED "),
        State::Unknown => styled(WARNING, "unknown"),
    };
    let code = check.code.map_or_else(String::new, |code| format!(" [{}]", code.as_str()));
    answer(format_args!("{mark}  {}: {}{code}", check.name, check.found))?;
    if let Some(why) = check.why {
        answer(format_args!("         why: {why}"))?;
    }
    if let Some(fix) = &check.fix {
        for line in fix.lines() {
            answer(format_args!("         {line}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use waldelta_source::checks::{Kind, LIST};
    use waldelta_wal::Code;

    #[test]
    fn strict_counts_what_is_not_well() {
        let verdict = |states: &[State], strict| {
            let check = |state: &State| Check {
                state: *state,
                ..Check::unknown("slot", Code::SlotMissing, "", None)
            };
            Verdict::of(&states.iter().map(check).collect::<Vec<_>>(), strict)
        };
        assert!(verdict(&[State::Ok, State::Warning, State::Unknown], false).is_well());
        assert!(!verdict(&[State::Ok, State::Warning], true).is_well());
        assert!(!verdict(&[State::Unknown], true).is_well());
        assert!(verdict(&[State::Ok], true).is_well());
        assert!(!verdict(&[State::Failed, State::Ok], false).is_well());
        assert_eq!(verdict(&[State::Failed, State::Ok], false).words(), "1 check failed");
        assert_eq!(verdict(&[State::Warning], false).words(), "nothing stands in the way");
        assert_eq!(
            verdict(&[State::Warning, State::Unknown], true).words(),
            "no check failed; 1 warn and 1 could not be answered, which --strict counts too"
        );
    }

    /// The page is the list of checks; `make docs` writes it.
    #[test]
    fn the_reference_page_of_checks_is_their_list() {
        let mut page = String::from(
            "# Checks\n\n<!-- Made from crates/source/src/checks/list.rs by `make docs`. -->\n\n\
             What `waldelta doctor` looks at, in this order. Each check is a question of its own, and ends as `ok`; `warning`: it\n\
             works, with a disadvantage; `failed`: capture, or the snapshots that clients begin with, cannot work; or `unknown`: it\n\
             could not be found out, mostly for lack of a privilege, with the code of what kept it from that. What does not end\n\
             well comes with its code (see [Error codes](errors.md)), why that is so, and the SQL or setting that mends it.\n\n\
             `--json` prints the list as JSON. The exit code is 0 when no check failed, and 1 otherwise; with `--strict`, 0 only\n\
             when every check is `ok`.\n\n## The source\n",
        );
        list(&mut page, LIST);
        page.push_str("\n\n## History\n");
        list(&mut page, history::LIST);
        page.push_str("\n\n## The configuration\n");
        list(&mut page, rules::LIST);
        page.push_str("\n\n## Who is let in\n");
        list(&mut page, access::LIST);
        page.push_str("\n\n## This machine\n");
        list(&mut page, machine::LIST);
        page.push('\n');
        waldelta_testkit::generated("docs/reference/checks.md", &page);
    }

    fn list(page: &mut String, kinds: &[Kind]) {
        for kind in kinds {
            write!(page, "\n- **{}**: {}", kind.name, kind.looks_at).unwrap();
            let link = |code: &Code| {
                format!("[{0}](errors.md#{1})", code.as_str(), code.as_str().to_ascii_lowercase())
            };
            let codes: Vec<_> = kind.codes.iter().map(link).collect();
            if !codes.is_empty() {
                write!(page, " {}.", codes.join(", ")).unwrap();
            }
        }
    }
}
