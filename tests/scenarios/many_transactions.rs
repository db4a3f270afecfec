//! Very many transactions in a short time: each stays one, and what concerns nobody costs little and moves the end.

use std::time::Instant;

use waldelta_testkit::{TestCluster, TestDatabase, wait_until};

use crate::oracle::Oracle;
use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str = "CREATE TABLE item (id int PRIMARY KEY, value int NOT NULL)";
const TABLES: [&str; 1] = ["public.item"];
const WRITERS: u32 = 4;
const EACH: u32 = 2_500;

/// On a server of its own, because the oracle looks at every transaction of its server.
async fn setting(hint: &str) -> Setting {
    let cluster = TestCluster::own(&[]).await;
    let source = TestDatabase::create_on(&cluster, hint).await;
    let history = TestDatabase::create(&format!("{hint}_h")).await;
    Setting::over(source, history, SCHEMA).await
}

#[tokio::test]
async fn ten_thousand_small_ones_stay_themselves() {
    let setting = setting("tiny").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    let begun = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (client, from) = (setting.source.client().await, writer * EACH);
        let sql = format!(
            "DO $$ BEGIN FOR i IN {from}..{} LOOP INSERT INTO item VALUES (i, {writer}); COMMIT; END LOOP; END $$",
            from + EACH - 1
        );
        writers.spawn(async move { client.batch_execute(&sql).await.unwrap() });
    }
    let all = u64::from(WRITERS * EACH);
    let arrived = |replica: &waldelta_testkit::Replica| replica.transactions() >= all;
    socket.follow(&mut replica, "all of them", PATIENCE, arrived).await;
    println!("{all} transactions arrived within {:?}", begun.elapsed());
    writers.join_all().await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.transactions(), all, "each is one");
    let counts =
        "SELECT count(DISTINCT lsn) || ' ' || count(*) || ' ' || max(seq) FROM waldelta.change_history";
    assert_eq!(setting.history.query_text(counts).await, format!("{all} {all} 0"));
    // What comes while an append runs is appended together.
    let appends =
        setting.history.query_text("SELECT count(DISTINCT xmin::text) FROM waldelta.change_history").await;
    println!("in {appends} appends");
    assert!(appends.parse::<u64>().unwrap() < all / 2, "{appends} appends");
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}

#[tokio::test]
async fn a_flood_that_concerns_nobody_moves_the_end_and_leaves_nothing() {
    let setting = setting("flood").await;
    let oracle = Oracle::begin(&setting.source, &setting.history).await;
    let (mut socket, mut replica) = setting.client("here").await;
    let before = setting.history.query_text("SELECT durable_end FROM waldelta.captures").await;
    // Of a table that is not published, of nothing at all, and taken back.
    setting.source.exec("CREATE TABLE other (id int)").await;
    let flood = "DO $$ BEGIN
          FOR i IN 1..3000 LOOP
            INSERT INTO other VALUES (i); COMMIT;
            PERFORM pg_current_xact_id(); COMMIT;
            INSERT INTO item VALUES (i, i); ROLLBACK;
          END LOOP;
        END $$";
    let (source, other) = (setting.source.client().await, setting.source.client().await);
    let flooding = async { source.batch_execute(flood).await.unwrap() };
    let besides = async {
        for id in 1..=20 {
            other.batch_execute(&format!("INSERT INTO item VALUES ({}, 0)", 10_000 + id)).await.unwrap();
        }
    };
    tokio::join!(flooding, besides);
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    assert_eq!(replica.transactions(), 20);
    assert_eq!(setting.history.query_text("SELECT count(*) FROM waldelta.change_history").await, "20");
    let slot = setting.source.slot("slot");
    let reported = format!(
        "SELECT confirmed_flush_lsn - '{before}'::pg_lsn > 300000 FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    wait_until("the slot has left the flood behind", PATIENCE, async || {
        setting.source.query_text(&reported).await == "t"
    })
    .await;
    setting.history_equals_source(&TABLES).await;
    oracle.check_all().await;
}
