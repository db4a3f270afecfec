//! `waldelta verify`: compares history with its seals, which tell whether it was altered since.
//!
//! It reads, beside a service that runs or without one, and mends nothing.

use std::process::ExitCode;

use anyhow::Context;
use waldelta_history::{EpochSeals, History, Noted, Verification};
use waldelta_wal::Code;

use super::answer;
use crate::cli::VerifyOptions;
use crate::config::Config;
use crate::failure::Failure;
use crate::human::{BAD, styled};

/// Compares, says what came of it, and fails where something is not as it was sealed, or where that cannot be told.
pub(crate) async fn run(options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let config = Config::load(&options.options)?;
    let history = History::open_as_it_is(&config.history()?).await.context("open history")?;
    let report =
        history.verify(options.from, options.expect).await.context("compare history with its seals")?;
    match options.json {
        true => answer(serde_json::to_string_pretty(&report)?)?,
        false => answer(text(&report).replace("ALTERED", &styled(BAD, "ALTERED")))?,
    }
    failure(&report).map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What makes the command fail.
fn failure(report: &Verification) -> Option<anyhow::Error> {
    let found = report.findings.len() as u64 + report.findings_left_out;
    if let Some(first) = report.findings.first() {
        let more = match found - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return Some(Failure::error(Code::HistoryAltered, format!("{first}{more}")));
    }
    if report.noted == Some(Noted::Pruned) {
        let message = "the seal that was expected went with what was pruned: compare with a newer one";
        return Some(Failure::error(Code::HistoryPruned, message));
    }
    if report.newest.is_none() && report.unsealed.changes > 0 {
        return Some(Failure::error(Code::HistoryUnsealed, "there is nothing to compare with"));
    }
    None
}

fn text(report: &Verification) -> String {
    let mut lines: Vec<String> = report.epochs.iter().flat_map(epoch_lines).collect();
    if let Some(pruned) = &report.pruned {
        lines.push(format!("pruned: everything up to {pruned}"));
    }
    let unsealed = report.unsealed;
    lines.push(format!(
        "not sealed yet: {}{} changes",
        if unsealed.is_more { "more than " } else { "" },
        unsealed.changes
    ));
    lines.push(match &report.newest {
        Some(newest) => format!("newest seal: {newest}"),
        None => "newest seal: none".to_owned(),
    });
    if report.noted == Some(Noted::Same) {
        lines.push("the seal that was expected is there as it was".to_owned());
    }
    lines.extend(report.findings.iter().map(|finding| format!("ALTERED {finding}")));
    if report.findings_left_out > 0 {
        lines.push(format!("and {} more findings", report.findings_left_out));
    }
    lines.join("\n")
}

fn epoch_lines(epoch: &EpochSeals) -> Vec<String> {
    let EpochSeals {
        epoch,
        seals,
        good_seals,
        good_changes,
        pruned_seals,
        seals_before,
        sealed_until,
        has_ended,
    } = epoch;
    let until = match has_ended {
        true => "its end",
        false => sealed_until.as_str(),
    };
    let mut lines = vec![format!(
        "epoch {epoch}: {good_changes} changes in {good_seals} of {seals} seals are as they were sealed; sealed up to {until}"
    )];
    if *pruned_seals > 0 {
        lines.push(format!("  {pruned_seals} seals not compared: something of them was pruned"));
    }
    if *seals_before > 0 {
        lines.push(format!("  {seals_before} seals not compared: they lie before --from"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use waldelta_history::{Finding, Problem, Unsealed};

    use super::*;
    use crate::failure::code_of;

    fn report() -> Verification {
        let epoch = EpochSeals {
            epoch: 7,
            seals: 9,
            good_seals: 5,
            good_changes: 50,
            pruned_seals: 3,
            seals_before: 1,
            sealed_until: "c".into(),
            has_ended: false,
        };
        Verification { epochs: vec![epoch], newest: Some("7.9.ab".into()), ..Verification::default() }
    }

    #[test]
    fn says_what_was_compared_and_what_not() {
        let shown = text(&Verification {
            pruned: Some("p".into()),
            unsealed: Unsealed { changes: 2, is_more: true },
            noted: Some(Noted::Same),
            ..report()
        });
        let wanted = "epoch 7: 50 changes in 5 of 9 seals are as they were sealed; sealed up to c\n  \
            3 seals not compared: something of them was pruned\n  1 seals not compared: they lie before --from\n\
            pruned: everything up to p\nnot sealed yet: more than 2 changes\nnewest seal: 7.9.ab\n\
            the seal that was expected is there as it was";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn fails_where_something_differs_or_nothing_can_be_told() {
        let code = |report: &Verification| failure(report).map(|error| code_of(&error).unwrap());
        assert_eq!(code(&report()), None);
        let finding = Finding {
            epoch: 7,
            seal: 9,
            from: "f".into(),
            upto: "u".into(),
            problem: Problem::ChangesDiffer { sealed: 4, found: 3 },
        };
        let altered = Verification { findings: vec![finding], findings_left_out: 2, ..report() };
        assert_eq!(code(&altered), Some(Code::HistoryAltered));
        let told = failure(&altered).unwrap().to_string();
        assert_eq!(told, "epoch 7, seal 9, from f to u: 1 of 4 changes are missing (and 2 more)");
        assert!(
            text(&altered).contains("\nALTERED epoch 7, seal 9")
                && text(&altered).ends_with("and 2 more findings")
        );
        assert_eq!(code(&Verification { noted: Some(Noted::Pruned), ..report() }), Some(Code::HistoryPruned));
        let unsealed = Unsealed { changes: 1, is_more: false };
        let never = Verification { newest: None, unsealed, ..report() };
        assert_eq!(code(&never), Some(Code::HistoryUnsealed));
        assert_eq!(code(&Verification::default()), None, "there is nothing yet");
    }
}
