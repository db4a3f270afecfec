//! `GET /v1/snapshot`: rows as lines, compressed as asked for, named by their snapshot; and what of a table is asked for.

use std::io::Read;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waldelta_testkit::HttpStream;

use crate::shared::Copy;
use crate::support::*;

/// Status, headers and body. HTTP/1.0: the body is not cut into chunks.
async fn get(world: &World, query: &str, headers: &str) -> (u16, String, Vec<u8>) {
    let address = world.stream_url().replace("ws://", "").replace("/v1/stream", "");
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /v1/snapshot?{query} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn copy(body: &str) -> Copy {
    let mut copy = Copy::default();
    let ends: Vec<bool> = body.lines().map(|line| copy.take(line)).collect();
    assert!(body.ends_with('\n') && ends.iter().position(|ends| *ends) == Some(ends.len() - 1), "{body}");
    copy.adds_up();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn its_lines_are_the_rows_in_any_coding_and_its_tag_is_known_until_there_is_another() {
    let mut world = World::new("http_snapshot").await;
    world
        .database
        .exec("INSERT INTO t SELECT i, repeat('é\n\"', 300) || i FROM generate_series(1, 3000) i")
        .await;
    let expected = world.database.query_json("SELECT * FROM t ORDER BY id").await;
    let by_id = |copy: &Copy| {
        let mut rows = copy.rows.clone();
        rows.sort_by_key(|row| row["id"].as_i64());
        rows
    };

    let (status, head, plain) = get(&world, "table=t", "").await;
    assert_eq!((status, header(&head, "content-type")), (200, Some("application/x-ndjson")));
    let plain = copy(&String::from_utf8(plain).unwrap());
    assert!(by_id(&plain) == expected, "they are the source's rows");
    assert!(plain.frames.len() > 10, "it comes in parts");
    assert_eq!(header(&head, "etag"), Some(format!("\"{}\"", plain.id()).as_str()));
    assert_eq!(header(&head, "content-encoding"), None);

    let (_, head, gzip) = get(&world, "table=t", "Accept-Encoding: br, gzip\r\n").await;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&gzip[..]).read_to_string(&mut text).unwrap();
    assert_eq!(header(&head, "content-encoding"), Some("gzip"));
    assert!(copy(&text).rows == plain.rows, "the same rows");
    assert_eq!(header(&head, "etag"), Some(format!("\"{}-gzip\"", plain.id()).as_str()));
    assert_eq!(header(&head, "vary"), Some("accept-encoding"));

    let (_, head, packed) = get(&world, "table=t", "Accept-Encoding: gzip, zstd\r\n").await;
    let text = String::from_utf8(zstd::stream::decode_all(&packed[..]).unwrap()).unwrap();
    assert_eq!(header(&head, "content-encoding"), Some("zstd"));
    assert!(copy(&text).rows == plain.rows, "the same rows");
    assert!(packed.len() < text.len() / 4 && gzip.len() < text.len() / 4, "they are smaller");
    let tag = header(&head, "etag").unwrap();

    let known = format!("If-None-Match: \"x\", {tag}\r\nAccept-Encoding: zstd\r\n");
    let (status, head, body) = get(&world, "table=t", &known).await;
    assert_eq!((status, header(&head, "etag"), body.len()), (304, Some(tag), 0));
    assert_eq!(get(&world, "table=u", &known).await.0, 200, "another table");
    let t = world.t.clone();
    world.reset(&[&t]).await;
    let (status, head, body) = get(&world, "table=t", &known).await;
    assert_eq!(status, 200);
    assert_ne!(header(&head, "etag"), Some(tag));
    assert!(!body.is_empty());

    for (query, status, code) in [
        ("table=nowhere", 404, "WD-TABLE-NOT-CAPTURED"),
        ("", 400, "WD-REQUEST-INVALID"),
        ("table=t&where=nothing%20%3D%201", 400, "WD-FILTER-INVALID"),
        ("table=t&columns=nothing", 400, "WD-FILTER-INVALID"),
    ] {
        let (found, head, body) = get(&world, query, "").await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{query}");
        assert_eq!(header(&head, "content-type"), Some("application/problem+json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_those_rows_and_columns_come_that_are_asked_for() {
    let world = World::new("snapshot_part").await;
    world.database.exec("INSERT INTO t SELECT i, 'v' || i % 3 FROM generate_series(1, 90) i").await;
    let (status, _, body) = get(&world, "table=t&where=v%20%3D%20%27v1%27&columns=id", "").await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    let part = copy(&text);
    assert_eq!(part.ids(), (1..=90).filter(|id| id % 3 == 1).collect());
    assert!(part.rows.iter().all(|row| row.as_object().unwrap().len() == 1), "{text}");
    let schema: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&schema["type"], schema["columns"].as_array().unwrap().len()), (&json!("schema"), 1));

    // A client's copy is the union of what it asks for, and shares the reading with whoever asks for the same.
    let union = json!({"subscriptions": [
        {"id": "a", "table": "public.t", "where": "id <= 10", "columns": ["id"]},
        {"id": "b", "table": "public.t", "where": "v = 'v2'"}]});
    let mut ids = Vec::new();
    for number in 0..2 {
        let mut client = world.hello(&format!("web-{number}"), union.clone()).await;
        let mut copy = Copy::default();
        while let waldelta_testkit::Frame::Text(text) = client.next_frame(PATIENCE).await {
            if copy.take(&text) {
                break;
            }
        }
        copy.adds_up();
        assert_eq!(copy.ids(), (1..=90).filter(|id| *id <= 10 || id % 3 == 2).collect());
        assert!(copy.rows.iter().all(|row| row.as_object().unwrap().len() == 2));
        ids.push(copy.id().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_does_not_fit_is_refused_and_takes_nothing_else_with_it() {
    let world = World::new("snapshot_misfit").await;
    world.database.exec("INSERT INTO u VALUES (1, 'x')").await;
    let wrong = json!([{"id": "mine", "table": "public.t", "where": "nothing = 1"}]);
    let mut client = world.hello("web-1", json!({"subscriptions": wrong})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!(
        (&error["code"], &error["subscription"], &error["fatal"]),
        (&json!("WD-FILTER-INVALID"), &json!("mine"), &json!(true))
    );
    assert_eq!(client.closed(PATIENCE).await.0, 4403);

    let mut client = world.live("web-2").await;
    let wrong = json!([{"id": "more", "table": "public.u", "columns": ["nothing"]}]);
    client.send(&json!({"type": "subscribe", "subscriptions": wrong})).await;
    let error = client.next_of_type("error", PATIENCE).await;
    assert_eq!(
        (&error["code"], &error["subscription"], &error["fatal"]),
        (&json!("WD-FILTER-INVALID"), &json!("more"), &json!(false))
    );
    let right = json!([{"id": "more", "table": "public.u", "columns": ["id"]}]);
    client.send(&json!({"type": "subscribe", "subscriptions": right})).await;
    let rows = client.next_of_type("rows", PATIENCE).await;
    assert_eq!(rows["rows"], json!([{"id": 1}]), "its name was given back");
}

/// The process does not have in memory what the reset came with.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_from_before_a_reset_is_given_to_nobody_who_comes_after_it() {
    let mut world = World::with("snapshot_reset", Setup { feed_bytes_max: 1, ..Setup::default() }).await;
    world.database.exec("INSERT INTO t VALUES (1, 'x')").await;
    // Readings begin, and do not end for as long as this lasts.
    let lock = world.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let address = world.address().to_string();
    let tag = |stream: &HttpStream| stream.header("etag").unwrap().trim_matches('"').to_owned();
    let early = HttpStream::get(&address, "/v1/snapshot?table=t", "").await;
    let mut client = world.hello("web-1", json!({})).await;
    let begin = client.next_of_type("snapshot_begin", PATIENCE).await;
    assert_eq!(begin["id"], tag(&early), "they share it");

    let t = world.t.clone();
    let reset_at = world.reset(&[&t]).await;
    let late = HttpStream::get(&address, "/v1/snapshot?table=t", "").await;
    assert_ne!(tag(&late), tag(&early));
    let mut client = world.hello("web-2", json!({})).await;
    let begin = client.next_of_type("snapshot_begin", PATIENCE).await;
    assert_eq!(begin["id"], tag(&late), "that one lies behind it");
    assert!(cursor(&begin) >= reset_at, "{begin}");
    lock.batch_execute("ROLLBACK").await.unwrap();
    for stream in [early, late] {
        let id = tag(&stream);
        let copy = copy(&stream.body(PATIENCE).await);
        assert_eq!((copy.id(), copy.ids()), (id.as_str(), [1].into()));
    }
}
