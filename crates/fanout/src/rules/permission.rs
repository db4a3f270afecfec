//! What may be seen of a table of one shape.
//!
//! Of a row only that is known which its image has. A row may be seen where the permission's filter passes for sure: what is
//! not known counts as no. So a filter has to be decidable on each old row that the source can send; where it is not, nobody
//! could be told that a row has left what they may see, and the table is not there for them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use waldelta_wal::{Code, Column, ReplicaIdentity, Table, quote_ident};

use super::grant::{Permit, Rows};
use crate::filter::{Filter, FilterError, Predicate, Row, Verdict};

/// What may be seen of a table of one shape. Its `Debug` has no values of claims.
#[derive(Clone)]
pub(crate) struct Permission {
    /// The rows; `None`: all.
    rows: Option<Predicate>,
    /// Columns beside the key; `None`: all.
    columns: Option<Arc<BTreeSet<String>>>,
}

/// Why nothing may be seen of a table of this shape. Says no values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The filter does not fit the shape.
    #[error("the rule's filter does not fit the table: {0}")]
    Misfit(#[from] FilterError),
    /// The filter reads a column that the source does not send of old rows.
    #[error("the source does not send {} of old rows", quote_ident(.column))]
    Undecidable {
        /// The column's name.
        column: String,
    },
    /// There is no filter: the rule asks for a claim that is not there.
    #[error("the rule gives nothing")]
    Nothing,
}

impl Unfit {
    pub(crate) fn code(&self) -> Code {
        match self {
            Unfit::Misfit(_) | Unfit::Nothing => Code::RuleMisfit,
            Unfit::Undecidable { .. } => Code::RuleUndecidable,
        }
    }
}

impl Permission {
    pub(crate) fn everything() -> Self {
        Permission { rows: None, columns: None }
    }

    pub(crate) fn new(permit: &Permit, table: &Table) -> Result<Self, Unfit> {
        let rows = match &permit.rows {
            Rows::All => None,
            Rows::Filtered(filter) => Some(decidable(filter, table)?),
            Rows::Nothing => return Err(Unfit::Nothing),
        };
        Ok(Permission { rows, columns: permit.columns.clone() })
    }

    /// Which rows may be seen; `None`: all.
    pub(crate) fn rows(&self) -> Option<&Predicate> {
        self.rows.as_ref()
    }

    /// Which columns may be seen beside the key; `None`: all.
    pub(crate) fn columns(&self) -> Option<BTreeSet<&str>> {
        self.columns.as_ref().map(|columns| columns.iter().map(String::as_str).collect())
    }

    /// Whether a row may be seen, for sure.
    pub(crate) fn passes(&self, row: &Row<'_>) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.verdict(row) == Verdict::Passes)
    }

    /// The table as it is for filters and lists of columns of whoever has the permission: in the places of columns that may not
    /// be seen are some without a name, which nobody can ask for.
    pub(crate) fn visible<'t>(&self, table: &'t Table) -> Cow<'t, Table> {
        let Some(shown) = &self.columns else { return Cow::Borrowed(table) };
        let mut visible = table.clone();
        for (index, column) in (0u16..).zip(&mut visible.columns) {
            if !shown.contains(&column.name) && !table.key.contains(&index) {
                column.name.clear();
            }
        }
        Cow::Owned(visible)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filtered = self.rows.is_some();
        f.debug_struct("Permission").field("filtered", &filtered).field("columns", &self.columns).finish()
    }
}

/// Binds a rule's filter to a table on whose old rows it can be decided.
pub(super) fn decidable(filter: &Filter, table: &Table) -> Result<Predicate, Unfit> {
    let predicate = Predicate::new(filter, table)?;
    let columns = predicate.columns().iter().filter_map(|index| table.columns.get(usize::from(*index)));
    let unknown = columns.into_iter().find(|column| !is_in_old_rows(table, column));
    match unknown {
        Some(column) => Err(Unfit::Undecidable { column: column.name.clone() }),
        None => Ok(predicate),
    }
}

/// Whether a column is known of each row before it was changed. Where the source sends none, the columns of the replica identity
/// are as they are after the change.
fn is_in_old_rows(table: &Table, column: &Column) -> bool {
    match table.identity {
        ReplicaIdentity::Full => true,
        // PostgreSQL refuses to change rows that nothing names: there are only inserts.
        ReplicaIdentity::Nothing => true,
        ReplicaIdentity::Default | ReplicaIdentity::Index => {
            column.identity || !table.columns.iter().any(|column| column.identity)
        }
        // A partition's old rows may be no more than its key, and which that is is not known here.
        ReplicaIdentity::Mixed => false,
    }
}
