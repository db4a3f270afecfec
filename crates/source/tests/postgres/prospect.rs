//! Setting up by roles of different rights, and for a role that has hardly any.

use tokio_postgres::error::SqlState;
use waldelta_source::setup::{Mode, Prospect, Provider, StepKind, Way, Wish, apply, prospect};
use waldelta_source::{Source, beat_canary, catalog, checks};
use waldelta_testkit::{TestCluster, TestDatabase, connect};

use crate::{source, source_as};

const TABLES: &str =
    "CREATE TABLE a (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.b (id int PRIMARY KEY)";

async fn look(source: &Source, way: &Way) -> Prospect {
    let client = source.connect().await.unwrap();
    prospect(&client, source, &Wish::default(), way).await.unwrap()
}

fn as_role(database: &TestDatabase, role: &str) -> Source {
    source_as(database, &format!("?user={role}"))
}

async fn drop_role(database: &TestDatabase, role: &str) {
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// What PostgreSQL asks of those who publish: what the modes are made of.
#[tokio::test]
async fn who_may_publish() {
    let database = TestDatabase::create("privileges").await;
    let (name, role) = (database.name(), format!("{}_r", database.name()));
    database.exec(&format!("{TABLES}; CREATE ROLE {role} LOGIN")).await;
    let client = as_role(&database, &role).connect().await.unwrap();
    let state = async |sql: &str| {
        let failure = client.batch_execute(sql).await.err();
        failure.map(|error| error.code().cloned())
    };
    let refused = Some(Some(SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(state("CREATE PUBLICATION p FOR TABLE public.a").await, refused, "it owns nothing");
    database.exec(&format!("ALTER TABLE a OWNER TO {role}")).await;
    assert_eq!(
        state("CREATE PUBLICATION p FOR TABLE public.a").await,
        refused,
        "CREATE on the database is missing"
    );
    database.exec(&format!("GRANT CREATE ON DATABASE {name} TO {role}")).await;
    assert_eq!(
        state("CREATE PUBLICATION p FOR TABLE public.a, s.b").await,
        refused,
        "one table is not its own"
    );
    assert_eq!(state("CREATE PUBLICATION p FOR TABLE public.a").await, None);
    assert_eq!(state("CREATE PUBLICATION everything FOR ALL TABLES").await, refused, "for superusers");
    if database.server_major().await >= 15 {
        assert_eq!(
            state("CREATE PUBLICATION schemas FOR TABLES IN SCHEMA s").await,
            refused,
            "for superusers"
        );
    }
    assert_eq!(state("ALTER PUBLICATION p ADD TABLE s.b").await, refused);
    // To alter it takes no CREATE.
    database
        .exec(&format!("REVOKE CREATE ON DATABASE {name} FROM {role}; ALTER TABLE s.b OWNER TO {role}"))
        .await;
    assert_eq!(state("ALTER PUBLICATION p ADD TABLE s.b").await, refused, "USAGE on the schema is missing");
    database.exec(&format!("GRANT USAGE ON SCHEMA s TO {role}")).await;
    assert_eq!(state("ALTER PUBLICATION p ADD TABLE s.b").await, None);
    // To take a table out, the table need not be its own.
    database.exec("ALTER TABLE s.b OWNER TO postgres").await;
    assert_eq!(state("ALTER PUBLICATION p DROP TABLE s.b").await, None);
    database.exec("ALTER PUBLICATION p OWNER TO postgres").await;
    assert_eq!(state("ALTER PUBLICATION p DROP TABLE public.a").await, refused, "nor is it the publication");
    let slot = "SELECT pg_create_logical_replication_slot('never_made', 'pgoutput')";
    assert_eq!(state(slot).await, refused, "REPLICATION is missing");
    drop(client);
    drop_role(&database, &role).await;
}

#[tokio::test]
async fn the_mode_is_what_the_role_may_do() {
    let database = TestDatabase::create("modes").await;
    let (name, role) = (database.name(), format!("{}_r", database.name()));
    database.exec(&format!("{TABLES}; CREATE ROLE {role} LOGIN")).await;
    let (superuser, plain) = (source(&database), as_role(&database, &role));
    let way = Way::default();
    assert_eq!(look(&superuser, &way).await.mode, Mode::Dev);
    assert_eq!(look(&plain, &way).await.mode, Mode::Manual);
    database.exec(&format!("GRANT CREATE ON DATABASE {name} TO {role}; ALTER TABLE a OWNER TO {role}")).await;
    assert_eq!(look(&plain, &way).await.mode, Mode::Manual, "one table is not its own");
    database.exec(&format!("ALTER TABLE s.b OWNER TO {role}; GRANT USAGE ON SCHEMA s TO {role}")).await;
    let managed = look(&plain, &way).await;
    assert_eq!((managed.mode, managed.is_for_another), (Mode::Managed, false));
    assert!(managed.plan.remarks[0].contains("may not create event triggers"), "{:?}", managed.plan.remarks);
    let kinds: Vec<_> = managed.plan.steps.iter().map(|step| step.kind).collect();
    use StepKind::*;
    assert_eq!(kinds, [Own, Own, Own, Publication, Slot]);
    let client = plain.connect().await.unwrap();
    apply(&client, &plain, &managed.plan.without_slot()).await.unwrap();
    assert_eq!(look(&plain, &way).await.mode, Mode::Managed, "it owns what there is now");
    // As it was told: a superuser need not do everything.
    let told = look(&superuser, &Way { mode: Some(Mode::Managed), ..Way::default() }).await;
    assert!(told.plan.steps.iter().all(|step| step.is_slot()), "{}", told.plan.to_sql());
    assert!(
        told.plan.remarks[0].contains("a superuser can run `waldelta init` once"),
        "{:?}",
        told.plan.remarks
    );
    drop(client);
    drop_role(&database, &role).await;
}

/// Runs the script as psql does: statement by statement, and in one go.
async fn run_script(database: &TestDatabase, prospect: &Prospect) {
    database.exec(&prospect.plan.to_sql()).await;
}

#[tokio::test]
async fn a_script_for_an_administrator_gives_a_role_all_that_it_needs_and_no_more() {
    let database = TestDatabase::create("script").await;
    let role = format!("{}_Runs", database.name());
    database
        .exec(&format!(
            "{TABLES}; CREATE TABLE hidden (id int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY"
        ))
        .await;
    let admin = source(&database);
    let way = Way { mode: Some(Mode::Manual), role: Some(role.clone()), ..Way::default() };
    let script = look(&admin, &way).await;
    assert!(script.is_for_another && script.plan.steps.iter().all(|step| !step.is_slot()));
    let sql = script.plan.to_sql();
    assert!(sql.starts_with("-- NOTE: to be run in database"), "{sql}");
    for part in [
        "by a superuser; the publication has to be made by a superuser, or by a role that is postgres and may CREATE",
        "waldelta init --apply",
        "admit \"",
        "-- CREATE SCHEMA waldelta AUTHORIZATION",
        "-- GRANT pg_read_all_stats TO",
        "CREATE EVENT TRIGGER",
    ] {
        assert!(sql.contains(part), "{part} not in:\n{sql}");
    }
    assert!(!sql.contains(".rs"), "files of ours are nothing to an administrator:\n{sql}");
    run_script(&database, &script).await;
    let rest = look(&admin, &way).await;
    assert!(rest.plan.is_empty(), "{}", rest.plan.to_sql());

    let runs = as_role(&database, &format!("%22{role}%22").replace("%22", ""));
    let client = runs.connect().await.unwrap();
    assert!(beat_canary(&client).await.unwrap());
    let found = checks::run(&runs).await;
    let bad: Vec<_> = found.iter().filter(|check| check.state == checks::State::Failed).collect();
    assert!(bad.iter().all(|check| check.name == "slot"), "{bad:?}");
    // It asks for itself: nothing is left but the slot.
    let rest = look(&runs, &Way::default()).await;
    assert!(!rest.is_for_another && rest.plan.is_empty(), "{}", rest.plan.to_sql());
    let slot = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", runs.slot);
    client.batch_execute(&slot).await.unwrap();
    assert_eq!(catalog::published_tables(&client, &runs).await.unwrap().len(), 3);
    for forbidden in [
        "INSERT INTO public.a VALUES (1)",
        "ALTER PUBLICATION waldelta DROP TABLE public.a",
        "CREATE TABLE waldelta.mine (id int)",
        "DROP TABLE waldelta.canary",
        "CREATE OR REPLACE FUNCTION waldelta.ddl_is_heard() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE ROLE another",
        "SELECT waldelta.set_client('somebody')",
    ] {
        let error = client.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}");
    }
    drop(client);
    drop_role(&database, &format!("\"{role}\"")).await;
}

#[tokio::test]
async fn a_role_that_may_hardly_anything_prints_what_it_lacks() {
    let database = TestDatabase::create("asks").await;
    let role = format!("{}_r", database.name());
    database.exec(&format!("{TABLES}; CREATE ROLE {role} LOGIN")).await;
    let plain = as_role(&database, &role);
    let way = Way { history_is_here: true, ..Way::default() };
    let script = look(&plain, &way).await;
    assert_eq!((script.mode, &script.role, script.is_for_another), (Mode::Manual, &role, false));
    run_script(&database, &script).await;
    let rest = look(&plain, &way).await;
    assert!(rest.plan.is_empty(), "{}", rest.plan.to_sql());
    // History can be kept in the same schema, which stays somebody else's.
    database.exec(&format!("SET ROLE {role}; CREATE TABLE waldelta.mine (id int); RESET ROLE")).await;
    assert_eq!(
        database
            .query_text("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'waldelta'")
            .await,
        "postgres"
    );
    drop_role(&database, &role).await;
}

/// Who may create tables in the schema can give functions there the names of ours, with other arguments; the ones that event
/// triggers run with a superuser's rights are still ours.
#[tokio::test]
async fn nothing_in_the_schema_can_take_the_place_of_what_event_triggers_run() {
    let database = TestDatabase::create("overloads").await;
    let role = format!("{}_r", database.name());
    database
        .exec(&format!(
            "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id);
             CREATE TYPE mood AS ENUM ('fine'); CREATE TYPE pair AS (x int, y int); CREATE TABLE uses (m mood, p pair); CREATE ROLE {role} LOGIN"
        ))
        .await;
    let way =
        Way { history_is_here: true, role: Some(role.clone()), mode: Some(Mode::Manual), ..Way::default() };
    run_script(&database, &look(&source(&database), &way).await).await;
    let client = as_role(&database, &role).connect().await.unwrap();
    // An overload for every function of ours, for every argument of another type that an argument could become.
    let functions = client
        .query(
            "SELECT p.proname::text, ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) t)
             FROM pg_proc p WHERE p.pronamespace = 'waldelta'::regnamespace AND p.proname LIKE 'ddl%'",
            &[],
        )
        .await
        .unwrap();
    let mut made = 0;
    for function in &functions {
        let (name, types): (String, Vec<String>) = (function.get(0), function.get(1));
        for at in 0..types.len() {
            let others: &[&str] = match types[at].as_str() {
                "oid" | "integer" => &["bigint", "numeric", "double precision", "anyelement"],
                "text" => &["varchar", "name", "anyelement"],
                "oid[]" | "text[]" => &["anyarray", "anyelement", "bigint[]", "varchar[]"],
                _ => &["anyelement", "text"],
            };
            for other in others {
                let mut types = types.clone();
                types[at] = (*other).to_owned();
                let sql = format!(
                    "CREATE FUNCTION waldelta.{name}({}) RETURNS boolean LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION 'somebody else is run as %', current_user; END $$",
                    types.join(", ")
                );
                made += u32::from(client.batch_execute(&sql).await.is_ok());
            }
        }
    }
    assert!(made > 20, "{made}");
    let admin = database.client().await;
    for ddl in [
        "ALTER TABLE a ADD COLUMN d int DEFAULT 1",
        "ALTER TABLE a ALTER COLUMN d TYPE bigint",
        "ALTER TABLE a RENAME COLUMN d TO e",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)",
        "ALTER TABLE p DETACH PARTITION p1",
        "ALTER TYPE mood RENAME VALUE 'fine' TO 'well'",
        "ALTER TYPE pair ADD ATTRIBUTE z int",
        "DROP TABLE p1",
    ] {
        // What goes wrong in the triggers is a warning.
        admin.batch_execute(&format!("SET client_min_messages = warning; {ddl}")).await.unwrap();
    }
    let log = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1',
               'publication_names', 'waldelta', 'messages', 'true') WHERE position('waldelta.ddl'::bytea IN data) > 0";
    let slot = database.slot("told");
    database.query(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    admin
        .batch_execute("ALTER TABLE a ADD COLUMN f int DEFAULT 1; ALTER TABLE a RENAME COLUMN f TO g")
        .await
        .unwrap();
    let told: i64 = admin.query_one(log, &[&slot]).await.unwrap().get(0);
    assert!(told >= 2, "the triggers still tell: {told}");
    drop(client);
    drop_role(&database, &role).await;
}

#[tokio::test]
async fn what_is_printed_for_a_provider_is_done_there() {
    let cluster = TestCluster::own(&[("wal_level", "replica")]).await;
    let database = TestDatabase::create_on(&cluster, "printed").await;
    database.exec(&format!("{TABLES}; CREATE ROLE rds_superuser; CREATE ROLE rds_replication")).await;
    let admin = source(&database);
    let way = Way { mode: Some(Mode::Manual), ..Way::default() };
    let script = look(&admin, &way).await;
    let sql = script.plan.to_sql();
    for part in [
        "by a member of rds_superuser",
        "CREATE ROLE waldelta LOGIN;\nGRANT rds_replication TO waldelta;",
        "rds.logical_replication = 1",
    ] {
        assert!(sql.contains(part), "{part} not in:\n{sql}");
    }
    assert!(!sql.contains("ALTER SYSTEM"), "{sql}");
    run_script(&database, &script).await;
    assert!(look(&admin, &way).await.plan.is_empty());
    let runs = connect(&database.url().replace("postgres@", "waldelta@")).await;
    assert!(runs.query_one("SELECT beat FROM waldelta.canary", &[]).await.is_ok());

    for (provider, part) in [
        (Provider::Supabase, "use the direct connection"),
        (Provider::Supabase, "before PostgreSQL 17"),
        (Provider::Neon, "use the host without -pooler"),
        (Provider::Azure, "6432 is PgBouncer"),
        (Provider::Cloudsql, "cloudsql.logical_decoding = on"),
    ] {
        let told = look(&admin, &Way { provider: Some(provider), ..Way::default() }).await;
        let remarks = told.plan.remarks.join("\n");
        assert!(remarks.contains(part) && !remarks.contains("pg_hba.conf"), "{provider}: {remarks}");
    }
}
