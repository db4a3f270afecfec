//! Carrying a plan out.

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};
use waldelta_wal::TableName;

use super::plan::{Plan, Step};
use crate::ask::{ask, ask_one};
use crate::{Error, Source};

/// A new slot waits for every open write transaction, of every database: for at most this long. It waits for the
/// transactions' locks, so the bound on locks is lifted meanwhile.
const SLOT_TIMEOUT_MS: u32 = 120_000;

/// Carries a plan out, statement by statement, the slot's last. After the publication's statements the catalog is asked
/// whether it has the tables, before a slot begins to count on it. Returns what had to be left out, to be shown.
///
/// # Errors
/// [`Error::Statement`] names the statement that failed; those before it are done, and planning again goes on from there.
pub async fn apply(client: &Client, source: &Source, plan: &Plan) -> Result<Vec<String>, Error> {
    let mut remarks = Vec::new();
    for step in &plan.steps {
        if step.is_slot() {
            verify(client, source, plan).await?;
            run_slot_step(client, source, step).await?;
            continue;
        }
        match run(client, step).await {
            Err(Error::Statement { source, .. }) if step.may_be_refused && is_refusal(&source) => {
                let refusal = source.as_db_error().map_or("", DbError::message);
                remarks.push(format!("left out, because the server refuses it ({refusal}): {}", step.why));
            }
            done => done?,
        }
    }
    verify(client, source, plan).await?;
    Ok(remarks)
}

fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| {
        [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::FEATURE_NOT_SUPPORTED].contains(state)
    })
}

async fn run(client: &Client, step: &Step) -> Result<(), Error> {
    client
        .batch_execute(&step.sql)
        .await
        .map_err(|source| Error::Statement { statement: step.sql.clone(), source })
}

/// Asks the catalog whether the publication has what it was given.
async fn verify(client: &Client, source: &Source, plan: &Plan) -> Result<(), Error> {
    if plan.tables.is_empty() {
        return Ok(());
    }
    let tables = not_published(client, source, &plan.tables, &[("waldelta", "canary")]).await?;
    if tables.is_empty() {
        return Ok(());
    }
    Err(Error::NotPublished { publication: source.publication.clone(), tables })
}

/// Which of some tables, ours among them, the publication lacks.
pub(super) async fn not_published(
    client: &Client,
    source: &Source,
    tables: &[TableName],
    own: &[(&str, &str)],
) -> Result<Vec<TableName>, Error> {
    let captured = tables.iter().map(|table| (table.schema.as_str(), table.name.as_str()));
    let (schemas, names): (Vec<&str>, Vec<&str>) = captured.chain(own.iter().copied()).unzip();
    let sql = include_str!("../../../../sql/source/not_published.sql");
    let rows = ask(client, "check the publication", sql, &[&source.publication, &schemas, &names]).await?;
    rows.iter().map(|row| Ok(TableName { schema: row.read("schema")?, name: row.read("name")? })).collect()
}

/// Creating or dropping the slot: with a bound of its own, and with the names of those who hold it up.
async fn run_slot_step(client: &Client, source: &Source, step: &Step) -> Result<(), Error> {
    let bound = format!("SET lock_timeout = 0; SET statement_timeout = {SLOT_TIMEOUT_MS}");
    let statement = |sql: &str, source| Error::Statement { statement: sql.to_owned(), source };
    client.batch_execute(&bound).await.map_err(|source| statement(&bound, source))?;
    let result = client.batch_execute(&step.sql).await;
    let unbound = "RESET lock_timeout; RESET statement_timeout";
    let reset = client.batch_execute(unbound).await.map_err(|source| statement(unbound, source));
    match result {
        Ok(()) => reset,
        Err(failure) if failure.code() == Some(&SqlState::QUERY_CANCELED) => {
            let sql = include_str!("../../../../sql/source/blockers.sql");
            let blockers = ask_one(client, "look who holds the slot up", sql, &[]).await?;
            Err(Error::SlotBlocked {
                slot: source.slot.clone(),
                blockers: blockers
                    .read::<Option<String>>("blockers")?
                    .unwrap_or_else(|| "none any more".into()),
                source: failure,
            })
        }
        Err(failure) => Err(statement(&step.sql, failure)),
    }
}
