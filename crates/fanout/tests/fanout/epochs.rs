//! New epochs: the stream goes over the seam, or begins anew.

use serde_json::{Value, json};
use waldelta_testkit::WsClient;
use waldelta_wal::Position;

use crate::support::*;

/// Ids of the rows that come until the client is live.
async fn until_live(client: &mut WsClient) -> (Vec<u64>, Value) {
    let mut got = Vec::new();
    loop {
        let frame = client.next_json(PATIENCE).await;
        match frame["type"].as_str().unwrap() {
            "tx" => got.extend(ids(&frame)),
            "live" => return (got, frame),
            "reset" | "snapshot_begin" => panic!("{frame}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_goes_on_where_the_source_went_on() {
    let mut world = World::new("epoch_continues").await;
    let mut client = world.live("live").await;
    let start = world.head();
    let old = world.commit_inserts(1..4).await;
    for id in 1..4 {
        assert_eq!(ids(&client.next_of_type("tx", PATIENCE).await), [id]);
    }
    let end = world.next_lsn();
    let mut world = world.begin_epoch(end, Some(end + 64), true).await;
    let new = world.commit_inserts(4..6).await;
    assert!(new[0].epoch > old[0].epoch && new[0] > old[2]);
    let mut last = old[2];
    let mut got = Vec::new();
    while got.len() < 2 {
        let frame = client.next_json(PATIENCE).await;
        assert_ne!(frame["type"], "reset");
        if frame["type"] == "tx" {
            let prev: Position = frame["prev"].as_str().unwrap().parse().unwrap();
            assert!(prev <= last, "{frame} after {last}");
            got.extend(ids(&frame));
        }
        if frame["cursor"].is_string() {
            assert!(cursor(&frame) >= last);
            last = cursor(&frame);
        }
    }
    assert_eq!((got, last), (vec![4, 5], new[1]));
    // And it is live as before.
    let next = world.commit_inserts(6..7).await[0];
    assert_eq!(cursor(&client.next_of_type("tx", PATIENCE).await), next);

    // Whoever was away goes on too, from wherever.
    for (after, expected) in [
        (start.to_string(), vec![1, 2, 3, 4, 5, 6]),
        (old[1].to_string(), vec![3, 4, 5, 6]),
        (Position { index: 0, ..old[1] }.to_string(), vec![2, 3, 4, 5, 6]),
        (old[2].to_string(), vec![4, 5, 6]),
        (new[0].to_string(), vec![5, 6]),
    ] {
        let mut client = world.hello("away", json!({"after": after, "snapshot": false})).await;
        let (got, live) = until_live(&mut client).await;
        assert_eq!((got, cursor(&live)), (expected, world.head()), "{after}");
    }
    // Pages as well.
    let (mut after, mut got) = (start.to_string(), Vec::new());
    loop {
        let (status, page) = world.get(&format!("/v1/changes?limit=2&after={after}"), "").await;
        assert_eq!(status, 200, "{page}");
        got.extend(page["transactions"].as_array().unwrap().iter().flat_map(ids));
        let cursor = page["cursor"].as_str().unwrap().to_owned();
        assert!(cursor > after || page["has_more"] == false, "a cursor is ordered as text");
        after = cursor;
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!((got, after), (vec![1, 2, 3, 4, 5, 6], world.head().to_string()));
    let (status, _) = world.get(&format!("/v1/values/{}/data/v", Position { index: 0, ..old[0] }), "").await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_survive_is_dropped_and_what_did_is_resumed() {
    let mut world = World::new("epoch_ghosts").await;
    let mut survivors = Vec::new();
    for id in 1..3 {
        let change = insert(&world.t, 0, id);
        survivors.push(world.commit(SHOWN_XID, vec![change]).await);
    }
    let fork = world.next_lsn();
    let mut live = world.hello("live", json!({"after": survivors[0].to_string()})).await;
    let change = insert(&world.t, 0, 3);
    let ghost = world.commit(SHOWN_XID, vec![change]).await;
    while ids(&live.next_of_type("tx", PATIENCE).await) != [3] {}
    // The table as it is where the source went on.
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'x'), (4, 'x')").await;
    let mut world = world.begin_epoch(fork, Some(fork), true).await;
    let change = insert(&world.t, 0, 4);
    world.commit(SHOWN_XID, vec![change]).await;

    assert_eq!(
        live.next_of_type("reset", PATIENCE).await,
        json!({"type": "reset", "reason": "epoch_changed"})
    );
    let rows = live.next_of_type("rows", PATIENCE).await;
    assert_eq!(rows["rows"].as_array().unwrap().len(), 3);
    live.next_of_type("live", PATIENCE).await;
    for (after, resumes) in [(survivors[1], true), (ghost, false)] {
        let mut client = world.hello("away", json!({"after": after.to_string(), "snapshot": false})).await;
        match resumes {
            true => assert_eq!(until_live(&mut client).await.0, [4]),
            false => assert_eq!(client.closed(PATIENCE).await.0, 4410),
        }
        let (status, page) = world.get(&format!("/v1/changes?after={after}"), "").await;
        assert_eq!(status, if resumes { 200 } else { 410 }, "{page}");
    }
    // What the older epoch has beyond its end is in no page.
    let (_, page) = world.get("/v1/changes", "").await;
    let all: Vec<u64> = page["transactions"].as_array().unwrap().iter().flat_map(ids).collect();
    assert_eq!(all, [1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_everybody_begins_anew() {
    let mut world = World::new("epoch_gap").await;
    let change = insert(&world.t, 0, 1);
    let before = world.commit(SHOWN_XID, vec![change]).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x'), (2, 'never told')").await;
    let mut live = world.hello("live", json!({"after": before.to_string()})).await;
    live.next_of_type("live", PATIENCE).await;
    let mut refuses = world.live("refuses").await;
    let path = format!("/v1/changes?wait=20s&after={}", world.head());
    let start = world.next_lsn() + 1_000;
    let (world, (status, problem)) = {
        let address = world.stream_url();
        let poll = crate::changes::get_from(&address, &path);
        tokio::join!(world.begin_epoch(start, None, false), poll)
    };
    assert_eq!((status, &problem["code"]), (410, &json!("WD-CURSOR-NOT-RESUMABLE")), "{problem}");
    assert_eq!(live.next_of_type("reset", PATIENCE).await["reason"], "epoch_changed");
    let end = live.next_of_type("snapshot_end", PATIENCE).await;
    assert_eq!((&end["tables"][0]["rows"], cursor(&end)), (&json!(2), world.head()));
    let (code, reason) = refuses.closed(PATIENCE).await;
    assert_eq!(code, 4410, "{reason}");
    let mut away = world.hello("away", json!({"after": before.to_string()})).await;
    let welcome = away.next_json(PATIENCE).await;
    assert_eq!((&welcome["mode"], &welcome["epoch"]), (&json!("snapshot"), &json!(world.head().epoch.0)));
    assert_eq!(away.next_of_type("reset", PATIENCE).await["reason"], "epoch_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_still_runs_gives_no_snapshots() {
    let mut world = World::new("old_primary").await;
    let mut live = world.live("live").await;
    // The source went on elsewhere, and history with it; snapshots are still asked of the server that was left.
    world.database.exec("UPDATE waldelta.captures SET timeline = timeline + 1").await;
    let mut client = world.hello("new", json!({})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-SOURCE-STANDBY"), &json!(true)), "{error}");
    assert_eq!(client.closed(PATIENCE).await.0, 1013);
    world.commit_inserts(1..2).await;
    live.next_of_type("tx", PATIENCE).await;
}
