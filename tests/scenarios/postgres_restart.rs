//! The source's PostgreSQL is killed, or restarted, under load: the service goes on by itself, and what PostgreSQL
//! sends again after a crash is not stored again. Also where history is in the same server.

use std::time::Duration;

use waldelta_testkit::{Shutdown, TestCluster, TestDatabase};

use crate::load::{Load, SCHEMA, TABLES};
use crate::oracle::Oracle;
use crate::setting::Setting;

const CRASHES: u32 = 3;
/// PostgreSQL's orderly stop waits for whoever follows its WAL; it has to be much shorter than the time after which it
/// gives somebody up who does not answer (a minute).
const ORDERLY_STOP_MAX: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_crash_of_the_source() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "crash").await;
    let history = TestDatabase::create("crash_h").await;
    survives(&cluster, source, history, Shutdown::Kill).await;
}

#[tokio::test]
async fn a_crash_of_the_server_that_has_history_too() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "crash").await;
    let history = TestDatabase::create_on(&cluster, "crash_h").await;
    survives(&cluster, source, history, Shutdown::Kill).await;
}

#[tokio::test]
async fn an_orderly_restart_of_the_source() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "orderly").await;
    let history = TestDatabase::create("orderly_h").await;
    survives(&cluster, source, history, Shutdown::Fast).await;
}

#[tokio::test]
async fn an_orderly_restart_of_the_server_that_has_history_too() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "orderly").await;
    let history = TestDatabase::create_on(&cluster, "orderly_h").await;
    survives(&cluster, source, history, Shutdown::Fast).await;
}

async fn survives(cluster: &TestCluster, source: TestDatabase, history: TestDatabase, how: Shutdown) {
    let mut setting = Setting::over(source, history, SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (_socket, mut replica) = setting.client("away").await;
    let load = Load::start(setting.source.url(), 4, 1);
    for crash in 0..CRASHES {
        load.more(60).await;
        let down = tokio::time::timeout(ORDERLY_STOP_MAX, cluster.down(how)).await;
        assert!(down.is_ok(), "the service holds up PostgreSQL's stop; its log:\n{}", setting.service.log());
        assert!(setting.service.exited().is_none(), "it ended:\n{}", setting.service.log());
        cluster.up().await;
        setting.service.wait_ready().await;
        oracle.check(&format!("crash {crash}")).await;
    }
    load.more(60).await;
    load.stop().await;
    setting.settled().await;
    // With nothing to do, it must not hold up a stop either.
    let down = tokio::time::timeout(ORDERLY_STOP_MAX, cluster.down(how)).await;
    assert!(down.is_ok(), "the idle service holds up PostgreSQL's stop; its log:\n{}", setting.service.log());
    cluster.up().await;
    setting.service.wait_ready().await;
    let mut socket = setting.resume("away", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0], "it could resume");
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
