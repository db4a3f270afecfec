//! What there is in the source before anything is planned.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use waldelta_wal::TableName;

use crate::Error;
use crate::ask::{Answer, ask, ask_one};

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
    pub(crate) unidentified_leaves: Vec<Leaf>,
    /// Partitions published as this table of which a delete would not name its key.
    pub(crate) misfit_leaves: Vec<Leaf>,
    /// Partitions published as this table, which has REPLICA IDENTITY FULL, that have not.
    pub(crate) mixed_leaves: Vec<Leaf>,
    pub(crate) of_extension: bool,
    pub(crate) is_published: bool,
    /// Whether the publication names it, rather than its schema or everything.
    pub(crate) is_member: bool,
    /// Whether it is published with a column list or row filter that makes UPDATE and DELETE fail.
    pub(crate) is_narrowed: bool,
    pub(crate) generated: Vec<String>,
}

impl Candidate {
    /// Its name in ALTER PUBLICATION: without the tables that inherit from it.
    pub(crate) fn by_itself(&self) -> String {
        format!("{}{}", if self.has_children { "ONLY " } else { "" }, self.name)
    }
}

/// A partition whose identity is not what its root's needs.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) name: TableName,
    /// The identity that it should have, as behind REPLICA IDENTITY.
    pub(crate) mend: String,
}

impl Leaf {
    pub(crate) fn statement(&self) -> String {
        format!("ALTER TABLE {} REPLICA IDENTITY {}", self.name, self.mend)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Partitioned,
    Foreign,
    View,
}

/// Every table outside system schemas. `via_root` says whether a publication that is still to be made would publish
/// partitions as their root table.
pub(crate) async fn candidates(
    client: &Client,
    publication: &str,
    via_root: bool,
) -> Result<Vec<Candidate>, Error> {
    // The planner expects far more rows than there are; compiling for them takes longer than the answer.
    ask_one(client, "look for tables", "SELECT set_config('jit', 'off', false)", &[]).await?;
    let sql = include_str!("../../../../sql/source/candidates.sql");
    let rows = ask(client, "look for tables", sql, &[&publication, &via_root]).await?;
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
        let generated: Vec<bool> = row.read("generated")?;
        let leaves = leaves(row)?;
        let faulty = |fault: &str| {
            leaves.iter().filter(|(other, _)| other == fault).map(|(_, leaf)| leaf.clone()).collect()
        };
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
            unidentified_leaves: faulty("unidentified"),
            misfit_leaves: faulty("misfit"),
            mixed_leaves: faulty("mixed"),
            of_extension: row.read("of_extension")?,
            is_published: row.read("is_published")?,
            is_member: row.read("is_member")?,
            is_narrowed: row.read("is_narrowed")?,
            generated: Vec::new(),
        };
        for (index, column) in names.into_iter().enumerate() {
            if generated[index] {
                candidate.generated.push(column);
            }
        }
        candidates.push(candidate);
    }
    Ok(candidates)
}

/// Each partition that falls short of its root, with the name of how.
fn leaves(row: &Answer) -> Result<Vec<(String, Leaf)>, Error> {
    let faults: Vec<String> = row.read("faults")?;
    let schemas: Vec<String> = row.read("fault_schemas")?;
    let names: Vec<String> = row.read("fault_names")?;
    let mends: Vec<String> = row.read("fault_mends")?;
    let leaves = schemas.into_iter().zip(names).zip(mends);
    let leaf = |((schema, name), mend)| Leaf { name: TableName { schema, name }, mend };
    Ok(faults.into_iter().zip(leaves.map(leaf)).collect())
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
    /// Our event triggers, the functions that they need, and those functions' bodies.
    pub(crate) ddl_triggers: Vec<String>,
    pub(crate) ddl_functions: Vec<String>,
    pub(crate) ddl_bodies: Vec<String>,
    /// Who asks.
    pub(crate) role: String,
    /// Whether it is worth trying to create event triggers.
    pub(crate) may_have_event_triggers: bool,
    pub(crate) has_publication: bool,
    pub(crate) publishes_all_tables: bool,
    pub(crate) publishes_all_operations: bool,
    pub(crate) publishes_via_root: bool,
    pub(crate) publishes_canary: bool,
    /// Own tables in the publication that should not be there.
    pub(crate) publishes_own: Vec<String>,
    /// Whether the publication names the schema that they are in.
    pub(crate) publishes_own_schema: bool,
    /// Own tables that the publication names.
    pub(crate) own_members: Vec<String>,
}

pub(crate) async fn prepared(client: &Client, publication: &str) -> Result<Prepared, Error> {
    let mut prepared = cataloged(client, publication).await?;
    if prepared.has_canary {
        let sql = "SELECT EXISTS (SELECT FROM waldelta.canary WHERE id = 1) AS has_row";
        prepared.has_canary = match ask_one(client, "look for the canary", sql, &[]).await {
            // It is there, and somebody else sees to it.
            Err(error) if error.sql_state() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => true,
            answer => answer?.read("has_row")?,
        };
    }
    Ok(prepared)
}

/// The same as far as the catalog tells, which every role may read: whether the canary has its row is not looked at.
pub(crate) async fn cataloged(client: &Client, publication: &str) -> Result<Prepared, Error> {
    let sql = include_str!("../../../../sql/source/prepared.sql");
    let row = ask_one(client, "look for what is prepared", sql, &[&publication]).await?;
    Ok(Prepared {
        is_standby: row.read("is_standby")?,
        wal_level: row.read("wal_level")?,
        version: row.read("version")?,
        has_schema: row.read("has_schema")?,
        has_canary: row.read("has_canary")?,
        set_client: row.read("set_client")?,
        everybody_emits: row.read("everybody_emits")?,
        ddl_triggers: row.read("ddl_triggers")?,
        ddl_functions: row.read("ddl_functions")?,
        ddl_bodies: row.read("ddl_bodies")?,
        role: row.read("role")?,
        may_have_event_triggers: row.read("may_have_event_triggers")?,
        has_publication: row.read("has_publication")?,
        publishes_all_tables: row.read("publishes_all_tables")?,
        publishes_all_operations: row.read("publishes_all_operations")?,
        publishes_via_root: row.read("publishes_via_root")?,
        publishes_canary: row.read("publishes_canary")?,
        publishes_own: row.read("publishes_own")?,
        publishes_own_schema: row.read("publishes_own_schema")?,
        own_members: row.read("own_members")?,
    })
}
