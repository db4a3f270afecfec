//! What a connection with wal2json needs beside one with pgoutput, from what the catalog, history and the connection before
//! say.

use tokio_postgres::Client;
use waldelta_history::Writer;
use waldelta_source::catalog::{self, Listing};
use waldelta_wal::{EndLsn, Relation, RelationColumn, ReplicaIdentity, Skip, Table, Translator};

use crate::Error;
use crate::lines::{Lines, Outline};
use crate::listed::{Left, Listed};

/// The tables to ask for: by the names that they have, and those that they had.
pub(crate) fn listed(listing: Listing, left: &Left, writer: &Writer) -> Listed {
    let stored = listing.tables.iter().filter_map(|table| writer.latest_shape(table.oid));
    let stored: Vec<_> = stored.map(|table| (table.oid, table.name.clone())).collect();
    let before: Vec<_> = left.listed.iter().flat_map(Listed::named).collect();
    Listed::new(listing, stored.into_iter().chain(before))
}

/// A translator that knows each table as history knows it: rows that were not read yet may be as old as that. The first row
/// that has another shape makes it ask. `skips` are the transactions to be left out.
pub(crate) fn lines(
    listed: &Listed,
    writer: &Writer,
    durable: EndLsn,
    skips: &[Skip],
) -> Result<Lines, Error> {
    let mut lines = Lines::new(Translator::new(durable).skipping(skips));
    // History does not know which columns a column list leaves out.
    for table in listed.listing.tables.iter().filter(|table| table.columns.is_none()) {
        let stored = writer.latest_shape(table.oid);
        if let Some(stored) = stored.filter(|stored| listed.oid(&stored.name) == Some(table.oid)) {
            lines.define(Outline { relation: relation(stored), unpublished: Vec::new() })?;
        }
    }
    Ok(lines)
}

/// Stores what the connections before may have missed, now that the durable end stands. Nothing was missed where that is not
/// past the place from which on the tables were others, since all from it on is sent again; nor of a table that nobody has
/// written to.
pub(crate) async fn note_missed(left: &mut Left, client: &Client, writer: &mut Writer) -> Result<(), Error> {
    if left.missed.is_empty() {
        return Ok(());
    }
    let durable = writer.head().durable_end;
    left.missed.retain(|gap| durable.0 > gap.from);
    let oids: Vec<u32> = left.missed.iter().map(|gap| gap.table_oid).collect();
    let written = catalog::written(client, &oids).await?;
    left.missed.retain(|gap| written.contains(&gap.table_oid));
    writer.note_source(left.missed.clone(), Vec::new()).await?;
    left.missed.clear();
    Ok(())
}

/// A shape as a plugin would tell it.
fn relation(table: &Table) -> Relation {
    let columns = table.columns.iter().map(|column| RelationColumn {
        identity: column.identity,
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_modifier: column.type_modifier,
        type_name: None,
    });
    Relation {
        oid: table.oid,
        schema: table.name.schema.clone(),
        name: table.name.name.clone(),
        identity: match table.identity {
            ReplicaIdentity::Mixed => ReplicaIdentity::Full,
            identity => identity,
        },
        columns: columns.collect(),
    }
}
