//! A source that is a standby: snapshots are taken on its primary, or not at all.

use serde_json::json;
use waldelta_testkit::{TestCluster, connect, wait_until};

use crate::support::*;

/// A world whose source is the standby.
async fn world(hint: &str, clusters: &(TestCluster, TestCluster), has_primary: bool) -> World {
    let standby = Some(clusters.clone());
    let world = World::with(hint, Setup { standby, has_primary, ..Setup::default() }).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x')").await;
    let wal: String = world.database.query_text("SELECT pg_current_wal_insert_lsn()").await;
    let admin = connect(&clusters.1.url("postgres")).await;
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{wal}'");
    wait_until("the standby has it", PATIENCE, || async {
        admin.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_on_the_primary_or_refused_while_the_stream_goes_on() {
    let primary = TestCluster::own(&[]).await;
    let standby = TestCluster::standby_of(&primary, &[]).await;
    let clusters = (primary, standby);
    refused(world("standby_alone", &clusters, false).await).await;
    taken(world("standby_primary", &clusters, true).await).await;
}

async fn refused(mut world: World) {
    let mut live = world.live("live").await;
    let mut client = world.hello("new", json!({})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-SOURCE-STANDBY"), &json!(true)), "{error}");
    let (code, reason) = client.closed(PATIENCE).await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("WD-SOURCE-STANDBY"), "{reason}");
    world.commit_inserts(1..2).await;
    assert_eq!(ids(&live.next_of_type("tx", PATIENCE).await), [1]);
    // What a standby knows of transaction ids says nothing of what the client has: its own changes come to it.
    let mine = by("live", insert(&world.t, 0, 2));
    world.commit(FUTURE_XID, vec![mine]).await;
    assert_eq!(ids(&live.next_of_type("tx", PATIENCE).await), [2]);
}

async fn taken(mut world: World) {
    let mut client = world.hello("new", json!({})).await;
    let rows = client.next_of_type("rows", PATIENCE).await;
    assert_eq!(rows["rows"], json!([{"id": 1, "v": "x"}]));
    client.next_of_type("live", PATIENCE).await;
    let mine = by("new", insert(&world.u, 0, 2));
    world.commit(FUTURE_XID, vec![mine]).await;
    assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [] as [u64; 0], "asked on the primary");
}
