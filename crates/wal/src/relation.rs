//! The shape of a table as the walsender tells it, and what it takes to make a [`Table`] of it.

use crate::code::Code;
use crate::kind;
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

/// A table has a column of a type whose values cannot be turned into JSON yet, so the table cannot be captured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of table {table} has the type {type_name}, which is not supported")]
pub struct UnsupportedType {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
    /// Object id of the type.
    pub type_oid: u32,
    /// The type's name, as far as it is known.
    pub type_name: String,
}

impl UnsupportedType {
    /// The stable code that users see.
    pub fn code(&self) -> Code {
        Code::TypeUnsupported
    }
}

impl Relation {
    /// Schema and name.
    pub fn table_name(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.name.clone() }
    }

    /// The table, with version 0, which the caller sets.
    ///
    /// `primary_key` are the names of the primary key's columns by the catalog, `nullable` tells of a column whether it
    /// lacks NOT NULL there.
    ///
    /// The key is the primary key, if all of it is published and every old row carries it; else the columns of the
    /// identity index; never those of FULL.
    ///
    /// # Errors
    /// When a column has a type that is not supported.
    pub fn to_table(
        &self,
        primary_key: Option<&[String]>,
        nullable: impl Fn(&str) -> bool,
    ) -> Result<Table, UnsupportedType> {
        let column = |column: &RelationColumn| {
            let type_name = kind::type_name(column.type_oid).ok_or_else(|| UnsupportedType {
                table: self.table_name(),
                column: column.name.clone(),
                type_oid: column.type_oid,
                type_name: column
                    .type_name
                    .clone()
                    .unwrap_or_else(|| format!("with object id {}", column.type_oid)),
            })?;
            Ok(Column {
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
                type_name: type_name.to_owned(),
                nullable: nullable(&column.name),
                identity: column.identity,
            })
        };
        Ok(Table {
            oid: self.oid,
            version: 0,
            name: self.table_name(),
            columns: self.columns.iter().map(column).collect::<Result<_, _>>()?,
            key: self.key(primary_key),
            identity: self.identity,
        })
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
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => Vec::new(),
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
        relation.to_table(Some(&names), |_| true).unwrap().key
    }

    #[test]
    fn the_key_is_the_primary_key_else_the_identity_index_never_full() {
        use ReplicaIdentity::*;
        let flagged = [("a", true), ("b", false), ("c", true)];
        assert_eq!(key(&relation(Default, &flagged), &["c", "a"]), [0, 2], "in the order of the columns");
        assert_eq!(relation(Default, &flagged).to_table(None, |_| true).unwrap().key, [0, 2]);
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
        let table = relation(ReplicaIdentity::Default, &[("a", true), ("b", false)])
            .to_table(None, |name| name == "b")
            .unwrap();
        assert_eq!(table.name.to_string(), "public.t");
        let columns: Vec<_> =
            table.columns.iter().map(|c| (&*c.name, &*c.type_name, c.nullable, c.identity)).collect();
        assert_eq!(columns, [("a", "integer", false, true), ("b", "integer", true, false)]);
    }

    #[test]
    fn an_unsupported_type_names_table_column_and_type() {
        let mut relation = relation(ReplicaIdentity::Default, &[("a", true)]);
        relation.columns[0].type_oid = 16_400;
        let error = relation.to_table(None, |_| true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column a of table public.t has the type with object id 16400, which is not supported"
        );
        relation.columns[0].type_name = Some(qualified_type_name("public", "Mood"));
        assert_eq!(relation.to_table(None, |_| true).unwrap_err().type_name, "public.\"Mood\"");
    }
}
