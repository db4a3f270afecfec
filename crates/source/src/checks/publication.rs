//! The publication and the tables in it.

use tokio_postgres::Client;
use waldelta_wal::{Code, TableName, quote_ident};

use super::{Check, list};
use crate::ask::{ask, ask_one};
use crate::setup::publication::take_own_out;
use crate::setup::survey::cataloged;
use crate::{Error, Source, catalog};

pub(super) async fn publication(client: &Client, source: &Source) -> Result<Check, Error> {
    const NAME: &str = "publication";
    let prepared = cataloged(client, &source.publication).await?;
    let publication = quote_ident(&source.publication);
    if !prepared.has_publication {
        let found = format!("there is no publication {publication}");
        return Ok(Check::failed(NAME, Code::PublicationMissing, found, "waldelta init"));
    }
    let mut faults = Vec::new();
    let mut fixes = Vec::new();
    if !prepared.publishes_all_operations {
        faults.push("leaves out operations".to_owned());
        fixes.push(format!(
            "ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate');"
        ));
    }
    if !prepared.publishes_canary {
        faults.push("lacks waldelta.canary".to_owned());
        fixes.push(match prepared.has_canary {
            true => format!("ALTER PUBLICATION {publication} ADD TABLE waldelta.canary;"),
            false => "waldelta init".to_owned(),
        });
    }
    for table in &prepared.publishes_own {
        faults.push(format!("publishes waldelta.{table}, so that each change makes another"));
    }
    match take_own_out(&prepared, &publication) {
        Ok(sql) => fixes.extend(sql.map(|sql| format!("{sql};"))),
        Err(advice) => fixes.push(format!("-- {advice}")),
    }
    if !faults.is_empty() {
        let found = format!("{publication} {}", faults.join("; "));
        return Ok(Check::warning(NAME, Code::PublicationIncomplete, found, fixes.join("\n")));
    }
    let tables = catalog::published_tables(client, source).await?;
    let partitions =
        if prepared.publishes_via_root { "as their root table" } else { "under their own names" };
    Ok(Check::ok(NAME, format!("{publication} publishes {} tables, partitions {partitions}", tables.len())))
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
