//! The tables of the publication, as a plugin is given them that knows no publications: by name.
//!
//! Whether that plugin can tell of them all that is published is asked in `wal2json`.

use tokio_postgres::Client;
use waldelta_wal::TableName;

use crate::ask::{Answer, ask};
use crate::{Error, Source};

/// What the publication publishes. Two of them are equal where the plugin needs not be started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Ordered by name; partitions by their own, and `waldelta.canary` too if it is published.
    pub tables: Vec<ListedTable>,
    /// Which of insert, update, delete and truncate are published.
    pub actions: Vec<String>,
    /// Whether partitions are published as their root table; then the root is listed.
    pub via_root: bool,
}

/// A published table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTable {
    /// Its object id.
    pub oid: u32,
    /// Its name now.
    pub name: TableName,
    /// The numbers of its published columns, where the publication names them.
    pub columns: Option<String>,
    /// Whether the publication has a row filter for it.
    pub has_filter: bool,
    /// Whether updates and deletes of it say which row they are about.
    pub is_identified: bool,
}

/// Lists what the publication publishes.
///
/// # Errors
/// [`Error::PublicationMissing`]; or when the question fails.
pub async fn listing(client: &Client, source: &Source) -> Result<Listing, Error> {
    let sql = include_str!("../../../../sql/source/listed_tables.sql");
    let rows = ask(client, "list the publication's tables", sql, &[&source.publication]).await?;
    let Some(first) = rows.first() else {
        return Err(Error::PublicationMissing { publication: source.publication.clone() });
    };
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(oid) = row.read::<Option<u32>>("oid")? {
            tables.push(read(row, oid)?);
        }
    }
    Ok(Listing { tables, actions: first.read("actions")?, via_root: first.read("via_root")? })
}

fn read(row: &Answer, oid: u32) -> Result<ListedTable, Error> {
    Ok(ListedTable {
        oid,
        name: TableName { schema: row.read("schema")?, name: row.read("name")? },
        columns: row.read("columns")?,
        has_filter: row.read("has_filter")?,
        is_identified: row.read("is_identified")?,
    })
}

/// Those of some tables that somebody has written to since they were created or truncated.
///
/// # Errors
/// When the question fails.
pub async fn written(client: &Client, oids: &[u32]) -> Result<Vec<u32>, Error> {
    let sql = include_str!("../../../../sql/source/written_tables.sql");
    let rows = ask(client, "ask which tables were written to", sql, &[&oids]).await?;
    rows.iter().map(|row| row.read("oid")).collect()
}
