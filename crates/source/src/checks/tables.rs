//! The published tables: what is in the publication, what never can be, and whether it can be read.

use tokio_postgres::Client;
use waldelta_wal::{Code, TableName, quote_ident};

use super::{Check, Subject, list};
use crate::ask::ask;
use crate::setup::survey::{Candidate, Kind, candidates};
use crate::{Error, Source};

/// Names that one remark has at most.
const NAMED_MAX: usize = 10;

/// Says what is captured and what is not, which is no fault.
pub(super) async fn tables(subject: &Subject<'_>) -> Result<Check, Error> {
    let candidates = candidates(subject.client, &subject.source.publication, false).await?;
    let published: Vec<_> = candidates.iter().filter(|table| table.is_published).collect();
    let partitioned = published.iter().filter(|table| table.kind == Kind::Partitioned).count();
    let mut parts = vec![match partitioned {
        0 => format!("{} tables are published", published.len()),
        _ => format!("{} tables are published, {partitioned} of them partitioned", published.len()),
    }];
    let unpublished = |test: &dyn Fn(&Candidate) -> bool| {
        let tables = candidates.iter().filter(|table| !table.is_published && test(table));
        tables.map(|table| table.name.to_string()).collect::<Vec<_>>()
    };
    let others = unpublished(&|table| {
        matches!(table.kind, Kind::Table | Kind::Partitioned) && !table.is_unlogged && !table.is_partition
    });
    say(&mut parts, "not in the publication", &others);
    let unlogged = unpublished(&|table| table.is_unlogged);
    say(&mut parts, "not in the WAL because they are unlogged", &unlogged);
    let foreign = unpublished(&|table| table.kind == Kind::Foreign);
    say(&mut parts, "not in the WAL because they are foreign", &foreign);
    let mut columns = Vec::new();
    for table in &published {
        columns
            .extend(table.generated.iter().map(|column| format!("{}.{}", table.name, quote_ident(column))));
    }
    say(&mut parts, "generated columns, not published before PostgreSQL 18 nor by default", &columns);
    Ok(Check::ok("tables", parts.join("; ")))
}

fn say(parts: &mut Vec<String>, what: &str, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let mut text = format!("{what}: {}", names[..names.len().min(NAMED_MAX)].join(", "));
    if let Some(more) = names.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    parts.push(text);
}

pub(super) async fn select(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "select";
    let sql = include_str!("../../../../sql/source/check_select.sql");
    let unreadable = published(subject, "ask for the right to read", sql).await?;
    if unreadable.is_empty() {
        return Ok(Check::ok(NAME, "every published table can be read for snapshots"));
    }
    let role = quote_ident(subject.source.target.user());
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

pub(super) async fn row_security(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "row_security";
    let sql = include_str!("../../../../sql/source/check_row_security.sql");
    let hidden = published(subject, "ask for row-level security", sql).await?;
    if hidden.is_empty() {
        return Ok(Check::ok(NAME, "no published table hides rows"));
    }
    let fix = format!("ALTER ROLE {} BYPASSRLS;", quote_ident(subject.source.target.user()));
    let found = format!("row-level security hides rows, so no snapshot of: {}", list(&hidden));
    Ok(Check::failed(NAME, Code::RowSecurity, found, fix))
}

pub(super) async fn unpublished(
    client: &Client,
    source: &Source,
    oids: &[u32],
) -> Result<Vec<TableName>, Error> {
    let sql = include_str!("../../../../sql/source/unpublished.sql");
    let rows = ask(client, "look which tables are not published", sql, &[&source.publication, &oids]).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.read("schema")?, name: row.read("name")? })).collect()
}

/// Of the published tables those that a question names.
async fn published(subject: &Subject<'_>, what: &'static str, sql: &str) -> Result<Vec<TableName>, Error> {
    let rows = ask(subject.client, what, sql, &[&subject.source.publication]).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.read("schema")?, name: row.read("name")? })).collect()
}
