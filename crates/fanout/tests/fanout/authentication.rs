//! Who is let in over the WebSocket, as whom, and for how long. What they see then is in `permissions.rs`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use waldelta_access::NewToken;
use waldelta_fanout::{Config, Limits, Policy};
use waldelta_testkit::{ConnectOptions, Frame, WsClient, wait_until};

use crate::http_access::{Token, by_tokens, token};
use crate::support::*;

/// So long the service waits by itself: never in these tests.
pub(crate) const NEVER: Duration = Duration::from_secs(3_600);

pub(crate) fn any(_: &mut NewToken) {}

fn guarded() -> Setup {
    Setup { access: by_tokens(), ..Setup::default() }
}

pub(crate) fn with_token(token: &Token) -> Value {
    json!({"snapshot": false, "token": token.text})
}

/// A client of this token that is live.
pub(crate) async fn live_as(world: &World, client_id: &str, token: &Token) -> WsClient {
    let mut client = world.hello(client_id, with_token(token)).await;
    client.next_of_type("live", PATIENCE).await;
    client
}

/// Its error and how it was closed.
pub(crate) async fn refused(client: &mut WsClient) -> (Option<String>, u16, String) {
    let mut error = None;
    loop {
        match client.next_frame(PATIENCE).await {
            Frame::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"] == "error" {
                    error = frame["code"].as_str().map(str::to_owned);
                }
            }
            Frame::Closed { code, reason } => {
                let reason: Value = serde_json::from_str(&reason).unwrap();
                return (error, code, reason["code"].as_str().unwrap().to_owned());
            }
        }
    }
}

fn both(code: &str, closed: u16) -> (Option<String>, u16, String) {
    (Some(code.to_owned()), closed, code.to_owned())
}

async fn connect_with(world: &World, path: &str, headers: &[(&str, &str)]) -> WsClient {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let options = ConnectOptions { headers, ..ConnectOptions::default() };
    WsClient::try_connect(&format!("{}{path}", world.stream_url()), &options).await.unwrap()
}

fn hello(client_id: &str, more: Value) -> Value {
    let mut hello = json!({"type": "hello", "client_id": client_id, "snapshot": false,
                           "subscriptions": [{"id": "s1", "table": "public.t"}]});
    for (name, value) in more.as_object().unwrap() {
        hello[name] = value.clone();
    }
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_token_and_each_way_to_bring_one_works() {
    let world = World::with("auth_ways", guarded()).await;
    let good = token(&world, "ann", any).await;
    for (hello, code) in [
        (json!({}), "WD-TOKEN-MISSING"),
        (json!({"token": ""}), "WD-TOKEN-MISSING"),
        (json!({"token": "x"}), "WD-TOKEN-INVALID"),
        (json!({"token": format!("{}x", good.text)}), "WD-TOKEN-INVALID"),
    ] {
        let mut client = world.hello("c", hello.clone()).await;
        assert_eq!(refused(&mut client).await, both(code, 4401), "{hello}");
    }
    live_as(&world, "in hello", &good).await;

    // In the request.
    let bearer = format!("Bearer {}", good.text);
    let mut client = connect_with(&world, "", &[("authorization", &bearer)]).await;
    client.send(&hello("in a header", json!({}))).await;
    client.next_of_type("live", PATIENCE).await;
    let mut client = connect_with(&world, "", &[("authorization", "Bearer x")]).await;
    assert_eq!(refused(&mut client).await, (None, 4401, "WD-TOKEN-INVALID".to_owned()));

    // By a ticket, once.
    let identity = world.access.verify(&good.text).await.unwrap();
    let ticket = format!("?ticket={}", world.access.issue(&identity).await.unwrap().text);
    let mut client = connect_with(&world, &ticket, &[]).await;
    client.send(&hello("by a ticket", json!({}))).await;
    client.next_of_type("live", PATIENCE).await;
    let mut client = connect_with(&world, &ticket, &[]).await;
    assert_eq!(refused(&mut client).await, (None, 4401, "WD-TOKEN-INVALID".to_owned()));

    // Never by a token in a URL.
    for name in ["token", "access_token"] {
        let (status, problem) = world.get(&format!("/v1/stream?{name}={}", good.text), "").await;
        let upgrade = world.get(&format!("/v1/stream?{name}={}", good.text), UPGRADE).await;
        assert_eq!((status, &problem["code"]), (400, &json!("WD-TOKEN-IN-URL")));
        assert_eq!((upgrade.0, &upgrade.1["code"]), (400, &json!("WD-TOKEN-IN-URL")));
        assert!(!problem.to_string().contains(&good.text));
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_with_its_own_client_ids_alone() {
    let world = World::with("auth_ids", guarded()).await;
    let bound = token(&world, "ann", |new| new.client_ids = vec!["web-*".into(), "one".into()]).await;
    for client_id in ["web-1", "one"] {
        live_as(&world, client_id, &bound).await;
    }
    for client_id in ["web", "one1", "other"] {
        let mut client = world.hello(client_id, with_token(&bound)).await;
        assert_eq!(refused(&mut client).await, both("WD-CLIENT-ID-FOREIGN", 4403), "{client_id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_subject_with_the_same_client_id_is_another_client() {
    let mut world = World::with("auth_subjects", guarded()).await;
    let (ann, bob) = (token(&world, "ann", any).await, token(&world, "bob", any).await);
    let mut of_ann = live_as(&world, "web-7", &ann).await;
    let mut of_bob = live_as(&world, "web-7", &bob).await;
    let [first, second]: [_; 2] = world.commit_inserts(1..3).await.try_into().unwrap();
    for (client, at) in [(&mut of_ann, first), (&mut of_bob, second)] {
        while cursor(&client.next_of_type("tx", PATIENCE).await) != second {}
        client.send(&json!({"type": "ack", "cursor": at.to_string()})).await;
        client.next_of_type("acked", PATIENCE).await;
    }
    let clients = world.fanout.clients(10).await.unwrap();
    for (subject, acked) in [("ann", first), ("bob", second)] {
        let of = clients.iter().find(|client| client.subject.as_deref() == Some(subject)).unwrap();
        assert_eq!((&*of.client_id, of.connected), ("web-7", true));
        assert_eq!(of.acked, Some(acked.to_string()), "{subject}");
    }
    let sessions = world.fanout.sessions();
    let subjects: Vec<_> = sessions.iter().map(|session| session.subject.as_deref().unwrap()).collect();
    assert_eq!(subjects, ["ann", "bob"]);

    // Its own change is confirmed to each that is called so; what each may see of it is another matter.
    let mine = by("web-7", insert(&world.t, 0, 9));
    world.commit(FUTURE_XID + 9, vec![mine]).await;
    for client in [&mut of_ann, &mut of_bob] {
        let tx = client.next_of_type("tx", PATIENCE).await;
        assert_eq!((ids(&tx), &tx["own"]), (vec![], &json!(true)));
    }

    // A newer connection of the same subject replaces, and that one alone.
    let again = live_as(&world, "web-7", &ann).await;
    assert_eq!(refused(&mut of_ann).await.1, 4409);
    world.commit_inserts(3..4).await;
    of_bob.next_of_type("tx", PATIENCE).await;
    drop(again);
}

/// A session of a token that ends soon, and the token.
async fn of_a_token_that_ends(world: &World) -> (WsClient, Token) {
    // However slow the machine is, some time is long enough to connect in.
    for seconds in [2, 8, 20] {
        let until = now() + Duration::from_secs(seconds);
        let short = token(world, "ann", |new| new.expires_at = Some(until)).await;
        let mut client = world.hello("c", with_token(&short)).await;
        match client.next_json(PATIENCE).await {
            welcome if welcome["type"] == "welcome" => return (client, short),
            late => assert_eq!(late["code"], "WD-TOKEN-EXPIRED"),
        }
    }
    panic!("no session in time");
}

#[expect(clippy::disallowed_methods, reason = "a token ends by the clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_ends_its_session_unless_a_fresh_one_comes() {
    let mut world = World::with("auth_expiry", guarded()).await;
    let (mut client, _) = of_a_token_that_ends(&world).await;
    let warned = client.next_of_type("auth_required", PATIENCE).await;
    assert!(warned["expires_in_ms"].as_u64().unwrap() <= 20_000, "{warned}");
    assert_eq!(refused(&mut client).await, both("WD-TOKEN-EXPIRED", 4401));

    let (long, other) = (token(&world, "ann", any).await, token(&world, "bob", any).await);
    let (mut renewed, ended) = loop {
        let (mut client, short) = of_a_token_that_ends(&world).await;
        client.send(&json!({"type": "auth", "token": long.text})).await;
        // It may have been too late for that one.
        if let Some(answer) = answered(&mut client).await {
            assert_eq!(answer, json!({"type": "authenticated"}));
            break (client, short);
        }
    };
    wait_until("the first token has ended", PATIENCE, || async {
        world.access.verify(&ended.text).await.is_err()
    })
    .await;
    world.commit_inserts(1..2).await;
    renewed.next_of_type("tx", PATIENCE).await;
    let mut client = live_as(&world, "d", &long).await;
    client.send(&json!({"type": "auth", "token": "x"})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-TOKEN-INVALID"), &json!(false)));
    client.send(&json!({"type": "auth", "token": other.text})).await;
    assert_eq!(refused(&mut client).await, both("WD-CLIENT-ID-FOREIGN", 4403));
}

/// What comes of `auth`; nothing where the session has ended first.
async fn answered(client: &mut WsClient) -> Option<Value> {
    loop {
        match client.next_frame(PATIENCE).await {
            Frame::Closed { .. } => return None,
            Frame::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["type"] == "authenticated" {
                    return Some(frame);
                }
            }
        }
    }
}

/// Whatever a session does: it is live, its client does not read, it takes a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_ends_its_sessions_at_once() {
    let config = Config { write_timeout: NEVER, heartbeat_interval: NEVER, ..Config::default() };
    let mut world = World::with("auth_revoked", Setup { config, ..guarded() }).await;
    world.database.exec("INSERT INTO u SELECT n, repeat('z', 3000) FROM generate_series(1, 3000) AS n").await;
    let (revoked, good) = (token(&world, "ann", any).await, token(&world, "bob", any).await);
    let mut stays = live_as(&world, "stays", &good).await;
    let mut live = live_as(&world, "live", &revoked).await;
    let mut slow = unread(&world, hello("slow", with_token(&revoked))).await;
    slow.next_of_type("live", PATIENCE).await;
    let snapshot =
        json!({"token": revoked.text, "snapshot": true, "subscriptions": [{"id": "u", "table": "u"}]});
    let hydrating = unread(&world, hello("hydrating", snapshot)).await;
    world.wait_sessions(1, "hydrating").await;
    let text = "z".repeat(100_000);
    for id in 0..40 {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
        assert_eq!(ids(&stays.next_of_type("tx", PATIENCE).await), [id]);
    }
    assert!(world.history.revoke_token(&revoked.id).await.unwrap());
    world.access.load().await.unwrap();
    assert_eq!(refused(&mut live).await, both("WD-TOKEN-REVOKED", 4401));
    wait_until("all sessions of the token have ended", PATIENCE, || async {
        world.fanout.sessions().iter().all(|session| session.client_id == "stays")
    })
    .await;
    let change = insert(&world.t, 0, 99);
    world.commit(FUTURE_XID + 99, vec![change]).await;
    assert_eq!(ids(&stays.next_of_type("tx", PATIENCE).await), [99]);
    let mut again = world.hello("live", with_token(&revoked)).await;
    assert_eq!(refused(&mut again).await, both("WD-TOKEN-REVOKED", 4401));
    drop((slow, hydrating));
}

/// A client that has said hello and whose window is small.
pub(crate) async fn unread(world: &World, hello: Value) -> WsClient {
    let options = ConnectOptions { receive_buffer_bytes: Some(4_096), ..ConnectOptions::default() };
    let mut client = WsClient::try_connect(&world.stream_url(), &options).await.unwrap();
    client.send(&hello).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_that_is_switched_on_sends_those_away_who_have_said_nothing() {
    let world = World::new("auth_on").await;
    let mut client = world.live("c").await;
    world.access.configure(by_tokens());
    assert_eq!(refused(&mut client).await, both("WD-TOKEN-MISSING", 4401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_has_no_more_sessions_than_it_may() {
    let limits = Limits { sessions_per_subject_max: 1, ..Limits::default() };
    let config = Config { policy: Policy { limits, ..Policy::default() }, ..Config::default() };
    let world = World::with("auth_quota", Setup { config, ..guarded() }).await;
    let (ann, bob) = (token(&world, "ann", any).await, token(&world, "bob", any).await);
    let first = live_as(&world, "a", &ann).await;
    let mut second = world.hello("b", with_token(&ann)).await;
    assert_eq!(refused(&mut second).await, both("WD-TOO-MANY-CONNECTIONS", 4429));
    live_as(&world, "c", &bob).await;
    first.close().await;
    wait_until("its place is free", PATIENCE, || async {
        world.fanout.sessions().iter().all(|session| session.subject.as_deref() != Some("ann"))
    })
    .await;
    live_as(&world, "d", &ann).await;
}
