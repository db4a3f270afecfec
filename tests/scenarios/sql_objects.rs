//! What Waldelta puts into a database, as the database describes it: the reference page of it.

use std::fmt::Write;

use waldelta_testkit::{TestDatabase, generated};

use crate::setting::{waldelta_ok, with_databases};

const TABLES: &str = "SELECT c.relname, obj_description(c.oid)
    FROM pg_class c
    WHERE c.relnamespace = 'waldelta'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
        AND c.relname <> '_sqlx_migrations'
    ORDER BY c.relname <> 'change_history', c.relname";
const COLUMNS: &str = "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attnum = ANY (coalesce(k.conkey, '{}')), col_description(a.attrelid, a.attnum)
    FROM pg_attribute a
    LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p'
    WHERE a.attrelid = ('waldelta.' || quote_ident($$TABLE$$))::regclass AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";
const FUNCTIONS: &str =
    "SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')', obj_description(p.oid)
    FROM pg_proc p WHERE p.pronamespace = 'waldelta'::regnamespace AND p.proname = 'set_client'";
const INTERNAL: &str = "SELECT string_agg(quote_ident(p.proname), ', ' ORDER BY p.proname COLLATE \"C\")
    FROM pg_proc p WHERE p.pronamespace = 'waldelta'::regnamespace AND p.proname <> 'set_client'";
const TRIGGERS: &str =
    "SELECT evtname, evtevent FROM pg_event_trigger WHERE evtname LIKE 'waldelta%' ORDER BY evtname";

const HEAD: &str = "# SQL objects\n\n<!-- Made from the comments in sql/ by `make docs`. -->\n\n\
    What Waldelta puts into a database, all of it in the schema `waldelta`. History's tables are where history is kept, and may be read by\n\
    anybody who has the right; only the one process that writes history changes them. `canary`, the functions and the event triggers are at the\n\
    source. `waldelta remove` shows all of it, and with `--yes` takes it away. What is between versions of this schema, a migration does at the\n\
    first start of a newer program; `_sqlx_migrations` says which have been done.\n";

#[tokio::test]
async fn the_reference_of_sql_objects_is_what_the_database_says_of_them() {
    let database = TestDatabase::create("sql_objects").await;
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    waldelta_ok(&with_databases(&["init", "--apply"], &database, &database));
    let mut page = String::from(HEAD);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    for table in database.query(TABLES).await {
        let name = text(&table[0]);
        let about = table[1].as_ref().unwrap_or_else(|| panic!("waldelta.{name} has no comment"));
        write!(page, "\n## waldelta.{name}\n\n{about}\n\n| column | type | is |\n|---|---|---|\n").unwrap();
        for column in database.query(&COLUMNS.replace("TABLE", &name)).await {
            let [column, kind, filled, key, about] = [0, 1, 2, 3, 4].map(|at| text(&column[at]));
            let bold = if key == "t" { "**" } else { "" };
            let nullable = if filled == "t" { "" } else { ", null" };
            let about = about.replace('|', "\\|");
            writeln!(page, "| {bold}`{column}`{bold} | {kind}{nullable} | {about} |").unwrap();
        }
    }
    page.push_str("\nColumns of the primary key are bold.\n\n## Functions\n");
    for function in database.query(FUNCTIONS).await {
        write!(page, "\n`waldelta.{}`: {}\n", text(&function[0]), text(&function[1])).unwrap();
    }
    let internal = database.query(INTERNAL).await;
    write!(page, "\nNot to be called by others: {}.\n\n## Event triggers\n\n", text(&internal[0][0]))
        .unwrap();
    for trigger in database.query(TRIGGERS).await {
        writeln!(page, "- `{}` on `{}`", text(&trigger[0]), text(&trigger[1])).unwrap();
    }
    page.push_str("\nThey tell capture which tables a statement rewrote, altered or dropped; they change nothing, and a failure of theirs fails no statement.\n");
    generated("docs/reference/sql.md", &page);
}

/// Nobody guesses what a column of the log is.
#[tokio::test]
async fn every_column_of_the_log_is_described() {
    let database = TestDatabase::create("described_log").await;
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    waldelta_ok(&with_databases(&["init", "--apply"], &database, &database));
    for table in ["change_history", "epochs", "gaps", "captures", "table_schemas"] {
        for column in database.query(&COLUMNS.replace("TABLE", table)).await {
            let name = column[0].as_deref().unwrap();
            assert!(column[4].is_some() || name == "id", "waldelta.{table}.{name} has no comment");
        }
    }
}
