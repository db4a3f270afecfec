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
