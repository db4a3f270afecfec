//! From what there is and what is wished to a plan.

use tokio_postgres::Client;
use waldelta_wal::{TableName, quote_ident};

use super::plan::{Plan, Step, StepKind, Wish};
use super::provider::{Provider, logical_decoding};
use super::survey::{Candidate, Prepared, candidates, prepared};
use super::verdict::judge;
use super::wal2json::{confine, publishes_via_root};
use super::{ddl, publication};
use crate::ask::literal;
use crate::catalog;
use crate::{Error, Source};

/// PostgreSQL 19 switches logical decoding on by itself with the first slot.
const VERSION_WITH_DYNAMIC_WAL_LEVEL: i32 = 190_000;
/// From here on standbys can be told to keep a slot.
const VERSION_WITH_FAILOVER: i32 = 170_000;
const SET_CLIENT: &str = include_str!("../../../../sql/source/set_client.sql");
const CANARY: &str = include_str!("../../../../sql/source/canary.sql");

/// Plans what is still missing; idempotent: a plan without steps means that all is set up.
///
/// # Errors
/// When the source is a standby, a table that was named does not exist, the slot's name belongs to another kind of slot,
/// or a question fails.
pub async fn plan(client: &Client, source: &Source, wish: &Wish) -> Result<Plan, Error> {
    let provider = Provider::detect(client).await?;
    let (_, mut plan) = compose(client, source, wish, provider, Triggers::WhereAllowed).await?;
    if let Some(provider) = provider {
        remark_on_provider(provider, &mut plan);
    }
    Ok(plan)
}

/// Whether event triggers are planned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Triggers {
    WhereAllowed,
    Always,
    Never,
}

/// The plan, and what was there.
pub(super) async fn compose(
    client: &Client,
    source: &Source,
    wish: &Wish,
    provider: Option<Provider>,
    triggers: Triggers,
) -> Result<(Prepared, Plan), Error> {
    let prepared = prepared(client, &source.publication).await?;
    if prepared.is_standby {
        return Err(Error::Standby);
    }
    let candidates = candidates(client, &source.publication, publishes_via_root(source.plugin)).await?;
    let mut plan = Plan::default();
    let captured = choose(&candidates, &prepared, source, wish, &mut plan)?;
    plan.tables = captured.iter().map(|table| table.name.clone()).collect();
    remark_on_server(&prepared, provider, &mut plan);
    add_own(&prepared, &mut plan);
    ddl::add(&prepared, triggers, provider, &mut plan);
    publication::add(&prepared, source, &captured, &mut plan);
    add_slot(client, source, prepared.version, &mut plan).await?;
    Ok((prepared, plan))
}

/// The tables that are captured; what is to be said of the others goes into the plan, tables without key first.
fn choose<'a>(
    candidates: &'a [Candidate],
    prepared: &Prepared,
    source: &Source,
    wish: &Wish,
    plan: &mut Plan,
) -> Result<Vec<&'a Candidate>, Error> {
    let missing: Vec<TableName> = wish
        .tables
        .iter()
        .filter(|name| !candidates.iter().any(|candidate| candidate.name == **name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(Error::TablesMissing { tables: missing });
    }
    let wanted = |table: &&Candidate| wish.tables.is_empty() || wish.tables.contains(&table.name);
    let mut captured = Vec::new();
    let mut later_remarks = Vec::new();
    for table in candidates.iter().filter(wanted) {
        let verdict = confine(judge(table, wish), table, source.plugin);
        let concerns_key = !table.has_primary_key;
        let remarks = if concerns_key { &mut plan.remarks } else { &mut later_remarks };
        remarks.extend(verdict.remark.clone());
        plan.suggestions.extend(verdict.suggestion);
        if verdict.is_captured {
            captured.push(table);
        } else if table.is_published && verdict.remark.is_some() {
            remarks.push(format!("{} is in publication {} nevertheless", table.name, source.publication));
            match publication::take_out(table, prepared, &quote_ident(&source.publication)) {
                Ok(sql) => {
                    let why = format!("take {} out of the publication", table.name);
                    plan.suggestions.push(Step::new(StepKind::Publication, why, sql));
                }
                Err(advice) => remarks.push(advice),
            }
        }
    }
    plan.remarks.append(&mut later_remarks);
    if captured.is_empty() {
        plan.remarks.push("there is no table to capture yet; run this again when there is one".into());
    }
    Ok(captured)
}

/// What is otherwise where somebody else runs the server.
pub(super) fn remark_on_provider(provider: Provider, plan: &mut Plan) {
    plan.remarks.extend(provider.remarks().into_iter().map(str::to_owned));
}

fn remark_on_server(prepared: &Prepared, provider: Option<Provider>, plan: &mut Plan) {
    if prepared.wal_level == "logical" || prepared.version >= VERSION_WITH_DYNAMIC_WAL_LEVEL {
        return;
    }
    plan.remarks.push(format!(
        "wal_level is {}: the slot can only be created after it is logical and PostgreSQL was restarted",
        prepared.wal_level
    ));
    match provider {
        None => plan.suggestions.push(Step::new(
            StepKind::Slot,
            "needs a restart of PostgreSQL afterwards",
            "ALTER SYSTEM SET wal_level = 'logical'",
        )),
        provider => plan.remarks.push(logical_decoding(provider).trim_start_matches("-- ").to_owned()),
    }
}

/// Schema, `set_client` and the canary.
fn add_own(prepared: &Prepared, plan: &mut Plan) {
    let mut own = |why: &str, sql: &str| plan.steps.push(Step::new(StepKind::Own, why, sql.trim_end()));
    if !prepared.has_schema {
        own("Waldelta's own objects have a schema to themselves.", "CREATE SCHEMA IF NOT EXISTS waldelta");
    }
    if prepared.set_client.as_deref() != SET_CLIENT.split("$waldelta$").nth(1) {
        let sql = match prepared.everybody_emits {
            true => SET_CLIENT.to_owned(),
            false => SET_CLIENT.replace("SECURITY INVOKER", "SECURITY DEFINER"),
        };
        own("Lets an application name the author of what follows in its transaction.", &sql);
    }
    if !prepared.has_canary {
        own("One row whose update has to arrive: so that a publication that lost it is noticed.", CANARY);
    }
    if prepared.set_client.is_none() {
        plan.suggestions.push(Step::new(
            StepKind::Own,
            "for each role of an application that names authors (replace app)",
            "GRANT USAGE ON SCHEMA waldelta TO app;\nGRANT EXECUTE ON FUNCTION waldelta.set_client(text, jsonb) TO app",
        ));
    }
}

async fn add_slot(client: &Client, source: &Source, version: i32, plan: &mut Plan) -> Result<(), Error> {
    match catalog::slot(client, &source.slot).await? {
        None => {
            // Standbys that are told to keep it have it after a failover; a standby's own slot cannot be kept so.
            let failover =
                if version >= VERSION_WITH_FAILOVER { ", failover => NOT pg_is_in_recovery()" } else { "" };
            plan.steps.push(Step::new(
                StepKind::Slot,
                "Last: everything committed from here on is captured, and WAL is kept until it is.",
                format!(
                    "SELECT pg_create_logical_replication_slot({}, {}{failover})",
                    literal(&source.slot),
                    literal(source.plugin.name())
                ),
            ));
        }
        Some(slot) => ours(client, source, &slot).await?,
    }
    Ok(())
}

/// Refuses a slot that has our name and is somebody else's.
pub(crate) async fn ours(client: &Client, source: &Source, slot: &catalog::Slot) -> Result<(), Error> {
    let database = crate::ask::ask_one(
        client,
        "read the database's name",
        "SELECT current_database()::text AS name",
        &[],
    );
    if slot.plugin == source.plugin.name() && slot.database == database.await?.read::<&str>("name")? {
        return Ok(());
    }
    Err(Error::SlotForeign {
        slot: source.slot.clone(),
        plugin: slot.plugin.clone(),
        database: slot.database.clone(),
    })
}
