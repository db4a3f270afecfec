//! Tables that go into an existing publication, or out of it, while capture runs.
//!
//! A table whose UPDATE and DELETE would fail once it is published is refused before anything is altered. What a running
//! capture makes of it (a snapshot of its own, when older transactions have ended) is not done here.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use waldelta_wal::{Code, TableName, quote_ident};

use super::plan::{Plan, Step, StepKind, Wish};
use super::publication::take_out;
use super::survey::{Candidate, Kind, Prepared, candidates, cataloged};
use super::verdict::{has_rows, judge};
use super::wal2json::{confine, publishes_via_root};
use crate::ask::ask_one;
use crate::{Error, Source};

/// Altering a publication waits for whoever changes one of its tables, for as long as locks are waited for at all. It holds
/// up no reader or writer meanwhile, and is tried this often.
const TRIES_MAX: u32 = 5;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What is to be altered, and by whom.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The statements; those that are left as suggestions are for the tables' owners.
    pub plan: Plan,
    /// Who has to run them, where the asking role may not.
    pub owner: Option<String>,
}

/// Plans putting tables into the publication.
///
/// # Errors
/// [`Error::NotCapturable`] when one of them cannot be captured, or its UPDATE would fail and that is not allowed;
/// [`Error::TablesMissing`], [`Error::PublicationMissing`]; or when a question fails.
pub async fn add_tables(client: &Client, source: &Source, wish: &Wish) -> Result<Membership, Error> {
    let prepared = existing(client, source).await?;
    let via_root = publishes_via_root(source.plugin);
    let candidates = candidates(client, &source.publication, via_root).await?;
    let mut plan = Plan::default();
    let (mut names, mut refusals) = (Vec::new(), Vec::new());
    for table in named(&candidates, &wish.tables)? {
        let name = &table.name;
        let verdict = confine(judge(table, wish), table, source.plugin);
        if !verdict.is_captured {
            refusals.push(verdict.remark.unwrap_or_else(|| format!("{name} is left out")));
            plan.suggestions.extend(verdict.suggestion);
            continue;
        }
        plan.remarks.extend(verdict.remark);
        plan.suggestions.extend(verdict.suggestion);
        if table.is_published {
            let how = if prepared.publishes_all_tables {
                ", which publishes all tables"
            } else if !table.is_member {
                ", which publishes all of its schema"
            } else {
                ""
            };
            plan.remarks.push(format!("{name} is in publication {} already{how}", source.publication));
            continue;
        }
        names.push(table.by_itself());
        plan.tables.push(name.clone());
    }
    if !refusals.is_empty() {
        let mends = plan.suggestions.into_iter().map(|step| format!("{};", step.sql)).collect();
        return Err(Error::NotCapturable { code: refusal_code(&candidates, wish), refusals, mends });
    }
    if !names.is_empty() {
        let publication = quote_ident(&source.publication);
        plan.steps.push(Step::new(
            StepKind::Publication,
            "What is captured from now on, too.",
            format!("ALTER PUBLICATION {publication} ADD TABLE\n    {}", names.join(",\n    ")),
        ));
    }
    let owner = owner(client, source, &plan.tables).await?;
    Ok(Membership { plan, owner })
}

/// The application's writes would fail; else there is nothing to capture.
fn refusal_code(candidates: &[Candidate], wish: &Wish) -> Code {
    let breaks = |table: &Candidate| {
        !table.has_primary_key
            || !table.unidentified_leaves.is_empty()
            || (table.kind == Kind::Table && !table.is_identified)
    };
    let mut named = candidates.iter().filter(|table| wish.tables.contains(&table.name));
    match named.any(|table| has_rows(table) && breaks(table)) {
        true => Code::ReplicaIdentityMissing,
        false => Code::TableUncapturable,
    }
}

/// Plans taking tables out of the publication. What history has of them stays.
///
/// # Errors
/// [`Error::NotRemovable`] where the publication does not name its tables; [`Error::TablesMissing`],
/// [`Error::PublicationMissing`]; or when a question fails.
pub async fn remove_tables(
    client: &Client,
    source: &Source,
    tables: &[TableName],
) -> Result<Membership, Error> {
    let prepared = existing(client, source).await?;
    let candidates = candidates(client, &source.publication, false).await?;
    let publication = quote_ident(&source.publication);
    let mut plan = Plan::default();
    let mut reasons = Vec::new();
    for table in named(&candidates, tables)? {
        if !table.is_published {
            plan.remarks.push(format!("{} is not in publication {}", table.name, source.publication));
            continue;
        }
        match take_out(table, &prepared, &publication) {
            Ok(sql) => plan.steps.push(Step::new(
                StepKind::Publication,
                format!("{} is not captured from now on.", table.name),
                sql,
            )),
            Err(reason) => reasons.push(reason),
        }
    }
    if !reasons.is_empty() {
        return Err(Error::NotRemovable { reasons });
    }
    // Who takes a table out needs to own the publication only.
    let owner = if plan.is_empty() { None } else { owner(client, source, &[]).await? };
    Ok(Membership { plan, owner })
}

/// Carries it out, and asks the catalog whether it is so. Waits for locks as often as is good, and holds nobody up.
///
/// # Errors
/// [`Error::Statement`]: what came before is done; [`Error::NotPublished`].
pub async fn change(client: &Client, source: &Source, membership: &Membership) -> Result<(), Error> {
    let plan = &membership.plan;
    for step in &plan.steps {
        let mut tries = 1;
        while let Err(failure) = client.batch_execute(&step.sql).await {
            if failure.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) || tries == TRIES_MAX {
                return Err(Error::Statement { statement: step.sql.clone(), source: failure });
            }
            tries += 1;
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
        }
    }
    let tables = super::apply::not_published(client, source, &plan.tables, &[]).await?;
    match tables.is_empty() {
        true => Ok(()),
        false => Err(Error::NotPublished { publication: source.publication.clone(), tables }),
    }
}

async fn existing(client: &Client, source: &Source) -> Result<Prepared, Error> {
    let prepared = cataloged(client, &source.publication).await?;
    if prepared.is_standby {
        return Err(Error::Standby);
    }
    if !prepared.has_publication {
        return Err(Error::PublicationMissing { publication: source.publication.clone() });
    }
    Ok(prepared)
}

/// The tables of these names.
fn named<'a>(candidates: &'a [Candidate], names: &[TableName]) -> Result<Vec<&'a Candidate>, Error> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match candidates.iter().find(|candidate| candidate.name == *name) {
            Some(candidate) => found.push(candidate),
            None => missing.push(name.clone()),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(Error::TablesMissing { tables: missing }) }
}

/// Who has to alter the publication with these new tables, unless the asking role may.
async fn owner(client: &Client, source: &Source, tables: &[TableName]) -> Result<Option<String>, Error> {
    let sql = include_str!("../../../../sql/source/publisher.sql");
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let row =
        ask_one(client, "ask to whom the publication belongs", sql, &[&source.publication, &schemas, &names])
            .await?;
    let owners: Vec<String> = row.read("owners")?;
    let is_allowed: bool = row.read("is_allowed")?;
    Ok((!is_allowed).then(|| owners.join(" and ")))
}
