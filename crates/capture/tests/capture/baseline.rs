//! The rows that existed before, and the changes after: nothing between, nothing twice.

use waldelta_capture::setup::{Baselining, begin, begin_telling};
use waldelta_testkit::wait_until;
use waldelta_wal::Code;

use crate::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baseline_and_stream_together_are_the_source() {
    let world = World::bare("base", "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)").await;
    world.source_db.exec("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i").await;
    world.publish().await;
    // Somebody writes all the while.
    let writer = world.source_db.client().await;
    let writing = async {
        for id in 1..=300 {
            writer.execute("UPDATE t SET n = n + 1 WHERE id = $1", &[&id]).await.unwrap();
            writer.execute("INSERT INTO t VALUES ($1, 1)", &[&(id + 10_000)]).await.unwrap();
            writer.execute("DELETE FROM t WHERE id = $1", &[&(id + 1_000)]).await.unwrap();
        }
    };
    let (begun, ()) = tokio::join!(begin(&world.source, &world.history, true), writing);
    begun.unwrap();
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (20000, 2)").await;
    world.wait_stored("row_key = '[20000]'", 1).await;

    let folded = "SELECT md5(string_agg(row_key || ' ' || (data->>'n'), ',' ORDER BY row_key COLLATE \"C\")) FROM ( \
                  SELECT DISTINCT ON (row_key) row_key, data, operation FROM waldelta.change_history \
                  ORDER BY row_key, epoch DESC, lsn DESC, seq DESC) last WHERE operation <> 'delete'";
    let source =
        "SELECT md5(string_agg('[' || id || '] ' || n, ',' ORDER BY '[' || id || ']' COLLATE \"C\")) FROM t";
    assert_eq!(world.stored(folded).await, world.source_db.query_text(source).await);
    // Each row that existed is there once as baseline, and none that the stream brought again as such.
    let doubled = "SELECT count(*) FROM (SELECT row_key FROM waldelta.change_history \
                   WHERE operation IN ('baseline', 'insert') GROUP BY row_key HAVING count(*) > 1) d";
    assert_eq!(world.stored(doubled).await, "0");
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_baseline_that_fails_takes_everything_back() {
    let world = World::bare("basefail", "CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    world.source_db.exec("INSERT INTO t VALUES (1, 1)").await;
    world.publish().await;
    // A role that may replicate and not read.
    let role = format!("reader_{}", world.source_db.name());
    let client = world.source_db.client().await;
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION; GRANT USAGE ON SCHEMA waldelta TO {role}"
        ))
        .await
        .unwrap();
    let mut reader = world.source.clone();
    reader.target =
        crate::world::target(&world.source_db.url().replace("//postgres@", &format!("//{role}@")));
    let error = begin(&reader, &world.history, true).await.unwrap_err();
    assert_eq!(error.code(), Code::PrivilegeMissing, "{error:?}");
    let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", world.source.slot);
    wait_until("the slot is gone", PATIENCE, async || world.source_db.query_text(&sql).await == "0").await;
    let history =
        waldelta_history::History::open(&crate::world::history_config(world.history_db.url())).await.unwrap();
    begin(&world.source, &history, true).await.unwrap();
    world.wait_stored("operation = 'baseline'", 1).await;
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// Types that only the catalog knows, from the first row on and in the stream: one version, one form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn composites_and_enums_are_the_same_in_the_baseline_and_in_the_stream() {
    let world = World::bare(
        "basecomp",
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
         CREATE TABLE t (id int PRIMARY KEY, m mood, p pair, ps pair[])",
    )
    .await;
    let values = "'sad', ROW(1, 'x,\"y\"'), ARRAY[ROW(2, NULL)::pair]";
    world.source_db.exec(&format!("INSERT INTO t VALUES (1, {values})")).await;
    world.publish().await;
    begin(&world.source, &world.history, true).await.unwrap();
    let capture = world.run();
    world.source_db.exec(&format!("INSERT INTO t VALUES (2, {values})")).await;
    world.wait_stored("true", 2).await;
    let expected = world.source_db.query_text("SELECT to_jsonb(t)::text FROM t WHERE id = 1").await;
    assert_eq!(
        world.listed("operation || schema_version || data", "true").await,
        [format!("baseline1{expected}"), format!("insert1{}", expected.replace("\"id\": 1", "\"id\": 2"))]
    );
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_jsonb_cannot_hold_is_kept_as_text_and_flagged() {
    let world = World::bare("basejson", "CREATE TABLE t (id int PRIMARY KEY, doc json)").await;
    world.source_db.exec(r#"INSERT INTO t VALUES (1, '"\u0000"'), (2, '"plain"')"#).await;
    world.publish().await;
    begin(&world.source, &world.history, true).await.unwrap();
    world.wait_stored("operation = 'baseline'", 2).await;
    let kept = "SELECT string_agg(row_key || jsonb_typeof(data->'doc') || (data->>'doc') || coalesce(metadata::text, ''), ' ' \
                ORDER BY row_key) FROM waldelta.change_history";
    assert_eq!(world.stored(kept).await, r#"[1]string"\u0000"{"flagged": ["doc"]} [2]stringplain"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_baseline_that_is_not_whole_is_said_and_a_whole_one_is_not_written_again() {
    let tables = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)";
    let world = World::bare("basehalf", tables).await;
    world.source_db.exec("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").await;
    world.publish().await;
    let head = begin(&world.source, &world.history, true).await.unwrap();
    assert_eq!(begin(&world.source, &world.history, true).await.unwrap(), head);
    assert_eq!(world.stored_count("operation = 'baseline'").await, 2);
    // As a process leaves it that is killed between the two tables.
    let half = "DELETE FROM waldelta.change_history WHERE table_name = 'public.b';
        DELETE FROM waldelta.history_from WHERE lsn IS NOT NULL AND table_oid =
            (SELECT table_oid FROM waldelta.table_schemas WHERE table_name = 'b')";
    world.history_db.exec(half).await;
    let error = begin(&world.source, &world.history, true).await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), (Code::BaselineMissing, false));
    assert!(error.to_string().ends_with(" in public.b"), "{error}");
    // Whoever asks for none goes on with what there is.
    assert_eq!(begin(&world.source, &world.history, false).await.unwrap(), head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_it_is_is_told_table_by_table() {
    let world = World::bare(
        "basetold",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, pad text)",
    )
    .await;
    world.source_db.exec("INSERT INTO a VALUES (1), (2)").await;
    world.source_db.exec("INSERT INTO b SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i").await;
    world.source_db.exec("ANALYZE b").await;
    world.publish().await;
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |at: &Baselining| told.lock().unwrap().push(at.clone());
    begin_telling(&world.source, &world.history, true, PATIENCE, &tell).await.unwrap();
    let told = told.into_inner().unwrap();
    let of = |name: &str| {
        let rows = told.iter().filter(|at| at.table.name == name && at.tables == 2);
        rows.map(|at| (at.number, at.rows, at.rows_expected)).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), [(1, 0, None), (1, 2, None)]);
    let b = of("b");
    assert_eq!((b[0], b[b.len() - 1]), ((2, 0, Some(3000)), (2, 3000, Some(3000))));
    assert!(b.len() > 3 && b.is_sorted(), "{b:?}");
}
