//! Why lines of wal2json cannot be followed. Never says a value.

use crate::code::Code;
use crate::table::TableName;

/// A line of wal2json cannot be followed. The translator is as it was before the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wal2jsonError {
    /// The line is longer than PostgreSQL can make one.
    #[error("a line of {bytes} bytes, more than the 1073741823 that PostgreSQL can make")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The line is not what format version 2 has.
    #[error("a line is not wal2json's format version 2, at byte {at}")]
    Unreadable {
        /// Where that shows, counted from 1.
        at: usize,
    },
    /// Text is not UTF-8. wal2json does not convert, so the database may have another encoding.
    #[error("a line is not UTF-8")]
    NotUtf8,
    /// The line says that something happened which format version 2 does not know.
    #[error("a line with the unknown action {action:?}")]
    UnknownAction {
        /// The first characters of it.
        action: String,
    },
    /// A line lacks what must be there: an option was not asked for.
    #[error("a line of action {action:?} lacks {field:?}")]
    Missing {
        /// What the line says has happened.
        action: char,
        /// What it lacks.
        field: &'static str,
    },
    /// Something in a line has not the form in which it is printed.
    #[error("{field:?} of a line cannot be read")]
    Malformed {
        /// What it is of the line.
        field: &'static str,
    },
    /// A row fits neither the shape known before nor the one that was defined for it. Another definition may be tried.
    #[error("a row of table {table} does not fit its shape: {misfit}")]
    Shape {
        /// The table.
        table: TableName,
        /// What does not fit.
        misfit: Misfit,
    },
    /// A shape has more columns than a row can have.
    #[error("table {table} has {columns} columns, more than a row can have")]
    TooManyColumns {
        /// The table.
        table: TableName,
        /// How many.
        columns: usize,
    },
    /// A value is not printed as its type is.
    #[error("column {column} of table {table} is not printed as {expected}")]
    Value {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A column of the replica identity, which is NOT NULL, has a null: it stands for NaN or an infinity, and nobody
    /// knows for which.
    #[error("column {column} of table {table} names the row, and its value was lost: NaN or an infinity")]
    KeyLost {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
    },
}

/// What of a row does not fit a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The row has a column that the shape has not, or not in this place.
    #[error("there is no column {column} in this place")]
    Unknown {
        /// The column.
        column: String,
    },
    /// A column has another type.
    #[error("column {column} has another type")]
    Type {
        /// The column.
        column: String,
    },
    /// The row lacks a column that cannot be unchanged TOAST, or was not seen absent before.
    #[error("column {column} is absent")]
    Absent {
        /// The column.
        column: String,
    },
    /// The primary key has other columns.
    #[error("the primary key is another")]
    PrimaryKey,
}

impl Wal2jsonError {
    /// The stable code that users see.
    pub fn code(&self) -> Code {
        match self {
            Wal2jsonError::NotUtf8 | Wal2jsonError::Value { .. } | Wal2jsonError::KeyLost { .. } => {
                Code::ValueUnreadable
            }
            Wal2jsonError::TooLong { .. }
            | Wal2jsonError::Unreadable { .. }
            | Wal2jsonError::Shape { .. }
            | Wal2jsonError::UnknownAction { .. }
            | Wal2jsonError::Missing { .. }
            | Wal2jsonError::Malformed { .. }
            | Wal2jsonError::TooManyColumns { .. } => Code::WalUnreadable,
        }
    }
}
