//! Databases and clusters of tests, on real servers.

use std::process::{Command, Stdio};
use std::time::Duration;

use waldelta_testkit::{
    Shutdown, TestCluster, TestDatabase, connect, source_rows, test_binaries, test_program, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// URL of the database from which others are created.
fn admin_url(database: &TestDatabase) -> String {
    database.url().replace(database.name(), "postgres")
}

#[tokio::test]
async fn a_database_is_empty_and_nobody_elses() {
    let (one, two) = (TestDatabase::create("Same name").await, TestDatabase::create("Same name").await);
    one.exec("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").await;
    assert_eq!(two.query_text("SELECT count(*) FROM pg_class WHERE relname = 't'").await, "0");
    assert_eq!(one.query_text("SHOW wal_level").await, "logical");
    assert_eq!(one.query("SELECT a, NULL FROM t ORDER BY a").await[1], [Some("2".to_owned()), None]);
    assert_eq!(
        one.query_json("SELECT a FROM t ORDER BY a").await,
        [serde_json::json!({"a": 1}), serde_json::json!({"a": 2})]
    );
    assert_ne!(one.slot("x"), two.slot("x"));
}

/// `WALDELTA_TEST_PG_BINDIR` may be another one than in the run before.
#[tokio::test]
async fn the_shared_server_is_of_the_version_under_test() {
    let database = TestDatabase::create("version").await;
    let version = test_binaries().version;
    assert_eq!(database.server_major().await, version.major);
    let said = database.query_text("SHOW server_version").await;
    assert!(said.split(' ').next() == Some(&version.to_string()), "{said}, not {version}");
}

#[tokio::test]
async fn a_dropped_database_takes_its_slots_along_even_in_use() {
    let database = TestDatabase::create("dropped").await;
    let (idle, active) = (database.slot("idle"), database.slot("active"));
    for slot in [&idle, &active] {
        database.exec(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    }
    database.exec("CREATE PUBLICATION p FOR ALL TABLES").await;
    let mut reader = Command::new(test_program("pg_recvlogical"))
        .args([
            "--start",
            "--file=/dev/null",
            "--no-loop",
            "--option=proto_version=1",
            "--option=publication_names=p",
        ])
        .args(["--slot", &active, "--dbname", database.url()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the slot is in use", PATIENCE, async || {
        let sql = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{active}'");
        database.query_text(&sql).await == "t"
    })
    .await;
    let (admin, name) = (connect(&admin_url(&database)).await, database.name().to_owned());
    drop(database);
    let sql = "SELECT (SELECT count(*) FROM pg_database WHERE datname = $1) + (SELECT count(*) FROM pg_replication_slots WHERE database = $1)";
    let left: i64 = admin.query_one(sql, &[&name]).await.unwrap().get(0);
    assert_eq!(left, 0);
    reader.wait().unwrap();
}

#[tokio::test]
async fn rows_of_the_source_have_the_form_of_a_replica() {
    let database = TestDatabase::create("rows").await;
    database.exec("CREATE TABLE t (id bigint PRIMARY KEY, n numeric, j jsonb, s text)").await;
    database
        .exec(r#"INSERT INTO t VALUES (9007199254740993, 1.50, '{"b": [1.0], "a": null}', E'\n"é')"#)
        .await;
    let rows = source_rows(&database.client().await, "t").await;
    assert_eq!(rows, [r#"{"id":9007199254740993,"j":{"a":null,"b":[1]},"n":15e-1,"s":"\n\"é"}"#]);
}

#[tokio::test]
async fn a_cluster_of_ones_own_comes_back_from_every_shutdown() {
    let cluster = TestCluster::own(&[("max_prepared_transactions", "7")]).await;
    let database = TestDatabase::create_on(&cluster, "own").await;
    assert_eq!(database.query_text("SHOW max_prepared_transactions").await, "7");
    database.exec("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    cluster.kill9().await;
    assert!(cluster.pid().is_none());
    cluster.up().await;
    cluster.down(Shutdown::Immediate).await;
    cluster.up().await;
    cluster.restart().await;
    let client = database.client().await;
    assert_eq!(source_rows(&client, "t").await, [r#"{"a":1}"#]);
    assert!(cluster.log().contains("automatic recovery in progress"));
}

#[tokio::test]
async fn pgbench_works_on_a_test_database() {
    let database = TestDatabase::create("pgbench").await;
    waldelta_testkit::pgbench::init(database.url(), 1).await;
    let report = waldelta_testkit::pgbench::run(database.url(), 2, Duration::from_secs(1)).await;
    assert!(report.contains("number of clients: 2"), "{report}");
    assert_ne!(database.query_text("SELECT count(*) FROM pgbench_history").await, "0");
    for table in waldelta_testkit::pgbench::TABLES {
        database.exec(&format!("SELECT * FROM {table} LIMIT 1")).await;
    }
}
