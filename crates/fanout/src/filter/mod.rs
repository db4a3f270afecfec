//! Row filters: parsed from a client's text into a closed grammar, bound to a table's shape, decided on images of rows, and
//! printed as SQL for snapshots.
//!
//! A filter means what it means behind SQL's WHERE, with two exceptions: no collation is ever looked at (texts are ordered,
//! matched by LIKE and equal by their bytes, which in SQL is `COLLATE "C"`; so are those of a non-deterministic collation),
//! and JSON's null is null, because an image does not tell the two apart.
//!
//! As in SQL, a `real` is compared with a number in double precision, where 0.1 is another one: `r = 0.1` is true of no row,
//! `r = '0.1'` is. IN is several of these `=`, also where SQL would take all of its values as `real`.
//!
//! Nothing of a client's text reaches SQL but what was parsed and is printed again. It knows no sessions.

mod error;

mod decimal;
mod instant;
mod pattern;

mod condition;
mod lexer;
mod parser;

mod template;

mod family;
mod value;

mod predicate;
mod row;

mod outcomes;

mod equality;
mod sql;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use condition::Condition;
pub(crate) use decimal::Decimal;
pub(crate) use equality::Equality;
pub(crate) use error::FilterError;
pub(crate) use predicate::Predicate;
pub(crate) use row::Row;
pub(crate) use template::{Template, claim};
pub(crate) use value::IndexKey;

/// Bytes of a filter's text, as it comes and as it is printed.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Comparisons, and the words that join them.
const NODES_MAX: usize = 250;
/// How deep NOT, AND and OR may lie in each other.
const DEPTH_MAX: usize = 32;
/// Values of one IN list.
const VALUES_MAX: usize = 1_000;
/// Digits of a number, and how far from its first digit its point may be.
const DIGITS_MAX: i64 = 1_000;

/// A row filter as a client wrote it: parsed and bounded, not yet bound to a table. Cheap to clone.
///
/// Prints in one form for whatever spaces, parentheses, case of words and order the client wrote. Filters that print the same
/// are equal. What it prints is a filter again, and an equal one.
#[derive(Clone)]
pub(crate) struct Filter(Arc<Parsed>);

struct Parsed {
    condition: Condition,
    text: String,
}

/// What is known of whether a row passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes.
    Passes,
    /// It does not: the filter is false, or null.
    Fails,
    /// The image lacks a column that decides it.
    Unknown,
}

impl Filter {
    /// The names of the columns that it reads.
    pub(crate) fn columns(&self) -> BTreeSet<&str> {
        let mut columns = BTreeSet::new();
        self.condition().add_columns(&mut columns);
        columns
    }

    fn condition(&self) -> &Condition {
        &self.0.condition
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        check_length(text)?;
        Parsed::new(parser::parse(text, false)?).map(|parsed| Filter(Arc::new(parsed)))
    }
}

impl Parsed {
    /// What is within the limits.
    fn new(condition: Condition) -> Result<Self, FilterError> {
        if condition.nodes() > NODES_MAX {
            return Err(FilterError::TooManyNodes { max: NODES_MAX });
        }
        if condition.depth() > DEPTH_MAX {
            return Err(FilterError::TooDeep { max: DEPTH_MAX });
        }
        let text = condition.to_string();
        // What is printed is to be a filter again.
        check_length(&text)?;
        Ok(Parsed { condition, text })
    }
}

fn check_length(text: &str) -> Result<(), FilterError> {
    match text.len() > TEXT_BYTES_MAX {
        true => Err(FilterError::TextTooLong { max: TEXT_BYTES_MAX }),
        false => Ok(()),
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.text).finish()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl Ord for Filter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

impl PartialOrd for Filter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
