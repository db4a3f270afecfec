//! What is kept of clients while they are away, and what it costs.

use futures_util::future::join_all;
use serde_json::{Value, json};
use waldelta_fanout::ClientReading;
use waldelta_testkit::{HttpStream, WsClient, wait_until};
use waldelta_wal::Position;

use crate::support::*;

/// A client that has been told a transaction at this position.
async fn told(world: &World, client_id: &str, before: &Value) -> WsClient {
    let mut client = world.hello(client_id, json!({"after": before})).await;
    client.next_of_type("live", PATIENCE).await;
    client
}

async fn ack(client: &mut WsClient, position: Position) {
    client.send(&json!({"type": "ack", "cursor": position.to_string()})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_client_survives_the_process() {
    let mut world = World::new("clients").await;
    let before = json!(world.head().to_string());
    let position = world.commit_inserts(1..2).await[0];
    let mut client = told(&world, "web-7", &before).await;
    let _silent = told(&world, "web-8", &before).await;
    ack(&mut client, position).await;
    client.next_of_type("acked", PATIENCE).await;
    client.close().await;

    let world = world.restart().await;
    assert!(world.fanout.sessions().is_empty(), "who is away has nothing in memory");
    let clients = world.fanout.clients(10).await.unwrap();
    let of = |clients: &[ClientReading], id: &str| {
        clients.iter().find(|client| client.client_id == id).unwrap().clone()
    };
    let (acked, silent) = (of(&clients, "web-7"), of(&clients, "web-8"));
    assert_eq!((acked.connected, acked.acked.clone()), (false, Some(position.to_string())));
    assert!(acked.acked_at.unwrap() <= acked.seen_at);
    assert_eq!(
        (silent.connected, silent.acked.clone(), silent.acked_at),
        (false, None, None),
        "it acknowledged nothing"
    );
    assert_eq!(silent.protocol.as_deref(), Some("waldelta.v1.json"));

    // It comes back, and goes on where it says.
    let mut client = world.hello("web-7", json!({"after": acked.acked.unwrap()})).await;
    assert_eq!(client.next_of_type("welcome", PATIENCE).await["mode"], "resume");
    client.next_of_type("live", PATIENCE).await;
    let again = of(&world.fanout.clients(10).await.unwrap(), "web-7");
    assert!(again.connected);
    assert_eq!(again.first_seen_at, of(&clients, "web-7").first_seen_at);
}

/// Of each client it is noted how it follows, and as what program; who names no client is nobody.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_noted_what_a_client_speaks() {
    let mut world = World::new("client_protocols").await;
    let before = json!(world.head().to_string());
    world.commit_inserts(1..2).await;
    let _json = told(&world, "of json", &before).await;
    let mut zstd = crate::packed::connected(&world, &crate::packed::offering("waldelta.v1.zstd")).await;
    let subscriptions = json!([{"id": "s1", "table": "public.t"}]);
    let hello =
        json!({"type": "hello", "client_id": "of zstd", "after": before, "subscriptions": subscriptions});
    zstd.send(&hello).await;
    zstd.next_of_type("live", PATIENCE).await;
    let address = world.address().to_string();
    let mut following = Vec::new();
    for (client_id, accept) in [
        ("of+http", "application/json"),
        ("of+sse", "text/event-stream"),
        ("of+ndjson", "application/x-ndjson"),
        ("changes", "text/event-stream"),
        ("changes", "application/json"),
    ] {
        let headers = format!("Accept: {accept}\r\nUser-Agent: a program\r\n");
        let path = format!("/v1/changes?client_id={client_id}");
        following.push(HttpStream::get(&address, &path, &headers).await);
        following.push(HttpStream::get(&address, "/v1/changes", &headers).await);
        assert!(following.iter().all(|stream| stream.status() == 200));
    }
    // What is left is written by the end of the process.
    drop(following);
    let world = world.restart().await;
    let mut known: Vec<_> = world.fanout.clients(10).await.unwrap();
    known.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    let spoken: Vec<_> = known
        .iter()
        .map(|client| (&*client.client_id, client.protocol.as_deref().unwrap(), client.user_agent.as_deref()))
        .collect();
    assert_eq!(
        spoken,
        [
            ("changes", "http", Some("a program")),
            ("of http", "http", Some("a program")),
            ("of json", "waldelta.v1.json", None),
            ("of ndjson", "ndjson", Some("a program")),
            ("of sse", "sse", Some("a program")),
            ("of zstd", "waldelta.v1.zstd", None),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_forgotten_can_still_resume() {
    let mut world = World::new("forgotten").await;
    let before = json!(world.head().to_string());
    let position = world.commit_inserts(1..2).await[0];
    for id in ["long gone", "web-7"] {
        let mut client = told(&world, id, &before).await;
        ack(&mut client, position).await;
        client.next_of_type("acked", PATIENCE).await;
        client.close().await;
    }
    let mut stays = told(&world, "stays", &before).await;
    ack(&mut stays, position).await;
    stays.next_of_type("acked", PATIENCE).await;
    // All are noted by the end of the process.
    let world = world.restart().await;
    world
        .database
        .exec(
            "UPDATE waldelta.clients SET seen_at = now() - interval '91 days' WHERE client_id = 'long gone';
             UPDATE waldelta.clients SET seen_at = now() - interval '89 days' WHERE client_id = 'web-7'",
        )
        .await;
    let mut world = world.restart().await;
    let known = async |world: &World| {
        let clients = world.fanout.clients(10).await.unwrap();
        clients.into_iter().map(|client| client.client_id).collect::<Vec<_>>()
    };
    wait_until("one is forgotten", PATIENCE, async || known(&world).await == ["stays", "web-7"]).await;
    let next = world.commit_inserts(2..3).await[0];
    let mut client = world.hello("long gone", json!({"after": position.to_string()})).await;
    assert_eq!(client.next_of_type("welcome", PATIENCE).await["mode"], "resume");
    let tx = client.next_of_type("tx", PATIENCE).await;
    assert_eq!((cursor(&tx), ids(&tx)), (next, vec![2]));
    wait_until("it is known again", PATIENCE, async || known(&world).await.contains(&"long gone".to_owned()))
        .await;
    assert_eq!(world.history.acked("long gone").await.unwrap(), None);
}

/// Recording is held up meanwhile: what comes then is recorded together, and an id that history cannot hold spoils nothing.
#[tokio::test(flavor = "multi_thread")]
async fn many_acknowledgements_cost_few_writes() {
    const CLIENTS: usize = 60;
    let mut world = World::new("acks").await;
    let before = json!(world.head().to_string());
    let position = world.commit_inserts(1..2).await[0];
    let ids = (0..CLIENTS).map(|number| format!("web-{number}"));
    let mut clients = join_all(ids.map(async |id| told(&world, &id, &before).await)).await;
    world.database.exec("ALTER TABLE waldelta.clients ADD CHECK (client_id <> 'odd')").await;
    let mut odd = told(&world, "odd", &before).await;

    let mut locker = world.database.client().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE waldelta.clients IN EXCLUSIVE MODE").await.unwrap();
    for client in clients.iter_mut().chain([&mut odd]) {
        ack(client, position).await;
        // What was asked before it has been looked at when it is answered, twice.
        for n in 1..=2 {
            client.send(&json!({"type": "ping", "n": n})).await;
            client.next_of_type("pong", PATIENCE).await;
        }
    }
    lock.rollback().await.unwrap();
    let error = odd.next_of_type("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("WD-HISTORY-WRITE-FAILED"), &json!(false)));
    for client in &mut clients {
        client.next_of_type("acked", PATIENCE).await;
    }
    let recorded = "SELECT count(*) FROM waldelta.clients WHERE cursor IS NOT NULL";
    assert_eq!(world.database.query_text(recorded).await, CLIENTS.to_string());
    odd.send(&json!({"type": "ping", "n": 9})).await;
    odd.next_of_type("pong", PATIENCE).await;

    // Once more, all of them without the odd one, which makes each be recorded alone.
    drop(odd);
    let position = world.commit_inserts(2..3).await[0];
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE waldelta.clients IN EXCLUSIVE MODE").await.unwrap();
    for client in &mut clients {
        client.next_of_type("tx", PATIENCE).await;
        ack(client, position).await;
        for n in 1..=2 {
            client.send(&json!({"type": "ping", "n": n})).await;
            client.next_of_type("pong", PATIENCE).await;
        }
    }
    lock.rollback().await.unwrap();
    for client in &mut clients {
        client.next_of_type("acked", PATIENCE).await;
    }
    // The time is that at which the transaction began.
    let written = "SELECT count(DISTINCT acked_at) FROM waldelta.clients";
    let writes: usize = world.database.query_text(written).await.parse().unwrap();
    assert!(writes <= 5, "{CLIENTS} acknowledgements in {writes} transactions");
}
