//! What there is in the source before anything is planned.

use tokio_postgres::Client;
use waldelta_wal::TableName;

use crate::Error;
use crate::ask::{ask, ask_one};

/// A table, view or the like, with what matters to whether it can be captured.
pub(crate) struct Candidate {
    pub(crate) name: TableName,
    pub(crate) kind: Kind,
    pub(crate) is_unlogged: bool,
    pub(crate) is_partition: bool,
    /// Whether other tables inherit from it (not as partitions).
    pub(crate) has_children: bool,
    pub(crate) has_full_identity: bool,
    pub(crate) has_primary_key: bool,
    /// Whether there is a replica identity, so that UPDATE and DELETE work while it is published.
    pub(crate) is_identified: bool,
    /// Whether the replica identity is an index that somebody chose.
    pub(crate) has_identity_index: bool,
    /// Partitions for whose rows UPDATE and DELETE would fail.
    pub(crate) unidentified_leaves: Vec<TableName>,
    pub(crate) of_extension: bool,
    pub(crate) is_published: bool,
    /// Column and type of what cannot be captured.
    pub(crate) unsupported: Vec<(String, String)>,
    pub(crate) generated: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Partitioned,
    Foreign,
    View,
}

/// Every table outside system schemas.
pub(crate) async fn candidates(client: &Client, publication: &str) -> Result<Vec<Candidate>, Error> {
    let sql = include_str!("../../../../sql/source/candidates.sql");
    let rows = ask(client, "look for tables", sql, &[&publication]).await?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let kind = match row.read("kind")? {
            "r" => Kind::Table,
            "p" => Kind::Partitioned,
            "f" => Kind::Foreign,
            _ => Kind::View,
        };
        let identity: &str = row.read("identity")?;
        let is_identified: bool = row.read("is_identified")?;
        let names: Vec<String> = row.read("names")?;
        let type_oids: Vec<u32> = row.read("type_oids")?;
        let type_names: Vec<String> = row.read("type_names")?;
        let generated: Vec<bool> = row.read("generated")?;
        let leaf_schemas: Vec<String> = row.read("unidentified_leaf_schemas")?;
        let leaf_names: Vec<String> = row.read("unidentified_leaf_names")?;
        let mut candidate = Candidate {
            name: TableName { schema: row.read("schema")?, name: row.read("name")? },
            kind,
            is_unlogged: row.read::<&str>("persistence")? == "u",
            is_partition: row.read("is_partition")?,
            has_children: row.read("has_children")?,
            has_full_identity: identity == "f",
            has_primary_key: row.read("has_primary_key")?,
            is_identified,
            has_identity_index: identity == "i" && is_identified,
            unidentified_leaves: leaf_schemas
                .into_iter()
                .zip(leaf_names)
                .map(|(schema, name)| TableName { schema, name })
                .collect(),
            of_extension: row.read("of_extension")?,
            is_published: row.read("is_published")?,
            unsupported: Vec::new(),
            generated: Vec::new(),
        };
        for (index, column) in names.into_iter().enumerate() {
            if generated[index] {
                candidate.generated.push(column);
            } else if waldelta_wal::supported(type_oids[index]).is_none() {
                candidate.unsupported.push((column, type_names[index].clone()));
            }
        }
        candidates.push(candidate);
    }
    Ok(candidates)
}

/// What of our own there is already.
pub(crate) struct Prepared {
    pub(crate) is_standby: bool,
    pub(crate) wal_level: String,
    pub(crate) version: i32,
    pub(crate) has_schema: bool,
    pub(crate) has_canary: bool,
    /// Body of `waldelta.set_client`, if there is such a function.
    pub(crate) set_client: Option<String>,
    /// Whether every role may emit logical messages, as it is by default.
    pub(crate) everybody_emits: bool,
    pub(crate) has_publication: bool,
    pub(crate) publishes_all_tables: bool,
    pub(crate) publishes_all_operations: bool,
    pub(crate) publishes_via_root: bool,
    pub(crate) publishes_canary: bool,
    /// Own tables in the publication that should not be there.
    pub(crate) publishes_own: Vec<String>,
}

pub(crate) async fn prepared(client: &Client, publication: &str) -> Result<Prepared, Error> {
    let sql = include_str!("../../../../sql/source/prepared.sql");
    let row = ask_one(client, "look for what is prepared", sql, &[&publication]).await?;
    let mut prepared = Prepared {
        is_standby: row.read("is_standby")?,
        wal_level: row.read("wal_level")?,
        version: row.read("version")?,
        has_schema: row.read("has_schema")?,
        has_canary: row.read("has_canary")?,
        set_client: row.read("set_client")?,
        everybody_emits: row.read("everybody_emits")?,
        has_publication: row.read("has_publication")?,
        publishes_all_tables: row.read("publishes_all_tables")?,
        publishes_all_operations: row.read("publishes_all_operations")?,
        publishes_via_root: row.read("publishes_via_root")?,
        publishes_canary: row.read("publishes_canary")?,
        publishes_own: row.read("publishes_own")?,
    };
    if prepared.has_canary {
        let sql = "SELECT EXISTS (SELECT FROM waldelta.canary WHERE id = 1) AS has_row";
        prepared.has_canary = ask_one(client, "look for the canary", sql, &[]).await?.read("has_row")?;
    }
    Ok(prepared)
}
