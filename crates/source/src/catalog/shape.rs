//! A table's row in the catalog as the shape that is published of it.

use std::collections::{HashMap, HashSet};

use waldelta_wal::{Column, Kind, Relation, RelationColumn, ReplicaIdentity, Table, TableName};

use super::tables::PublishedTable;
use crate::Error;
use crate::ask::Answer;

/// A table as the catalog has it: all of its columns, whether published or not, those of kinds not known yet as text.
pub(super) struct Shape {
    whole: Table,
    /// For each column, whether it is generated.
    generated: Vec<bool>,
    primary_key: Option<Vec<String>>,
    last_number: i16,
    rows_estimate: i64,
}

impl Shape {
    /// Reads an answer to `tables.sql`.
    pub(super) fn read(row: &Answer) -> Result<Self, Error> {
        let identity = match row.read("identity")? {
            "n" => ReplicaIdentity::Nothing,
            "f" => ReplicaIdentity::Full,
            "m" => ReplicaIdentity::Mixed,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        };
        let is_whole = matches!(identity, ReplicaIdentity::Full | ReplicaIdentity::Mixed);
        let numbers: Vec<i16> = row.read("numbers")?;
        let names: Vec<String> = row.read("names")?;
        let type_oids: Vec<u32> = row.read("type_oids")?;
        let type_modifiers: Vec<i32> = row.read("type_modifiers")?;
        let type_names: Vec<String> = row.read("type_names")?;
        let not_null: Vec<bool> = row.read("not_null")?;
        let identity_index: Vec<i16> = row.read::<Option<_>>("identity_index")?.unwrap_or_default();
        let column = |index: usize| Column {
            number: numbers[index],
            name: names[index].clone(),
            type_oid: type_oids[index],
            type_modifier: type_modifiers[index],
            type_name: type_names[index].clone(),
            kind: Kind::TEXT,
            nullable: !not_null[index],
            identity: is_whole || identity_index.contains(&numbers[index]),
        };
        let columns: Vec<Column> = (0..numbers.len()).map(column).collect();
        let name_of = |number: &i16| {
            columns.iter().find(|column| column.number == *number).map(|column| column.name.clone())
        };
        let primary_key: Option<Vec<i16>> = row.read("primary_key")?;
        let primary_key = primary_key.map(|key| key.iter().filter_map(name_of).collect());
        let name = TableName { schema: row.read("schema")?, name: row.read("name")? };
        let whole = Table { oid: row.read("oid")?, version: 0, name, columns, key: Vec::new(), identity };
        Ok(Shape {
            whole,
            generated: row.read("generated")?,
            primary_key,
            last_number: row.read("last_number")?,
            rows_estimate: row.read("rows_estimate")?,
        })
    }

    pub(super) fn oid(&self) -> u32 {
        self.whole.oid
    }

    /// What wal2json prints of the table, and the names in it that are not published.
    pub(super) fn printed(&self, published: &PublishedTable) -> (Relation, Vec<String>) {
        let published: HashSet<i16> = published.table.columns.iter().map(|column| column.number).collect();
        let unpublished = self.whole.columns.iter().filter(|column| !published.contains(&column.number));
        (relation(&self.whole), unpublished.map(|column| column.name.clone()).collect())
    }

    /// Object ids of the types of its columns.
    pub(super) fn type_oids(&self) -> impl Iterator<Item = u32> {
        self.whole.columns.iter().map(|column| column.type_oid)
    }

    /// What is published of it: the columns of the list, else all that are not generated.
    pub(super) fn published(&self, list: Option<&[String]>, kinds: &HashMap<u32, Kind>) -> PublishedTable {
        let list: Option<HashSet<&String>> = list.map(|list| list.iter().collect());
        let is_published = |column: &Column, generated: bool| match &list {
            Some(list) => list.contains(&column.name),
            None => !generated,
        };
        let columns = self.whole.columns.iter().zip(&self.generated);
        let columns = columns.filter(|(column, generated)| is_published(column, **generated));
        let with_kind = |column: &Column| Column {
            kind: kinds.get(&column.type_oid).cloned().unwrap_or(Kind::TEXT),
            ..column.clone()
        };
        let columns = columns.map(|(column, _)| with_kind(column)).collect();
        let mut table = Table { columns, ..self.whole.clone() };
        // What names a row, by the one rule that the stream has.
        table.key = relation(&table).to_table(self.primary_key.as_deref(), |_| None).key;
        PublishedTable {
            table,
            primary_key: self.primary_key.clone(),
            last_number: self.last_number,
            rows_estimate: self.rows_estimate,
        }
    }
}

fn relation(table: &Table) -> Relation {
    let column = |column: &Column| RelationColumn {
        identity: column.identity,
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_modifier: column.type_modifier,
        type_name: None,
    };
    Relation {
        oid: table.oid,
        schema: table.name.schema.clone(),
        name: table.name.name.clone(),
        identity: table.identity,
        columns: table.columns.iter().map(column).collect(),
    }
}
