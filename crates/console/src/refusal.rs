//! Why a statement is not done, as PostgreSQL's clients know it.

use pgwire::error::{ErrorInfo, PgWireError};

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
}

impl Refusal {
    /// With this SQLSTATE and message.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Refusal { sqlstate, message: message.into(), hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Refusal { hint: Some(hint.into()), ..self }
    }

    /// What stands there is no statement.
    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Refusal::new("42601", message)
    }

    /// PostgreSQL has it, the console does not.
    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        let hint =
            "One table at a time: SELECT … FROM … WHERE … ORDER BY … LIMIT …; SHOW HELP lists the tables.";
        Refusal::new("0A000", format!("{what} is not there: this is a console, no database")).hint(hint)
    }

    /// Two types that do not go together.
    pub(crate) fn mismatch(message: impl Into<String>) -> Self {
        Refusal::new("42804", message)
    }
}

impl From<Refusal> for PgWireError {
    fn from(Refusal { sqlstate, message, hint }: Refusal) -> Self {
        let mut info = ErrorInfo::new("ERROR".to_owned(), sqlstate.to_owned(), message);
        info.hint = hint;
        PgWireError::UserError(Box::new(info))
    }
}
