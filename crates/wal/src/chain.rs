//! An error with all that it comes from, as one line for people: for status, log and terminal.
//!
//! PostgreSQL's details are left out, because those of a constraint or a type hold values of the row.

use std::error::Error;

/// Where the driver writes the detail behind the message.
const DETAIL: &str = "\nDETAIL: ";

/// The error and its causes, each once: what was being done first.
pub fn chain_text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        let part = part.split(DETAIL).next().unwrap_or_default();
        if !text.ends_with(part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(part);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Cause {
        text: &'static str,
        source: Option<Box<Cause>>,
    }

    #[test]
    fn each_cause_is_told_once_and_no_detail() {
        let cause = |text, source| Cause { text, source };
        let server = cause("db error: ERROR: refused\nDETAIL: Failing row contains (secret)", None);
        let twice = cause("append: db error: ERROR: refused", Some(Box::new(server)));
        let error = cause("store in history", Some(Box::new(twice)));
        assert_eq!(chain_text(&error), "store in history: append: db error: ERROR: refused");
    }
}
