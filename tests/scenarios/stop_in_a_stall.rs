//! A service that is asked to stop while history's server stands still ends in time all the same, and nothing is lost.

use std::time::{Duration, Instant};

use waldelta_testkit::{Service, TestCluster, TestDatabase, wait_until};

use crate::load::{Load, SCHEMA, TABLES};
use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting, config_file};

const CONFIG: &str = "[capture]\nstall_timeout_ms = 1000\n[server]\nstop_timeout_ms = 5000\n";
/// What the configuration says, and what a busy machine needs to end a process.
const STOP_MAX: Duration = Duration::from_secs(12);

#[tokio::test]
async fn while_an_append_is_under_way() {
    stops("stall_append", async |_| {}).await;
}

#[tokio::test]
async fn after_the_stall_was_noticed() {
    stops("stall_noticed", async |service: &Service| {
        let noticed = async || service.log().contains("WD-HISTORY-STALLED");
        wait_until("the stall is noticed", PATIENCE, noticed).await;
    })
    .await;
}

async fn stops(hint: &str, until: impl AsyncFn(&Service)) {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create(hint).await;
    let history = TestDatabase::create_on(&cluster, &format!("{hint}_h")).await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    setting.service.stop().await;
    let config = config_file(CONFIG);
    setting.service.start_again_with(config.add_to(setting.run_options())).await;
    let (_socket, mut replica) = setting.client("away").await;
    let load = Load::start(setting.source.url(), 4, 1);
    load.more(40).await;
    cluster.freeze().await;
    // It has something to store by now that it cannot store.
    load.more(40).await;
    until(&setting.service).await;
    let asked = Instant::now();
    let status = setting.service.stop().await;
    let took = asked.elapsed();
    cluster.thaw().await;
    assert!(took < STOP_MAX, "it took {took:?}:\n{}", setting.service.log());
    assert_eq!(status.code(), Some(0), "{status}:\n{}", setting.service.log());
    load.stop().await;
    oracle.check("stopped in a stall").await;
    setting.service.start_again_with(setting.run_options()).await;
    let mut socket = setting.resume("away", &mut replica).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), [""; 0], "it could resume");
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
