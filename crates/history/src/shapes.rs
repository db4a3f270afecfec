//! The versions of tables' shapes: numbering them, and their stored form. No IO.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waldelta_wal::{Column, Kind, Lsn, ReplicaIdentity, Table, TableName};

use crate::Error;

/// Where a shape first appears: it is stored with the append that holds this change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Appearance {
    pub(crate) table: Arc<Table>,
    pub(crate) commit_lsn: Lsn,
    pub(crate) seq: u32,
}

/// A shape with its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// The shape.
    pub table: Arc<Table>,
    /// Whether this is a new version of a table that had another shape before, stored or about to be. Said once per
    /// version, since one change is to tell it.
    pub changed: bool,
}

/// The writer's view of the shapes: the latest per table, which of them are stored, and which wait for the next commit.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// Numbered last, stored or not.
    latest: HashMap<u32, Arc<Table>>,
    /// The latest that is stored; every lower version is stored too.
    stored: HashMap<u32, Arc<Table>>,
    waiting: Vec<Appearance>,
    /// The shape of the change before, as most changes have the shape of the one before them.
    last: Option<Arc<Table>>,
}

impl Shapes {
    /// Starts from the latest stored versions.
    pub(crate) fn new(stored: Vec<Arc<Table>>) -> Self {
        Shapes {
            stored: stored.iter().map(|table| (table.oid, Arc::clone(table))).collect(),
            latest: stored.into_iter().map(|table| (table.oid, table)).collect(),
            waiting: Vec::new(),
            last: None,
        }
    }

    /// The known shape if nothing changed, else the next version.
    pub(crate) fn number(&mut self, mut table: Table) -> Numbered {
        let known = self.latest.get(&table.oid);
        table.version = known.map_or(1, |known| known.version);
        if let Some(known) = known {
            if **known == table {
                return Numbered { table: Arc::clone(known), changed: false };
            }
            table.version += 1;
        }
        let changed = known.is_some();
        let table = Arc::new(table);
        self.latest.insert(table.oid, Arc::clone(&table));
        Numbered { table, changed }
    }

    /// The latest shape of a table.
    pub(crate) fn latest(&self, table_oid: u32) -> Option<&Arc<Table>> {
        self.latest.get(&table_oid)
    }

    /// A change (or a whole transaction, at its first change) has this shape: notes it if it is not stored yet.
    pub(crate) fn appears(&mut self, table: &Arc<Table>, commit_lsn: Lsn, seq: u32) {
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, table)) {
            return;
        }
        self.last = Some(Arc::clone(table));
        let stored = self.stored.get(&table.oid).is_some_and(|stored| stored.version >= table.version);
        let waits = || {
            self.waiting
                .iter()
                .any(|known| known.table.oid == table.oid && known.table.version == table.version)
        };
        if !stored && !waits() {
            self.waiting.push(Appearance { table: Arc::clone(table), commit_lsn, seq });
        }
    }

    /// Shapes that the next commit must store.
    pub(crate) fn waiting(&self) -> &[Appearance] {
        &self.waiting
    }

    /// The commit that stored the waiting ones has returned. Gives them.
    pub(crate) fn committed(&mut self) -> Vec<Arc<Table>> {
        let waiting = std::mem::take(&mut self.waiting);
        for Appearance { table, .. } in &waiting {
            self.stored.insert(table.oid, Arc::clone(table));
        }
        waiting.into_iter().map(|appearance| appearance.table).collect()
    }

    /// What was not committed is given up and will be sent again. Versions that were given out for it are free: what comes
    /// again is numbered anew, from what is stored on.
    pub(crate) fn rolled_back(&mut self) {
        self.waiting.clear();
        self.last = None;
        self.latest.clone_from(&self.stored);
    }
}

/// A column as `table_schemas.columns` holds it.
#[derive(Serialize, Deserialize)]
struct StoredColumn {
    #[serde(default)]
    number: i16,
    name: String,
    type_oid: u32,
    type_modifier: i32,
    type_name: String,
    /// Left out where the type's object id says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    nullable: bool,
    identity: bool,
}

/// A row of `table_schemas`.
pub(crate) struct StoredTable {
    pub(crate) oid: u32,
    pub(crate) version: i32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: String,
    pub(crate) key: Vec<i16>,
    pub(crate) identity: String,
}

impl StoredTable {
    /// The stored form of a shape.
    pub(crate) fn from_table(table: &Table) -> Result<Self, Error> {
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|column| StoredColumn {
                number: column.number,
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
                type_name: column.type_name.clone(),
                kind: (Kind::builtin(column.type_oid).as_ref() != Some(&column.kind))
                    .then(|| column.kind.clone()),
                nullable: column.nullable,
                identity: column.identity,
            })
            .collect();
        let corrupt = || Error::Corrupt { what: format!("the shape of {} has no stored form", table.name) };
        Ok(StoredTable {
            oid: table.oid,
            version: i32::try_from(table.version).map_err(|_| corrupt())?,
            schema: table.name.schema.clone(),
            name: table.name.name.clone(),
            columns: serde_json::to_string(&columns).map_err(|_| corrupt())?,
            key: table
                .key
                .iter()
                .map(|at| i16::try_from(*at))
                .collect::<Result<_, _>>()
                .map_err(|_| corrupt())?,
            identity: identity_name(table.identity).to_owned(),
        })
    }

    /// The shape that is stored.
    pub(crate) fn into_table(self) -> Result<Table, Error> {
        let corrupt = || Error::Corrupt {
            what: format!("version {} of table {} in table_schemas", self.version, self.oid),
        };
        let columns: Vec<StoredColumn> = serde_json::from_str(&self.columns).map_err(|_| corrupt())?;
        let key: Vec<u16> =
            self.key.iter().map(|at| u16::try_from(*at)).collect::<Result<_, _>>().map_err(|_| corrupt())?;
        if key.iter().any(|at| usize::from(*at) >= columns.len()) {
            return Err(corrupt());
        }
        let column = |column: StoredColumn| Column {
            number: column.number,
            kind: column.kind.or_else(|| Kind::builtin(column.type_oid)).unwrap_or(Kind::TEXT),
            name: column.name,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            type_name: column.type_name,
            nullable: column.nullable,
            identity: column.identity,
        };
        Ok(Table {
            oid: self.oid,
            version: u32::try_from(self.version).map_err(|_| corrupt())?,
            identity: identity_of_name(&self.identity).ok_or_else(corrupt)?,
            name: TableName { schema: self.schema, name: self.name },
            columns: columns.into_iter().map(column).collect(),
            key,
        })
    }
}

fn identity_name(identity: ReplicaIdentity) -> &'static str {
    match identity {
        ReplicaIdentity::Default => "default",
        ReplicaIdentity::Nothing => "nothing",
        ReplicaIdentity::Full => "full",
        ReplicaIdentity::Mixed => "mixed",
        ReplicaIdentity::Index => "index",
    }
}

fn identity_of_name(name: &str) -> Option<ReplicaIdentity> {
    use ReplicaIdentity::*;
    [Default, Nothing, Full, Mixed, Index].into_iter().find(|identity| identity_name(*identity) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(oid: u32, columns: &[&str]) -> Table {
        let column = |name: &&str| Column {
            number: 1,
            kind: Kind::TEXT,
            name: (*name).to_owned(),
            type_oid: 25,
            type_modifier: -1,
            type_name: "text".into(),
            nullable: true,
            identity: false,
        };
        Table {
            oid,
            version: 0,
            name: TableName { schema: "public".into(), name: format!("t{oid}") },
            columns: columns.iter().map(column).collect(),
            key: vec![0],
            identity: ReplicaIdentity::Full,
        }
    }

    #[test]
    fn an_unchanged_shape_keeps_its_version_and_a_changed_one_gets_the_next() {
        let mut shapes = Shapes::default();
        let first = shapes.number(table(1, &["a"])).table;
        assert_eq!(first.version, 1);
        assert!(Arc::ptr_eq(&first, &shapes.number(table(1, &["a"])).table));
        assert_eq!(shapes.number(table(1, &["a", "b"])).table.version, 2);
        assert_eq!(shapes.number(table(1, &["a"])).table.version, 3);
        assert_eq!(shapes.number(table(2, &["a"])).table.version, 1);
    }

    #[test]
    fn a_change_of_shape_is_told_once() {
        let stored = Arc::new(Table { version: 4, ..table(1, &["a"]) });
        let mut shapes = Shapes::new(vec![Arc::clone(&stored)]);
        let mut number = |columns: &[&str]| {
            let numbered = shapes.number(table(1, columns));
            (numbered.table.version, numbered.changed)
        };
        assert_eq!(number(&["a"]), (4, false));
        assert_eq!(number(&["b"]), (5, true));
        assert_eq!(number(&["b"]), (5, false));
        assert_eq!(number(&["a"]), (6, true));
        // A table is told when it changes, not when it is new; also if it changes before it is stored.
        assert!(!shapes.number(table(2, &["a"])).changed);
        assert!(shapes.number(table(2, &["b"])).changed);
        // What was given up was never a version.
        shapes.rolled_back();
        assert_eq!(shapes.latest(1), Some(&stored));
        assert_eq!(shapes.latest(2), None);
        let again = shapes.number(table(1, &["c"]));
        assert_eq!((again.table.version, again.changed), (5, true));
        assert!(!shapes.number(table(2, &["b"])).changed);
    }

    #[test]
    fn a_shape_waits_until_the_commit_that_stores_it() {
        let mut shapes = Shapes::default();
        let first = shapes.number(table(1, &["a"])).table;
        shapes.appears(&first, Lsn(10), 3);
        shapes.appears(&first, Lsn(10), 4);
        assert_eq!(shapes.waiting().len(), 1);
        assert_eq!(shapes.waiting()[0].seq, 3);
        shapes.rolled_back();
        shapes.appears(&first, Lsn(10), 3);
        assert_eq!(shapes.waiting().len(), 1, "it appears again after a rollback");
        assert_eq!(shapes.committed(), vec![Arc::clone(&first)]);
        let second = shapes.number(table(2, &["a"])).table;
        shapes.appears(&second, Lsn(11), 0);
        shapes.appears(&first, Lsn(11), 1);
        assert_eq!(shapes.waiting().len(), 1);
    }

    #[test]
    fn the_stored_form_survives_a_round_trip() {
        let shape = Table { version: 7, ..table(1, &["a", "Ünïcode \"x\""]) };
        assert_eq!(StoredTable::from_table(&shape).unwrap().into_table().unwrap(), shape);
    }
}
