//! The publication, and the canary that is to be in it.

use waldelta_wal::{Code, quote_ident};

use super::{Check, Subject};
use crate::ask::ask_one;
use crate::setup::publication::take_own_out;
use crate::setup::survey::{Prepared, cataloged};
use crate::{Error, catalog};

pub(super) async fn publication(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "publication";
    let prepared = cataloged(subject.client, &subject.source.publication).await?;
    let publication = quote_ident(&subject.source.publication);
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
        let fix = fixes.join("\n");
        return Ok(match prepared.publishes_own.is_empty() {
            true => Check::warning(NAME, Code::PublicationIncomplete, found, fix),
            false => Check::failed(NAME, Code::PublishesItself, found, fix),
        });
    }
    let tables = catalog::published_tables(subject.client, subject.source).await?;
    Ok(Check::ok(NAME, format!("{publication} publishes {} tables{}", tables.len(), partitions(&prepared))))
}

fn partitions(prepared: &Prepared) -> &'static str {
    if prepared.publishes_via_root {
        ", partitions as their root table"
    } else {
        ", partitions under their own names"
    }
}

pub(super) async fn canary(subject: &Subject<'_>) -> Result<Check, Error> {
    const NAME: &str = "canary";
    let sql = include_str!("../../../../sql/source/check_canary.sql");
    if ask_one(subject.client, "look for the canary", sql, &[]).await?.read("is_usable")? {
        return Ok(Check::ok(NAME, "waldelta.canary can be updated"));
    }
    let role = quote_ident(subject.source.target.user());
    let fix = format!(
        "-- after waldelta init:\nGRANT USAGE ON SCHEMA waldelta TO {role};\nGRANT SELECT, UPDATE ON waldelta.canary TO {role};"
    );
    let found = "waldelta.canary cannot be updated, so a dropped publication is noticed late";
    Ok(Check::warning(NAME, Code::CanaryUnusable, found, fix))
}
