//! Hello, refusals, replaced and badly behaved clients, acknowledgements.

use std::time::Duration;

use serde_json::{Value, json};
use waldelta_fanout::{Config, Policy};
use waldelta_testkit::{ConnectOptions, WsClient};
use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_client_replaces_the_first() {
    let mut world = World::new("replaced").await;
    let mut first = world.live("web-1").await;
    let mut second = world.live("web-1").await;
    let (code, reason) = first.closed(PATIENCE).await;
    assert_eq!(code, 4409);
    assert!(reason.contains("WD-CLIENT-REPLACED"), "{reason}");
    world.commit_inserts(1..2).await;
    assert_eq!(ids(&second.next_of_type("tx", PATIENCE).await), [1]);
    world.wait_sessions(1, "live").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_gets_a_typed_answer() {
    let mut world = World::new("cursors").await;
    let mut positions = Vec::new();
    for id in 1..4 {
        // Ids that every snapshot shows.
        let change = insert(&world.t, 0, id);
        positions.push(world.commit(3, vec![change]).await);
    }
    let floor = world.history.floor().await.unwrap();
    let below = Position::before(Epoch(1), EndLsn(Lsn(floor.commit_lsn.0 - 10)));
    let beyond = Position::whole(Epoch(1), Lsn(world.head().commit_lsn.0 + 1));
    let foreign = Position { epoch: Epoch(9), ..positions[1] };
    for (after, reason) in [(below, "history_pruned"), (beyond, "epoch_changed"), (foreign, "epoch_changed")]
    {
        let mut client = world.hello("web-1", json!({"after": after.to_string(), "snapshot": false})).await;
        assert_eq!(client.next_of_type("error", PATIENCE).await["code"], "WD-CURSOR-NOT-RESUMABLE");
        assert_eq!(client.closed(PATIENCE).await.0, 4410);
        let mut client = world.hello("web-1", json!({"after": after.to_string()})).await;
        assert_eq!(client.next_of_type("welcome", PATIENCE).await["mode"], "snapshot");
        assert_eq!(client.next_json(PATIENCE).await, json!({"type": "reset", "reason": reason}));
        client.next_of_type("snapshot_end", PATIENCE).await;
    }
    for after in [floor, positions[2], world.head()] {
        let mut client = world.hello("web-1", json!({"after": after.to_string()})).await;
        assert_eq!(client.next_of_type("welcome", PATIENCE).await["mode"], "resume");
        client.next_of_type("live", PATIENCE).await;
    }
    let mut client = world.hello("web-1", json!({"after": "yesterday"})).await;
    assert_eq!(client.next_of_type("error", PATIENCE).await["code"], "WD-CURSOR-INVALID");
    assert_eq!(client.closed(PATIENCE).await.0, 4400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_or_not_there_is_refused_by_name() {
    let world = World::new("refused").await;
    let subscription = |more: Value| {
        let mut subscription = json!({"id": "s1", "table": "public.t"});
        for (name, value) in more.as_object().unwrap() {
            subscription[name] = value.clone();
        }
        json!({"subscriptions": [subscription]})
    };
    for (more, code, close) in [
        (subscription(json!({"where": "id ="})), "WD-FILTER-INVALID", 4400),
        (subscription(json!({"where": "nothing = 1"})), "WD-FILTER-INVALID", 4403),
        (subscription(json!({"columns": ["nothing"]})), "WD-FILTER-INVALID", 4403),
        (subscription(json!({"columns": []})), "WD-SUBSCRIPTION-INVALID", 4400),
        (subscription(json!({"table": "*", "where": "id = 1"})), "WD-SUBSCRIPTION-INVALID", 4400),
        (json!({"token": "x"}), "WD-NOT-SUPPORTED-YET", 4400),
        (subscription(json!({"table": "public.nowhere"})), "WD-TABLE-NOT-CAPTURED", 4403),
        (subscription(json!({"table": "a b"})), "WD-SUBSCRIPTION-INVALID", 4400),
    ] {
        let mut client = world.hello("web-1", more.clone()).await;
        let error = client.next_of_type("error", PATIENCE).await;
        assert_eq!((&error["code"], &error["fatal"]), (&json!(code), &json!(true)), "{more}");
        let (closed, reason) = client.closed(PATIENCE).await;
        assert_eq!(closed, close, "{reason}");
        assert!(reason.contains(code), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn badly_behaved_clients_are_let_go() {
    let config = Config { hello_timeout: Duration::from_millis(200), sessions_max: 1, ..Config::default() };
    let world = World::with("bad", Setup { config, ..Setup::default() }).await;
    let mut client = world.connect().await;
    assert_eq!(client.closed(PATIENCE).await.0, 4408, "no hello");
    world.wait_sessions(0, "closing").await;

    let mut client = world.connect().await;
    client.send_text("[]").await;
    assert_eq!(client.closed(PATIENCE).await.0, 4400);
    world.wait_sessions(0, "closing").await;

    let mut client = world.connect().await;
    client.send_text(&format!("{{\"type\":\"hello\",\"x\":\"{}\"}}", "x".repeat(70_000))).await;
    assert_eq!(client.closed(PATIENCE).await.0, 4413);
    world.wait_sessions(0, "closing").await;

    let options = ConnectOptions { subprotocol: None, ..ConnectOptions::default() };
    let mut client = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    client.send(&json!({"type": "hello", "client_id": "a", "subscriptions": [], "snapshot": false})).await;
    client.next_of_type("live", PATIENCE).await;
    let mut other = world.connect().await;
    assert_eq!(other.closed(PATIENCE).await.0, 4429, "one is there already");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_foreign_origin_and_foreign_hosts_are_refused() {
    let config = Config {
        policy: Policy { allowed_origins: vec!["https://app.example.com".into()], ..Policy::default() },
        ..Config::default()
    };
    let world = World::with("origin", Setup { config, ..Setup::default() }).await;
    for (origin, allowed) in [
        ("https://evil.example.com", false),
        ("null", false),
        ("https://app.example.com", true),
        ("http://localhost:5173", true),
    ] {
        let headers = vec![("Origin".to_owned(), origin.to_owned())];
        let options = ConnectOptions { headers, ..ConnectOptions::default() };
        assert_eq!(WsClient::try_connect(&world.stream_url(), &options).await.is_ok(), allowed, "{origin}");
    }
    let (status, body) = world.get("/v1/changes", "Host: rebound.example.com\r\n").await;
    assert_eq!((status, &body["code"]), (403, &json!("WD-HOST-REFUSED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_kept() {
    let mut world = World::new("ack").await;
    let mut client = world.live("web-1").await;
    let position = world.commit_inserts(1..2).await[0];
    client.next_of_type("tx", PATIENCE).await;
    client.send(&json!({"type": "ack", "cursor": position.to_string()})).await;
    assert_eq!(cursor(&client.next_of_type("acked", PATIENCE).await), position);
    assert_eq!(world.history.acked("web-1").await.unwrap(), Some(position));
    assert_eq!(world.fanout.sessions()[0].acked, Some(position.to_string()));
    let beyond = Position::whole(Epoch(1), Lsn(position.commit_lsn.0 + 1_000));
    client.send(&json!({"type": "ack", "cursor": beyond.to_string()})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-CURSOR-INVALID"), &json!(false)));
    client.send(&json!({"type": "ping", "n": 5})).await;
    assert_eq!(client.next_json(PATIENCE).await, json!({"type": "pong", "n": 5}));
}
