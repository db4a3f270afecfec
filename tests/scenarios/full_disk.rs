//! A disk that is full, of history or of the source: capture waits by name, reports nothing, and goes on by itself when
//! there is room again.

use serde_json::Value;
use tokio_postgres::error::SqlState;
use waldelta_testkit::{SmallDisk, TestCluster, TestDatabase, connect, wait_until};

use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL)";
const TABLES: [&str; 1] = ["public.item"];
/// Room for what a new database takes, and some rows.
const DISK_MB: u32 = 96;

/// A cluster with a tablespace on a disk of its own; its WAL is elsewhere, so that the server goes on when it is full.
async fn cluster_on_small_disk() -> Result<(SmallDisk, TestCluster), String> {
    let disk = SmallDisk::mount(DISK_MB)?;
    let cluster = TestCluster::own(&[]).await;
    let folder = disk.folder_for(&cluster, "tablespace");
    let admin = connect(&cluster.url("postgres")).await;
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display())).await.unwrap();
    Ok((disk, cluster))
}

/// Inserts rows `from..to` of text that does not compress.
async fn insert(database: &TestDatabase, from: u32, to: u32) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "INSERT INTO item SELECT i, (SELECT string_agg(md5((i * 100 + k)::text), '') FROM generate_series(1, 30) k)
         FROM generate_series({from}, {}) i",
        to - 1
    );
    database.client().await.batch_execute(&sql).await
}

async fn status(setting: &Setting) -> Value {
    serde_json::from_str(&setting.service.get("/v1/status").await.1).unwrap()
}

#[tokio::test]
async fn history_on_it_waits_and_goes_on() {
    let (disk, cluster) = match cluster_on_small_disk().await {
        Ok(both) => both,
        Err(why) => return println!("skipped: {why}"),
    };
    let source = TestDatabase::create("full").await;
    let history = TestDatabase::create_on_with(&cluster, "full_h", "TABLESPACE small").await;
    let setting = Setting::over(source, history, SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    insert(&setting.source, 0, 100).await.unwrap();
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let durable = oracle.durable_end().await;

    disk.fill();
    // More than the pages that are there already take.
    for from in (1_000..3_000).step_by(100) {
        insert(&setting.source, from, from + 100).await.unwrap();
    }
    wait_until("capture says what is the case", PATIENCE, async || {
        let capture = status(&setting).await["capture"].take();
        capture["state"] == "reconnecting" && capture["message"].as_str().unwrap().contains("No space left")
    })
    .await;
    let capture = status(&setting).await["capture"].take();
    assert!(!capture["fix"].as_str().unwrap().is_empty(), "{capture}");
    println!("{} {}", capture["code"], capture["message"]);
    // Nothing is reported that is not stored, and what is stored is whole.
    oracle.check("the disk is full").await;
    // But in the moment in which it tries again.
    wait_until("it is not ready", PATIENCE, async || setting.service.get("/readyz").await.0 == 503).await;
    // The source does not care.
    insert(&setting.source, 5_000, 5_100).await.unwrap();
    setting.source.exec("CHECKPOINT").await;

    disk.clear();
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert!(oracle.durable_end().await > durable);
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

#[tokio::test]
async fn the_source_on_it_refuses_writes_and_keeps_its_slot() {
    let (disk, cluster) = match cluster_on_small_disk().await {
        Ok(both) => both,
        Err(why) => return println!("skipped: {why}"),
    };
    let source = TestDatabase::create_on_with(&cluster, "full_source", "TABLESPACE small").await;
    let history = TestDatabase::create("full_source_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    insert(&setting.source, 0, 100).await.unwrap();
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let slots = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";
    let slots_before = setting.source.query_text(slots).await;

    disk.fill();
    let error = insert(&setting.source, 1_000, 20_000).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DISK_FULL), "{error:?}");
    // What fits where there is room still flows, also for a service that begins meanwhile.
    setting.source.exec("UPDATE item SET value = 'small' WHERE id = 1").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    setting.service.stop().await;
    setting.service.start_again().await;
    let mut socket = setting.resume("here", &mut replica).await;
    setting.source.exec("UPDATE item SET value = 'smaller' WHERE id = 1").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(setting.source.query_text(slots).await, slots_before);

    disk.clear();
    insert(&setting.source, 1_000, 2_000).await.unwrap();
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
