//! Why a filter is not accepted. Says no values, neither the client's nor a row's: only names of columns and types.

/// Why a filter is not accepted. It repeats nothing of the client's text but names of columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    /// The text is not of the grammar.
    #[error("at character {at}: expected {expected}")]
    Syntax {
        /// Where, in characters from 1.
        at: usize,
        /// What could have stood there.
        expected: &'static str,
    },
    /// The text is too long, or what is printed of it.
    #[error("the filter is longer than {max} bytes")]
    TextTooLong {
        /// The limit.
        max: usize,
    },
    /// It has too many parts.
    #[error(
        "the filter has more than {max} conditions, each AND, OR and NOT counted too: put equalities into an IN list"
    )]
    TooManyNodes {
        /// The limit.
        max: usize,
    },
    /// Its parts lie too deep in each other.
    #[error("the filter is nested deeper than {max} levels")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// An IN list is too long.
    #[error("at character {at}: an IN list has more than {max} values: use several subscriptions")]
    TooManyValues {
        /// Where the first value too much is, in characters from 1.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// A number is too long, too great or too small.
    #[error("at character {at}: a number has more than {max} digits before or behind its point")]
    NumberTooLong {
        /// Where, in characters from 1.
        at: usize,
        /// The limit.
        max: i64,
    },
    /// What stands between two `%` is too long to be searched for in time.
    #[error(
        "at character {at}: a LIKE pattern has more than {max} characters with a _ among them between two %"
    )]
    PatternTooLong {
        /// Where, in characters from 1.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// The table has no such column, or does not publish it.
    #[error("the table has no column {column}, or does not publish it")]
    NoColumn {
        /// Its name, quoted as SQL would.
        column: String,
    },
    /// The column's type cannot be compared like this.
    #[error("column {column} is of type {type_name}, {why}")]
    NotComparable {
        /// Its name, quoted as SQL would.
        column: String,
        /// Its type.
        type_name: String,
        /// What it cannot, and what to do.
        why: &'static str,
    },
    /// The value is none of the column's type.
    #[error("column {column} is of type {type_name} and is compared with {expected}")]
    WrongValue {
        /// Its name, quoted as SQL would.
        column: String,
        /// Its type.
        type_name: String,
        /// What a value has to be.
        expected: &'static str,
    },
}
