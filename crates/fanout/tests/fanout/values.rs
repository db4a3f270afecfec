//! Values that are too large for a frame: what stands in their place, and fetching them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use waldelta_wal::{Change, Operation};

use crate::support::*;

const MIB: usize = 1 << 20;

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fetches what a reference stands for, and checks that it is what the reference says.
async fn fetch(world: &World, reference: &Value) -> String {
    let reference = &reference["$too_large"];
    let (status, head, body) = world.get_text(reference["url"].as_str().unwrap(), "").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!((&json!(body.len()), &json!(sha256(&body))), (&reference["bytes"], &reference["sha256"]));
    for header in [
        "content-type: application/json\r\n".to_owned(),
        format!("content-length: {}\r\n", body.len()),
        format!("etag: \"{}\"\r\n", sha256(&body)),
        "cache-control: private, max-age=31536000, immutable\r\n".to_owned(),
    ] {
        assert!(format!("{head}\r\n").contains(&header), "{header}{head}");
    }
    body
}

/// An update of a row with a value of 20 MB. It is an array, which the WAL and history print in different ways.
fn huge(world: &World) -> (Change, Value, Value) {
    let old = json!("ü\n".repeat(3 * MIB));
    let new = json!(vec!["x".repeat(MIB); 20]);
    let change = Change {
        operation: Operation::Update,
        data: Some(format!(r#"{{"id":1,"v":{new}}}"#).into()),
        old_data: Some(format!(r#"{{"id":1,"v":{old}}}"#).into()),
        ..insert(&world.t, 0, 1)
    };
    (change, new, old)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_too_large_for_a_frame_is_fetched_whole() {
    let mut world = World::with("values", Setup { feed_bytes_max: 256 * MIB, ..Setup::default() }).await;
    let with_old =
        json!({"snapshot": false, "subscriptions": [{"id": "s1", "table": "public.t", "old": true}]});
    let mut live = world.hello("live", with_old).await;
    live.next_of_type("live", PATIENCE).await;
    let (change, new, old) = huge(&world);
    let position = world.commit(FUTURE_XID, vec![change, insert(&world.t, 1, 2)]).await;
    assert!(world.history.feed().after(position, 1).is_ok(), "the feed has it");
    let tx = live.next_of_type("tx", PATIENCE).await;
    let told = &tx["changes"][0];
    assert_eq!(told["data"]["id"], 1);
    let body = fetch(&world, &told["data"]["v"]).await;
    assert!(body.len() > 20 * MIB && serde_json::from_str::<Value>(&body).unwrap() == new);
    assert_eq!(body.matches(", ").count(), 19, "as history prints it");
    let body = fetch(&world, &told["old"]["v"]).await;
    assert!(serde_json::from_str::<Value>(&body).unwrap() == old);

    // The same reference where it was read again.
    let (_, page) = world.get("/v1/changes", "").await;
    assert_eq!(page["transactions"][0]["changes"][0]["data"], told["data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_column_of_any_change_is_there_and_nothing_else() {
    let mut world = World::new("values_paths").await;
    let odd = Change {
        data: Some(r#"{"id":1,"v":"x","a/b \"c\" ü":{"n":[1.50,null]}}"#.into()),
        ..insert(&world.t, 1, 1)
    };
    let position = world.commit(FUTURE_XID, vec![insert(&world.t, 0, 0), odd]).await;
    let at = |index: u32| waldelta_wal::Position { index, ..position };
    for (path, value) in [
        (format!("{}/data/v", at(0)), r#""x""#),
        (format!("{}/data/id", at(1)), "1"),
        (format!("{}/data/a%2Fb%20%22c%22%20%C3%BC", at(1)), r#"{"n": [1.50, null]}"#),
    ] {
        let (status, _, body) = world.get_text(&format!("/v1/values/{path}"), "").await;
        assert_eq!((status, body.as_str()), (200, value), "{path}");
    }
    // What the client has is not sent again.
    let (path, etag) = (format!("/v1/values/{}/data/id", at(1)), sha256("1"));
    let (status, head, body) = world.get_text(&path, &format!("If-None-Match: \"{etag}\"\r\n")).await;
    assert_eq!((status, body.as_str()), (304, ""));
    assert!(head.contains(&format!("etag: \"{etag}\"")), "{head}");

    let pruned = waldelta_wal::Position { index: 0, ..waldelta_wal::Position::default() };
    let later = waldelta_wal::Position { commit_lsn: waldelta_wal::Lsn(u64::MAX), ..at(0) };
    for (path, status, code) in [
        (format!("{}/data/w", at(0)), 404, "WD-VALUE-NOT-FOUND"),
        (format!("{}/old/v", at(0)), 404, "WD-VALUE-NOT-FOUND"),
        (format!("{}/data/v", at(2)), 404, "WD-VALUE-NOT-FOUND"),
        (format!("{later}/data/v"), 404, "WD-VALUE-NOT-FOUND"),
        (format!("{pruned}/data/v"), 410, "WD-VALUE-NOT-FOUND"),
        (format!("{position}/data/v"), 400, "WD-REQUEST-INVALID"),
        ("x/data/v".to_owned(), 400, "WD-REQUEST-INVALID"),
        (format!("{}/row/v", at(0)), 400, "WD-REQUEST-INVALID"),
        (format!("{}/data/%FF", at(0)), 400, "WD-REQUEST-INVALID"),
    ] {
        let (got, body) = world.get(&format!("/v1/values/{path}"), "").await;
        assert_eq!((got, &body["code"], &body["status"]), (status, &json!(code), &json!(status)), "{path}");
    }
    let path = format!("/v1/values/{}/data/v", at(0));
    let (status, body) = world.get(&path, "Origin: https://evil.example.com\r\n").await;
    assert_eq!((status, &body["code"]), (403, &json!("WD-ORIGIN-REFUSED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_snapshot_is_nowhere_to_fetch() {
    let world = World::new("values_snapshot").await;
    world.database.exec("INSERT INTO t SELECT 1, repeat('ü', 5 << 20)").await;
    let mut client = world.hello("web-1", json!({})).await;
    let rows = client.next_of_type("rows", PATIENCE).await;
    let text = format!("\"{}\"", "ü".repeat(5 << 20));
    let reference = json!({"$too_large": {"bytes": text.len(), "sha256": sha256(&text)}});
    assert_eq!(rows["rows"], json!([{"id": 1, "v": reference}]));
}

/// What capture has stored by reference is no more in history: there is nothing to fetch.
#[tokio::test(flavor = "multi_thread")]
async fn what_history_has_by_reference_alone_passes_unchanged() {
    let mut world = World::new("values_stored").await;
    let mut live = world.live("live").await;
    let reference = json!({"$too_large": {"bytes": 300_000_000, "sha256": "00"}});
    let data = format!(r#"{{"id":1,"v":{reference}}}"#);
    let change = Change { data: Some(data.into()), flagged: vec!["v".into()], ..insert(&world.t, 0, 1) };
    world.commit(FUTURE_XID, vec![change]).await;
    let tx = live.next_of_type("tx", PATIENCE).await;
    assert_eq!((&tx["changes"][0]["data"]["v"], &tx["changes"][0]["flagged"]), (&reference, &json!(["v"])));
}
