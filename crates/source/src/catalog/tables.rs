//! The shapes of tables, by the catalog.

use std::collections::HashMap;

use tokio_postgres::Client;
use waldelta_wal::{Relation, Table, TableName};

use super::kinds::kinds;
use super::shape::Shape;
use crate::ask::ask;
use crate::{Error, Source};

/// A published table with what decoding needs; `version` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its shape: published columns, key, identity.
    pub table: Table,
    /// Names of the primary key's columns, if it has one; also where they are not all published.
    pub primary_key: Option<Vec<String>>,
    /// The highest number (`attnum`) that one of its columns has or had.
    pub last_number: i16,
    /// The planner's estimate of its rows; 0 where it has none yet.
    pub rows_estimate: i64,
}

/// A table with what an output plugin prints that knows nothing of publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintedTable {
    /// What is published of it.
    pub published: PublishedTable,
    /// All of its columns, in their order.
    pub printed: Relation,
    /// Names of those that are not published: generated ones, and those outside the publication's column list.
    pub unpublished: Vec<String>,
}

/// The tables of the publication, own tables (schema `waldelta`) left out, ordered by name.
///
/// # Errors
/// [`Error::PublicationMissing`]; or when a question fails.
pub async fn published_tables(client: &Client, source: &Source) -> Result<Vec<PublishedTable>, Error> {
    let sql = include_str!("../../../../sql/source/published_tables.sql");
    let rows = ask(client, "read the publication's tables", sql, &[&source.publication]).await?;
    if rows.is_empty() {
        return Err(Error::PublicationMissing { publication: source.publication.clone() });
    }
    let mut lists: HashMap<u32, Option<Vec<String>>> = HashMap::new();
    for row in &rows {
        if let Some(oid) = row.read::<Option<u32>>("oid")? {
            lists.insert(oid, row.read("columns")?);
        }
    }
    let tables = read(client, &lists).await?;
    Ok(tables.into_iter().map(|(_, published)| published).collect())
}

/// One table by object id, as the catalog has it now; `None` when it is gone.
///
/// It has all columns that can be published in any version: a column list of the publication is not looked at, nor whether
/// it has generated columns. [`published_table`] does.
///
/// # Errors
/// When a question fails.
pub async fn table_by_oid(client: &Client, oid: u32) -> Result<Option<PublishedTable>, Error> {
    let tables = read(client, &HashMap::from([(oid, None)])).await?;
    Ok(tables.into_iter().next().map(|(_, published)| published))
}

/// One table by object id, as the publication has it now, or would have it if the table were in it; `None` when the table is
/// gone.
///
/// # Errors
/// When a question fails.
pub async fn published_table(
    client: &Client,
    source: &Source,
    oid: u32,
) -> Result<Option<PublishedTable>, Error> {
    let found = find(client, source, Some(oid), None).await?;
    Ok(found.map(|(_, published)| published))
}

/// One table by its name now, as [`published_table`] has it; `None` when there is none of that name.
///
/// # Errors
/// When a question fails.
pub async fn table_by_name(
    client: &Client,
    source: &Source,
    name: &TableName,
) -> Result<Option<PublishedTable>, Error> {
    let found = find(client, source, None, Some(name)).await?;
    Ok(found.map(|(_, published)| published))
}

/// One table by its name now, with the columns that are not published: what wal2json needs.
///
/// # Errors
/// When a question fails.
pub async fn printed_table(
    client: &Client,
    source: &Source,
    name: &TableName,
) -> Result<Option<PrintedTable>, Error> {
    let found = find(client, source, None, Some(name)).await?;
    Ok(found.map(|(shape, published)| {
        let (printed, unpublished) = shape.printed(&published);
        PrintedTable { published, printed, unpublished }
    }))
}

/// What is published of a table and how the table looks are two questions. Where it was altered in between, a new column would
/// seem not to be published: then both are asked again, so often at most.
const TRIES_MAX: usize = 10;

async fn find(
    client: &Client,
    source: &Source,
    oid: Option<u32>,
    name: Option<&TableName>,
) -> Result<Option<(Shape, PublishedTable)>, Error> {
    let mut lists = published_columns(client, source, oid, name).await?;
    let mut found = None;
    for _ in 0..TRIES_MAX {
        found = read(client, &lists).await?.into_iter().next();
        let now = published_columns(client, source, oid, name).await?;
        if now == lists {
            break;
        }
        lists = now;
    }
    Ok(found)
}

/// What is published of one table, by its object id.
async fn published_columns(
    client: &Client,
    source: &Source,
    oid: Option<u32>,
    name: Option<&TableName>,
) -> Result<HashMap<u32, Option<Vec<String>>>, Error> {
    let sql = include_str!("../../../../sql/source/published_columns.sql");
    let (schema, name) = (name.map(|name| &name.schema), name.map(|name| &name.name));
    let rows =
        ask(client, "read a table's published columns", sql, &[&source.publication, &oid, &schema, &name])
            .await?;
    rows.iter().map(|row| Ok((row.read("oid")?, row.read("columns")?))).collect()
}

/// Reads tables by object id, each with its list of published columns, where there is one: in two questions at most.
async fn read(
    client: &Client,
    lists: &HashMap<u32, Option<Vec<String>>>,
) -> Result<Vec<(Shape, PublishedTable)>, Error> {
    let sql = include_str!("../../../../sql/source/tables.sql");
    let oids: Vec<u32> = lists.keys().copied().collect();
    let rows = ask(client, "read the shape of tables", sql, &[&oids]).await?;
    let shapes: Vec<Shape> = rows.iter().map(Shape::read).collect::<Result<_, _>>()?;
    let kinds = kinds(client, shapes.iter().flat_map(Shape::type_oids)).await?;
    let published = |shape: Shape| {
        let list = lists.get(&shape.oid()).and_then(Option::as_deref);
        let published = shape.published(list, &kinds);
        (shape, published)
    };
    Ok(shapes.into_iter().map(published).collect())
}
