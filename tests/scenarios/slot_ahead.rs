//! A slot that was told more than history holds has skipped changes: capture refuses to go on and says so everywhere,
//! and clients are served with what is durable.

use waldelta_testkit::{Service, wait_until};

use crate::setting::{PATIENCE, Setting};
use crate::stops::{status, stopped};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value text)";
const TABLE: &str = "public.item";
const CODE: &str = "WD-SLOT-AHEAD";

#[tokio::test]
async fn is_refused() {
    let mut setting = Setting::new("slot_ahead", SCHEMA).await;
    let (mut early, mut early_replica) = setting.client("early").await;
    setting.source.exec("INSERT INTO item VALUES (1, 'kept')").await;
    setting.equal(&mut early, &mut early_replica, &[TABLE]).await;
    setting.source.exec("INSERT INTO item VALUES (2, 'kept too')").await;
    setting.settled().await;
    let ended = setting.service.stop().await;
    assert!(ended.success(), "{ended}");

    // Somebody moves the slot: what lies between is gone.
    setting.source.exec("INSERT INTO item VALUES (3, 'skipped by the slot')").await;
    let slot = setting.source.slot("slot");
    let advance = format!("SELECT end_lsn FROM pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    let confirmed = setting.source.query_text(&advance).await;
    let stored = stored(&setting).await;

    setting.service = Service::spawn(setting.run_options());
    let service = &setting.service;
    wait_until("it says so in its log", PATIENCE, async || service.log().contains(CODE)).await;
    let capture = stopped(&setting, "slot_ahead", CODE).await;
    assert!(capture["message"].as_str().unwrap().contains(&confirmed), "{capture}");
    assert_eq!(status(&setting).await["ready"], false);

    // A client that was away gets what is durable, and nothing else.
    let mut early = setting.resume("early", &mut early_replica).await;
    let two = |replica: &waldelta_testkit::Replica| replica.rows(TABLE).len() == 2;
    early.follow(&mut early_replica, "it has what is durable", PATIENCE, two).await;

    // What commits now does not come in, and nobody reads the slot.
    setting.source.exec("INSERT INTO item VALUES (4, 'too late')").await;
    let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    assert_eq!(setting.source.query_text(&active).await, "f");
    let ended = setting.service.stop().await;
    assert_eq!(ended.code(), Some(3), "{ended}; {}", setting.service.log());
    assert_eq!(self::stored(&setting).await, stored);

    // The same again: no restart makes it go away.
    setting.service = Service::spawn(setting.run_options());
    let service = &setting.service;
    wait_until("it says so again", PATIENCE, async || service.log().contains(CODE)).await;
    stopped(&setting, "slot_ahead", CODE).await;
    assert_eq!(setting.service.stop().await.code(), Some(3));
    assert_eq!(self::stored(&setting).await, stored);
}

async fn stored(setting: &Setting) -> Vec<Vec<Option<String>>> {
    let sql = "SELECT durable_end, (SELECT count(*) FROM waldelta.change_history) FROM waldelta.captures";
    setting.history.query(sql).await
}
