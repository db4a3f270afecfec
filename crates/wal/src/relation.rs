//! The shape of a table as the walsender tells it, and what it takes to make a [`Table`] of it.

use crate::builtin::type_name;
use crate::kind::Kind;
use crate::table::{Column, ReplicaIdentity, Table, TableName, quote_ident};

/// A Relation message: what the source says of a table before its rows. It does not say what the primary key is, nor which
/// columns are NOT NULL; the catalog does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Object id of the table.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What the source sends of old rows.
    pub identity: ReplicaIdentity,
    /// The published columns, in the order of the rows that follow.
    pub columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of the replica identity; under FULL every column is.
    pub identity: bool,
    /// Name.
    pub name: String,
    /// Object id of its type.
    pub type_oid: u32,
    /// The type modifier (`atttypmod`), -1 where there is none.
    pub type_modifier: i32,
    /// The name that a Type message gave its type, which is only sent for types that are not built in.
    pub type_name: Option<String>,
}

/// What the source's catalog knows of a column, and the stream does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Its number (`attnum`).
    pub number: i16,
    /// Its type as `format_type` prints it, without modifier.
    pub type_name: String,
    /// How its values become JSON.
    pub kind: Kind,
    /// Whether it lacks NOT NULL.
    pub nullable: bool,
}

impl Relation {
    /// Schema and name.
    pub fn table_name(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.name.clone() }
    }

    /// The table, with version 0, which the caller sets.
    ///
    /// `primary_key` are the names of the primary key's columns by the catalog, `facts` tells what else it knows of a
    /// column, and is asked in their order. Where it knows nothing, a type that is not built in is its text.
    ///
    /// The key is the primary key, if all of it is published and every old row carries it; else the columns of the
    /// identity index; never those of FULL.
    pub fn to_table(
        &self,
        primary_key: Option<&[String]>,
        mut facts: impl FnMut(&RelationColumn) -> Option<ColumnFacts>,
    ) -> Table {
        let column = |column: &RelationColumn| {
            let facts = facts(column).unwrap_or_else(|| column.facts());
            Column {
                number: facts.number,
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
                type_name: facts.type_name,
                kind: facts.kind,
                nullable: facts.nullable,
                identity: column.identity,
            }
        };
        Table {
            oid: self.oid,
            version: 0,
            name: self.table_name(),
            columns: self.columns.iter().map(column).collect(),
            key: self.key(primary_key),
            identity: self.identity,
        }
    }

    fn key(&self, primary_key: Option<&[String]>) -> Vec<u16> {
        let indexes = |chosen: &dyn Fn(&RelationColumn) -> bool| -> Vec<u16> {
            (0u16..).zip(&self.columns).filter(|(_, column)| chosen(column)).map(|(index, _)| index).collect()
        };
        // A delete names nothing but the columns of the identity, so a primary key of others would leave it nameless: one
        // beside USING INDEX, or one that the catalog has by now but that these rows were written before. Where the
        // identity has no columns, as with a deferrable primary key, there are no deletes.
        let no_deletes = !self.columns.iter().any(|column| column.identity);
        let sent =
            |column: &RelationColumn| self.identity == ReplicaIdentity::Full || no_deletes || column.identity;
        if let Some(primary_key) = primary_key.filter(|names| !names.is_empty()) {
            let key = indexes(&|column| primary_key.contains(&column.name) && sent(column));
            if key.len() == primary_key.len() {
                return key;
            }
        }
        match self.identity {
            ReplicaIdentity::Default | ReplicaIdentity::Index => indexes(&|column| column.identity),
            ReplicaIdentity::Full | ReplicaIdentity::Mixed | ReplicaIdentity::Nothing => Vec::new(),
        }
    }
}

impl RelationColumn {
    /// What the stream alone tells: no number, and of a type that is not built in the text.
    pub fn facts(&self) -> ColumnFacts {
        let name = || {
            let known = type_name(self.type_oid).map(str::to_owned).or_else(|| self.type_name.clone());
            known.unwrap_or_else(|| format!("with object id {}", self.type_oid))
        };
        ColumnFacts {
            number: 0,
            type_name: name(),
            kind: Kind::builtin(self.type_oid).unwrap_or(Kind::TEXT),
            nullable: true,
        }
    }
}

/// `schema.name` of a type that is not built in, each part quoted where SQL would need it.
pub(crate) fn qualified_type_name(schema: &str, name: &str) -> String {
    let schema = if schema.is_empty() { "pg_catalog" } else { schema };
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(identity: ReplicaIdentity, columns: &[(&str, bool)]) -> Relation {
        let column = |(name, identity): &(&str, bool)| RelationColumn {
            identity: *identity,
            name: (*name).into(),
            type_oid: 23,
            type_modifier: -1,
            type_name: None,
        };
        Relation {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: columns.iter().map(column).collect(),
        }
    }

    fn key(relation: &Relation, primary_key: &[&str]) -> Vec<u16> {
        let names: Vec<String> = primary_key.iter().map(|name| (*name).to_owned()).collect();
        relation.to_table(Some(&names), |_| None).key
    }

    #[test]
    fn the_key_is_the_primary_key_else_the_identity_index_never_full() {
        use ReplicaIdentity::*;
        let flagged = [("a", true), ("b", false), ("c", true)];
        assert_eq!(key(&relation(Default, &flagged), &["c", "a"]), [0, 2], "in the order of the columns");
        assert_eq!(relation(Default, &flagged).to_table(None, |_| None).key, [0, 2]);
        assert_eq!(
            key(&relation(Default, &flagged), &["b"]),
            [0, 2],
            "a primary key made after these rows were written"
        );
        assert_eq!(key(&relation(Full, &[("a", true), ("b", true)]), &["b"]), [1]);
        assert_eq!(key(&relation(Full, &[("a", true), ("b", true)]), &[]), Vec::<u16>::new());
        assert_eq!(key(&relation(Nothing, &[("a", false), ("b", false)]), &["a"]), [0]);
        assert_eq!(key(&relation(Default, &[("a", false)]), &["a"]), [0], "deferrable: no deletes");
        assert_eq!(key(&relation(Index, &flagged), &["a"]), [0]);
        assert_eq!(key(&relation(Index, &flagged), &["b"]), [0, 2], "deletes carry only the index");
        assert_eq!(
            key(&relation(Full, &[("a", true)]), &["a", "unpublished"]),
            Vec::<u16>::new(),
            "half a key names nothing"
        );
    }

    #[test]
    fn a_table_knows_its_columns() {
        let relation = relation(ReplicaIdentity::Default, &[("a", true), ("b", false)]);
        let facts = |number, nullable| ColumnFacts {
            number,
            type_name: "integer".into(),
            kind: Kind::builtin(23).unwrap(),
            nullable,
        };
        let table = relation.to_table(None, |column| (column.name == "a").then(|| facts(3, false)));
        assert_eq!(table.name.to_string(), "public.t");
        let columns: Vec<_> = table
            .columns
            .iter()
            .map(|c| (c.number, &*c.name, &*c.type_name, c.nullable, c.identity))
            .collect();
        assert_eq!(columns, [(3, "a", "integer", false, true), (0, "b", "integer", true, false)]);
    }

    #[test]
    fn a_type_that_nobody_knows_is_text() {
        let mut relation = relation(ReplicaIdentity::Default, &[("a", true)]);
        relation.columns[0].type_oid = 16_400;
        let column = |relation: &Relation| relation.to_table(None, |_| None).columns.remove(0);
        assert_eq!(column(&relation).type_name, "with object id 16400");
        assert_eq!(column(&relation).kind, Kind::TEXT);
        relation.columns[0].type_name = Some(qualified_type_name("public", "Mood"));
        assert_eq!(column(&relation).type_name, "public.\"Mood\"");
    }
}
