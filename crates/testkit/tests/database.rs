//! Databases and clusters of tests, on real servers.

use std::process::{Command, Stdio};
use std::time::Duration;

use waldelta_testkit::{
    Route, Shutdown, SmallDisk, TestCluster, TestDatabase, connect, source_rows, test_binaries, test_program,
    wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

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
async fn a_server_whose_wal_has_no_room_ends_and_comes_back_when_there_is_some() {
    let disk = match SmallDisk::mount(128) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let cluster = TestCluster::own_with_wal_on(&disk, &[("restart_after_crash", "off")]).await;
    let database = TestDatabase::create_on(&cluster, "full").await;
    database.exec("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let client = database.client().await;
    disk.fill();
    let write = async |client: &tokio_postgres::Client| {
        client.batch_execute("INSERT INTO t VALUES (1)").await?;
        client.batch_execute("SELECT pg_switch_wal()").await
    };
    while write(&client).await.is_ok() {}
    wait_until("the server has ended", Duration::from_secs(60), async || cluster.has_ended()).await;
    disk.clear();
    cluster.down(Shutdown::Immediate).await;
    cluster.up().await;
    let client = database.client().await;
    assert!(source_rows(&client, "t").await.len() > 1);
    write(&client).await.expect("room again");
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

/// What a cluster says of itself: system identifier, timeline, number of slots.
async fn identity(cluster: &TestCluster) -> (i64, i32, i64) {
    let sql = "SELECT system_identifier, timeline_id, (SELECT count(*) FROM pg_replication_slots)
               FROM pg_control_system(), pg_control_checkpoint()";
    let client = connect(&cluster.url("postgres")).await;
    client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
    let row = client.query_one(sql, &[]).await.expect("the identity");
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn a_standby_follows_its_primary_and_takes_over_in_a_new_timeline() {
    let primary = TestCluster::own(&[]).await;
    let route = Route::to(primary.port());
    let database = TestDatabase::create_on(&primary, "standby").await.through(&route);
    let slot = database.slot("s");
    database
        .exec(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput'); CREATE TABLE t (a int)"
        ))
        .await;
    let standby = TestCluster::standby_of(&primary, &[]).await;
    let on_standby = database.on(&standby);
    database.exec("INSERT INTO t VALUES (1)").await;
    standby.has_caught_up_with(&primary).await;
    assert_eq!(on_standby.query_text("SELECT count(*) FROM t").await, "1");
    assert_eq!(on_standby.query_text("SELECT pg_is_in_recovery()").await, "t");

    standby.cut_off().await;
    database.exec("INSERT INTO t VALUES (2)").await;
    let before = identity(&primary).await;
    primary.down(Shutdown::Fast).await;
    standby.promote().await;
    assert_eq!(identity(&standby).await, (before.0, before.1 + 1, 0), "before: {before:?}");
    // The same address, and what the standby did not have is not there.
    route.turn_to(standby.port());
    database.exec("INSERT INTO t VALUES (3)").await;
    assert_eq!(database.query_text("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t").await, "1 3");
    route.close();
    assert!(tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await.is_err());
}

#[tokio::test]
async fn a_copy_is_what_the_cluster_was() {
    let cluster = TestCluster::own(&[]).await;
    let database = TestDatabase::create_on(&cluster, "copied").await;
    let slot = database.slot("s");
    database.exec(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    database.exec("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let before = identity(&cluster).await;
    cluster.down(Shutdown::Fast).await;
    let copy = TestCluster::copy_of(&cluster, &[]).await;
    let recovered = TestCluster::recovered_copy_of(&cluster, &[]).await;
    cluster.up().await;
    database.exec("INSERT INTO t VALUES (2)").await;
    assert_eq!(database.on(&copy).query_text("SELECT count(*) FROM t").await, "1");
    assert_eq!(database.on(&recovered).query_text("SELECT count(*) FROM t").await, "1");
    assert_eq!(identity(&copy).await, before);
    assert_eq!(identity(&recovered).await, (before.0, before.1 + 1, before.2));
}

#[tokio::test]
async fn a_frozen_cluster_answers_when_it_is_thawed() {
    let cluster = TestCluster::own(&[]).await;
    let client = connect(&cluster.url("postgres")).await;
    cluster.freeze().await;
    let mut asking = Box::pin(client.query_one("SELECT 1", &[]));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut asking).await.is_err());
    cluster.thaw().await;
    asking.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again() {
    let cluster = TestCluster::own(&[]).await;
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {why}"),
    };
    let folder = disk.folder_for(&cluster, "tablespace");
    let admin = connect(&cluster.url("postgres")).await;
    let tablespace = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
    admin.batch_execute(&tablespace).await.unwrap();
    let database = TestDatabase::create_on_with(&cluster, "full", "TABLESPACE small").await;
    database.exec("CREATE TABLE t (a text)").await;
    disk.fill();
    let client = database.client().await;
    let insert = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    let error = client.batch_execute(insert).await.unwrap_err();
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::DISK_FULL), "{error:?}");
    disk.clear();
    client.batch_execute(insert).await.unwrap();
    drop((client, admin, database, cluster));
    let path = disk.path().to_owned();
    drop(disk);
    wait_until("it is unmounted and gone", PATIENCE, async || !path.exists()).await;
}
