//! The captured database is dropped and created again under its name, in the same cluster: it is another one.

use waldelta_testkit::{Service, TestCluster, TestDatabase, connect, wait_until};

use crate::setting::{PATIENCE, Setting};
use crate::stops::{epochs, inserted, publish_again, recover, stopped, streaming};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLES: [&str; 1] = ["public.item"];

async fn insert(setting: &Setting, id: u32) {
    setting.source.exec(&format!("INSERT INTO item VALUES ({id}, 'row {id}')")).await;
}

#[tokio::test]
async fn is_another_one_when_it_comes_back() {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, "dropped").await;
    let history = TestDatabase::create("dropped_h").await;
    let mut setting = Setting::over(source, history, SCHEMA).await;
    insert(&setting, 1).await;
    let (mut here, mut replica) = setting.client("here").await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    drop(here);
    setting.service.stop().await;

    // Who is connected is thrown out, and the slot, which nobody uses, goes along.
    let admin = connect(&cluster.url("postgres")).await;
    let name = setting.source.name().to_owned();
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    setting.service = Service::spawn(setting.run_options());
    wait_until("the missing database is told", PATIENCE, async || {
        setting.service.log().contains("WD-DATABASE-MISSING")
    })
    .await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    setting.source.exec(SCHEMA).await;
    insert(&setting, 2).await;
    wait_until("the service answers", PATIENCE, async || setting.service.is_listening().await).await;
    stopped(&setting, "source_changed", "WD-SOURCE-CHANGED").await;
    assert_eq!((inserted(&setting).await, epochs(&setting).await), (vec![1], 1));

    publish_again(&setting).await;
    recover(&setting);
    streaming(&setting).await;
    insert(&setting, 3).await;
    let mut here = setting.resume("here", &mut replica).await;
    setting.equal(&mut here, &mut replica, &TABLES).await;
    assert_eq!(replica.resets(), ["epoch_changed"]);
    assert_eq!(epochs(&setting).await, 2);
    setting.history_is_gapless().await;
}
