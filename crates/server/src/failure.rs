//! Failures as the terminal shows them: code, what, why, how to mend it.

use std::process::ExitCode;

use anstream::eprintln;
use waldelta_wal::Code;

use crate::human::{BAD, styled};

/// The command failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Capture stopped in a state that needs a decision.
pub(crate) const EXIT_CAPTURE_STOPPED: u8 = 3;

/// A failure of the command itself, with its code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    /// An error with this code and message.
    pub(crate) fn error(code: Code, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Failure { code, message: message.into() })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The stable code of a failure, if some part gave it one.
pub(crate) fn code_of(error: &anyhow::Error) -> Option<Code> {
    error.chain().find_map(|cause| {
        None.or_else(|| cause.downcast_ref::<Failure>().map(|error| error.code))
            .or_else(|| cause.downcast_ref::<waldelta_access::MakeTokenError>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_capture::Error>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_fanout::Error>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_history::Error>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_source::Error>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_pgconn::Error>().map(|error| error.code()))
            .or_else(|| cause.downcast_ref::<waldelta_pglocal::Error>().map(|error| error.code()))
    })
}

/// The whole chain in one line: what was being done, then each deeper cause.
pub(crate) fn chain_text(error: &anyhow::Error) -> String {
    waldelta_wal::chain_text(error.as_ref())
}

/// Prints the failure on standard error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let mark = styled(BAD, "error");
    match code_of(error) {
        None => eprintln!("{mark}: {}", chain_text(error)),
        Some(code) => {
            let explanation = code.explanation();
            eprintln!("{mark}: {}: {}", code.as_str(), chain_text(error));
            eprintln!("  what: {}", explanation.title);
            eprintln!("  why:  {}", explanation.cause);
            eprintln!("  fix:  {}", explanation.fix);
            eprintln!("  docs: docs/reference/errors.md#{}", code.as_str().to_ascii_lowercase());
        }
    }
    ExitCode::from(EXIT_FAILED)
}
