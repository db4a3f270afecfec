//! `waldelta doctor`: what is missing or will go wrong, and the SQL that mends it.

use std::process::ExitCode;

use waldelta_source::checks::{self, Check, State};

use super::answer;
use crate::cli::DoctorOptions;
use crate::config::Config;
use crate::failure::EXIT_FAILED;

/// Runs every check; exit code 1 when one failed.
pub(crate) async fn run(options: &DoctorOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let source = config.source()?;
    let checks = checks::run(&source).await;
    if options.json {
        answer(serde_json::to_string_pretty(&checks)?)?;
    } else {
        for check in &checks {
            show(check)?;
        }
    }
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    if !options.json {
        answer(match failed {
            0 => "nothing stands in the way".to_owned(),
            1 => "1 check failed".to_owned(),
            more => format!("{more} checks failed"),
        })?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn show(check: &Check) -> anyhow::Result<()> {
    let mark = match check.state {
        State::Ok => "ok     ",
        State::Warning => "warning",
        State::Failed => "FAILED ",
        State::Unknown => "unknown",
    };
    let code = check.code.map_or_else(String::new, |code| format!(" [{}]", code.as_str()));
    answer(format_args!("{mark}  {}: {}{code}", check.name, check.found))?;
    if let Some(fix) = &check.fix {
        for line in fix.lines() {
            answer(format_args!("         {line}"))?;
        }
    }
    Ok(())
}
