//! Clients that offer `waldelta.v1.zstd`: the same frames as everybody gets, some of them in a smaller form.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use waldelta_fanout::Config;
use waldelta_testkit::{ConnectOptions, Frame, Replica, WsClient};
use waldelta_wal::{Change, Column, Lsn, Operation, Position, Table};

use crate::raw::Raw;
use crate::support::*;

fn of_t() -> Value {
    json!([{"id": "s1", "table": "public.t"}])
}

pub(crate) fn offering(subprotocols: &str) -> ConnectOptions {
    ConnectOptions { subprotocol: Some(subprotocols.to_owned()), ..ConnectOptions::default() }
}

pub(crate) async fn connected(world: &World, options: &ConnectOptions) -> WsClient {
    WsClient::try_connect(&world.stream_url(), options).await.unwrap()
}

/// A client that offers these, is live without a snapshot, and its `welcome`.
async fn live(
    world: &World,
    client_id: &str,
    options: &ConnectOptions,
    subscriptions: &Value,
) -> (WsClient, Value) {
    let mut client = connected(world, options).await;
    let hello =
        json!({"type": "hello", "client_id": client_id, "snapshot": false, "subscriptions": subscriptions});
    client.send(&hello).await;
    let welcome = client.next_of_type("welcome", PATIENCE).await;
    client.next_of_type("live", PATIENCE).await;
    (client, welcome)
}

/// The texts of the next transactions.
async fn next_texts(client: &mut WsClient, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        match client.next_frame(PATIENCE).await {
            Frame::Text(text) if text.starts_with(r#"{"type":"tx""#) => texts.push(text),
            Frame::Text(_) => {}
            closed @ Frame::Closed { .. } => panic!("{closed:?}"),
        }
    }
    texts
}

/// Text that does not get much smaller: letters by chance, the same for each seed.
fn noise(seed: u64, letters: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state % 64) as usize])
    };
    (0..letters).map(|_| letter()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clients_of_a_scope_get_the_same_frames_in_whichever_form() {
    let mut world = World::new("packed_same").await;
    let (mut plain, welcome) = live(&world, "plain", &ConnectOptions::default(), &of_t()).await;
    assert_eq!((&welcome["protocol"], &welcome["dictionary"]), (&json!("waldelta.v1.json"), &Value::Null));
    let mut clients = Vec::new();
    for (client_id, offered) in [
        ("alone", "waldelta.v1.zstd"),
        ("before", "waldelta.v1.zstd, waldelta.v1.json"),
        ("after", "waldelta.v1.json,waldelta.v1.zstd"),
    ] {
        let (client, welcome) = live(&world, client_id, &offering(offered), &of_t()).await;
        let named = json!({"id": 1, "url": "/v1/dictionaries/1"});
        assert_eq!((&welcome["protocol"], &welcome["dictionary"]), (&json!("waldelta.v1.zstd"), &named));
        clients.push(client);
    }
    // Short, middling, long, not much smaller; by a client; and too long for a scope to have it ready.
    for (id, text) in (0..).zip(["x".to_owned(), "abc ".repeat(200), noise(1, 300_000), noise(2, 600)]) {
        let change = insert_text(&world.t, 0, id, &text);
        world.commit(FUTURE_XID + id, vec![change]).await;
    }
    let by_a_client = by("alone", insert_text(&world.t, 0, 4, &"own ".repeat(300)));
    world.commit(FUTURE_XID + 4, vec![by_a_client]).await;
    let change = insert_text(&world.t, 0, 5, &"y".repeat(1_100_000));
    world.commit(FUTURE_XID + 5, vec![change]).await;
    let texts = next_texts(&mut plain, 6).await;
    assert_eq!(plain.packed().count, 0);
    for (index, client) in clients.iter_mut().enumerate() {
        let theirs = next_texts(client, 6).await;
        assert!(theirs[..4] == texts[..4] && theirs[5] == texts[5], "byte by byte");
        let seen = client.packed();
        match index {
            // What only one client gets is nobody else's to share.
            0 => {
                let own: Value = serde_json::from_str(&theirs[4]).unwrap();
                assert_eq!((&own["own"], &own["changes"], seen.count), (&json!(true), &json!([]), 3));
            }
            _ => assert!(theirs[4] == texts[4] && seen.count == 4, "{seen:?}"),
        }
        assert!(seen.packed_bytes < seen.plain_bytes * 9 / 10, "{seen:?}");
    }
}

/// A row that the source has, and the transaction that made it.
async fn insert_everywhere(world: &mut World, id: u64, text: &str) -> Position {
    let insert = format!("INSERT INTO t VALUES ({id}, '{text}') RETURNING pg_current_xact_id()");
    let xid = world.database.query_text(&insert).await.parse().unwrap();
    let lsn = world.database.query_text("SELECT pg_current_wal_insert_lsn()").await;
    let lsn = lsn.parse::<Lsn>().unwrap().0.max(world.next_lsn());
    let change = insert_text(&world.t, 0, id, text);
    world.commit_at(lsn, xid, vec![change]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_made_of_packed_frames_is_the_source() {
    let mut world = World::new("packed_copy").await;
    world
        .database
        .exec("INSERT INTO t SELECT i, repeat('row ' || i, 40) FROM generate_series(1000, 2000) i")
        .await;
    let subscriptions = [json!({"id": "s1", "table": "public.t"})];
    let mut replica = Replica::new();
    let mut client = connected(&world, &offering("waldelta.v1.zstd")).await;
    client.send(&replica.hello("copy", &subscriptions)).await;
    client.follow(&mut replica, "it is live", PATIENCE, Replica::is_live).await;
    let of_snapshot = client.packed();
    assert!(
        of_snapshot.count > 1 && of_snapshot.packed_bytes * 2 < of_snapshot.plain_bytes,
        "{of_snapshot:?}"
    );
    let mut last = world.head();
    world.compare(&mut client, &mut replica, last, &["t"]).await;
    for id in 1..20 {
        last = insert_everywhere(&mut world, id, &"live ".repeat(200)).await;
    }
    world.compare(&mut client, &mut replica, last, &["t"]).await;
    assert_eq!(replica.transactions(), 19);

    // It goes, comes back where it was, and is live again.
    drop(client);
    replica.disconnected();
    for id in 20..40 {
        last = insert_everywhere(&mut world, id, &"away ".repeat(200)).await;
    }
    let mut client = connected(&world, &offering("waldelta.v1.zstd")).await;
    client.send(&replica.hello("copy", &subscriptions)).await;
    world.compare(&mut client, &mut replica, last, &["t"]).await;
    let caught_up = client.packed().count;
    for id in 40..60 {
        last = insert_everywhere(&mut world, id, &"again ".repeat(200)).await;
    }
    world.compare(&mut client, &mut replica, last, &["t"]).await;
    assert_eq!(client.packed().count - caught_up, 20, "all of them packed");
    assert_eq!(replica.transactions(), 59);
    assert!(replica.resets().is_empty());
}

/// What it does not take in time is no longer ready for it: that it reads by itself, as text, and then it is with the others again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_falls_behind_gets_text_and_misses_nothing() {
    let config = Config { scope_bytes_max: 100_000, ..Config::default() };
    let mut world = World::with("packed_slow", Setup { config, ..Setup::default() }).await;
    let options = ConnectOptions { receive_buffer_bytes: Some(4_096), ..offering("waldelta.v1.zstd") };
    let (mut slow, _) = live(&world, "slow", &options, &of_t()).await;
    let (mut fast, _) = live(&world, "fast", &offering("waldelta.v1.zstd"), &of_t()).await;
    for id in 0..300 {
        let change = insert_text(&world.t, 0, id, &noise(id, 20_000));
        world.commit(FUTURE_XID + id, vec![change]).await;
        assert_eq!(ids(&fast.next_of_type("tx", PATIENCE).await), [id]);
    }
    assert_eq!(fast.packed().count, 300, "however much the tail has rolled over");
    for id in 0..300 {
        assert_eq!(ids(&slow.next_of_type("tx", PATIENCE).await), [id]);
    }
    let behind = slow.packed().count;
    assert!(behind < 300, "it was to fall behind");
    slow.next_of_type("live", PATIENCE).await;
    let change = insert_text(&world.t, 0, 300, &noise(300, 20_000));
    world.commit(FUTURE_XID + 300, vec![change]).await;
    assert_eq!(ids(&slow.next_of_type("tx", PATIENCE).await), [300]);
    assert_eq!(slow.packed().count, behind + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_decides_what_is_spoken() {
    let world = World::new("packed_offers").await;
    for (offered, spoken) in [
        ("waldelta.v1.zstd", Some("waldelta.v1.zstd")),
        ("other, waldelta.v1.json, waldelta.v1.zstd", Some("waldelta.v1.zstd")),
        ("other, waldelta.v1.json", Some("waldelta.v1.json")),
        ("waldelta.v1.zstd.more", None),
        ("other", None),
    ] {
        let header = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let mut raw = Raw::connect(world.address(), &header).await.unwrap();
        let told = raw.answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(told, spoken, "{offered}");
        if spoken.is_none() {
            assert_eq!(raw.closed().await.0, 4406, "{offered}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dictionary_may_be_kept_for_good() {
    let world = World::new("packed_dictionary").await;
    let (status, head, body) = world.get_text("/v1/dictionaries/1", "").await;
    assert!(status == 200 && body.contains(r#"{"type":"tx","cursor":"#), "{status} {body}");
    assert!(head.contains("cache-control: public, max-age=31536000, immutable"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (status, _, body) = world.get_text("/v1/dictionaries/1", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((status, &body[..]), (304, ""));
    assert_eq!(world.get_text("/v1/dictionaries/2", "").await.0, 404);
}

/// A table of these columns, keyed by the first; types are as good as any.
fn shape(oid: u32, name: &str, columns: &[&str]) -> Table {
    let base = table(oid, name);
    let column = |(number, name): (i16, &&str)| {
        let like = &base.columns[usize::from(number > 1)];
        Column { number, name: (*name).into(), ..like.clone() }
    };
    Table { columns: (1..).zip(columns).map(column).collect(), ..base }
}

fn change(table: &Arc<Table>, seq: u32, operation: Operation, id: u64, data: String) -> Change {
    let base = insert(table, seq, id);
    Change { operation, data: Some(Bytes::from(data)), ..base }
}

/// What pgbench's standard transaction does.
fn pgbench(tables: &[Arc<Table>], id: u64) -> Vec<Change> {
    let (account, teller, delta) = (id * 7_919 % 100_000 + 1, id * 31 % 10 + 1, id * 4_801 % 9_999);
    let filler = " ".repeat(84);
    let row = format!(r#"{{"aid":{account},"bid":1,"abalance":{delta},"filler":"{filler}"}}"#);
    let mut changes = vec![change(&tables[0], 0, Operation::Update, account, row)];
    let row = format!(r#"{{"tid":{teller},"bid":1,"tbalance":{},"filler":null}}"#, delta * 3);
    changes.push(change(&tables[1], 1, Operation::Update, teller, row));
    let row = format!(r#"{{"bid":1,"bbalance":{},"filler":null}}"#, delta * 7);
    changes.push(change(&tables[2], 2, Operation::Update, 1, row));
    let row = format!(
        r#"{{"tid":{teller},"bid":1,"aid":{account},"delta":{delta},"mtime":"2026-11-03T12:00:{:02}.{:06}","filler":null}}"#,
        id % 60,
        id * 7_001 % 1_000_000
    );
    let history = change(&tables[3], 3, Operation::Insert, 0, row);
    changes.push(Change { row_key: None, ..history });
    changes
}

/// One update of a row that is mostly a document.
fn document(tables: &[Arc<Table>], id: u64) -> Vec<Change> {
    let mut items = String::new();
    for item in 0..8 {
        let comma = if item > 0 { ", " } else { "" };
        write!(
            items,
            r#"{comma}{{"sku": "{}", "name": "Article {}", "price": {}.{:02}, "quantity": {}, "tags": ["new", "{}"]}}"#,
            noise(id * 8 + item, 10),
            id % 97 + item,
            id * 13 % 500,
            id * 7 % 100,
            item + 1,
            ["red", "green", "blue"][(id % 3) as usize]
        )
        .unwrap();
    }
    let document = format!(
        r#"{{"customer": {{"id": {}, "email": "{}@example.com", "address": {{"city": "Rostock", "street": "{} 7"}}}}, "items": [{items}], "paid": {}}}"#,
        id * 31,
        noise(id + 1_000, 8),
        noise(id + 2_000, 6),
        id.is_multiple_of(2)
    );
    vec![change(&tables[0], 0, Operation::Update, id, format!(r#"{{"id":{id},"doc":{document}}}"#))]
}

/// Prints how small frames get, for docs/benchmarks.md.
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_usual_rows_become_much_smaller() {
    let mut world = World::new("packed_ratio").await;
    let accounts = shape(90_001, "pgbench_accounts", &["aid", "bid", "abalance", "filler"]);
    let tellers = shape(90_002, "pgbench_tellers", &["tid", "bid", "tbalance", "filler"]);
    let branches = shape(90_003, "pgbench_branches", &["bid", "bbalance", "filler"]);
    let history = shape(90_004, "pgbench_history", &["tid", "bid", "aid", "delta", "mtime", "filler"]);
    let history = Table { key: Vec::new(), ..history };
    let of_pgbench = [accounts, tellers, branches, history].map(|table| world.add_shape(table));
    let of_documents = [world.add_shape(shape(90_005, "orders", &["id", "doc"]))];
    let everything = json!([{"id": "s1", "table": "*"}]);
    let (mut client, _) = live(&world, "ratio", &offering("waldelta.v1.zstd"), &everything).await;
    let mut id = 0;
    for (what, together) in [("pgbench", 1), ("pgbench", 20), ("documents", 1), ("documents", 20)] {
        let before = client.packed();
        for _ in 0..100 {
            let mut changes = Vec::new();
            for _ in 0..together {
                id += 1;
                changes.extend(match what {
                    "pgbench" => pgbench(&of_pgbench, id),
                    _ => document(&of_documents, id),
                });
            }
            for (seq, change) in (0..).zip(&mut changes) {
                change.seq = seq;
            }
            world.commit(FUTURE_XID + id, changes).await;
            client.next_of_type("tx", PATIENCE).await;
        }
        let seen = client.packed();
        let (packed, plain) =
            (seen.packed_bytes - before.packed_bytes, seen.plain_bytes - before.plain_bytes);
        let ratio = packed as f64 / plain as f64;
        println!(
            "{what}, {together} together: {} bytes a frame packed to {}, {ratio:.2}",
            plain / 100,
            packed / 100
        );
        assert_eq!(seen.count - before.count, 100);
        assert!(ratio < 0.6, "{what}: {packed} of {plain}");
    }
}
