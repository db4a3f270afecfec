//! The role that capture runs as: what it needs, and no more. It replicates, reads the tables, updates the canary; it owns
//! nothing of the application, and alters nothing.

use tokio_postgres::Client;
use waldelta_wal::quote_ident;

use super::plan::{Plan, Step, StepKind};
use super::provider::{Provider, grant_replication};
use crate::Error;
use crate::ask::ask_one;

/// Adds what the role lacks: the role itself first, its rights when everything is there.
pub(super) async fn add(
    client: &Client,
    role: &str,
    history_is_here: bool,
    provider: Option<Provider>,
    plan: &mut Plan,
) -> Result<(), Error> {
    let sql = include_str!("../../../../sql/source/role_rights.sql");
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        plan.tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let row = ask_one(client, "ask what the role lacks", sql, &[&role, &schemas, &names]).await?;
    let name = quote_ident(role);
    let step = |why: &str, sql: String| Step::new(StepKind::Role, why, sql);

    if let Some(sql) =
        attributes(role, row.read("exists")?, row.read("may_log_in")?, row.read("may_replicate")?, provider)
    {
        let why = format!("What Waldelta runs as. It gets a password by: \\password {name}");
        plan.steps.insert(0, step(&why, sql));
    }
    let mut grants = Vec::new();
    if !row.read::<bool>("may_connect")? {
        grants.push(format!("GRANT CONNECT ON DATABASE {} TO {name}", quote_ident(row.read("database")?)));
    }
    let schemas: Vec<String> = row.read("unusable_schemas")?;
    if !schemas.is_empty() {
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {name}", schemas.join(", ")));
    }
    let tables: Vec<String> = row.read("unreadable_tables")?;
    if !tables.is_empty() {
        grants.push(format!("GRANT SELECT ON\n    {}\nTO {name}", tables.join(",\n    ")));
    }
    let functions: Vec<String> = row.read("unusable_functions")?;
    if !functions.is_empty() {
        grants.push(format!("GRANT EXECUTE ON FUNCTION {} TO {name}", functions.join(", ")));
    }
    if !grants.is_empty() {
        plan.steps.push(step("It reads the tables, for snapshots.", grants.join(";\n")));
    }
    let hidden: Vec<String> = row.read("hidden_tables")?;
    if !hidden.is_empty() {
        let why = format!("Row-level security would hide rows from snapshots: {}.", hidden.join(", "));
        plan.steps.push(step(&why, format!("ALTER ROLE {name} BYPASSRLS")));
    }
    if !row.read::<bool>("may_beat")? || (history_is_here && !row.read::<bool>("may_keep_history")?) {
        // Not the schema itself: who owns that can put functions in the place of those that event triggers run.
        let (rights, why) = match history_is_here {
            true => ("USAGE, CREATE", "It updates the canary, and keeps history in the same schema."),
            false => ("USAGE", "It updates the canary."),
        };
        plan.steps.push(step(
            why,
            format!(
                "GRANT {rights} ON SCHEMA waldelta TO {name};\nGRANT SELECT, UPDATE ON waldelta.canary TO {name}"
            ),
        ));
    }
    if !history_is_here {
        plan.suggestions
            .push(step("in the database of history", format!("CREATE SCHEMA waldelta AUTHORIZATION {name}")));
    }
    if !row.read::<bool>("sees_activity")? {
        plan.suggestions.push(step(
            "so that `waldelta doctor` can say since when transactions of other roles are open",
            format!("GRANT pg_read_all_stats TO {name}"),
        ));
    }
    Ok(())
}

/// The role, or what it lacks.
fn attributes(
    role: &str,
    exists: bool,
    may_log_in: bool,
    may_replicate: bool,
    provider: Option<Provider>,
) -> Option<String> {
    let name = quote_ident(role);
    if !exists {
        return Some(match provider {
            Some(Provider::Rds) => {
                format!("CREATE ROLE {name} LOGIN;\n{}", grant_replication(provider, role))
            }
            _ => format!("CREATE ROLE {name} LOGIN REPLICATION"),
        });
    }
    let mut sql = Vec::new();
    if !may_log_in {
        sql.push(format!("ALTER ROLE {name} LOGIN"));
    }
    if !may_replicate {
        sql.push(grant_replication(provider, role));
    }
    (!sql.is_empty()).then(|| sql.join(";\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_made_or_gets_what_it_lacks() {
        let sql = |exists, logs_in, replicates, provider| {
            attributes("w", exists, logs_in, replicates, provider).unwrap_or_default()
        };
        assert_eq!(sql(false, false, false, None), "CREATE ROLE w LOGIN REPLICATION");
        assert_eq!(
            sql(false, false, false, Some(Provider::Rds)),
            "CREATE ROLE w LOGIN;\nGRANT rds_replication TO w"
        );
        assert_eq!(sql(true, false, false, None), "ALTER ROLE w LOGIN;\nALTER ROLE w REPLICATION");
        assert_eq!(sql(true, true, true, None), "");
    }
}
