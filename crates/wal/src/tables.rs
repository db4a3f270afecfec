//! What is known of the source's tables: the shapes that the stream sent, and the tables that were made of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::AssembleError;
use crate::lsn::Lsn;
use crate::relation::{Relation, qualified_type_name};
use crate::row::{RowEncoder, ValuePolicy};
use crate::table::{ReplicaIdentity, Table};

/// The schema whose tables are ours: their rows never become changes.
const OUR_SCHEMA: &str = "waldelta";
/// Our table whose rows are signs of life. Those of the others say nothing: a publication of all tables has history's own
/// rows in it, and must not make each append bring the next.
const CANARY: &str = "canary";

/// The tables of one replication connection, by object id: bounded by the tables and types that the source has.
pub(crate) struct Tables {
    policy: ValuePolicy,
    known: HashMap<u32, Known>,
    type_names: HashMap<u32, String>,
}

/// What is known of a table.
enum Known {
    /// It is one of ours.
    Ours { canary: bool },
    /// Its rows become changes.
    Captured(Box<Captured>),
}

struct Captured {
    /// Its shape, as it was last sent.
    relation: Relation,
    /// What was made of its shape, last.
    defined: Option<Defined>,
    /// Whether that is what its next row is read with: if not, the caller has to define it first.
    is_current: bool,
    /// The transaction in which it was defined.
    defined_in: Option<Lsn>,
}

/// A table that rows can be read with.
pub(crate) struct Defined {
    pub(crate) table: Arc<Table>,
    pub(crate) encoder: RowEncoder,
    /// Whether a piece has it among its new tables.
    pub(crate) announced: bool,
    /// Whether its next change is to be preceded by one that tells its shape.
    pub(crate) changed: bool,
}

/// What the table of an object id is.
pub(crate) enum Found<'a> {
    /// One whose rows become changes.
    Captured(&'a mut Defined),
    /// One of ours. A row of the canary says that it arrived, one of the others nothing.
    Ours {
        /// Whether it is the canary.
        canary: bool,
    },
}

impl Tables {
    pub(crate) fn new(policy: ValuePolicy) -> Self {
        Tables { policy, known: HashMap::new(), type_names: HashMap::new() }
    }

    /// Remembers what a type is called.
    pub(crate) fn type_is_called(&mut self, oid: u32, schema: &str, name: &str) {
        self.type_names.insert(oid, qualified_type_name(schema, name));
    }

    /// Remembers a table's shape. It comes again whenever the source's catalog says something new of the table, and with
    /// each partition of one that publishes through its root. Not all that is new shows: a column that was dropped and added
    /// again looks the same, as do primary keys of tables with another replica identity. So the table has to be defined
    /// again; once in a transaction is enough, since the catalog is asked after its end anyway.
    pub(crate) fn shape(&mut self, mut relation: Relation, transaction: Option<Lsn>) {
        let oid = relation.oid;
        if relation.schema == OUR_SCHEMA {
            self.known.insert(oid, Known::Ours { canary: relation.name == CANARY });
            return;
        }
        for column in &mut relation.columns {
            column.type_name = self.type_names.get(&column.type_oid).cloned();
        }
        if let Some(Known::Captured(captured)) = self.known.get_mut(&oid) {
            let just_asked = transaction.is_some() && captured.defined_in == transaction;
            captured.is_current &= just_asked && captured.relation == relation;
            captured.relation = relation;
            return;
        }
        let captured = Captured { relation, defined: None, is_current: false, defined_in: None };
        self.known.insert(oid, Known::Captured(Box::new(captured)));
    }

    /// Asks for a table again before its next row.
    pub(crate) fn forget(&mut self, oid: u32) {
        if let Some(Known::Captured(captured)) = self.known.get_mut(&oid) {
            captured.is_current = false;
        }
    }

    /// Whether one of our tables is the canary; `None` for all others.
    pub(crate) fn canary(&self, oid: u32) -> Option<bool> {
        match self.known.get(&oid) {
            Some(Known::Ours { canary }) => Some(*canary),
            Some(Known::Captured(_)) | None => None,
        }
    }

    /// The first of these tables that has to be defined.
    pub(crate) fn undefined(&self, oids: &[u32]) -> Option<&Relation> {
        oids.iter().find_map(|oid| match self.known.get(oid) {
            Some(Known::Captured(captured)) if !captured.is_current => Some(&captured.relation),
            Some(Known::Ours { .. } | Known::Captured(_)) | None => None,
        })
    }

    /// Defines a table. Where it is the one that it was, it stays that.
    pub(crate) fn define(
        &mut self,
        table: Arc<Table>,
        changed: bool,
        transaction: Option<Lsn>,
    ) -> Result<(), AssembleError> {
        let Some(Known::Captured(captured)) = self.known.get_mut(&table.oid) else {
            return Err(AssembleError::UnknownRelation { oid: table.oid });
        };
        if !fits(&table, &captured.relation) {
            return Err(AssembleError::DefinitionMismatch { table: captured.relation.table_name() });
        }
        captured.is_current = true;
        captured.defined_in = transaction;
        if captured.defined.as_ref().is_none_or(|defined| defined.table != table) {
            let encoder = RowEncoder::new(&table, self.policy);
            captured.defined = Some(Defined { table, encoder, announced: false, changed });
        }
        Ok(())
    }

    /// The table of an object id.
    pub(crate) fn find(&mut self, oid: u32) -> Result<Found<'_>, AssembleError> {
        match self.known.get_mut(&oid) {
            Some(Known::Ours { canary }) => Ok(Found::Ours { canary: *canary }),
            Some(Known::Captured(captured)) if captured.is_current => {
                captured.defined.as_mut().map(Found::Captured).ok_or(AssembleError::UnknownRelation { oid })
            }
            Some(Known::Captured(_)) | None => Err(AssembleError::UnknownRelation { oid }),
        }
    }
}

/// Whether a definition has the columns that the source sends.
fn fits(table: &Table, relation: &Relation) -> bool {
    let same_columns = table.columns.len() == relation.columns.len()
        && table.columns.iter().zip(&relation.columns).all(|(ours, theirs)| {
            ours.name == theirs.name && ours.type_oid == theirs.type_oid && ours.identity == theirs.identity
        });
    let same_identity = table.identity == relation.identity
        || (table.identity == ReplicaIdentity::Mixed && relation.identity == ReplicaIdentity::Full);
    let key_ascends = table.key.is_sorted_by(|a, b| a < b);
    let key_exists = table.key.last().is_none_or(|last| usize::from(*last) < table.columns.len());
    same_columns && same_identity && key_ascends && key_exists
}
