//! Snapshots: what they show, what they read, what they refuse.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::error::SqlState;
use waldelta_source::snapshot::{Snapshot, SnapshotRow, visible_now, wait_visible};
use waldelta_source::{Error, Source};
use waldelta_testkit::{TestCluster, TestDatabase, canonical, source_rows, wait_until};
use waldelta_wal::{Code, Lsn, Table};

use crate::{PATIENCE, set_up, source, source_as};

const BATCH_BYTES: usize = 1 << 16;

pub(crate) async fn table(snapshot: &Snapshot, name: &str) -> Arc<Table> {
    let tables = snapshot.tables().await.unwrap();
    let published = tables.into_iter().find(|published| published.table.name.name == name).unwrap();
    Arc::new(published.table)
}

pub(crate) async fn read(snapshot: &Snapshot, name: &str) -> Result<Vec<SnapshotRow>, Error> {
    let table = table(snapshot, name).await;
    let batches: Vec<Vec<SnapshotRow>> = snapshot.rows(table, BATCH_BYTES).await?.try_collect().await?;
    Ok(batches.concat())
}

pub(crate) fn objects(rows: &[SnapshotRow]) -> Vec<String> {
    let mut objects: Vec<String> =
        rows.iter().map(|row| canonical(std::str::from_utf8(&row.data).unwrap()).unwrap()).collect();
    objects.sort();
    objects
}

#[tokio::test]
async fn a_snapshot_shows_exactly_what_had_committed() {
    let database = TestDatabase::create("moment").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    set_up(&source).await;
    let (before, during) = (database.client().await, database.client().await);
    let xid = |row: tokio_postgres::Row| row.get::<_, String>(0).parse::<u64>().unwrap();
    let insert = |id: i32| format!("INSERT INTO t VALUES ({id}, 'é\t') RETURNING pg_current_xact_id()::text");
    let seen = xid(before.query_one(&insert(1), &[]).await.unwrap());
    during.batch_execute("BEGIN").await.unwrap();
    let unseen = xid(during.query_one(&insert(2), &[]).await.unwrap());

    let snapshot = Snapshot::open(&source).await.unwrap();
    during.batch_execute("COMMIT").await.unwrap();
    let after = xid(before.query_one(&insert(3), &[]).await.unwrap());
    assert!(snapshot.shows(seen) && !snapshot.shows(unseen) && !snapshot.shows(after));
    let rows = read(&snapshot, "t").await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].key.as_deref(), Some(&b"[1]"[..]));
    assert_eq!(objects(&rows), [canonical("{\"id\":1,\"v\":\"é\\t\"}").unwrap()]);
    assert_eq!(objects(&read(&snapshot, "t").await.unwrap()).len(), 1, "again, and still the same");
}

#[tokio::test]
async fn the_fence_lies_above_what_the_snapshot_shows() {
    let database = TestDatabase::create("fence").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY)").await;
    set_up(&source).await;
    database.exec("INSERT INTO t VALUES (1)").await;
    let end: Lsn = database.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
    let snapshot = Snapshot::open(&source).await.unwrap();
    assert!(snapshot.fence() >= end);
    let now: Lsn = database.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
    assert!(snapshot.fence() <= now, "it was emitted");
    let messages = database
        .query_text(&format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{}', NULL, NULL, 'proto_version', '1',
                'publication_names', 'waldelta', 'messages', 'true')
             WHERE encode(data, 'escape') LIKE 'M%waldelta.fence%'",
            source.slot
        ))
        .await;
    assert_eq!(messages, "1");
}

#[tokio::test]
async fn rows_equal_what_the_source_says_of_them() {
    let database = TestDatabase::create("rows").await;
    let source = source(&database);
    database
        .exec(
            r#"CREATE TABLE "Odd ""one""" (id bigint PRIMARY KEY, "select" text, f float8, n numeric, b bytea, at timestamptz,
                   doc jsonb, tags text[], dead int, empty text);
               ALTER TABLE "Odd ""one""" DROP COLUMN dead;
               INSERT INTO "Odd ""one""" SELECT n, repeat('x\', n % 7) || E'\t\n', n / 3.0::float8, n / 7.0,
                   decode(lpad(to_hex(n), 8, '0'), 'hex'), '2024-01-01'::timestamptz + n * interval '1 s',
                   jsonb_build_object('n', n), ARRAY['a', NULL, E'q"\\'], CASE WHEN n % 2 = 0 THEN '' END
               FROM generate_series(1, 5000) n;
               CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE leaf_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
               CREATE TABLE leaf_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
               INSERT INTO parted SELECT generate_series(0, 19);
               CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1);
               CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); INSERT INTO child VALUES (2);
               CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES"#,
        )
        .await;
    set_up(&source).await;
    database.exec("ALTER PUBLICATION waldelta ADD TABLE bare").await;
    let snapshot = Snapshot::open(&source).await.unwrap();
    let client = source.connect().await.unwrap();
    for (name, sql) in [
        ("Odd \"one\"", "public.\"Odd \"\"one\"\"\""),
        ("parted", "public.parted"),
        ("parent", "ONLY public.parent"),
        ("child", "public.child"),
        ("bare", "public.bare"),
    ] {
        let rows = read(&snapshot, name).await.unwrap();
        assert_eq!(objects(&rows), source_rows(&client, sql).await, "{name}");
        assert!(rows.iter().all(|row| row.key.is_some() == (name != "bare")));
    }
}

#[tokio::test]
async fn batches_are_bounded() {
    let database = TestDatabase::create("batches").await;
    let source = source(&database);
    database
        .exec("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 300) n")
        .await;
    set_up(&source).await;
    let snapshot = Snapshot::open(&source).await.unwrap();
    let table = table(&snapshot, "t").await;
    let batches: Vec<Vec<SnapshotRow>> =
        snapshot.rows(table, 10_000).await.unwrap().try_collect().await.unwrap();
    let bytes = |batch: &Vec<SnapshotRow>| batch.iter().map(|row| row.data.len()).sum::<usize>();
    assert!(batches.len() > 25 && batches.iter().all(|batch| bytes(batch) < 12_000 && !batch.is_empty()));
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 300);
}

#[tokio::test]
async fn rows_that_row_level_security_would_hide_are_an_error() {
    let database = TestDatabase::create("rls").await;
    let role = format!("{}_reader", database.name());
    database
        .exec(&format!(
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role}"
        ))
        .await;
    set_up(&source(&database)).await;
    let reader = source_as(&database, &format!("?user={role}"));
    let snapshot = Snapshot::open(&reader).await.unwrap();
    let error = read(&snapshot, "t").await.unwrap_err();
    assert_eq!(error.sql_state(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::PrivilegeMissing, false));
    drop(snapshot);
    database.exec(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_table_that_changed_under_the_snapshot_is_an_error() {
    let database = TestDatabase::create("changed").await;
    let source = source(&database);
    let names = ["emptied", "rewritten", "dropped", "narrowed", "parted", "shrunk", "renamed", "swapped"];
    for name in names {
        let how = if ["parted", "shrunk"].contains(&name) { "PARTITION BY RANGE (id)" } else { "" };
        database.exec(&format!("CREATE TABLE {name} (id int PRIMARY KEY, v int) {how}")).await;
    }
    database
        .exec(
            "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
             CREATE TABLE shrunk_1 PARTITION OF shrunk FOR VALUES FROM (0) TO (10);",
        )
        .await;
    for name in names {
        database.exec(&format!("INSERT INTO {name} VALUES (1, 1)")).await;
    }
    database.exec("CREATE TABLE quiet (id int PRIMARY KEY); INSERT INTO quiet VALUES (1)").await;
    set_up(&source).await;
    let mut snapshots = Vec::new();
    for published in Snapshot::open(&source).await.unwrap().tables().await.unwrap() {
        snapshots.push((Snapshot::open(&source).await.unwrap(), Arc::new(published.table)));
    }
    assert_eq!(snapshots.len(), names.len() + 1);
    database
        .exec(
            "TRUNCATE emptied; ALTER TABLE rewritten ALTER v TYPE bigint; DROP TABLE dropped;
             ALTER TABLE narrowed DROP COLUMN v; TRUNCATE parted; ALTER TABLE shrunk DETACH PARTITION shrunk_1;
             ALTER TABLE renamed RENAME TO other;
             ALTER TABLE swapped RENAME id TO x; ALTER TABLE swapped RENAME v TO id; ALTER TABLE swapped RENAME x TO v",
        )
        .await;
    for (snapshot, table) in &snapshots {
        let name = &table.name;
        let read = snapshot.rows(Arc::clone(table), BATCH_BYTES).await;
        if name.name == "quiet" {
            let batches: Vec<_> =
                read.map_err(|error| error.to_string()).unwrap().try_collect().await.unwrap();
            assert_eq!(batches.len(), 1);
        } else {
            let error = read.err().unwrap_or_else(|| panic!("{name} was read"));
            assert!(matches!(error, Error::TableChanged { .. }) && error.is_retryable(), "{name}: {error:?}");
        }
    }
}

#[tokio::test]
async fn an_exported_snapshot_is_imported() {
    let database = TestDatabase::create("import").await;
    let source = source(&database);
    database.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    set_up(&source).await;
    let exporter = database.client().await;
    exporter.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let exported: String = exporter.query_one("SELECT pg_export_snapshot()", &[]).await.unwrap().get(0);
    database.exec("INSERT INTO t VALUES (2)").await;
    let snapshot = Snapshot::import(&source, &exported).await.unwrap();
    let opened_at =
        format!("SELECT abs(extract(epoch FROM now()) - {}e-6) < 60", snapshot.opened_at_us().await.unwrap());
    assert_eq!(database.query_text(&opened_at).await, "t", "by the server's clock");
    exporter.batch_execute("COMMIT").await.unwrap();
    assert_eq!(objects(&read(&snapshot, "t").await.unwrap()), ["{\"id\":1}"]);
    let error = Snapshot::import(&source, &exported).await.unwrap_err();
    assert!(matches!(error, Error::Query { .. }) && !error.is_retryable(), "{error:?}");
    assert!(Snapshot::import(&source, "x'; DROP TABLE t; --").await.is_err());
}

#[tokio::test]
async fn a_transaction_that_stays_invisible_is_named() {
    let database = TestDatabase::create("visible").await;
    let source = source(&database);
    let open = database.client().await;
    open.batch_execute("BEGIN").await.unwrap();
    let xid: String = open.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let xid: u64 = xid.parse().unwrap();
    let now = visible_now(&source).await.unwrap();
    assert!(now.in_progress().contains(&xid) || xid >= now.xmax(), "{now} shows {xid}");
    let error = wait_visible(&source, &[3, xid], Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, Error::NotVisibleYet { xid: named, .. } if named == xid), "{error:?}");
    assert_eq!((error.code(), error.is_retryable()), (Code::NotVisibleYet, true));
    let xids = [xid];
    let (waited, committed) =
        tokio::join!(wait_visible(&source, &xids, PATIENCE), open.batch_execute("COMMIT"));
    committed.unwrap();
    waited.unwrap();
    wait_visible(&source, &[], Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_standby_that_does_not_answer_holds_no_snapshot_up() {
    let cluster =
        TestCluster::own(&[("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")]).await;
    let database = TestDatabase::create_on(&cluster, "sync").await;
    let source = source(&database);
    database
        .exec(&format!(
            "CREATE TABLE t (id int PRIMARY KEY); ALTER DATABASE {} SET synchronous_commit = on",
            database.name()
        ))
        .await;
    set_up(&source).await;
    let writer = database.client().await;
    let hanging = writer.cancel_token();
    let xid: String = {
        writer.batch_execute("BEGIN; SET LOCAL synchronous_commit = on").await.unwrap();
        let row = writer
            .query_one("INSERT INTO t VALUES (1) RETURNING pg_current_xact_id()::text", &[])
            .await
            .unwrap();
        row.get(0)
    };
    let xid: u64 = xid.parse().unwrap();
    let commit = writer.batch_execute("COMMIT");
    let look = async {
        wait_until("the commit waits for the standby", PATIENCE, async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            cluster_text(&cluster, sql).await == "1"
        })
        .await;
        let snapshot = Snapshot::open(&source).await.unwrap();
        assert!(
            !snapshot.shows(xid),
            "its commit record is in the WAL, below the fence, and no snapshot shows it"
        );
        assert_eq!(read(&snapshot, "t").await.unwrap(), []);
        let error = wait_visible(&source, &[xid], Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, Error::NotVisibleYet { .. }), "{error:?}");
        hanging.cancel_query(tokio_postgres::NoTls).await.unwrap();
        wait_visible(&source, &[xid], PATIENCE).await.unwrap();
    };
    let (committed, ()) = tokio::join!(commit, look);
    committed.unwrap();
}

/// A question over a connection that sets synchronous_commit to local by itself.
async fn cluster_text(cluster: &TestCluster, sql: &str) -> String {
    let client = waldelta_testkit::connect(&cluster.url("postgres")).await;
    client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0).to_string()
}

#[tokio::test]
async fn a_snapshot_dropped_in_the_middle_lets_the_server_go() {
    let database = TestDatabase::create("cut").await;
    let source = Source { slot: database.slot("w"), ..source_as(&database, "?application_name=cut_here") };
    database
        .exec("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
        .await;
    set_up(&source).await;
    let snapshot = Snapshot::open(&source).await.unwrap();
    let table = table(&snapshot, "t").await;
    let mut rows = snapshot.rows(table, 1000).await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    drop(rows);
    drop(snapshot);
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cut_here' AND datname = '{}'",
        database.name()
    );
    wait_until("the backend is gone", PATIENCE, async || database.query_text(&sql).await == "0").await;
}

/// faults.md C8, D19: what the stream never sends is not in a snapshot either.
#[tokio::test]
async fn a_snapshot_keeps_to_the_row_filter_of_the_publication() {
    let database = TestDatabase::create("filtered").await;
    if database.server_major().await < 15 {
        println!("nothing to test: row filters came with PostgreSQL 15");
        return;
    }
    let source = source(&database);
    database
        .exec(
            "CREATE TABLE t (id int PRIMARY KEY, region text);
             INSERT INTO t VALUES (1, 'eu'), (2, 'us'), (30, 'eu'), (40, NULL);
             CREATE PUBLICATION waldelta FOR TABLE t WHERE (region = 'eu' AND id > 5 OR id = 40)",
        )
        .await;
    let snapshot = Snapshot::open(&source).await.unwrap();
    let keys: Vec<_> = read(&snapshot, "t").await.unwrap().into_iter().filter_map(|row| row.key).collect();
    assert_eq!(keys, ["[30]", "[40]"]);
}

#[tokio::test]
async fn only_rows_for_which_a_condition_holds_are_read_beside_what_the_publication_lets_through() {
    let database = TestDatabase::create("condition").await;
    let source = source(&database);
    database
        .exec(
            r#"CREATE TABLE t (id int PRIMARY KEY, "a ""b" text, big text);
               INSERT INTO t SELECT i, 'v' || i % 3, 'x' FROM generate_series(1, 30) i"#,
        )
        .await;
    set_up(&source).await;
    if database.server_major().await >= 15 {
        database.exec("ALTER PUBLICATION waldelta SET TABLE t WHERE (id <= 20 OR id > 100)").await;
    } else {
        database.exec("DELETE FROM t WHERE id > 20").await;
    }
    let snapshot = Snapshot::open(&source).await.unwrap();
    let mut some = Table::clone(&*table(&snapshot, "t").await);
    some.columns.remove(2);
    // An OR must not reach beyond its own parentheses.
    let condition = r#""a ""b" = 'v1' OR big IS NULL"#;
    let batches = snapshot.rows_where(Arc::new(some), Some(condition), BATCH_BYTES).await.unwrap();
    let batches: Vec<Vec<SnapshotRow>> = batches.try_collect().await.unwrap();
    let mut expected: Vec<String> = (1..=20)
        .filter(|id| id % 3 == 1)
        .map(|id| canonical(&format!(r#"{{"id":{id},"a \"b":"v1"}}"#)).unwrap())
        .collect();
    expected.sort();
    assert_eq!(
        objects(&batches.concat()),
        expected,
        "columns that are not asked for may still be in the condition"
    );
}
