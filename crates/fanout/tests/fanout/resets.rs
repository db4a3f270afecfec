//! Tables that are reset: their rows come anew, and everything else goes on.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_history::NewGap;
use waldelta_testkit::{Replica, WsClient};
use waldelta_wal::{Change, Lsn, Table};

use crate::support::*;

fn both() -> [Value; 2] {
    [json!({"id": "s1", "table": "public.t"}), json!({"id": "s2", "table": "public.u"})]
}

/// A client that has followed both tables from a snapshot on, and its copy.
async fn following(world: &World, client_id: &str) -> (WsClient, Replica) {
    let mut replica = Replica::new();
    let mut client = world.connect().await;
    client.send(&replica.hello(client_id, &both())).await;
    client.follow(&mut replica, "it is live", PATIENCE, Replica::is_live).await;
    (client, replica)
}

/// Comes back from where the copy is.
async fn resumed(world: &World, client_id: &str, replica: &mut Replica) -> WsClient {
    replica.disconnected();
    let mut client = world.connect().await;
    client.send(&replica.hello(client_id, &both())).await;
    client
}

async fn beyond_the_source(world: &mut World) {
    // Behind everything that the source writes meanwhile, so that what comes is delivered as it is.
    let end: Lsn = world.database.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
    world.skip_to(end.0 + (1 << 24));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_client_gets_the_rows_of_the_table_alone() {
    let mut world = World::new("reset_live").await;
    let (t, _) = world.both();
    world.database.exec("INSERT INTO t VALUES (1, 'a'); INSERT INTO u VALUES (1, 'u')").await;
    let (mut client, mut replica) = following(&world, "both").await;
    let mut other = world.hello("other", json!({"subscriptions": [{"id": "s", "table": "public.u"}]})).await;
    other.next_of_type("live", PATIENCE).await;
    world.compare(&mut client, &mut replica, world.head(), &["t", "u"]).await;

    // No change tells it.
    world.database.exec("UPDATE t SET v = 'b'; INSERT INTO t VALUES (2, 'b')").await;
    let before = world.head();
    let at = world.reset(&[&t]).await;
    let told = client.next_of_type("reset", PATIENCE).await;
    assert_eq!(told, json!({"type": "reset", "reason": "gap", "tables": ["public.t"]}));
    replica.apply(&told.to_string()).unwrap();
    let begin = client.next_json(PATIENCE).await;
    assert_eq!(
        (&begin["type"], &begin["tables"][0]["table"]),
        (&json!("snapshot_begin"), &json!("public.t"))
    );
    assert_eq!(begin["tables"].as_array().unwrap().len(), 1);
    assert!(cursor(&begin) >= before && cursor(&begin) < at, "{begin}: before the reset, which lies at {at}");
    replica.apply(&begin.to_string()).unwrap();
    world.compare(&mut client, &mut replica, world.head(), &["t", "u"]).await;

    // What comes after it comes to both.
    beyond_the_source(&mut world).await;
    let changes = vec![insert(&world.t, 0, 7), insert(&world.u, 1, 8)];
    let last = world.commit(FUTURE_XID, changes).await;
    world.database.exec("INSERT INTO t VALUES (7, 'x'); INSERT INTO u VALUES (8, 'x')").await;
    world.compare(&mut client, &mut replica, last, &["t", "u"]).await;
    loop {
        let frame = other.next_json(PATIENCE).await;
        match frame["type"].as_str().unwrap() {
            "tx" => break assert_eq!(frame["changes"][0]["table"], "public.u"),
            kind => assert!(["schema", "heartbeat"].contains(&kind), "{frame}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_far_behind_takes_one_snapshot_of_a_table_that_was_reset_again_and_again() {
    let config = waldelta_fanout::Config { scope_bytes_max: 1, ..Default::default() };
    let mut world =
        World::with("reset_behind", Setup { config, feed_bytes_max: 1, ..Setup::default() }).await;
    let (t, u) = world.both();
    let (_, mut replica) = following(&world, "behind").await;
    for round in 0..1_500 {
        let id = round % 7;
        let change = Change { operation: waldelta_wal::Operation::Update, ..insert(&world.t, 0, id) };
        world.commit(SHOWN_XID, vec![change]).await;
        if round % 50 == 49 {
            let both = [&t, &u];
            world.reset(if round % 100 == 99 { &both } else { &both[..1] }).await;
        }
    }
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (100, 'y'); INSERT INTO u VALUES (5, 'z')").await;
    let mut client = resumed(&world, "behind", &mut replica).await;
    world.compare(&mut client, &mut replica, world.head(), &["t", "u"]).await;
    assert!(matches!(replica.resets().len(), 1 | 2), "{:?}", replica.resets());
    let mut again = resumed(&world, "behind", &mut replica).await;
    world.compare(&mut again, &mut replica, world.head(), &["t", "u"]).await;
    assert!(replica.resets().len() <= 2, "it is behind the last one now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_before_the_rows_have_come_finds_the_reset_again() {
    let mut world = World::new("reset_cut").await;
    let (t, u) = world.both();
    world.database.exec("INSERT INTO t VALUES (1, 'a')").await;
    let (mut client, mut replica) = following(&world, "cut").await;
    world.compare(&mut client, &mut replica, world.head(), &["t", "u"]).await;
    world.database.exec("UPDATE t SET v = 'b'").await;
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let inserted = insert(&world.t, 1, 1);
    let changes = vec![reset(&world.t, 0), inserted];
    let xid = world.xid().await;
    world.commit(xid, changes).await;
    world.reset(&[&t, &u]).await;
    client.follow(&mut replica, "it is reset", PATIENCE, |replica| !replica.resets().is_empty()).await;
    assert!(replica.rows("public.t").is_empty());
    // Its rows cannot be read while the table is locked.
    let mut client = resumed(&world, "cut", &mut replica).await;
    client.follow(&mut replica, "it is reset", PATIENCE, |replica| replica.resets().len() == 2).await;
    lock.batch_execute("COMMIT").await.unwrap();
    world.compare(&mut client, &mut replica, world.head(), &["t", "u"]).await;
    assert_eq!(replica.rows("public.t"), [r#"{"id":1,"v":"b"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_snapshot_is_let_go_and_may_come_back_with_its_cursor_for_one() {
    let mut world = World::new("reset_refused").await;
    let (t, u) = world.both();
    let mut client = world.live("web-1").await;
    let (xid, inserted) = (world.xid().await, insert(&t, 0, 1));
    let before = world.commit(xid, vec![inserted]).await;
    assert_eq!(cursor(&client.next_of_type("tx", PATIENCE).await), before);
    world.reset(&[&u]).await;
    let at = world.reset(&[&t]).await;
    for _ in 0..2 {
        let error = client.next_of_type("error", PATIENCE).await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-CURSOR-NOT-RESUMABLE"), &json!(true)));
        let (code, reason) = client.closed(PATIENCE).await;
        assert_eq!(code, 4410, "{reason}");
        client = world.hello("web-1", json!({"after": before.to_string(), "snapshot": false})).await;
    }
    // Behind it nothing is in the way.
    let mut client = world.hello("web-2", json!({"after": at.to_string(), "snapshot": false})).await;
    client.next_of_type("live", PATIENCE).await;
    // With a snapshot of that table everything goes on.
    world.database.exec("INSERT INTO t VALUES (9, 'x')").await;
    let mut client = world.hello("web-3", json!({"after": before.to_string()})).await;
    assert_eq!(client.next_json(PATIENCE).await["mode"], "resume");
    assert_eq!(client.next_json(PATIENCE).await["tables"], json!(["public.t"]));
    assert_eq!(client.next_of_type("rows", PATIENCE).await["rows"], json!([{"id": 9, "v": "x"}]));
    client.next_of_type("live", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_joins_comes_with_its_reset() {
    let mut world = World::new("reset_joining").await;
    world
        .database
        .exec(
            "INSERT INTO t VALUES (1, 'a'); CREATE TABLE v (id int PRIMARY KEY, v text);
             INSERT INTO v VALUES (1, 'v'), (2, 'v'); ALTER PUBLICATION waldelta ADD TABLE v",
        )
        .await;
    let oid: u32 = world.database.query_text("SELECT 'v'::regclass::oid").await.parse().unwrap();
    let from = Lsn(world.next_lsn());
    let gap = NewGap { table_oid: oid, from, reason: "added".into() };
    world.writer.note_source(vec![gap], Vec::new()).await.unwrap();
    let v: Arc<Table> = world.add_table(oid, "v");

    let all = [json!({"id": "all", "table": "*"})];
    let mut everything = Replica::new();
    let mut client = world.connect().await;
    client.send(&everything.hello("all", &all)).await;
    client.follow(&mut everything, "it is live", PATIENCE, Replica::is_live).await;
    assert_eq!((everything.rows("public.t").len(), everything.rows("public.v").len()), (1, 0));
    // By its name too, at the beginning and while connected.
    let mut named = Replica::new();
    let mut named_client = world.connect().await;
    named_client.send(&named.hello("named", &[json!({"id": "v", "table": "public.v"})])).await;
    named_client.follow(&mut named, "it is live", PATIENCE, Replica::is_live).await;
    let (mut late_client, mut late) = following(&world, "late").await;
    let subscribe = json!({"type": "subscribe", "subscriptions": [{"id": "v", "table": "public.v"}]});
    late_client.send(&subscribe).await;
    let begin = late_client.next_of_type("snapshot_begin", PATIENCE).await;
    assert_eq!(begin["tables"], json!([]));
    late.apply(&begin.to_string()).unwrap();
    late_client.follow(&mut late, "it is live", PATIENCE, Replica::is_live).await;

    // Its changes come meanwhile, and its rows with the reset.
    let changes = vec![insert(&v, 0, 2)];
    let xid = world.xid().await;
    world.commit(xid, changes).await;
    world.reset(&[&v]).await;
    assert_eq!(world.history.open_gaps().await.unwrap(), []);
    for (client, replica, tables) in [
        (&mut client, &mut everything, &["t", "u", "v"][..]),
        (&mut named_client, &mut named, &["v"]),
        (&mut late_client, &mut late, &["t", "u", "v"]),
    ] {
        world.compare(client, replica, world.head(), tables).await;
        assert_eq!(replica.resets(), ["gap"]);
    }
    // From then on it is in every snapshot.
    let mut replica = Replica::new();
    let mut client = world.connect().await;
    client.send(&replica.hello("new", &all)).await;
    world.compare(&mut client, &mut replica, world.head(), &["t", "u", "v"]).await;
    assert!(replica.resets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_changes_tells_where_a_table_is_reset() {
    let mut world = World::new("reset_pages").await;
    let first = world.commit_inserts(1..2).await[0];
    let changes = vec![insert(&world.u, 0, 1), reset(&world.t, 1), reset(&world.u, 2)];
    let second = world.commit(FUTURE_XID + 9, changes).await;
    let (status, page) = world.get("/v1/changes?table=public.t", "").await;
    let place = waldelta_wal::Position { index: 1, ..second };
    assert_eq!(
        (status, &page["resets"]),
        (200, &json!([{"table": "public.t", "cursor": place.to_string()}]))
    );
    assert_eq!(
        page["transactions"].as_array().unwrap().len(),
        1,
        "the other transaction is of another table"
    );
    let (_, page) = world.get(&format!("/v1/changes?limit=2&after={first}"), "").await;
    assert_eq!(page["resets"].as_array().unwrap().len(), 1, "it counts as a change: {page}");
    assert_eq!((&page["has_more"], page["cursor"].as_str()), (&json!(true), Some(&*place.to_string())));
    let (_, rest) =
        world.get(&format!("/v1/changes?after={}&wait=1s", page["cursor"].as_str().unwrap()), "").await;
    assert_eq!(rest["resets"][0]["table"], "public.u");
}
