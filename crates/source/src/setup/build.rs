//! From what there is and what is wished to a plan.

use tokio_postgres::Client;
use waldelta_wal::{TableName, quote_ident};

use super::plan::{Plan, Step, StepKind, Wish};
use super::survey::{Candidate, Kind, Prepared, candidates, prepared};
use super::verdict::judge;
use crate::ask::literal;
use crate::catalog::{self, PLUGIN};
use crate::{Error, Source};

/// PostgreSQL 19 switches logical decoding on by itself with the first slot.
const VERSION_WITH_DYNAMIC_WAL_LEVEL: i32 = 190_000;
const SET_CLIENT: &str = include_str!("../../../../sql/source/set_client.sql");
const CANARY: &str = include_str!("../../../../sql/source/canary.sql");

/// Plans what is still missing; idempotent: a plan without steps means that all is set up.
///
/// # Errors
/// When the source is a standby, a table that was named does not exist, the slot's name belongs to another kind of slot,
/// or a question fails.
pub async fn plan(client: &Client, source: &Source, wish: &Wish) -> Result<Plan, Error> {
    let prepared = prepared(client, &source.publication).await?;
    if prepared.is_standby {
        return Err(Error::Standby);
    }
    let candidates = candidates(client, &source.publication).await?;
    let mut plan = Plan::default();
    let captured = choose(&candidates, &prepared, source, wish, &mut plan)?;
    plan.tables = captured.iter().map(|table| table.name.clone()).collect();
    remark_on_server(&prepared, &mut plan);
    add_own(&prepared, &mut plan);
    add_publication(&prepared, source, &captured, &mut plan);
    add_slot(client, source, &mut plan).await?;
    Ok(plan)
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
        let verdict = judge(table, wish);
        let concerns_key = !table.has_primary_key;
        let remarks = if concerns_key { &mut plan.remarks } else { &mut later_remarks };
        remarks.extend(verdict.remark.clone());
        plan.suggestions.extend(verdict.suggestion);
        if verdict.is_captured {
            captured.push(table);
        } else if table.is_published && verdict.remark.is_some() {
            remarks.push(format!("{} is in publication {} nevertheless", table.name, source.publication));
            if prepared.publishes_all_tables {
                continue;
            }
            plan.suggestions.push(Step {
                kind: StepKind::Publication,
                why: format!("take {} out of the publication", table.name),
                sql: format!(
                    "ALTER PUBLICATION {} DROP TABLE {}",
                    quote_ident(&source.publication),
                    table.name
                ),
            });
        }
    }
    plan.remarks.append(&mut later_remarks);
    if captured.is_empty() {
        plan.remarks.push("there is no table to capture yet; run this again when there is one".into());
    }
    Ok(captured)
}

fn remark_on_server(prepared: &Prepared, plan: &mut Plan) {
    if prepared.wal_level != "logical" && prepared.version < VERSION_WITH_DYNAMIC_WAL_LEVEL {
        plan.remarks.push(format!(
            "wal_level is {}: the slot can only be created after it is logical and PostgreSQL was restarted",
            prepared.wal_level
        ));
        plan.suggestions.push(Step {
            kind: StepKind::Slot,
            why: "needs a restart of PostgreSQL afterwards".into(),
            sql: "ALTER SYSTEM SET wal_level = 'logical'".into(),
        });
    }
}

/// Schema, `set_client` and the canary.
fn add_own(prepared: &Prepared, plan: &mut Plan) {
    let mut own = |why: &str, sql: &str| {
        plan.steps.push(Step { kind: StepKind::Own, why: why.into(), sql: sql.trim_end().to_owned() });
    };
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
        plan.suggestions.push(Step {
            kind: StepKind::Own,
            why: "for each role of an application that names authors (replace app)".into(),
            sql: "GRANT USAGE ON SCHEMA waldelta TO app;\nGRANT EXECUTE ON FUNCTION waldelta.set_client(text, jsonb) TO app"
                .into(),
        });
    }
}

fn add_publication(prepared: &Prepared, source: &Source, captured: &[&Candidate], plan: &mut Plan) {
    let publication = quote_ident(&source.publication);
    let mut step = |why: String, sql: String| plan.steps.push(Step { kind: StepKind::Publication, why, sql });
    // Without ONLY, tables that inherit come along unasked, with keys or without.
    let mut tables: Vec<String> = captured
        .iter()
        .filter(|table| !prepared.has_publication || !table.is_published)
        .map(|table| format!("{}{}", if table.has_children { "ONLY " } else { "" }, table.name))
        .collect();
    if !prepared.publishes_canary {
        tables.push("waldelta.canary".into());
    }
    let list = tables.join(",\n    ");
    if !prepared.has_publication {
        step(
            "What is captured. Partitions are captured as their root table.".into(),
            format!(
                "CREATE PUBLICATION {publication} FOR TABLE\n    {list}\nWITH (publish_via_partition_root = true)"
            ),
        );
        return;
    }
    if !tables.is_empty() && !prepared.publishes_all_tables {
        step(
            "What is captured from now on, too.".into(),
            format!("ALTER PUBLICATION {publication} ADD TABLE\n    {list}"),
        );
    }
    suggest_publication(prepared, &publication, captured, plan);
}

/// What an existing publication lacks or has too much. It may be shared, so it is only suggested.
fn suggest_publication(prepared: &Prepared, publication: &str, captured: &[&Candidate], plan: &mut Plan) {
    let Plan { remarks, suggestions, .. } = plan;
    let mut suggest = |why: &str, sql: String| {
        suggestions.push(Step { kind: StepKind::Publication, why: why.into(), sql });
    };
    if !prepared.publishes_all_operations {
        remarks.push(format!("publication {publication} leaves out operations, which history then lacks"));
        suggest(
            "publish every operation",
            format!("ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')"),
        );
    }
    if !prepared.publishes_via_root && captured.iter().any(|table| table.kind == Kind::Partitioned) {
        remarks.push(format!("publication {publication} publishes partitions under their own names"));
        suggest(
            "capture partitions as their root table",
            format!("ALTER PUBLICATION {publication} SET (publish_via_partition_root = true)"),
        );
    }
    for own in &prepared.publishes_own {
        remarks.push(format!(
            "publication {publication} publishes waldelta.{own}: each change would make another"
        ));
        if prepared.publishes_all_tables {
            remarks.push(
                "keep history in another database, or create a publication that names its tables".into(),
            );
        } else {
            suggest("take it out", format!("ALTER PUBLICATION {publication} DROP TABLE waldelta.{own}"));
        }
    }
}

async fn add_slot(client: &Client, source: &Source, plan: &mut Plan) -> Result<(), Error> {
    match catalog::slot(client, &source.slot).await? {
        None => plan.steps.push(Step {
            kind: StepKind::Slot,
            why: "Last: everything committed from here on is captured, and WAL is kept until it is.".into(),
            sql: format!(
                "SELECT pg_create_logical_replication_slot({}, {})",
                literal(&source.slot),
                literal(PLUGIN)
            ),
        }),
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
    if slot.plugin == PLUGIN && slot.database == database.await?.read::<&str>("name")? {
        return Ok(());
    }
    Err(Error::SlotForeign {
        slot: source.slot.clone(),
        plugin: slot.plugin.clone(),
        database: slot.database.clone(),
    })
}
