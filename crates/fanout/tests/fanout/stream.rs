//! Live, resume, catching up, parts, heartbeats.

use serde_json::json;
use waldelta_fanout::Config;
use waldelta_testkit::Frame;
use waldelta_wal::{Change, Operation};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_live_client_gets_each_transaction_in_order_without_gap() {
    let mut world = World::new("live").await;
    let mut client = world.hello("web-1", json!({"snapshot": false})).await;
    let welcome = client.next_json(PATIENCE).await;
    assert_eq!(
        (&welcome["type"], &welcome["mode"], &welcome["protocol"]),
        (&json!("welcome"), &json!("resume"), &json!("waldelta.v1.json"))
    );
    assert_eq!(welcome["head"], world.head().to_string());
    let live = client.next_json(PATIENCE).await;
    assert_eq!((&live["type"], cursor(&live)), (&json!("live"), world.head()));

    let positions = world.commit_inserts(1..4).await;
    let schema = client.next_json(PATIENCE).await;
    assert_eq!(
        (&schema["type"], &schema["table"], &schema["version"]),
        (&json!("schema"), &json!("public.t"), &json!(1))
    );
    let mut before = live["cursor"].clone();
    for (id, position) in (1..).zip(positions) {
        let tx = client.next_json(PATIENCE).await;
        assert_eq!((ids(&tx), cursor(&tx), &tx["prev"]), (vec![id], position, &before));
        assert_eq!(
            tx["changes"][0],
            json!({"seq": 0, "op": "insert", "table": "public.t", "key": {"id": id}, "data": {"id": id, "v": "x"}, "sub": ["s1"]})
        );
        before = tx["cursor"].clone();
    }
    // What does not concern it does not reach it, and is no gap.
    let other = insert(&world.u, 0, 9);
    world.commit(FUTURE_XID, vec![other]).await;
    let last = world.commit_inserts(5..6).await[0];
    let tx = client.next_json(PATIENCE).await;
    assert_eq!((cursor(&tx), &tx["prev"]), (last, &before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_away_resumes_where_it_was() {
    let mut world = World::new("resume").await;
    let positions = world.commit_inserts(1..6).await;
    let lsn = positions[2].commit_lsn.to_string();
    for (after, expected) in [
        (positions[1].to_string(), vec![3, 4, 5]),
        (positions[4].to_string(), vec![]),
        // Inside a transaction: that one again. A bare LSN: everything from it on.
        (waldelta_wal::Position { index: 0, ..positions[3] }.to_string(), vec![4, 5]),
        (lsn, vec![3, 4, 5]),
    ] {
        let mut client = world.hello("web-1", json!({"after": after})).await;
        let mut got = Vec::new();
        loop {
            let frame = client.next_json(PATIENCE).await;
            match frame["type"].as_str().unwrap() {
                "tx" => got.extend(ids(&frame)),
                "live" => break,
                "welcome" => assert_eq!(frame["mode"], "resume"),
                other => assert_eq!(other, "schema"),
            }
        }
        assert_eq!(got, expected, "{after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_cache_holds_is_read_from_history() {
    // Neither the feed nor the scope can hold one transaction.
    let config = Config { scope_bytes_max: 1, ..Config::default() };
    let mut world = World::with("evicted", Setup { config, feed_bytes_max: 1, ..Setup::default() }).await;
    let mut live = world.live("web-1").await;
    let positions = world.commit_inserts(1..60).await;
    let mut late = world.hello("web-2", json!({"after": positions[9].to_string()})).await;
    for (client, first) in [(&mut live, 1), (&mut late, 11)] {
        let mut next = first;
        while next < 60 {
            let frame = client.next_json(PATIENCE).await;
            if frame["type"] == "tx" {
                assert_eq!(ids(&frame), [next]);
                next += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_in_parts_and_again_from_its_beginning() {
    let mut world = World::new("large").await;
    let mut client = world.live("web-1").await;
    let before = world.head();
    let lsn = world.next_lsn();
    let text = "y".repeat(200);
    for step in 0..5u32 {
        let changes: Vec<Change> = (step * 1_000..(step + 1) * 1_000)
            .map(|seq| insert_text(&world.t, seq, seq.into(), &text))
            .collect();
        let piece = world.piece(lsn, FUTURE_XID, changes, step == 4);
        world.writer.append(vec![piece]).await.unwrap();
    }
    let whole = world.head();
    let mut got = Vec::new();
    let mut parts = 0;
    loop {
        let tx = client.next_of_type("tx", PATIENCE).await;
        got.extend(ids(&tx));
        assert_eq!(tx["part"], parts);
        parts += 1;
        if tx["last"] == true {
            assert_eq!((cursor(&tx).commit_lsn.0, cursor(&tx).is_whole()), (lsn, true));
            break;
        }
        assert_eq!(u64::from(cursor(&tx).index), *got.last().unwrap(), "a part names its last change");
    }
    assert!(parts > 1);
    assert_eq!(got, (0..5_000).collect::<Vec<_>>());
    assert_eq!(cursor(&client.next_of_type("live", PATIENCE).await), whole);

    // One that was cut in the middle gets it whole.
    let inside = waldelta_wal::Position {
        index: 1_234,
        ..waldelta_wal::Position::whole(before.epoch, waldelta_wal::Lsn(lsn))
    };
    let mut again = world.hello("web-2", json!({"after": inside.to_string()})).await;
    let mut got = Vec::new();
    while got.len() < 5_000 {
        got.extend(ids(&again.next_of_type("tx", PATIENCE).await));
    }
    assert_eq!(got, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_that_the_feed_holds_comes_in_parts_too() {
    let mut world = World::new("slices").await;
    let mut client = world.live("web-1").await;
    let text = "y".repeat(2_000);
    let changes: Vec<Change> = (0..1_000).map(|seq| insert_text(&world.t, seq, seq.into(), &text)).collect();
    let position = world.commit(FUTURE_XID, changes).await;
    let feed = world.history.feed().after(waldelta_wal::Position { index: 0, ..position }, 1).unwrap();
    assert!(matches!(&feed[..], [waldelta_history::Entry::Whole(_)]), "the feed has it");
    let (mut got, mut parts) = (Vec::new(), 0);
    loop {
        let tx = client.next_of_type("tx", PATIENCE).await;
        got.extend(ids(&tx));
        assert_eq!(tx["part"], parts);
        parts += 1;
        if tx["last"] == true {
            assert_eq!(cursor(&tx), position);
            break;
        }
    }
    assert_eq!(got, (0..1_000).collect::<Vec<_>>());
    assert!(parts > 5, "{parts}");
    let next = world.commit_inserts(1..2).await[0];
    assert_eq!(cursor(&client.next_of_type("tx", PATIENCE).await), next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_client_gets_heartbeats_that_move_its_cursor() {
    let config = Config { heartbeat_interval: std::time::Duration::from_millis(150), ..Config::default() };
    let mut world = World::with("heartbeat", Setup { config, ..Setup::default() }).await;
    let mut client = world.live("web-1").await;
    let other = insert(&world.u, 0, 1);
    world.commit(FUTURE_XID, vec![other]).await;
    let head = world.head();
    loop {
        let beat = client.next_of_type("heartbeat", PATIENCE).await;
        if cursor(&beat) == head {
            break;
        }
        assert!(cursor(&beat) < head);
    }
    let end = waldelta_wal::EndLsn(waldelta_wal::Lsn(world.next_lsn() + 0x1000));
    world.writer.advance(end).await.unwrap();
    let head = world.head();
    while cursor(&client.next_of_type("heartbeat", PATIENCE).await) < head {}
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_have_their_form() {
    let mut world = World::new("kinds").await;
    let mut client = world
        .hello("web-1", json!({"snapshot": false, "subscriptions": [{"id": "a", "table": "*", "old": true}]}))
        .await;
    client.next_of_type("live", PATIENCE).await;
    let base = insert(&world.t, 0, 1);
    let update = Change {
        seq: 1,
        operation: Operation::Update,
        row_key: Some("[2]".into()),
        data: Some(r#"{"id":2}"#.into()),
        old_data: Some(r#"{"id":1}"#.into()),
        unchanged: vec!["v".into()],
        ..base.clone()
    };
    let delete = Change {
        seq: 2,
        operation: Operation::Delete,
        row_key: Some("[2]".into()),
        data: None,
        old_data: Some(r#"{"id":2}"#.into()),
        ..base.clone()
    };
    let truncate =
        Change { seq: 3, operation: Operation::Truncate, row_key: None, data: None, ..base.clone() };
    world.commit(FUTURE_XID, vec![base, update, delete, truncate]).await;
    let live = client.next_of_type("tx", PATIENCE).await;
    let mut resumed = world
        .hello(
            "web-2",
            json!({"after": live["prev"], "subscriptions": [{"id": "a", "table": "public.*", "old": true}]}),
        )
        .await;
    let read = resumed.next_of_type("tx", PATIENCE).await;
    for tx in [live, read] {
        assert_eq!(
            tx["changes"],
            json!([
                {"seq": 0, "op": "insert", "table": "public.t", "key": {"id": 1}, "data": {"id": 1, "v": "x"}, "sub": ["a"]},
                {"seq": 1, "op": "delete", "table": "public.t", "key": {"id": 1}, "old": {"id": 1}, "sub": ["a"]},
                {"seq": 1, "op": "insert", "table": "public.t", "key": {"id": 2}, "data": {"id": 2}, "moved_from": {"id": 1},
                 "unchanged": ["v"], "sub": ["a"]},
                {"seq": 2, "op": "delete", "table": "public.t", "key": {"id": 2}, "old": {"id": 2}, "sub": ["a"]},
                {"seq": 3, "op": "truncate", "table": "public.t", "key": null, "sub": ["a"]},
            ])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_everybody_away_and_waits_for_them() {
    let world = World::new("stop").await;
    let mut client = world.live("web-1").await;
    world.stop.cancel();
    assert!(client.next_of_type("goaway", PATIENCE).await["retry_ms"].as_u64().unwrap() > 0);
    let Frame::Closed { code, reason } = client.next_frame(PATIENCE).await else { panic!("not closed") };
    assert_eq!(code, 1012);
    assert!(reason.contains("WD-STOPPING") && reason.contains("retry_ms"), "{reason}");
    tokio::time::timeout(PATIENCE, world.running).await.unwrap().unwrap();
    assert!(world.fanout.sessions().is_empty());
}
