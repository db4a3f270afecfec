//! Tables that change their shape, messages, and where both are told.

use serde_json::{Value, json};
use waldelta_testkit::WsClient;
use waldelta_wal::{Change, Operation, TruncateOptions};

use crate::support::*;

/// What comes up to `live`, or up to a transaction with this id: `schema@version` and the ids of rows.
async fn story(client: &mut WsClient, until: Option<u64>) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let frame = client.next_json(PATIENCE).await;
        match frame["type"].as_str().unwrap() {
            "schema" => told.push(format!("schema@{}", frame["version"])),
            "tx" => {
                let more = if frame["last"] == true { "" } else { "…" };
                told.push(format!("{:?}{more}", ids(&frame)));
                if until.is_some_and(|id| frame["last"] == true && ids(&frame).contains(&id)) {
                    return told;
                }
            }
            "live" if until.is_none() => return told,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_shape_is_told_where_it_is_live_and_to_who_comes_later() {
    let mut world = World::new("shapes").await;
    let mut live = world.live("live").await;
    let first = world.commit_inserts(1..2).await[0];
    let old = world.t.clone();
    let new = world.add_column("w");
    // With nothing else; then a row; then both shapes in one transaction.
    let alone = world.commit(FUTURE_XID, vec![schema_change(&new, 0)]).await;
    world.commit_inserts(2..3).await;
    let newer = world.add_column("x");
    let mixed = vec![insert(&new, 0, 3), schema_change(&newer, 1), insert(&newer, 2, 4)];
    world.commit(FUTURE_XID, mixed).await;
    let other = insert(&world.u, 0, 1);
    world.commit(FUTURE_XID, vec![other]).await;
    world.commit_inserts(5..6).await;

    assert_eq!(
        story(&mut live, Some(5)).await,
        ["schema@1", "[1]", "schema@2", "[2]", "[3]…", "schema@3", "[4]", "[5]"]
    );
    for (after, expected) in [
        (first, &["schema@2", "[2]", "[3]…", "schema@3", "[4]", "[5]"][..]),
        // What changed before the cursor is told with the first row.
        (alone, &["schema@2", "[2]", "[3]…", "schema@3", "[4]", "[5]"]),
        (
            waldelta_wal::Position::before(first.epoch, waldelta_wal::EndLsn(first.commit_lsn)),
            &["schema@1", "[1]", "schema@2", "[2]", "[3]…", "schema@3", "[4]", "[5]"],
        ),
    ] {
        let mut resumed = world.hello("resumed", json!({"after": after.to_string()})).await;
        assert_eq!(story(&mut resumed, None).await, expected, "after {after}");
    }
    assert_eq!((old.version, newer.version), (1, 3));
    // Not told to who does not follow the table.
    let subscriptions = json!([{"id": "s1", "table": "public.u"}]);
    let mut elsewhere =
        world.hello("elsewhere", json!({"after": first.to_string(), "subscriptions": subscriptions})).await;
    assert_eq!(story(&mut elsewhere, None).await, ["schema@1", "[1]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_shape_that_no_cache_holds_is_told_too() {
    let config = waldelta_fanout::Config { scope_bytes_max: 1, ..waldelta_fanout::Config::default() };
    let mut world = World::with("shapes_read", Setup { config, feed_bytes_max: 1, ..Setup::default() }).await;
    let mut live = world.live("live").await;
    world.commit_inserts(1..2).await;
    let new = world.add_column("w");
    let alone = world.commit(FUTURE_XID, vec![schema_change(&new, 0)]).await;
    let schema = live.next_json(PATIENCE).await;
    let row = live.next_of_type("tx", PATIENCE).await;
    let told = live.next_of_type("schema", PATIENCE).await;
    assert_eq!((&schema["version"], ids(&row), &told["version"]), (&json!(1), vec![1], &json!(2)));
    assert_eq!(
        told["columns"][2],
        json!({"name": "w", "type": "text", "nullable": true, "key": false, "number": 3})
    );
    // The cursor moves on without a transaction.
    let standing = || world.fanout.sessions()[0].cursor.clone();
    waldelta_testkit::wait_until("the cursor moves", PATIENCE, async || standing() >= alone.to_string())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_is_told_of_a_shape_although_its_rows_are_not_echoed() {
    let mut world = World::new("shapes_own").await;
    let mut author = world.live("me").await;
    let mut other = world.live("you").await;
    let first = insert(&world.t, 0, 1);
    world.commit(FUTURE_XID, vec![by("me", first)]).await;
    let new = world.add_column("w");
    let both = vec![by("me", schema_change(&new, 0)), by("me", insert(&new, 1, 2))];
    world.commit(FUTURE_XID, both).await;
    world.commit_inserts(3..4).await;
    assert_eq!(story(&mut author, Some(3)).await, ["schema@1", "[]", "schema@2", "[]", "[3]"]);
    assert_eq!(story(&mut other, Some(3)).await, ["schema@1", "[1]", "schema@2", "[2]", "[3]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_changes_has_the_shapes_beside_them() {
    let mut world = World::new("shapes_page").await;
    world.commit_inserts(1..2).await;
    let (old, new) = (world.t.clone(), world.add_column("w"));
    let mixed = vec![insert(&old, 0, 2), schema_change(&new, 1), insert(&new, 2, 3)];
    let position = world.commit(FUTURE_XID, mixed).await;
    let (_, page) = world.get("/v1/changes?table=public.t", "").await;
    let transactions = page["transactions"].as_array().unwrap();
    assert!(transactions.iter().all(|tx| tx["type"] == "tx"));
    assert_eq!(transactions.iter().flat_map(ids).collect::<Vec<_>>(), [1, 2, 3]);
    let shape = waldelta_wal::Position { index: 1, ..position };
    let schemas = page["schemas"].as_array().unwrap();
    assert_eq!((schemas.len(), &schemas[0]["cursor"]), (1, &json!(shape.to_string())));
    assert_eq!(
        (&schemas[0]["type"], &schemas[0]["table"], &schemas[0]["version"]),
        (&json!("schema"), &json!("public.t"), &json!(2))
    );
    // A shape counts as a change, and the page after it goes on behind it.
    let (mut after, mut got) = (String::new(), Vec::new());
    loop {
        let (_, page) = world.get(&format!("/v1/changes?limit=1&table=public.t{after}"), "").await;
        let rows: Vec<u64> = page["transactions"].as_array().unwrap().iter().flat_map(ids).collect();
        got.push((rows, page["schemas"].as_array().unwrap().len()));
        after = format!("&after={}", page["cursor"].as_str().unwrap());
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(got, [(vec![1], 0), (vec![2], 0), (vec![], 1), (vec![3], 0)]);
    let (_, elsewhere) = world.get("/v1/changes?table=public.u", "").await;
    assert_eq!((&elsewhere["transactions"], &elsewhere["schemas"]), (&json!([]), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_who_follows_everything() {
    let mut world = World::new("messages").await;
    let everything = json!({"snapshot": false, "subscriptions": [{"id": "all", "table": "*"}]});
    let mut all = world.hello("all", everything).await;
    let mut tables = world.live("tables").await;
    all.next_of_type("live", PATIENCE).await;
    let before = world.head();
    // One that belongs to no transaction, and one within.
    let alone = message(0, &world.t, "alone");
    let position = world.commit(0, vec![alone]).await;
    // No snapshot waits for it, and none shows one.
    let mut late = world.hello("late", json!({"subscriptions": [{"id": "all", "table": "*"}]})).await;
    late.next_of_type("snapshot_end", PATIENCE).await;
    let again = message(0, &world.t, "again");
    world.commit(0, vec![again]).await;
    assert_eq!(late.next_of_type("tx", PATIENCE).await["changes"][0]["data"]["content"], "again");
    let within = vec![message(0, &world.t, "within"), insert(&world.t, 1, 1)];
    world.commit(FUTURE_XID, within).await;
    let content = |tx: &Value| tx["changes"][0].clone();
    let said = |text: &str| json!({"seq": 0, "op": "message", "data": {"prefix": "app", "content": text}, "sub": ["all"]});
    let tx = all.next_of_type("tx", PATIENCE).await;
    assert_eq!((cursor(&tx), &tx["xid"], content(&tx)), (position, &Value::Null, said("alone")));
    assert_eq!(content(&all.next_of_type("tx", PATIENCE).await), said("again"));
    let tx = all.next_of_type("tx", PATIENCE).await;
    assert_eq!((&tx["xid"], content(&tx)), (&json!(FUTURE_XID), said("within")));
    let tx = tables.next_of_type("tx", PATIENCE).await;
    assert_eq!(
        (ids(&tx), &tx["prev"]),
        (vec![1], &json!(before.to_string())),
        "who follows a table gets none"
    );

    // Again from history, and over HTTP.
    let (_, page) = world.get("/v1/changes", "").await;
    assert_eq!(page["transactions"][0]["changes"][0]["data"]["content"], "alone");
    assert_eq!(page["transactions"][0]["xid"], Value::Null);
    let (_, page) = world.get("/v1/changes?table=public.*", "").await;
    assert_eq!(page["transactions"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_and_an_origin_come_as_the_source_told_them() {
    let mut world = World::new("origin").await;
    let mut live = world.live("live").await;
    let truncate = Change {
        operation: Operation::Truncate,
        row_key: None,
        data: None,
        truncate: TruncateOptions { cascade: true, restart_identity: false },
        origin: Some("upstream".into()),
        ..insert(&world.t, 0, 1)
    };
    let before = world.head();
    world.commit(FUTURE_XID, vec![truncate]).await;
    let now = live.next_of_type("tx", PATIENCE).await;
    let mut resumed = world.hello("resumed", json!({"after": before.to_string()})).await;
    let later = resumed.next_of_type("tx", PATIENCE).await;
    for tx in [now, later] {
        assert_eq!(tx["origin"], "upstream");
        let truncate = json!({"seq": 0, "op": "truncate", "table": "public.t", "key": null, "cascade": true, "sub": ["s1"]});
        assert_eq!(tx["changes"], json!([truncate]));
    }
}
