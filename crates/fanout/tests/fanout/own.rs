//! Own changes: confirmed always, echoed only where the client may not have them.

use serde_json::json;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn own_changes_are_confirmed_and_not_echoed() {
    let mut world = World::new("own").await;
    let mut me = world.live("me").await;
    let mut you = world.live("you").await;
    let start = world.head();

    let (mine, trigger) = (by("me", insert(&world.t, 0, 1)), insert(&world.t, 1, 2));
    let first = world.commit(FUTURE_XID, vec![mine, trigger]).await;
    let tx = me.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"], cursor(&tx)), (vec![2], &json!(true), first));
    let tx = you.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"], &tx["client_id"]), (vec![1, 2], &json!(false), &json!("me")));
    assert_eq!(tx["metadata"], json!({"user": "42"}));

    // A transaction of its own that does not concern its tables is confirmed to it, and to nobody else.
    let elsewhere = by("me", insert(&world.u, 0, 3));
    let second = world.commit(FUTURE_XID + 1, vec![elsewhere]).await;
    let tx = me.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"], cursor(&tx)), (vec![], &json!(true), second));
    assert_eq!(you.frame_within(QUIET).await, None);

    // Back after a crash: delivered, and marked.
    let mut again = world.hello("me", json!({"after": start.to_string()})).await;
    for (expected, position) in [(vec![1, 2], first), (vec![], second)] {
        let tx = again.next_of_type("tx", PATIENCE).await;
        assert_eq!((ids(&tx), &tx["own"], cursor(&tx)), (expected, &json!(true), position));
    }
    again.next_of_type("live", PATIENCE).await;
    let mine = by("me", insert(&world.t, 0, 4));
    world.commit(FUTURE_XID + 2, vec![mine]).await;
    assert_eq!(ids(&again.next_of_type("tx", PATIENCE).await), [] as [u64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_before_the_client_connected_is_echoed_however_late_it_becomes_durable() {
    let mut world = World::new("own_late").await;
    let xid: u64 = world.database.query_text("SELECT pg_current_xact_id()").await.parse().unwrap();
    let mut me = world.live("me").await;
    let mine = by("me", insert(&world.t, 0, 1));
    world.commit(xid, vec![mine]).await;
    let tx = me.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"]), (vec![1], &json!(true)));
}

/// Its id is the newest that was given, and lies above every id that a snapshot knows of.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_open_when_the_client_connects_is_echoed() {
    let mut world = World::new("own_open").await;
    let writer = world.database.client().await;
    writer.batch_execute("BEGIN").await.unwrap();
    let answer = writer.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    let xid = answer.get::<_, String>(0).parse().unwrap();
    let mut me = world.live("me").await;
    writer.batch_execute("COMMIT").await.unwrap();
    let mine = by("me", insert(&world.t, 0, 1));
    world.commit(xid, vec![mine]).await;
    let tx = me.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"]), (vec![1], &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_ask_for_its_own_changes() {
    let mut world = World::new("own_include").await;
    let mut me = world.hello("me", json!({"snapshot": false, "own_changes": "include"})).await;
    me.next_of_type("live", PATIENCE).await;
    let mine = by("me", insert(&world.t, 0, 1));
    world.commit(FUTURE_XID, vec![mine]).await;
    let tx = me.next_of_type("tx", PATIENCE).await;
    assert_eq!((ids(&tx), &tx["own"]), (vec![1], &json!(true)));
}
