//! From lines to messages. The shapes of tables come from the caller, when a line asks for them.

use std::collections::HashMap;

use super::error::Wal2jsonError;
use super::line::{Line, LineText, Row};
use super::shape::Shape;
use super::write;
use crate::ddl::Ddl;
use crate::lsn::EndLsn;
use crate::relation::Relation;
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

/// Translates the lines of one replication connection.
pub struct Translator {
    durable: EndLsn,
    /// Whether history has the transaction that is open.
    skipping: bool,
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
        Translator { durable, skipping: false, shapes: HashMap::new(), asked: None }
    }

    /// Translates the next line: the data of [`Envelope::XLogData`](crate::Envelope::XLogData).
    ///
    /// # Errors
    /// When the line cannot be understood, or has a row that does not fit the shape just defined for it. Nothing has
    /// changed then: another definition and the same line may be tried.
    pub fn translate(&mut self, line: &[u8]) -> Result<Translated, Wal2jsonError> {
        let text = LineText::new(line)?;
        let message = match Line::read(&text)? {
            Line::Begin { commit_lsn, committed_at_us, xid } => {
                self.skipping = self.durable.includes(commit_lsn);
                write::begin(commit_lsn, committed_at_us, xid)
            }
            Line::Commit { commit_lsn, end, committed_at_us } => {
                self.skipping = false;
                write::commit(commit_lsn, end, committed_at_us)
            }
            Line::Row(_) | Line::Truncate(_) if self.skipping => return Ok(Translated::Messages(Vec::new())),
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
