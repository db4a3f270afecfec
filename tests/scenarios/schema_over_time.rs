//! Tables change their shape while they are captured: rows before and after are told with the shape that they had, and
//! clients and history stay equal to the source.

use serde_json::{Value, json};
use waldelta_testkit::{Replica, TestDatabase};

use crate::setting::{PATIENCE, Setting, of_type, record};

const TABLE: &str = "
    CREATE TABLE t (id int PRIMARY KEY, a text, b int);
    INSERT INTO t VALUES (1, 'before', 10)";

/// DDL that changes no row's value unseen, each followed by rows; faults.md D1, D5, D6, D12.
const STEPS: &[&str] = &[
    "ALTER TABLE t ADD c numeric; INSERT INTO t VALUES (2, 'two', 20, 2.5)",
    // Rows of both shapes in one transaction, and several columns at once.
    "BEGIN;
     INSERT INTO t VALUES (3, 'old shape', 30, 3);
     ALTER TABLE t ADD d text, ADD e jsonb;
     UPDATE t SET d = 'new shape', e = '{\"x\": 1}' WHERE id = 1;
     COMMIT",
    "ALTER TABLE t DROP b; UPDATE t SET a = 'without b' WHERE id = 2",
    // The same name again is another column: the old values do not come back.
    "ALTER TABLE t ADD b text; INSERT INTO t VALUES (4, 'four', 4, NULL, NULL, 'text now')",
    "ALTER TABLE t DROP c, ADD c int; UPDATE t SET c = 7 WHERE id = 3",
    // Rolled back: it has never been.
    "BEGIN; ALTER TABLE t ADD never int; INSERT INTO t(id, never) VALUES (9, 9); ROLLBACK; INSERT INTO t(id) VALUES (5)",
    "ALTER TABLE t ALTER a TYPE varchar; UPDATE t SET a = 'coerced' WHERE id = 1",
    "UPDATE t SET id = 50 WHERE id = 5; DELETE FROM t WHERE id = 2",
];

#[tokio::test]
async fn clients_and_history_follow_every_shape() {
    let setting = Setting::new("shapes", TABLE).await;
    are_followed(&setting, STEPS).await;
    let (mut late, mut late_copy) = setting.client("late").await;
    setting.equal(&mut late, &mut late_copy, &["public.t"]).await;
    assert_eq!(repairs(&setting).await, json!([]), "nothing of this changes rows unseen");
    let versions = "SELECT string_agg(version::text, ',' ORDER BY version) FROM waldelta.table_schemas";
    let shapes = setting.history.query_text(versions).await;
    let changes = "SELECT string_agg(schema_version::text, ',' ORDER BY epoch, lsn, seq)
        FROM waldelta.change_history WHERE operation = 'schema'";
    let told = setting.history.query_text(changes).await;
    assert_eq!(format!("1,{told}"), shapes, "each version but the first is told by a change, once");
}

/// What the catalog says when capture asks is later than the rows: here each transaction does several things to one table, with rows
/// in between; faults.md D5, D6, D12.
const MIGRATIONS: &[&str] = &[
    // Another column takes the place of one, with values of its own for some rows.
    "BEGIN;
     ALTER TABLE t ADD new_a text; UPDATE t SET new_a = 'made of ' || a WHERE id = 1;
     ALTER TABLE t DROP a; ALTER TABLE t RENAME new_a TO a;
     COMMIT; INSERT INTO t (id, a) VALUES (3, 'three')",
    // A name that it has for a moment.
    "BEGIN;
     ALTER TABLE t RENAME b TO passing; UPDATE t SET passing = 11 WHERE id = 1;
     ALTER TABLE t RENAME passing TO c;
     COMMIT; UPDATE t SET c = 12 WHERE id = 3",
    // Two that change places.
    "BEGIN;
     ALTER TABLE t ADD d text; UPDATE t SET d = 'd of ' || id WHERE id < 3; ALTER TABLE t RENAME a TO e;
     UPDATE t SET e = 'e now' WHERE id = 2; ALTER TABLE t RENAME d TO a; ALTER TABLE t RENAME e TO d;
     COMMIT; UPDATE t SET d = 'last' WHERE id = 3",
    // A type that it has for a moment, beside a column that is there for no longer.
    "BEGIN;
     ALTER TABLE t ALTER a TYPE varchar, ADD moment int; UPDATE t SET a = 'in passing' WHERE id = 2;
     ALTER TABLE t DROP moment; ALTER TABLE t ALTER a TYPE text;
     COMMIT; UPDATE t SET a = 'three again' WHERE id = 3",
];

#[tokio::test]
async fn clients_and_history_follow_migrations_with_rows_in_between() {
    let setting = Setting::new(
        "migrations",
        "
        CREATE TABLE t (id int PRIMARY KEY, a text, b int);
        INSERT INTO t VALUES (1, 'one', 10), (2, 'two', 20)",
    )
    .await;
    are_followed(&setting, MIGRATIONS).await;
}

/// A client that is there has the source's rows after each of these, and one that was away has them once it is back.
async fn are_followed(setting: &Setting, steps: &[&str]) {
    let (mut live, mut copy) = setting.client("live").await;
    let (away, mut away_copy) = setting.client("away").await;
    drop(away);
    for step in steps {
        setting.source.exec(step).await;
        setting.equal(&mut live, &mut copy, &["public.t"]).await;
    }
    let mut away = setting.resume("away", &mut away_copy).await;
    setting.equal(&mut away, &mut away_copy, &["public.t"]).await;
}

/// faults.md D6: a table is known by its object id.
#[tokio::test]
async fn a_renamed_table_goes_on_in_history() {
    let setting = Setting::new("rename", TABLE).await;
    setting.source.exec("UPDATE t SET a = 'x'").await;
    setting.source.exec("ALTER TABLE t RENAME TO u; UPDATE u SET a = 'y'").await;
    setting.source.exec("CREATE SCHEMA s; ALTER TABLE u SET SCHEMA s; UPDATE s.u SET a = 'z'").await;
    setting.settled().await;
    let names = "SELECT string_agg(table_name || ' ' || (data->>'a'), ', ' ORDER BY lsn) || ' ' || count(DISTINCT table_oid)
        FROM waldelta.change_history WHERE operation = 'update'";
    assert_eq!(setting.history.query_text(names).await, "public.t x, public.u y, s.u z 1");
}

/// faults.md D27.
#[tokio::test]
async fn ddl_that_is_rolled_back_leaves_nothing() {
    let setting = Setting::new("undone", TABLE).await;
    setting.source.exec("INSERT INTO t VALUES (2)").await;
    setting
        .source
        .exec(
            "BEGIN; ALTER TABLE t ADD x int DEFAULT 1; INSERT INTO t VALUES (3); ROLLBACK;
             BEGIN; SAVEPOINT s; ALTER TABLE t ALTER b TYPE text; ROLLBACK TO s; INSERT INTO t VALUES (4); COMMIT",
        )
        .await;
    setting.settled().await;
    let versions = setting.history.query_text("SELECT max(version) FROM waldelta.table_schemas").await;
    assert_eq!(versions, "1");
    assert_eq!(repairs(&setting).await, json!([]));
}

/// What sends no message is told by the source's event trigger, at its place; faults.md D2, D3, D23, V10.
#[tokio::test]
async fn rows_that_change_unseen_put_their_table_into_needs_repair() {
    needs_repair("repair", "").await;
}

/// The same without the trigger (nobody allowed it, or a superuser switched it off): the catalog shows it; faults.md D26.
#[tokio::test]
async fn the_catalog_shows_what_no_trigger_tells() {
    let drop = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'waldelta%' LOOP
            EXECUTE format('DROP EVENT TRIGGER %I', name);
        END LOOP; END $$";
    needs_repair("norepair", drop).await;
}

async fn needs_repair(hint: &str, then: &str) {
    let setting = Setting::new(
        hint,
        "CREATE TYPE pair AS (x int, y text);
         CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE constant (id int PRIMARY KEY);
         CREATE TABLE volatile (id int PRIMARY KEY);
         CREATE TABLE rewritten (id int PRIMARY KEY, a int);
         CREATE TABLE composed (id int PRIMARY KEY, p pair);
         CREATE TABLE moody (id int PRIMARY KEY, m mood);
         CREATE TABLE calm (id int PRIMARY KEY, a int);
         CREATE TABLE calm_too (id int PRIMARY KEY, a int);
         INSERT INTO constant VALUES (1); INSERT INTO volatile VALUES (1); INSERT INTO rewritten VALUES (1, 1);
         INSERT INTO composed VALUES (1, (1, 'a')); INSERT INTO moody VALUES (1, 'sad'); INSERT INTO calm VALUES (1, 1)",
    )
    .await;
    setting.source.exec(&format!("{then}; UPDATE calm SET a = 2")).await;
    setting.settled().await;
    setting
        .source
        .exec(
            "ALTER TABLE constant ADD c int DEFAULT 7;
             ALTER TABLE volatile ADD c float8 DEFAULT random();
             ALTER TABLE rewritten ALTER a TYPE int USING a + 1;
             ALTER TYPE pair ADD ATTRIBUTE z int;
             ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        )
        .await;
    // What changes no rows, or says so itself.
    setting
        .source
        .exec(
            "CREATE INDEX ON calm (a); ALTER TABLE calm ADD b int, ALTER a SET STATISTICS 10; ALTER TABLE calm DROP b;
             TRUNCATE calm_too; INSERT INTO calm_too VALUES (2, 2)",
        )
        .await;
    setting.source.exec("VACUUM FULL calm_too").await;
    let wanted = json!([
        ["public.composed", "type_changed"],
        ["public.constant", "default_added"],
        ["public.moody", "enum_renamed"],
        ["public.rewritten", "rewritten"],
        ["public.volatile", "rewritten"],
    ]);
    waldelta_testkit::wait_until("the tables need repair", PATIENCE, async || {
        let found = repairs(&setting).await;
        assert!(!found.to_string().contains("calm"), "{found}");
        found.as_array().unwrap().len() >= 5
    })
    .await;
    let mut found = repairs(&setting).await;
    // A volatile default adds a column too, and which of the two is named first does not matter.
    let volatile = &mut found.as_array_mut().unwrap()[4];
    assert!(volatile[1] == "rewritten" || volatile[1] == "default_added", "{volatile}");
    volatile[1] = "rewritten".into();
    assert_eq!(found, wanted);
    let (code, metrics) = setting.service.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(metrics.lines().any(|line| line.contains("repair") && line.ends_with(" 5")), "{metrics}");
    // It is known after a restart too, and the other tables go on.
    let mut setting = setting;
    setting.service.stop().await;
    setting.service.start_again().await;
    setting.source.exec("INSERT INTO calm VALUES (3, 3); INSERT INTO composed VALUES (2, (2, 'b', 3))").await;
    setting.settled().await;
    assert_eq!(repairs(&setting).await.as_array().unwrap().len(), 5);
    let composed = "SELECT data->'p' FROM waldelta.change_history WHERE table_name = 'public.composed' AND row_key = '[2]'";
    assert_eq!(setting.history.query_text(composed).await, r#"{"x": 2, "y": "b", "z": 3}"#);
}

/// faults.md D7: a table that is gone is decoded by what is known of it.
#[tokio::test]
async fn late_rows_of_a_table_that_is_gone_are_decoded() {
    let mut setting = Setting::new(
        "gone",
        "CREATE TYPE pair AS (x int, y text);
         CREATE TABLE t (id int PRIMARY KEY, p pair, d numeric(10, 2));
         CREATE TABLE other (id int PRIMARY KEY);
         INSERT INTO t VALUES (1, (1, 'one'), 1.5)",
    )
    .await;
    setting.source.exec("UPDATE t SET d = 2").await;
    setting.settled().await;
    setting.service.stop().await;
    setting
        .source
        .exec(
            "INSERT INTO t VALUES (2, (2, 'two'), 2.5); ALTER TABLE t ADD e text; INSERT INTO t VALUES (3, (3, NULL), 3, 'e');
             DROP TABLE t; DROP TYPE pair; INSERT INTO other VALUES (1)",
        )
        .await;
    setting.service.start_again().await;
    setting.settled().await;
    let rows = "SELECT string_agg(data::text, ' ' ORDER BY lsn, seq) FROM waldelta.change_history
        WHERE table_name = 'public.t' AND operation = 'insert'";
    assert_eq!(
        setting.history.query_text(rows).await,
        r#"{"d": 2.50, "p": {"x": 2, "y": "two"}, "id": 2} {"d": 3.00, "e": "e", "p": {"x": 3, "y": null}, "id": 3}"#
    );
}

/// A client is told of a shape where it begins, inside a transaction too.
#[tokio::test]
async fn a_shape_is_told_before_the_first_row_that_has_it() {
    let setting = Setting::new("told", TABLE).await;
    let (mut socket, mut replica): (_, Replica) = setting.client("c").await;
    setting
        .source
        .exec("BEGIN; INSERT INTO t VALUES (2, 'a', 1); ALTER TABLE t RENAME b TO c; INSERT INTO t VALUES (3, 'b', 2); COMMIT")
        .await;
    let frames = record(&mut socket, &mut replica, "the transaction is there", |frame| {
        frame["type"] == "tx" && frame["last"] == true
    })
    .await;
    let names = |frame: &Value| -> Vec<String> {
        let columns = frame["columns"].as_array().unwrap();
        columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let shapes: Vec<_> = of_type(&frames, "schema").into_iter().map(names).collect();
    assert_eq!(shapes.last().unwrap(), &["id", "a", "c"], "{frames:?}");
}

/// Tables that need repair, by `/v1/status`: [name, reason], sorted.
async fn repairs(setting: &Setting) -> Value {
    let (code, body) = setting.service.get("/v1/status").await;
    assert_eq!(code, 200, "{body}");
    let status: Value = serde_json::from_str(&body).unwrap();
    let tables = status["needs_repair"].as_array().unwrap_or_else(|| panic!("{body}"));
    let mut found: Vec<Value> = tables.iter().map(|t| json!([t["table"], t["reason"]])).collect();
    found.sort_by_key(ToString::to_string);
    Value::Array(found)
}

/// faults.md D24, D25: what cannot be captured beside what is, and tables of odd shapes.
#[tokio::test]
async fn odd_tables_do_no_harm() {
    let source: TestDatabase = TestDatabase::create("odd").await;
    let history = TestDatabase::create("odd_h").await;
    let setting = Setting::over(
        source,
        history,
        "CREATE TABLE plain (id int PRIMARY KEY);
         CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
         CREATE SEQUENCE counter;
         CREATE VIEW seen AS SELECT * FROM plain;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
         CREATE TABLE computed (id int GENERATED ALWAYS AS (1) STORED)",
    )
    .await;
    setting
        .source
        .exec(
            "CREATE TEMP TABLE passing (id int); INSERT INTO passing VALUES (1);
             INSERT INTO unlogged VALUES (1); SELECT nextval('counter'); INSERT INTO computed DEFAULT VALUES;
             REFRESH MATERIALIZED VIEW kept; INSERT INTO plain VALUES (1)",
        )
        .await;
    setting.history_equals_source(&["public.plain"]).await;
}
