//! Planning, carrying out, taking away.

use std::process::{Child, Command, Stdio};

use tokio_postgres::error::SqlState;
use waldelta_source::setup::{Plan, StepKind, Wish, apply, plan, removal};
use waldelta_source::{Error, beat_canary, catalog};
use waldelta_testkit::{TestDatabase, test_program, wait_until};
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
    assert_eq!(kinds(&first), [Own, Own, Own, Own, Publication, Slot], "publication before slot");
    assert_eq!((names(&first), &first.remarks), (vec!["\"S\".\"b;c\"".into(), "public.a".into()], &vec![]));
    assert!(first.steps.last().unwrap().sql.contains("'pgoutput'"), "{}", first.to_sql());
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
    database.exec(&rest.to_sql()).await;
    assert_eq!(kinds(&plan(&client, &source, &Wish::default()).await.unwrap()), []);
    if database.server_major().await >= 17 {
        let slot = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", source.slot);
        assert_eq!(database.query_text(&slot).await, "t", "standbys can keep it");
    }
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
    assert_eq!(names(&plan), ["public.feelings", "public.parent", "public.parted", "public.sums"]);
    let remarks = plan.remarks.join("\n");
    for part in [
        "public.\"No Key\" has no primary key and is left out",
        "public.child has no primary key and is left out",
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

/// A publication of everything or of schemas names no table that could be taken out of it.
#[tokio::test]
async fn what_is_printed_fits_the_publication() {
    let database = TestDatabase::create("fitting").await;
    let source = source(&database);
    database
        .exec("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE log (line text); CREATE SCHEMA waldelta")
        .await;
    database.exec("CREATE PUBLICATION waldelta FOR ALL TABLES").await;
    let client = source.connect().await.unwrap();
    let with_all = plan(&client, &source, &Wish::default()).await.unwrap();
    assert!(with_all.steps.iter().all(|step| step.kind != StepKind::Publication), "{}", with_all.to_sql());
    database.exec("CREATE TABLE waldelta.change_history (id int)").await;
    let with_all = plan(&client, &source, &Wish::default()).await.unwrap().to_sql();
    assert!(
        with_all.contains("-- NOTE: public.log is published with all tables: keep history in"),
        "{with_all}"
    );
    assert!(
        with_all.contains("-- NOTE: keep history in another database") && !with_all.contains("DROP TABLE")
    );

    database.exec("DROP PUBLICATION waldelta").await;
    if database.server_major().await < 15 {
        println!("publications of schemas came with PostgreSQL 15");
        return;
    }
    database.exec("CREATE PUBLICATION waldelta FOR TABLES IN SCHEMA public, waldelta").await;
    let planned = set_up(&source).await;
    let printed = planned.to_sql();
    assert!(printed.contains("public.log is published with all of schema public: move it"), "{printed}");
    let mends = planned.suggestions.iter().filter(|step| step.kind == StepKind::Publication);
    for mend in mends.filter(|step| step.sql.starts_with("ALTER PUBLICATION")) {
        database.exec(&mend.sql).await;
    }
    let published = database.query_text(
        "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_publication_tables",
    );
    assert_eq!(published.await, "public.a public.log waldelta.canary");
}

#[tokio::test]
async fn partitions_need_an_identity_that_fits_their_root() {
    let database = TestDatabase::create("identities").await;
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE r (id int, k int, code text NOT NULL, PRIMARY KEY (id, k), UNIQUE (code, k)) PARTITION BY LIST (k);
             CREATE TABLE r1 PARTITION OF r FOR VALUES IN (1); CREATE TABLE r2 PARTITION OF r FOR VALUES IN (2);
             CREATE TABLE f (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
             CREATE TABLE f1 PARTITION OF f FOR VALUES IN (1); CREATE TABLE f2 PARTITION OF f FOR VALUES IN (2);
             ALTER TABLE r REPLICA IDENTITY USING INDEX r_code_k_key; ALTER TABLE r2 REPLICA IDENTITY FULL;
             ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f2 REPLICA IDENTITY FULL",
        )
        .await;
    let client = source.connect().await.unwrap();
    let planned = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(names(&planned), ["public.f"]);
    let remarks = planned.remarks.join("\n");
    assert!(
        remarks.contains("public.r is left out: a delete") && remarks.contains("it is: public.r1"),
        "{remarks}"
    );
    assert!(
        remarks.contains("public.f has REPLICA IDENTITY FULL") && remarks.contains("only keys: public.f1"),
        "{remarks}"
    );
    for suggestion in planned.suggestions.iter().filter(|step| step.kind == StepKind::Publication) {
        database.exec(&suggestion.sql).await;
    }
    let planned = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(
        (names(&planned), &planned.remarks[..]),
        (vec!["public.f".into(), "public.r".into()], &[][..])
    );

    // Under their own names, each has its own.
    database.exec("ALTER TABLE r1 REPLICA IDENTITY DEFAULT; CREATE PUBLICATION waldelta FOR TABLE r").await;
    let planned = plan(&client, &source, &Wish::default()).await.unwrap();
    assert_eq!(names(&planned), ["public.f", "public.r"]);
}

#[tokio::test]
async fn event_triggers_are_for_those_who_may() {
    let database = TestDatabase::create("no_triggers").await;
    let (name, role) = (database.name(), format!("{}_owner", database.name()));
    database
        .exec(&format!(
            "CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {name} TO {role};
             CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO {role}"
        ))
        .await;
    let owner = crate::source_as(&database, &format!("?user={role}"));
    let client = owner.connect().await.unwrap();
    let planned = plan(&client, &owner, &Wish::default()).await.unwrap().without_slot();
    assert!(planned.remarks[0].contains("may not create event triggers"), "{:?}", planned.remarks);
    assert!(planned.steps.iter().all(|step| !step.may_be_refused));
    assert_eq!(apply(&client, &owner, &planned).await.unwrap(), [] as [&str; 0]);
    drop(client);

    // A provider may have given it the right, or not.
    database
        .exec(&format!("ALTER ROLE {role} IN DATABASE {name} SET supautils.privileged_role = '{role}'"))
        .await;
    let client = owner.connect().await.unwrap();
    let planned = plan(&client, &owner, &Wish::default()).await.unwrap().without_slot();
    assert!(planned.steps.len() == 1 && planned.steps[0].may_be_refused, "{}", planned.to_sql());
    let left_out = apply(&client, &owner, &planned).await.unwrap();
    assert!(
        left_out.len() == 1 && left_out[0].contains("permission denied to create event trigger"),
        "{left_out:?}"
    );
    assert_eq!(database.query_text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'ddl\\_%'").await, "0");

    // A superuser does it once, whatever was there of another version.
    database.exec("CREATE FUNCTION waldelta.ddl_changed(int) RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    let superuser = source(&database);
    let planned = plan(&superuser.connect().await.unwrap(), &superuser, &Wish::default()).await.unwrap();
    assert_eq!(kinds(&planned), [StepKind::Own, StepKind::Slot]);
    database.exec(&planned.without_slot().to_sql()).await;
    let planned = plan(&client, &owner, &Wish::default()).await.unwrap();
    assert_eq!((kinds(&planned), &planned.remarks[..]), (vec![StepKind::Slot], &[][..]));
    let planned = removal(&client, &superuser, false).await.unwrap();
    assert!(planned.remarks.is_empty(), "{}", planned.to_sql());
    database.exec(&planned.to_sql()).await;
    let left = "SELECT (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta')";
    assert_eq!(database.query_text(left).await, "0");
    drop(client);
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
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
    let planned = removal(&client, &source, false).await.unwrap();
    assert!(planned.steps[0].is_slot() && planned.remarks.is_empty(), "{}", planned.to_sql());
    apply(&client, &source, &planned).await.unwrap();
    assert_eq!(catalog::slot(&client, &source.slot).await.unwrap(), None);
    let left = database
        .query_text(
            "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'waldelta')",
        )
        .await;
    assert_eq!(left, "0");
    assert!(removal(&client, &source, false).await.unwrap().is_empty());
    set_up(&source).await;
}

#[tokio::test]
async fn removing_keeps_a_schema_that_holds_history() {
    let database = TestDatabase::create("remove_kept").await;
    let source = source(&database);
    set_up(&source).await;
    database.exec("CREATE TABLE waldelta.change_history (id int)").await;
    let client = source.connect().await.unwrap();
    let planned = removal(&client, &source, false).await.unwrap();
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
    let shown = removal(&client, &source, true).await.unwrap();
    assert!(shown.remarks.iter().any(|remark| remark.contains("stop the service first")), "{shown:?}");
    let error = removal(&client, &source, false).await.unwrap_err();
    assert!(matches!(error, Error::SlotActive { pid, .. } if pid > 0), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::SlotActive, true));
    drop(reader);
    wait_until("the slot is free", PATIENCE, async || removal(&client, &source, false).await.is_ok()).await;
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
    assert!(removal(&client, &source, false).await.is_err());
    assert!(catalog::slot(&client, &source.slot).await.unwrap().is_some());
}

/// Something that reads a slot, until dropped.
struct Reader(Child);

impl Reader {
    fn start(database: &TestDatabase, slot: &str) -> Self {
        let mut program = Command::new(test_program("pg_recvlogical"));
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
