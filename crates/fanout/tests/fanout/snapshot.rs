//! Snapshots: consistent, and joined to the stream without gap or double.

use std::time::Duration;

use serde_json::{Value, json};
use waldelta_fanout::Config;
use waldelta_testkit::{Frame, WsClient, wait_until};
use waldelta_wal::{EndLsn, Lsn, Position};

use crate::support::*;

/// Reads a snapshot to its end: rows, and the end frame.
async fn snapshot(client: &mut WsClient) -> (Value, Vec<Value>, Value) {
    let begin = client.next_of_type("snapshot_begin", PATIENCE).await;
    let mut rows = Vec::new();
    loop {
        let text = match client.next_frame(PATIENCE).await {
            Frame::Text(text) => text,
            closed => panic!("{closed:?}"),
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str().unwrap() {
            "rows" => rows.extend(frame["rows"].as_array().unwrap().iter().cloned()),
            "snapshot_end" => return (begin, rows, frame),
            other => assert_eq!(other, "schema"),
        }
    }
}

/// A transaction in the source: its id and a WAL position at or after its commit record.
async fn source_insert(world: &World, id: u64) -> (u64, u64) {
    let xid = world
        .database
        .query_text(&format!("INSERT INTO t VALUES ({id}, 'x') RETURNING pg_current_xact_id()"))
        .await;
    let lsn: Lsn = world.database.query_text("SELECT pg_current_wal_insert_lsn()").await.parse().unwrap();
    (xid.parse().unwrap(), lsn.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_what_follows_are_the_source() {
    let mut world = World::new("snapshot").await;
    let change = insert(&world.t, 0, 1);
    let (xid, lsn) = source_insert(&world, 1).await;
    let first = world.commit_at(lsn, xid, vec![change]).await;
    // Committed, and so in the snapshot, but not yet in history.
    let (shown_xid, shown_lsn) = source_insert(&world, 2).await;

    let mut client = world.hello("web-1", json!({})).await;
    assert_eq!(client.next_json(PATIENCE).await["mode"], "snapshot");
    let (begin, rows, end) = snapshot(&mut client).await;
    let mut found: Vec<u64> = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2]);
    assert!(cursor(&begin) >= first && begin["cursor"] == end["cursor"]);
    assert_eq!(begin["tables"][0]["table"], "public.t");
    assert_eq!((&end["tables"][0]["table"], &end["tables"][0]["rows"]), (&json!("public.t"), &json!(2)));
    let consistent_at: Position = end["consistent_at"].as_str().unwrap().parse().unwrap();
    assert!(consistent_at.commit_lsn.0 > shown_lsn, "the fence lies after all that the snapshot shows");

    // A transaction that the snapshot does not show, although it commits before the fence in the WAL: as one whose commit
    // record was written but which was not visible yet.
    let (shown, hidden) = (insert(&world.t, 0, 2), insert(&world.t, 0, 3));
    world.commit_at(shown_lsn, shown_xid, vec![shown]).await;
    world.commit(FUTURE_XID, vec![hidden]).await;
    assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [3], "2 came with the snapshot");

    // Beyond the fence everything is delivered.
    world.writer.advance(EndLsn(Lsn(consistent_at.commit_lsn.0 + 1))).await.unwrap();
    let change = insert(&world.t, 0, 4);
    world.commit_at(consistent_at.commit_lsn.0 + 64, FUTURE_XID + 1, vec![change]).await;
    assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [4]);
    world.commit_inserts(5..7).await;
    for id in 5..7 {
        assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_is_that_of_the_rows_as_sent() {
    let world = World::new("checksum").await;
    world.database.exec("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 1000) n").await;
    let mut client = world.hello("web-1", json!({})).await;
    let (mut sum, mut rows, mut frames) = (0u64, 0u64, 0);
    let end = loop {
        let Frame::Text(text) = client.next_frame(PATIENCE).await else { panic!("closed") };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == "snapshot_end" {
            break frame;
        }
        if frame["type"] == "rows" {
            frames += 1;
            let raw: std::collections::HashMap<&str, &serde_json::value::RawValue> =
                serde_json::from_str(&text).unwrap();
            let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(raw["rows"].get()).unwrap();
            for row in raw {
                let digest = row.get().bytes().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
                    (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                });
                sum = sum.wrapping_add(digest);
                rows += 1;
            }
        }
    };
    assert!(frames > 1, "rows come in several frames");
    assert_eq!(
        end["tables"],
        json!([{"table": "public.t", "rows": rows, "checksum": format!("{sum:016x}")}])
    );
    assert_eq!(rows, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_history_that_is_not_visible_yet_is_waited_for() {
    let config = Config { visibility_timeout: Duration::from_millis(300), ..Config::default() };
    let mut world = World::with("invisible", Setup { config, ..Setup::default() }).await;
    let open = world.database.client().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'x')").await.unwrap();
    let xid: String = open.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    let change = insert(&world.t, 0, 1);
    world.commit(xid.parse().unwrap(), vec![change]).await;

    let mut client = world.hello("web-1", json!({})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!(error["fatal"], true);
    let (code, reason) = client.closed(PATIENCE).await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("retry_ms"), "{reason}");

    open.batch_execute("COMMIT").await.unwrap();
    let mut client = world.hello("web-1", json!({})).await;
    let (_, rows, _) = snapshot(&mut client).await;
    assert_eq!(rows, [json!({"id": 1, "v": "x"})]);
    assert_eq!(client.next_json(PATIENCE).await["type"], "live", "and it is not sent a second time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_while_connected_comes_with_its_rows_on_the_same_cursor() {
    let mut world = World::new("subscribe").await;
    world.database.exec("INSERT INTO u VALUES (1, 'old')").await;
    let mut client = world.live("web-1").await;
    client
        .send(
            &json!({"type": "subscribe", "subscriptions": [{"id": "s2", "table": "public.u", "where": "x"}]}),
        )
        .await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["subscription"], &error["fatal"]), (&json!("s2"), &json!(false)), "the rest goes on");

    client
        .send(&json!({"type": "subscribe", "subscriptions": [{"id": "s2", "table": "public.nowhere"}]}))
        .await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!(
        (&error["code"], &error["subscription"], &error["fatal"]),
        (&json!("WD-TABLE-NOT-CAPTURED"), &json!("s2"), &json!(false))
    );

    client.send(&json!({"type": "subscribe", "subscriptions": [{"id": "s2", "table": "public.u"}]})).await;
    let (begin, rows, _) = snapshot(&mut client).await;
    assert_eq!(begin["tables"].as_array().unwrap().len(), 1, "only the new table");
    assert_eq!(rows, [json!({"id": 1, "v": "old"})]);
    client.next_of_type("live", PATIENCE).await;
    let both = vec![insert(&world.t, 0, 7), insert(&world.u, 1, 8)];
    world.commit(FUTURE_XID, both).await;
    let tx = client.next_of_type("tx", PATIENCE).await;
    assert_eq!(ids(&tx), [7, 8]);
    assert_eq!(tx["changes"][1]["sub"], json!(["s2"]));

    client.send(&json!({"type": "unsubscribe", "ids": ["s1"]})).await;
    client.next_of_type("live", PATIENCE).await;
    let both = vec![insert(&world.t, 0, 9), insert(&world.u, 1, 10)];
    world.commit(FUTURE_XID + 1, both).await;
    assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_lasts_too_long_ends_and_those_that_wait_for_it_are_told() {
    let config = Config {
        snapshots_max: 1,
        snapshot_timeout: Duration::from_secs(4),
        snapshot_wait_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    let world = World::with("deadline", Setup { config, ..Setup::default() }).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x')").await;
    // Its rows cannot be read for as long as this lasts.
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let mut first = world.hello("web-1", json!({})).await;
    world.wait_sessions(1, "hydrating").await;
    // The turn is taken by the time that the lock is waited for: whoever wants something else now waits.
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass";
    wait_until("the reading waits", PATIENCE, async || world.database.query_text(blocked).await == "1").await;
    let of_u = json!({"subscriptions": [{"id": "s1", "table": "public.u"}]});
    let mut second = world.hello("web-2", of_u).await;
    let error = second.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-SNAPSHOTS-BUSY"), &json!(true)));
    let (code, reason) = second.closed(PATIENCE).await;
    assert_eq!(code, 1013);
    assert!(reason.contains("WD-SNAPSHOTS-BUSY") && reason.contains("retry_ms"), "{reason}");

    // It has taken all there was: it may come back.
    assert_eq!(first.next_of_type("error", PATIENCE).await["code"], "WD-SNAPSHOT-TIMEOUT");
    let (code, reason) = first.closed(PATIENCE).await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("retry_ms"), "{reason}");

    lock.batch_execute("ROLLBACK").await.unwrap();
    let mut third = world.hello("web-3", json!({})).await;
    let (_, rows, _) = snapshot(&mut third).await;
    assert_eq!(rows, [json!({"id": 1, "v": "x"})], "its turn was given back");
}
