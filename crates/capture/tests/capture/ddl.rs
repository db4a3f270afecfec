//! Tables that change shape: each row has the shape that was valid at its place.

use waldelta_testkit::{TestCluster, wait_until};

use crate::world::{PATIENCE, World};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const ROW: &str = "schema_version || ' ' || table_name || ' ' || data";
/// What a change that tells a shape says of the columns.
const SHAPE: &str = "schema_version || ' ' || (SELECT string_agg(column_->>'name' || ' ' || (column_->>'type') \
                     || coalesce(' ' || (column_->>'number'), ''), ', ' ORDER BY at) \
                     FROM jsonb_array_elements(data->'columns') WITH ORDINALITY AS c (column_, at))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_come_and_go_within_a_transaction() {
    let world = World::begun("ddlwithin", TABLE).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    world
        .source_db
        .exec(
            "BEGIN; INSERT INTO t VALUES (2, 'b');
             ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (3, 'c', 30);
             ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (4, 40);
             ALTER TABLE t ADD COLUMN v boolean; INSERT INTO t VALUES (5, 50, true);
             ALTER TABLE t RENAME COLUMN w TO u; INSERT INTO t VALUES (6, 60, false);
             UPDATE t SET u = 61 WHERE id = 2; COMMIT",
        )
        .await;
    world.wait_told(7).await;
    assert_eq!(
        world.told(ROW).await,
        [
            r#"1 public.t {"v": "a", "id": 1}"#,
            r#"1 public.t {"v": "b", "id": 2}"#,
            r#"2 public.t {"v": "c", "w": 30, "id": 3}"#,
            r#"3 public.t {"w": 40, "id": 4}"#,
            r#"4 public.t {"v": true, "w": 50, "id": 5}"#,
            r#"5 public.t {"u": 60, "v": false, "id": 6}"#,
            r#"5 public.t {"u": 61, "v": null, "id": 2}"#,
        ]
    );
    // A column that is there again under its name is another one; what is gone by now has a number only where it was met
    // while it was there.
    assert_eq!(
        world.listed(SHAPE, "operation = 'schema'").await,
        [
            "2 id integer 1, v text 2, w integer",
            "3 id integer 1, w integer",
            "4 id integer 1, w integer, v boolean 4",
            "5 id integer 1, u integer 3, v boolean 4",
        ]
    );
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_may_be_one_of_two_puts_its_table_into_needs_repair() {
    let world = World::begun("ddldoubt", TABLE).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    let only_one =
        "BEGIN; ALTER TABLE t ADD w int; INSERT INTO t VALUES (2, 'b', 20); ALTER TABLE t ADD x int;
         UPDATE t SET x = 30; COMMIT";
    world.source_db.exec(only_one).await;
    world.wait_told(4).await;
    let gaps = "SELECT coalesce(string_agg(reason, ' '), '') FROM waldelta.gaps";
    assert_eq!(world.history_db.query_text(gaps).await, "");
    let one_of_two = "BEGIN; ALTER TABLE t ADD y int; INSERT INTO t VALUES (3, 'c', 40, 41, 42);
         ALTER TABLE t DROP y, ADD z int, ADD u int; COMMIT; INSERT INTO t VALUES (4, 'd', 50, 51, 52)";
    world.source_db.exec(one_of_two).await;
    world.wait_told(6).await;
    let shapes = world.listed(SHAPE, "operation = 'schema'").await;
    assert_eq!(shapes[2], "4 id integer 1, v text 2, w integer 3, x integer 4, y integer", "{shapes:?}");
    assert_eq!(world.history_db.query_text(gaps).await, "columns_unclear");
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_types_and_names_that_change_between_transactions() {
    let world = World::begun("ddlbetween", TABLE).await;
    let capture = world.run();
    let oid = world.source_db.query_text("SELECT 't'::regclass::oid").await;
    let steps = [
        ("", "INSERT INTO t VALUES (1, '1')"),
        ("ALTER TABLE t ALTER v TYPE int USING v::int", "INSERT INTO t VALUES (2, 2)"),
        ("ALTER TABLE t ALTER v TYPE numeric(9,3)", "INSERT INTO t VALUES (3, 3)"),
        ("ALTER TABLE t ALTER v TYPE numeric(9,1)", "INSERT INTO t VALUES (4, 4)"),
        ("ALTER TABLE t RENAME TO u", "INSERT INTO u VALUES (5, 5)"),
        ("CREATE SCHEMA s; ALTER TABLE u SET SCHEMA s", "INSERT INTO s.u VALUES (6, 6)"),
        (
            "ALTER TABLE s.u DROP COLUMN v; ALTER TABLE s.u ADD COLUMN v date",
            "INSERT INTO s.u VALUES (7, '2024-02-03')",
        ),
    ];
    for (ddl, row) in steps {
        world.source_db.exec(ddl).await;
        world.source_db.exec(row).await;
    }
    world.wait_told(7).await;
    assert_eq!(
        world.told(ROW).await,
        [
            r#"1 public.t {"v": "1", "id": 1}"#,
            r#"2 public.t {"v": 2, "id": 2}"#,
            r#"3 public.t {"v": 3.000, "id": 3}"#,
            r#"4 public.t {"v": 4.0, "id": 4}"#,
            r#"5 public.u {"v": 4.0, "id": 5}"#.replace("4.0", "5.0").as_str(),
            r#"6 s.u {"v": 6.0, "id": 6}"#,
            r#"7 s.u {"v": "2024-02-03", "id": 7}"#,
        ]
    );
    // It stays one table.
    assert_eq!(
        world.stored("SELECT string_agg(DISTINCT table_oid::text, ' ') FROM waldelta.change_history").await,
        oid
    );
    world.assert_gapless().await;
    capture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rolled_back_makes_no_version() {
    let world = World::begun("ddlback", TABLE).await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world
        .source_db
        .exec(
            "BEGIN; ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (2, 'b', 1); ROLLBACK;
             BEGIN; INSERT INTO t VALUES (3, 'c'); SAVEPOINT s; ALTER TABLE t ADD COLUMN w int;
             INSERT INTO t VALUES (4, 'd', 1); ROLLBACK TO s; INSERT INTO t VALUES (5, 'e'); COMMIT",
        )
        .await;
    world.wait_told(3).await;
    assert_eq!(
        world.listed(ROW, "true").await,
        [
            r#"1 public.t {"v": "a", "id": 1}"#,
            r#"1 public.t {"v": "c", "id": 3}"#,
            r#"1 public.t {"v": "e", "id": 5}"#,
        ]
    );
    assert_eq!(world.stored("SELECT count(*) FROM waldelta.table_schemas WHERE table_name = 't'").await, "1");
    capture.stop().await;
}

/// What is written while nobody captures is decoded after the table is gone, and another has its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_dropped_meanwhile_is_decoded_by_what_was_known_of_it() {
    let world = World::begun(
        "ddllate",
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, m mood)",
    )
    .await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a', 'sad')").await;
    world.wait_told(1).await;
    capture.stop().await;
    world
        .source_db
        .exec(
            "INSERT INTO t VALUES (2, 'b', 'ok');
             ALTER TABLE t ADD COLUMN w int[]; INSERT INTO t VALUES (3, 'c', 'ok', '{1,2}');
             DROP TABLE t; DROP TYPE mood; CREATE TABLE t (id text PRIMARY KEY, v int);
             ALTER PUBLICATION waldelta ADD TABLE t; INSERT INTO t VALUES ('x', 9)",
        )
        .await;
    let capture = world.run();
    world.wait_told(4).await;
    assert_eq!(
        world.told(&format!("{ROW} || row_key")).await,
        [
            r#"1 public.t {"m": "sad", "v": "a", "id": 1}[1]"#,
            r#"1 public.t {"m": "ok", "v": "b", "id": 2}[2]"#,
            r#"2 public.t {"m": "ok", "v": "c", "w": [1, 2], "id": 3}[3]"#,
            r#"1 public.t {"v": 9, "id": "x"}["x"]"#,
        ]
    );
    assert_eq!(
        world.listed(SHAPE, "operation = 'schema'").await,
        ["2 id integer 1, v text 2, m public.mood 3, w integer[]"]
    );
    capture.stop().await;
}

/// A commit arrives while it waits for a synchronous standby, and the catalog does not show yet what it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shape_that_the_catalog_does_not_show_yet_is_waited_for() {
    let cluster = TestCluster::own(&[]).await;
    let world = World::bare_on(&cluster, "ddlunseen", "CREATE TYPE mood AS ENUM ('sad', 'ok')").await;
    world.source_db.exec(TABLE).await;
    world.publish().await;
    world.begin().await;
    let capture = world.run();
    world.source_db.exec("INSERT INTO t VALUES (1, 'a')").await;
    world.wait_told(1).await;
    let standbys = |names: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
    world.source_db.exec(&standbys("nobody")).await;
    world.source_db.exec("SELECT pg_reload_conf()").await;
    let client = world.source_db.client().await;
    let commit = client.batch_execute(
        "BEGIN; SET LOCAL synchronous_commit = on; ALTER TABLE t ADD COLUMN m mood[];
         INSERT INTO t VALUES (2, 'b', '{sad,ok}'); COMMIT",
    );
    let release = async {
        for (what, sql) in [
            ("the commit waits", "wait_event = 'SyncRep'"),
            (
                "capture waits for it",
                "application_name = 'waldelta' AND query LIKE '%pg_locks%transactionid%'",
            ),
        ] {
            let sql =
                format!("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {sql}");
            wait_until(what, PATIENCE, async || world.source_db.query_text(&sql).await == "1").await;
        }
        world.source_db.exec(&standbys("")).await;
        world.source_db.exec("SELECT pg_reload_conf()").await;
    };
    let (committed, ()) = tokio::join!(commit, release);
    committed.unwrap();
    world.wait_told(2).await;
    assert_eq!(
        world.told(ROW).await,
        [r#"1 public.t {"v": "a", "id": 1}"#, r#"2 public.t {"m": ["sad", "ok"], "v": "b", "id": 2}"#]
    );
    assert_eq!(
        world.listed(SHAPE, "operation = 'schema'").await,
        ["2 id integer 1, v text 2, m public.mood[] 3"]
    );
    capture.stop().await;
}
