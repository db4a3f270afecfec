//! The publication and the tables in it.

use tokio_postgres::Client;
use waldelta_wal::{Code, TableName, quote_ident};

use super::{Check, list};
use crate::ask::{ask, ask_one};
use crate::setup::survey::{Candidate, Kind, candidates};
use crate::{Error, Source, catalog};

pub(super) async fn publication(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "publication";
    let sql = include_str!("../../../../sql/source/prepared.sql");
    let row = ask_one(client, "read the publication", sql, &[&source.publication]).await?;
    let publication = quote_ident(&source.publication);
    if !row.read::<bool>("has_publication")? {
        let found = format!("there is no publication {publication}");
        return Ok(Check::failed(NAME, Code::PublicationMissing, found, "waldelta init"));
    }
    let alter = |change: &str| format!("ALTER PUBLICATION {publication} {change};");
    let own: Vec<String> = row.read("publishes_own")?;
    let mut faults = Vec::new();
    let mut fixes = Vec::new();
    if !row.read::<bool>("publishes_all_operations")? {
        faults.push("leaves out operations".to_owned());
        fixes.push(alter("SET (publish = 'insert, update, delete, truncate')"));
    }
    if !row.read::<bool>("publishes_canary")? {
        faults.push("lacks waldelta.canary".to_owned());
        fixes.push(alter("ADD TABLE waldelta.canary"));
    }
    for table in &own {
        faults.push(format!("publishes waldelta.{table}, so that each change makes another"));
        fixes.push(alter(&format!("DROP TABLE waldelta.{table}")));
    }
    if !faults.is_empty() {
        let found = format!("{publication} {}", faults.join("; "));
        return Ok(Check::warning(NAME, Code::PublicationIncomplete, found, fixes.join("\n")));
    }
    let tables = catalog::published_tables(client, source).await?;
    Ok(Check::ok(NAME, format!("{publication} publishes {} tables", tables.len())))
}

pub(super) async fn identities(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "identities";
    let candidates = candidates(client, &source.publication).await?;
    let breaks = |table: &&Candidate| {
        let by_itself = table.kind == Kind::Table && !table.is_identified;
        table.is_published && (by_itself || !table.unidentified_leaves.is_empty())
    };
    let broken: Vec<TableName> = candidates
        .iter()
        .filter(breaks)
        .flat_map(|table| match &table.unidentified_leaves[..] {
            [] => vec![table.name.clone()],
            leaves => leaves.to_vec(),
        })
        .collect();
    if broken.is_empty() {
        return Ok(Check::ok(NAME, "every published table has a replica identity"));
    }
    let fix: Vec<_> =
        broken.iter().map(|table| format!("ALTER TABLE {table} REPLICA IDENTITY FULL;")).collect();
    let found =
        format!("UPDATE and DELETE fail on published tables without replica identity: {}", list(&broken));
    Ok(Check::warning(NAME, Code::ReplicaIdentityMissing, found, fix.join("\n")))
}

pub(super) async fn types(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "types";
    let unsupported = catalog::unsupported(&catalog::published_tables(client, source).await?);
    if unsupported.is_empty() {
        return Ok(Check::ok(NAME, "every published column has a type that can be captured"));
    }
    let found: Vec<_> = unsupported
        .iter()
        .map(|(table, column, kind)| format!("{table} column {} ({kind})", quote_ident(column)))
        .collect();
    let mut tables: Vec<_> = unsupported.into_iter().map(|(table, _, _)| table).collect();
    tables.dedup();
    let fix = format!("ALTER PUBLICATION {} DROP TABLE {};", quote_ident(&source.publication), list(&tables));
    Ok(Check::failed(NAME, Code::TypeUnsupported, format!("not captured yet: {}", found.join(", ")), fix))
}

pub(super) async fn select(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "select";
    let sql = include_str!("../../../../sql/source/check_select.sql");
    let unreadable = tables(client, source, "ask for the right to read", sql).await?;
    if unreadable.is_empty() {
        return Ok(Check::ok(NAME, "every published table can be read for snapshots"));
    }
    let role = quote_ident(source.target.user());
    let mut schemas: Vec<_> = unreadable.iter().map(|table| quote_ident(&table.schema)).collect();
    schemas.dedup();
    let fix = format!(
        "GRANT USAGE ON SCHEMA {} TO {role};\nGRANT SELECT ON {} TO {role};",
        schemas.join(", "),
        list(&unreadable)
    );
    let found = format!("no right to read, so no snapshot of: {}", list(&unreadable));
    Ok(Check::failed(NAME, Code::PrivilegeMissing, found, fix))
}

pub(super) async fn row_security(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "row_security";
    let sql = include_str!("../../../../sql/source/check_row_security.sql");
    let hidden = tables(client, source, "ask for row-level security", sql).await?;
    if hidden.is_empty() {
        return Ok(Check::ok(NAME, "no published table hides rows"));
    }
    let fix = format!("ALTER ROLE {} BYPASSRLS;", quote_ident(source.target.user()));
    let found = format!("row-level security hides rows, so no snapshot of: {}", list(&hidden));
    Ok(Check::failed(NAME, Code::RowSecurity, found, fix))
}

pub(super) async fn canary(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "canary";
    let sql = include_str!("../../../../sql/source/check_canary.sql");
    if ask_one(client, "look for the canary", sql, &[]).await?.read("is_usable")? {
        return Ok(Check::ok(NAME, "waldelta.canary can be updated"));
    }
    let role = quote_ident(source.target.user());
    let fix = format!(
        "-- after waldelta init:\nGRANT USAGE ON SCHEMA waldelta TO {role};\nGRANT SELECT, UPDATE ON waldelta.canary TO {role};"
    );
    let found = "waldelta.canary cannot be updated, so a dropped publication is noticed late";
    Ok(Check::warning(NAME, Code::CanaryUnusable, found, fix))
}

async fn tables(
    client: &Client,
    source: &Source,
    what: &'static str,
    sql: &str,
) -> Result<Vec<TableName>, Error> {
    let rows = ask(client, what, sql, &[&source.publication]).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.read("schema")?, name: row.read("name")? })).collect()
}
