//! Prepared transactions: nobody sees anything of them until they are committed, then they are there at that place, whole;
//! while they wait, everything else flows, and crashes in between change nothing.

use waldelta_testkit::{Service, TestCluster, TestDatabase, wait_until};

use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text NOT NULL)";
const TABLE: &str = "public.item";
const TABLES: [&str; 1] = [TABLE];

/// History is elsewhere, so that a crash of the source's server is one of the source alone.
async fn setting(hint: &str) -> (TestCluster, Setting) {
    let cluster = TestCluster::own(&[("max_prepared_transactions", "10")]).await;
    let source = TestDatabase::create_on(&cluster, hint).await;
    let history = TestDatabase::create(&format!("{hint}_h")).await;
    let setting = Setting::over(source, history, SCHEMA).await;
    (cluster, setting)
}

/// Prepares a transaction that inserts this row.
async fn prepare(setting: &Setting, gid: &str, id: u32) {
    let sql = format!("BEGIN; INSERT INTO item VALUES ({id}, '{gid}'); PREPARE TRANSACTION '{gid}'");
    setting.source.client().await.batch_execute(&sql).await.unwrap();
}

/// The ids that history has, in the order in which they came.
async fn stored(setting: &Setting) -> String {
    let sql = "SELECT coalesce(string_agg(data->>'id', ' ' ORDER BY epoch, lsn, seq), '') FROM waldelta.change_history
               WHERE operation = 'insert'";
    setting.history.query_text(sql).await
}

#[tokio::test]
async fn they_are_delivered_when_they_are_committed() {
    let (_cluster, mut setting) = setting("prepared").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    setting.service.stop().await;
    prepare(&setting, "before the start", 1).await;
    setting.service.start_again().await;
    // A client that comes beside an open one does not wait for it.
    let (mut socket, mut replica) = setting.client("here").await;
    prepare(&setting, "meanwhile", 2).await;
    prepare(&setting, "given up", 3).await;
    setting.source.exec("INSERT INTO item VALUES (10, 'alone')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(stored(&setting).await, "10");

    setting.source.exec("COMMIT PREPARED 'meanwhile'").await;
    setting.source.exec("ROLLBACK PREPARED 'given up'").await;
    setting.source.exec("INSERT INTO item VALUES (11, 'alone')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(stored(&setting).await, "10 2 11");

    // The same name again is another transaction, and so is the same row.
    for (gid, id) in [("given up", 3), ("meanwhile", 4)] {
        prepare(&setting, gid, id).await;
        setting.source.exec(&format!("COMMIT PREPARED '{gid}'")).await;
    }
    setting.source.exec("COMMIT PREPARED 'before the start'").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(stored(&setting).await, "10 2 11 3 4 1");
    assert_eq!(replica.resets(), [""; 0]);
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

#[tokio::test]
async fn they_survive_crashes_of_the_source_and_of_the_service() {
    let (cluster, mut setting) = setting("prepared_crash").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    for (gid, id) in [("one", 1), ("two", 2), ("never", 3)] {
        prepare(&setting, gid, id).await;
    }
    setting.source.exec("INSERT INTO item VALUES (10, 'before')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;

    cluster.kill9().await;
    cluster.up().await;
    setting.source.exec("INSERT INTO item VALUES (11, 'after the crash')").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    setting.source.exec("COMMIT PREPARED 'one'").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;

    setting.service.kill9().await;
    setting.source.exec("COMMIT PREPARED 'two'").await;
    cluster.kill9().await;
    cluster.up().await;
    setting.source.exec("ROLLBACK PREPARED 'never'").await;
    setting.service = Service::start(setting.run_options()).await;
    let mut socket = setting.resume("here", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(stored(&setting).await, "10 11 1 2");
    assert_eq!(replica.resets(), [""; 0]);
    // It holds nothing back any more.
    let slot = setting.source.slot("slot");
    let reported = format!(
        "SELECT confirmed_flush_lsn >= pg_current_wal_lsn() - 1048576 FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    wait_until("the slot moves", PATIENCE, async || setting.source.query_text(&reported).await == "t").await;
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
