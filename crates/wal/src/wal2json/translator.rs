//! From lines to messages. The shapes of tables come from the caller, when a line asks for them.

use std::collections::HashMap;

use super::error::Wal2jsonError;
use super::line::{Line, LineText, Row};
use super::shape::Shape;
use super::write;
use crate::ddl::Ddl;
use crate::lsn::{EndLsn, Lsn};
use crate::relation::Relation;
use crate::skip::Skip;
use crate::table::TableName;
use crate::transaction::DDL_PREFIX;

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translated {
    /// The messages of pgoutput that say the same, in order: mostly one, none for a row that history has.
    Messages(Vec<Vec<u8>>),
    /// The line was not taken. The caller asks the catalog for this table, tells [`Translator::define`], and gives the same
    /// line again.
    Undefined(TableName),
}

/// What is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    Nothing,
    /// Rows: history has them.
    Durable,
    /// Rows, unread: somebody ordered that. Perhaps because they cannot be read.
    LeftOut,
}

/// What the lines begin with that are looked at in a transaction that is left out: its end, and messages.
const COMMIT: &[u8] = br#"{"action":"C""#;
const MESSAGE: &[u8] = br#"{"action":"M""#;

/// Translates the lines of one replication connection.
pub struct Translator {
    durable: EndLsn,
    /// Transactions to be left out whole: their commit LSNs, sorted.
    left_out: Vec<Lsn>,
    /// What of the transaction that is open is passed over.
    passing: Passing,
    /// By the names that lines have: bounded by the tables that the caller defines.
    shapes: HashMap<TableName, Shape>,
    /// What the last line asked for.
    asked: Option<TableName>,
}

impl Translator {
    /// Translates from the start of a connection.
    ///
    /// `durable` is the end up to where history has everything: rows of transactions below are passed over, since their
    /// shape may be long gone.
    pub fn new(durable: EndLsn) -> Self {
        Translator {
            durable,
            left_out: Vec::new(),
            passing: Passing::Nothing,
            shapes: HashMap::new(),
            asked: None,
        }
    }

    /// Leaves out the rows of whole transactions that were ordered to be left out, as the assembler does. Which tables they are
    /// of remains unknown.
    #[must_use]
    pub fn skipping(self, skips: &[Skip]) -> Self {
        let whole = skips.iter().filter(|skip| skip.seq.is_none());
        let mut left_out: Vec<Lsn> = whole.map(|skip| skip.lsn).collect();
        left_out.sort_unstable();
        Translator { left_out, ..self }
    }

    /// Translates the next line: the data of [`Envelope::XLogData`](crate::Envelope::XLogData).
    ///
    /// # Errors
    /// When the line cannot be understood, or has a row that does not fit the shape just defined for it. Nothing has
    /// changed then: another definition and the same line may be tried.
    pub fn translate(&mut self, line: &[u8]) -> Result<Translated, Wal2jsonError> {
        if self.passing == Passing::LeftOut && !line.starts_with(COMMIT) && !line.starts_with(MESSAGE) {
            return Ok(Translated::Messages(Vec::new()));
        }
        let text = LineText::new(line)?;
        let message = match Line::read(&text)? {
            Line::Begin { commit_lsn, committed_at_us, xid } => {
                self.passing = if self.durable.includes(commit_lsn) {
                    Passing::Durable
                } else if self.left_out.binary_search(&commit_lsn).is_ok() {
                    Passing::LeftOut
                } else {
                    Passing::Nothing
                };
                write::begin(commit_lsn, committed_at_us, xid)
            }
            Line::Commit { commit_lsn, end, committed_at_us } => {
                self.passing = Passing::Nothing;
                write::commit(commit_lsn, end, committed_at_us)
            }
            Line::Row(_) | Line::Truncate(_) if self.passing == Passing::Durable => {
                return Ok(Translated::Messages(Vec::new()));
            }
            Line::Row(row) => return self.row(&row),
            Line::Truncate(table) => return Ok(self.truncate(table)),
            Line::Message { transactional, lsn, prefix, content } => {
                if transactional
                    && prefix == DDL_PREFIX.as_bytes()
                    && let Some(ddl) = Ddl::read(&content)
                {
                    ddl.forget.into_iter().for_each(|table_oid| self.forget(table_oid));
                }
                write::logical(transactional, lsn, &prefix, &content)
            }
        };
        Ok(Translated::Messages(vec![message]))
    }

    /// Defines a table by its name in `shape`, anew where it is known already. Best only when a line asks for it: a
    /// definition by the catalog of now fits the rows of now.
    ///
    /// `shape` has all columns of the table, in their order, also those that are not published; `unpublished` names these:
    /// generated columns, and those outside the publication's column list. wal2json prints them, the messages do not have
    /// them.
    ///
    /// # Errors
    /// When there are more columns than a row can have.
    pub fn define(&mut self, shape: Relation, unpublished: &[String]) -> Result<(), Wal2jsonError> {
        let name = shape.table_name();
        let fresh = self.asked.as_ref() == Some(&name);
        let mut shape = Shape::new(shape, unpublished, fresh)?;
        // Under its former name it would be taken for whatever has that name now.
        let oid = shape.oid();
        for (_, former) in self.shapes.extract_if(|_, known| known.oid() == oid) {
            shape.inherit(&former);
        }
        self.shapes.insert(name, shape);
        Ok(())
    }

    /// Asks for a table again before its next row.
    pub fn forget(&mut self, table_oid: u32) {
        self.shapes.retain(|_, shape| shape.oid() != table_oid);
    }

    fn row(&mut self, row: &Row<'_>) -> Result<Translated, Wal2jsonError> {
        let Some(shape) = self.shapes.get_mut(&row.table) else { return Ok(self.ask(row.table.clone())) };
        let fit = match shape.fit(row) {
            Ok(fit) => fit,
            Err(misfit) if shape.fresh => {
                return Err(Wal2jsonError::Shape { table: row.table.clone(), misfit });
            }
            Err(_) => return Ok(self.ask(row.table.clone())),
        };
        let message = shape.message(row, &fit)?;
        shape.confirm(row, &fit);
        self.asked = None;
        let mut messages = shape.announce();
        messages.push(message);
        Ok(Translated::Messages(messages))
    }

    /// Says nothing of the columns, so any shape will do.
    fn truncate(&mut self, table: TableName) -> Translated {
        let Some(shape) = self.shapes.get_mut(&table) else { return self.ask(table) };
        self.asked = None;
        let mut messages = shape.announce();
        messages.push(write::truncate(shape.oid()));
        Translated::Messages(messages)
    }

    fn ask(&mut self, table: TableName) -> Translated {
        self.asked = Some(table.clone());
        Translated::Undefined(table)
    }
}

#[cfg(test)]
mod tests;
