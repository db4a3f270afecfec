//! What of the publication is to be made or mended.

use waldelta_wal::quote_ident;

use super::plan::{Plan, Step, StepKind};
use super::survey::{Candidate, Kind, Prepared};
use super::wal2json::publishes_via_root;
use crate::Source;

/// What helps where everything is published, which has no exceptions.
const OF_ALL_TABLES: &str =
    "keep history in another database (history.url), or create a publication that names its tables";

/// Adds the statements that publish what is captured.
pub(super) fn add(prepared: &Prepared, source: &Source, captured: &[&Candidate], plan: &mut Plan) {
    let publication = quote_ident(&source.publication);
    let mut step = |why: String, sql: String| plan.steps.push(Step::new(StepKind::Publication, why, sql));
    // Without ONLY, tables that inherit come along unasked, with keys or without.
    let mut tables: Vec<String> = captured
        .iter()
        .filter(|table| !prepared.has_publication || !table.is_published)
        .map(|table| table.by_itself())
        .collect();
    if !prepared.publishes_canary {
        tables.push("waldelta.canary".into());
    }
    let list = tables.join(",\n    ");
    if !prepared.has_publication {
        let via_root = publishes_via_root(source.plugin);
        let as_whom = if via_root { "as their root table" } else { "under their own names" };
        step(
            format!("What is captured. Partitions are captured {as_whom}."),
            format!(
                "CREATE PUBLICATION {publication} FOR TABLE\n    {list}\nWITH (publish_via_partition_root = {via_root})"
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
    suggest(prepared, source, captured, plan);
}

/// What an existing publication lacks or has too much. It may be shared, so it is only suggested.
fn suggest(prepared: &Prepared, source: &Source, captured: &[&Candidate], plan: &mut Plan) {
    let publication = &quote_ident(&source.publication);
    let Plan { remarks, suggestions, .. } = plan;
    let mut suggest = |why: &str, sql: String| suggestions.push(Step::new(StepKind::Publication, why, sql));
    if !prepared.publishes_all_operations {
        remarks.push(format!("publication {publication} leaves out operations, which history then lacks"));
        suggest(
            "publish every operation",
            format!("ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate')"),
        );
    }
    let via_root = publishes_via_root(source.plugin);
    if prepared.publishes_via_root && !via_root {
        remarks.push(format!(
            "publication {publication} publishes partitions as their root table, which wal2json cannot do"
        ));
        suggest(
            "capture partitions under their own names",
            format!("ALTER PUBLICATION {publication} SET (publish_via_partition_root = false)"),
        );
    }
    let has_partitioned = captured.iter().any(|table| table.kind == Kind::Partitioned);
    if !prepared.publishes_via_root && via_root && has_partitioned {
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
    }
    match take_own_out(prepared, publication) {
        Ok(Some(sql)) => suggest("take Waldelta's own tables out", sql),
        Ok(None) => {}
        Err(advice) => remarks.push(advice.to_owned()),
    }
}

/// The statements that take our own tables out of a publication, but for the canary; or what to do where none can.
pub(crate) fn take_own_out(prepared: &Prepared, publication: &str) -> Result<Option<String>, &'static str> {
    if prepared.publishes_own.is_empty() {
        return Ok(None);
    }
    if prepared.publishes_all_tables {
        return Err(OF_ALL_TABLES);
    }
    let alter = |change: String| format!("ALTER PUBLICATION {publication} {change}");
    let is_canary = |name: &&String| name.as_str() == "canary";
    let mut sql = Vec::new();
    if prepared.publishes_own_schema {
        sql.push(alter("DROP TABLES IN SCHEMA waldelta".into()));
        // Where it is not published at all, it is added by its name anyway.
        if prepared.publishes_canary && !prepared.own_members.iter().any(|name| is_canary(&name)) {
            sql.push(alter("ADD TABLE waldelta.canary".into()));
        }
    }
    let members = prepared.own_members.iter().filter(|name| !is_canary(name));
    sql.extend(members.map(|name| alter(format!("DROP TABLE waldelta.{name}"))));
    Ok(Some(sql.join(";\n")))
}

/// How one table is taken out of an existing publication: the statement, or what to do where there is none.
pub(super) fn take_out(table: &Candidate, prepared: &Prepared, publication: &str) -> Result<String, String> {
    let name = &table.name;
    if table.is_member {
        // Without ONLY, tables that inherit would have to be in it too.
        return Ok(format!("ALTER PUBLICATION {publication} DROP TABLE {}", table.by_itself()));
    }
    if prepared.publishes_all_tables {
        return Err(format!("{name} is published with all tables: {OF_ALL_TABLES}"));
    }
    let schema = quote_ident(&name.schema);
    Err(format!(
        "{name} is published with all of schema {schema}: move it to another schema, or name the tables of {schema} in {publication}"
    ))
}
