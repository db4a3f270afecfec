//! A client that does not read costs a bounded amount and delays nobody.

use std::time::Duration;

use serde_json::json;
use waldelta_fanout::Config;
use waldelta_testkit::{ConnectOptions, WsClient, wait_until};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_delays_no_other_and_can_resume() {
    let config =
        Config { write_timeout: Duration::from_secs(1), scope_bytes_max: 1 << 20, ..Config::default() };
    let mut world = World::with("slow", Setup { config, feed_bytes_max: 2 << 20, ..Setup::default() }).await;
    let options = ConnectOptions { receive_buffer_bytes: Some(4_096), ..ConnectOptions::default() };
    let mut slow = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    slow.send(&json!({"type": "hello", "client_id": "slow", "subscriptions": [{"id": "s1", "table": "public.t"}], "snapshot": false}))
        .await;
    let start = slow.next_of_type("live", PATIENCE).await;
    let mut fast = world.live("fast").await;

    let text = "z".repeat(100_000);
    let mut longest = Duration::ZERO;
    for id in 0..300 {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
        let began = std::time::Instant::now();
        assert_eq!(ids(&fast.next_of_type("tx", PATIENCE).await), [id]);
        longest = longest.max(began.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "the slow client delayed another by {longest:?}");
    wait_until("the slow client is let go", PATIENCE, || async { world.fanout.sessions().len() == 1 }).await;

    let mut again = world.hello("slow", json!({"after": start["cursor"]})).await;
    for id in 0..300 {
        assert_eq!(ids(&again.next_of_type("tx", PATIENCE).await), [id]);
    }
}

/// Beside what the client's own window takes: what the kernel has of it, and one frame under way.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_read_is_not_buffered_without_end() {
    let mut world = World::new("unread").await;
    let options = ConnectOptions { receive_buffer_bytes: Some(4_096), ..ConnectOptions::default() };
    let mut slow = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    slow.send(&json!({"type": "hello", "client_id": "slow", "subscriptions": [{"id": "s1", "table": "public.t"}], "snapshot": false}))
        .await;
    slow.next_of_type("live", PATIENCE).await;
    let mut fast = world.live("fast").await;
    let text = "z".repeat(20_000);
    for id in 0..300 {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
        assert_eq!(ids(&fast.next_of_type("tx", PATIENCE).await), [id]);
    }
    let sessions = world.fanout.sessions();
    let slow = sessions.iter().find(|session| session.client_id == "slow").unwrap();
    assert!(
        slow.sent_bytes < 1 << 20,
        "{} bytes were taken over of a client that does not read",
        slow.sent_bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_let_go() {
    let config = Config { heartbeat_interval: Duration::from_millis(200), ..Config::default() };
    let world = World::with("silent", Setup { config, ..Setup::default() }).await;
    // Nobody calls its methods: it reads nothing, answers nothing, and its connection stays open.
    let _silent = world.live("silent").await;
    let mut other = world.live("other").await;
    let gone = wait_until("the silent client is let go", PATIENCE, || async {
        world.fanout.sessions().iter().all(|session| session.client_id != "silent")
    });
    let others = async { while other.next_json(PATIENCE).await["type"] == "heartbeat" {} };
    tokio::select! {
        () = gone => {}
        () = others => panic!("only heartbeats were to come"),
    }
    assert_eq!(world.fanout.sessions().len(), 1, "the one that answers stays");
}

/// Its pong stands behind what it has yet to read: that it reads is a sign of life too.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_is_not_taken_for_dead() {
    let config = Config { heartbeat_interval: Duration::from_millis(100), ..Config::default() };
    let mut world = World::with("slowly", Setup { config, ..Setup::default() }).await;
    let start = world.head();
    let text = "z".repeat(100_000);
    for id in 0..150 {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
    }
    let options = ConnectOptions { receive_buffer_bytes: Some(1 << 20), ..ConnectOptions::default() };
    let mut slow = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    slow.send(&json!({"type": "hello", "client_id": "slow", "after": start.to_string(), "snapshot": false,
                      "subscriptions": [{"id": "s1", "table": "public.t"}]}))
        .await;
    // Slow for as long as there is more than what is buffered.
    let mut pace = tokio::time::interval(Duration::from_millis(30));
    for id in 0..150 {
        if id < 100 {
            pace.tick().await;
        }
        assert_eq!(ids(&slow.next_of_type("tx", PATIENCE).await), [id]);
    }
}
