//! Planning, carrying out, taking away.

use std::process::{Child, Command, Stdio};

use tokio_postgres::error::SqlState;
use waldelta_source::setup::{Plan, StepKind, Wish, apply, plan, removal};
use waldelta_source::{Error, beat_canary, catalog};
use waldelta_testkit::{TestDatabase, test_binaries, wait_until};
use waldelta_wal::{Code, TableName};

use crate::{PATIENCE, set_up, source};

fn names(plan: &Plan) -> Vec<String> {
    plan.tables.iter().map(ToString::to_string).collect()
}

fn kinds(plan: &Plan) -> Vec<StepKind> {
    plan.steps.iter().map(|step| step.kind).collect()
}

#[tokio::test]
async fn a_plan_that_was_carried_out_leaves_nothing_to_do() {
    let database = TestDatabase::create("plan").await;
    let source = source(&database);
    database.exec(r#"CREATE TABLE a (id int PRIMARY KEY); CREATE SCHEMA "S"; CREATE TABLE "S"."b;c" (id int PRIMARY KEY)"#).await;
    let client = source.connect().await.unwrap();
    let first = plan(&client, &source, &Wish::default()).await.unwrap();
    use StepKind::*;
    assert_eq!(kinds(&first), [Own, Own, Own, Publication, Slot], "publication before slot");
    assert_eq!((names(&first), &first.remarks), (vec!["\"S\".\"b;c\"".into(), "public.a".into()], &vec![]));
    assert!(first.to_sql().ends_with("'pgoutput');\n"), "{}", first.to_sql());
    assert_eq!(catalog::slot(&client, &source.slot).await.unwrap(), None, "planning does nothing");

    apply(&client, &source, &first).await.unwrap();
    let again = plan(&client, &source, &Wish::default()).await.unwrap();
    assert!(again.is_empty(), "{}", again.to_sql());
    assert_eq!(names(&again), names(&first));
    apply(&client, &source, &again).await.unwrap();

    database.exec("CREATE TABLE later (id int PRIMARY KEY)").await;
    let more = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(more.steps.len(), 1);
    assert_eq!(more.steps[0].sql, "ALTER PUBLICATION waldelta ADD TABLE\n    public.later");
    apply(&client, &source, &more).await.unwrap();
    assert_eq!(catalog::published_tables(&client, &source).await.unwrap().len(), 3);
    assert!(beat_canary(&client).await.unwrap());
}

/// The printed plan is what users run by hand, in psql.
#[tokio::test]
async fn the_printed_plan_does_the_same() {
    let database = TestDatabase::create("printed").await;
    let source = source(&database);
    database.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE log (line text)").await;
    let client = source.connect().await.unwrap();
    let printed = plan(&client, &source, &Wish::default()).await.unwrap().without_slot();
    database.exec(&printed.to_sql()).await;
    let rest = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(kinds(&rest), [StepKind::Slot]);
}

#[tokio::test]
async fn setting_up_goes_on_from_where_it_failed() {
    let database = TestDatabase::create("half").await;
    let mut source = source(&database);
    database.exec("CREATE TABLE a (id int PRIMARY KEY)").await;
    let client = source.connect().await.unwrap();
    source.slot = "No Such Name".into();
    let first = plan(&client, &source, &Wish::default()).await.unwrap();
    let error = apply(&client, &source, &first).await.unwrap_err();
    assert!(error.to_string().contains("pg_create_logical_replication_slot('No Such Name'"), "{error}");
    assert_eq!(error.code(), Code::StatementFailed);
    source.slot = database.slot("w");
    let rest = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(kinds(&rest), [StepKind::Slot]);
}

#[tokio::test]
async fn what_cannot_be_captured_is_named_and_the_applications_writes_go_on() {
    let database = TestDatabase::create("left_out").await;
    let source = source(&database);
    database
        .exec(
            r#"CREATE TYPE mood AS ENUM ('fine');
               CREATE TABLE "No Key" (line text); INSERT INTO "No Key" VALUES ('x');
               CREATE TABLE feelings (id int PRIMARY KEY, "how" mood);
               CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
               CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE); INSERT INTO deferred VALUES (1);
               CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
               INSERT INTO nothing VALUES (1);
               CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (9);
               CREATE TABLE weak (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE weak_leaf PARTITION OF weak FOR VALUES FROM (0) TO (9);
               ALTER TABLE weak_leaf REPLICA IDENTITY NOTHING; INSERT INTO weak VALUES (1);
               CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
               INSERT INTO child VALUES (1);
               CREATE TABLE sums (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
               CREATE VIEW looking AS SELECT * FROM parent;
               CREATE TEMP TABLE passing (id int PRIMARY KEY)"#,
        )
        .await;
    let plan = set_up(&source).await;
    assert_eq!(names(&plan), ["public.parent", "public.parted", "public.sums"]);
    let remarks = plan.remarks.join("\n");
    for part in [
        "public.\"No Key\" has no primary key and is left out",
        "public.child has no primary key and is left out",
        "public.feelings is left out: types that are not captured yet: how (public.mood)",
        "public.fast is left out: an unlogged table",
        "public.deferred is left out: it has REPLICA IDENTITY NOTHING or a deferrable primary key",
        "public.nothing is left out",
        "public.weak is left out",
        "public.weak_leaf",
        "public.sums is captured without its generated columns: twice",
    ] {
        assert!(remarks.contains(part), "{part} not in:\n{remarks}");
    }
    assert!(remarks.starts_with("public.\"No Key\""), "tables without key come first:\n{remarks}");
    assert!(!remarks.contains("looking") && !remarks.contains("passing") && !remarks.contains("public.leaf"));
    for table in
        ["\"No Key\"", "feelings", "fast", "deferred", "nothing", "parted", "weak", "child", "parent", "sums"]
    {
        database.exec(&format!("DELETE FROM {table}")).await;
    }
}

#[tokio::test]
async fn a_table_without_key_is_only_published_with_a_word_on_what_breaks() {
    let database = TestDatabase::create("keyless").await;
    let source = source(&database);
    database.exec("CREATE TABLE log (line text); INSERT INTO log VALUES ('x')").await;
    let client = source.connect().await.unwrap();
    let wish = Wish { allow_keyless: true, ..Wish::default() };
    let planned = plan(&client, &source, &wish).await.unwrap();
    assert!(planned.remarks[0].contains("UPDATE AND DELETE ON IT FAIL"), "{:?}", planned.remarks);
    apply(&client, &source, &planned).await.unwrap();
    let error = database.client().await.batch_execute("DELETE FROM log").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "as announced");

    let without = plan(&client, &source, &Wish::default()).await.unwrap();
    assert!(
        without
            .remarks
            .iter()
            .any(|remark| remark.contains("public.log is in publication waldelta nevertheless"))
    );
    assert!(
        without.suggestions.iter().any(|step| step.sql == "ALTER PUBLICATION waldelta DROP TABLE public.log")
    );
}

#[tokio::test]
async fn only_the_tables_that_were_named_are_published() {
    let database = TestDatabase::create("named").await;
    let source = source(&database);
    database.exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)").await;
    let client = source.connect().await.unwrap();
    let name = |text: &str| text.parse::<TableName>().unwrap();
    let wish = Wish { tables: vec![name("b")], ..Wish::default() };
    let planned = plan(&client, &source, &wish).await.unwrap();
    apply(&client, &source, &planned).await.unwrap();
    let published = catalog::published_tables(&client, &source).await.unwrap();
    assert_eq!(published.iter().map(|table| table.table.name.clone()).collect::<Vec<_>>(), [name("b")]);

    let wish = Wish { tables: vec![name("b"), name("typo"), name("x.y")], ..Wish::default() };
    let error = plan(&client, &source, &wish).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no table public.typo, x.y");
    assert_eq!(error.code(), Code::TableMissing);
}

#[tokio::test]
async fn an_existing_publication_is_completed_and_otherwise_left_alone() {
    let database = TestDatabase::create("existing").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
             CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE PUBLICATION waldelta FOR TABLE a WITH (publish = 'insert')",
        )
        .await;
    let planned = set_up(&source).await;
    let remarks = planned.remarks.join("\n");
    assert!(
        remarks.contains("leaves out operations") && remarks.contains("under their own names"),
        "{remarks}"
    );
    let published = database
        .query_text("SELECT string_agg(prrelid::regclass::text, ' ' ORDER BY 1) FROM pg_publication_rel")
        .await;
    assert_eq!(published, "a b p waldelta.canary");
    assert_eq!(database.query_text("SELECT pubupdate FROM pg_publication").await, "f");
}

#[tokio::test]
async fn an_author_is_named_by_who_was_allowed_to() {
    let database = TestDatabase::create("author").await;
    let source = source(&database);
    set_up(&source).await;
    let client = database.client().await;
    let said = |sql: &'static str| {
        let client = &client;
        async move {
            let failure = client.batch_execute(sql).await.err();
            failure.and_then(|error| error.code().cloned())
        }
    };
    let invalid = Some(SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(said("SELECT waldelta.set_client('web-7', '{\"user\":\"42\"}')").await, None);
    assert_eq!(said("SELECT waldelta.set_client('web-8')").await, None);
    assert_eq!(said("SELECT waldelta.set_client('')").await, invalid);
    assert_eq!(said("SELECT waldelta.set_client(NULL)").await, invalid);
    assert_eq!(said("SELECT waldelta.set_client(repeat('\u{e9}', 128))").await, None);
    assert_eq!(said("SELECT waldelta.set_client(repeat('x', 129))").await, invalid);
    assert_eq!(said("SELECT waldelta.set_client('a', '[]')").await, invalid);
    assert_eq!(
        said("SELECT waldelta.set_client('a', jsonb_build_object('a', repeat('x', 70000)))").await,
        invalid
    );
    // The public may do nothing: not even see the schema.
    let role = format!("{}_app", database.name());
    database.exec(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA waldelta TO {role}")).await;
    let as_app = format!("SET ROLE {role}; SELECT waldelta.set_client('a')");
    let failure = client.batch_execute(&as_app).await.unwrap_err();
    assert_eq!(failure.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    database.exec(&format!("GRANT EXECUTE ON FUNCTION waldelta.set_client(text, jsonb) TO {role}")).await;
    client.batch_execute("SELECT waldelta.set_client('a')").await.unwrap();
    client.batch_execute("RESET ROLE").await.unwrap();
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;

    let sql = "SELECT convert_from(data, 'UTF8') FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
        'proto_version', '1', 'publication_names', 'waldelta', 'messages', 'true')
        WHERE get_byte(data, 0) = ascii('M') LIMIT 1";
    let escaped = sql.replace("convert_from(data, 'UTF8')", "encode(data, 'escape')");
    let message: String = client.query_one(&escaped, &[&source.slot]).await.unwrap().get(0);
    assert!(message.contains("waldelta.author"), "{message}");
    assert!(message.ends_with("{\"metadata\": {\"user\": \"42\"}, \"client_id\": \"web-7\"}"), "{message}");
}

#[tokio::test]
async fn where_messages_are_not_for_everybody_the_function_lends_its_right() {
    let database = TestDatabase::create("lends").await;
    let source = source(&database);
    database
        .exec(
            "DO $$ DECLARE f regprocedure; BEGIN
               FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
               END LOOP; END $$",
        )
        .await;
    set_up(&source).await;
    let role = format!("{}_app", database.name());
    database
        .exec(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA waldelta TO {role};
             GRANT EXECUTE ON FUNCTION waldelta.set_client(text, jsonb) TO {role}"
        ))
        .await;
    let client = database.client().await;
    client.batch_execute(&format!("SET ROLE {role}; SELECT waldelta.set_client('a')")).await.unwrap();
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    let client = source.connect().await.unwrap();
    assert!(plan(&client, &source, &Wish::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn removing_leaves_nothing() {
    let database = TestDatabase::create("remove").await;
    let source = source(&database);
    database.exec("CREATE TABLE a (id int PRIMARY KEY)").await;
    set_up(&source).await;
    let client = source.connect().await.unwrap();
    let planned = removal(&client, &source).await.unwrap();
    assert!(planned.steps[0].is_slot() && planned.remarks.is_empty(), "{}", planned.to_sql());
    apply(&client, &source, &planned).await.unwrap();
    assert_eq!(catalog::slot(&client, &source.slot).await.unwrap(), None);
    let left = database
        .query_text(
            "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta')",
        )
        .await;
    assert_eq!(left, "0");
    assert!(removal(&client, &source).await.unwrap().is_empty());
    set_up(&source).await;
}

#[tokio::test]
async fn removing_keeps_a_schema_that_holds_history() {
    let database = TestDatabase::create("remove_kept").await;
    let source = source(&database);
    set_up(&source).await;
    database.exec("CREATE TABLE waldelta.change_history (id int)").await;
    let client = source.connect().await.unwrap();
    let planned = removal(&client, &source).await.unwrap();
    assert_eq!(planned.remarks, ["schema waldelta stays, because it holds more: table change_history"]);
    apply(&client, &source, &planned).await.unwrap();
    assert_eq!(database.query_text("SELECT count(*) FROM waldelta.change_history").await, "0");
    let canary = database.query_text("SELECT to_regclass('waldelta.canary') IS NULL").await;
    assert_eq!(canary, "t");
}

#[tokio::test]
async fn nothing_is_removed_while_the_slot_is_read() {
    let database = TestDatabase::create("remove_active").await;
    let source = source(&database);
    set_up(&source).await;
    let client = source.connect().await.unwrap();
    let reader = Reader::start(&database, &source.slot);
    wait_until("the slot is read", PATIENCE, async || {
        catalog::slot(&client, &source.slot).await.unwrap().unwrap().active_pid.is_some()
    })
    .await;
    let error = removal(&client, &source).await.unwrap_err();
    assert!(matches!(error, Error::SlotActive { pid, .. } if pid > 0), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::SlotActive, true));
    drop(reader);
    wait_until("the slot is free", PATIENCE, async || removal(&client, &source).await.is_ok()).await;
}

#[tokio::test]
async fn somebody_elses_slot_is_neither_used_nor_dropped() {
    let database = TestDatabase::create("foreign_slot").await;
    let source = source(&database);
    let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'test_decoding')", source.slot);
    database.query(&sql).await;
    let client = source.connect().await.unwrap();
    let error = plan(&client, &source, &Wish::default()).await.unwrap_err();
    assert!(matches!(error, Error::SlotForeign { .. }) && error.code() == Code::SlotUnusable, "{error:?}");
    assert!(removal(&client, &source).await.is_err());
    assert!(catalog::slot(&client, &source.slot).await.unwrap().is_some());
}

/// Something that reads a slot, until dropped.
struct Reader(Child);

impl Reader {
    fn start(database: &TestDatabase, slot: &str) -> Self {
        let mut program = Command::new(test_binaries().program("pg_recvlogical"));
        program.args(["--dbname", database.url(), "--slot", slot, "--start", "--file", "-"]);
        program.args(["--option", "proto_version=1", "--option", "publication_names=waldelta"]);
        Reader(program.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
