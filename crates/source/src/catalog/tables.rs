//! The shapes of tables, by the catalog.

use std::collections::HashMap;

use tokio_postgres::Client;
use waldelta_wal::{Column, Relation, RelationColumn, ReplicaIdentity, Table, TableName};

use crate::ask::{Answer, ask};
use crate::{Error, Source};

/// Object id of `text`, a type that is supported for certain.
const TEXT_OID: u32 = 25;

/// A published table with what decoding needs; `version` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its shape: published columns, key, identity.
    pub table: Table,
    /// Names of the primary key's columns, if it has one; also where they are not all published.
    pub primary_key: Option<Vec<String>>,
    /// The planner's estimate of its rows; 0 where it has none yet.
    pub rows_estimate: i64,
}

/// The tables of the publication, own tables (schema `waldelta`) left out, ordered by name. Errors with
/// [`Error::UnsupportedType`] are not raised here: [`unsupported`] names them.
///
/// # Errors
/// [`Error::PublicationMissing`]; or when the question fails.
pub async fn published_tables(client: &Client, source: &Source) -> Result<Vec<PublishedTable>, Error> {
    let sql = include_str!("../../../../sql/source/published_tables.sql");
    let rows = ask(client, "read the publication's tables", sql, &[&source.publication]).await?;
    if rows.is_empty() {
        return Err(Error::PublicationMissing { publication: source.publication.clone() });
    }
    let mut columns: HashMap<u32, Option<Vec<String>>> = HashMap::new();
    for row in &rows {
        if let Some(oid) = row.read::<Option<u32>>("oid")? {
            columns.insert(oid, row.read("columns")?);
        }
    }
    let oids: Vec<u32> = columns.keys().copied().collect();
    read_tables(client, &oids, |oid| columns.get(&oid).and_then(Option::as_deref)).await
}

/// One table by object id, as the catalog has it now; `None` when it is gone.
///
/// It has all columns that can be published: a column list of the publication is not looked at.
///
/// # Errors
/// When the question fails.
pub async fn table_by_oid(client: &Client, oid: u32) -> Result<Option<PublishedTable>, Error> {
    Ok(read_tables(client, &[oid], |_| None).await?.pop())
}

/// Columns whose type is not captured yet: table, column, type.
pub fn unsupported(tables: &[PublishedTable]) -> Vec<(TableName, String, String)> {
    let named =
        |table: &Table, column: &Column| (table.name.clone(), column.name.clone(), column.type_name.clone());
    tables
        .iter()
        .flat_map(|published| published.table.columns.iter().map(move |column| (&published.table, column)))
        .filter(|(_, column)| waldelta_wal::supported(column.type_oid).is_none())
        .map(|(table, column)| named(table, column))
        .collect()
}

/// Reads tables by object id. `published` gives a table's column list, where there is one.
async fn read_tables<'a>(
    client: &Client,
    oids: &[u32],
    published: impl Fn(u32) -> Option<&'a [String]>,
) -> Result<Vec<PublishedTable>, Error> {
    let sql = include_str!("../../../../sql/source/tables.sql");
    let rows = ask(client, "read the shape of tables", sql, &[&oids]).await?;
    rows.iter().map(|row| read_table(row, &published)).collect()
}

fn read_table<'a>(
    row: &Answer,
    published: impl Fn(u32) -> Option<&'a [String]>,
) -> Result<PublishedTable, Error> {
    let oid = row.read("oid")?;
    let name = TableName { schema: row.read("schema")?, name: row.read("name")? };
    let identity = match row.read("identity")? {
        "n" => ReplicaIdentity::Nothing,
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        _ => ReplicaIdentity::Default,
    };
    let numbers: Vec<i16> = row.read("numbers")?;
    let names: Vec<String> = row.read("names")?;
    let type_oids: Vec<u32> = row.read("type_oids")?;
    let type_modifiers: Vec<i32> = row.read("type_modifiers")?;
    let type_names: Vec<String> = row.read("type_names")?;
    let not_null: Vec<bool> = row.read("not_null")?;
    let generated: Vec<bool> = row.read("generated")?;
    let identity_index: Vec<i16> = row.read::<Option<_>>("identity_index")?.unwrap_or_default();
    let primary_key: Option<Vec<i16>> = row.read("primary_key")?;
    let column_list = published(oid);
    let columns = (0..names.len())
        .filter(|&index| match column_list {
            Some(list) => list.contains(&names[index]),
            None => !generated[index],
        })
        .map(|index| Column {
            name: names[index].clone(),
            type_oid: type_oids[index],
            type_modifier: type_modifiers[index],
            type_name: type_names[index].clone(),
            nullable: !not_null[index],
            identity: identity == ReplicaIdentity::Full || identity_index.contains(&numbers[index]),
        })
        .collect();
    let name_of =
        |number: &i16| numbers.iter().position(|other| other == number).map(|index| names[index].clone());
    let primary_key: Option<Vec<String>> = primary_key.map(|key| key.iter().filter_map(name_of).collect());
    let mut table = Table { oid, version: 0, name, columns, key: Vec::new(), identity };
    table.key = key(&table, primary_key.as_deref());
    Ok(PublishedTable { table, primary_key, rows_estimate: row.read("rows_estimate")? })
}

/// What names a row, by the one rule that the stream has. The types do not matter to it, and some may be unsupported.
fn key(table: &Table, primary_key: Option<&[String]>) -> Vec<u16> {
    let column = |column: &Column| RelationColumn {
        identity: column.identity,
        name: column.name.clone(),
        type_oid: TEXT_OID,
        type_modifier: -1,
        type_name: None,
    };
    let relation = Relation {
        oid: table.oid,
        schema: table.name.schema.clone(),
        name: table.name.name.clone(),
        identity: table.identity,
        columns: table.columns.iter().map(column).collect(),
    };
    relation.to_table(primary_key, |_| true).map(|table| table.key).unwrap_or_default()
}
