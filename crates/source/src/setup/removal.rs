//! Taking away what setting up has put into the source. History is not touched here.

use tokio_postgres::Client;
use waldelta_wal::quote_ident;

use super::build::ours;
use super::ddl;
use super::plan::{Plan, Step, StepKind};
use super::survey::prepared;
use crate::ask::{ask, literal};
use crate::{Error, Source, catalog};

/// The statements that drop slot, publication, functions and own tables of the source again.
///
/// Schema `waldelta` stays where other things live in it, such as history; nothing is ever dropped with CASCADE.
///
/// # Errors
/// [`Error::SlotActive`] while the slot is in use: dropping the publication then would end capture in an error that stays. Where it is
/// `only_shown`, that is a remark.
/// [`Error::SlotForeign`] where the slot's name belongs to another kind of slot; or when a question fails.
pub async fn removal(client: &Client, source: &Source, only_shown: bool) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut in_use = None;
    let mut step = |kind, why: &str, sql: String| plan.steps.push(Step::new(kind, why, sql));
    if let Some(slot) = catalog::slot(client, &source.slot).await? {
        ours(client, source, &slot).await?;
        if let Some(pid) = slot.active_pid {
            let active = Error::SlotActive { slot: source.slot.clone(), pid };
            if !only_shown {
                return Err(active);
            }
            in_use = Some(format!("{active}: stop the service first"));
        }
        step(
            StepKind::Slot,
            "First: no WAL is kept any more. What is committed from here on is not captured.",
            format!("SELECT pg_drop_replication_slot({})", literal(&source.slot)),
        );
    }
    let prepared = prepared(client, &source.publication).await?;
    if prepared.has_publication {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_ident(&source.publication));
        step(StepKind::Publication, "The tables themselves stay as they are.", sql);
    }
    if let Some(sql) = ddl::drop_statements(&prepared) {
        step(StepKind::Own, "The event triggers that tell of DDL, and their functions.", sql);
    }
    if prepared.set_client.is_some() {
        let sql = "DROP FUNCTION IF EXISTS waldelta.set_client(text, jsonb)";
        step(StepKind::Own, "Applications that still call it will fail.", sql.into());
    }
    if !prepared.has_schema {
        plan.remarks.extend(in_use);
        return Ok(plan);
    }
    step(StepKind::Own, "The canary.", "DROP TABLE IF EXISTS waldelta.canary".into());
    plan.remarks.extend(in_use);
    let left =
        ask(client, "look what else is there", include_str!("../../../../sql/source/leftovers.sql"), &[])
            .await?;
    if left.is_empty() {
        let sql = "DROP SCHEMA IF EXISTS waldelta".to_owned();
        plan.steps.push(Step::new(StepKind::Own, "Nothing else is in it.", sql));
        return Ok(plan);
    }
    let left: Vec<String> = left.iter().map(|row| row.read("object")).collect::<Result<_, _>>()?;
    plan.remarks.push(format!("schema waldelta stays, because it holds more: {}", left.join(", ")));
    Ok(plan)
}
