//! What the service says of itself in `/openapi.json` and `/asyncapi.json` is what it does: each method of each path, the form of
//! each answer, and the frames of a session.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use waldelta_testkit::json_schema::{violations, violations_of};
use waldelta_testkit::{Frame, WsClient};

use crate::setting::{PATIENCE, Setting};

const SCHEMA: &str = "CREATE TYPE place AS (street text, zip text);
                      CREATE TABLE item (id int PRIMARY KEY, value text, at place);
                      INSERT INTO item VALUES (1, 'one', ROW('a', 'b'))";
const CHANGES: &str = "BEGIN; SELECT waldelta.set_client('author', '{\"user\": \"42\"}');
                       INSERT INTO item VALUES (2, 'two', NULL); UPDATE item SET value = 'zwei' WHERE id = 2;
                       UPDATE item SET id = 3 WHERE id = 2; COMMIT;
                       DELETE FROM item WHERE id = 1; TRUNCATE item;
                       SELECT pg_logical_emit_message(true, 'app', 'hello')";

async fn document(setting: &Setting, path: &str) -> Value {
    let (status, body) = setting.service.get(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The methods that a path answers to, as it says itself to one that it refuses.
async fn allowed(setting: &Setting, path: &str) -> BTreeSet<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", setting.service.port())).await.unwrap();
    let head = format!("DELETE {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 405") || answer.starts_with("HTTP/1.1 405"),
        "DELETE {path}: {answer}"
    );
    let mut headers = answer.lines().filter_map(|line| line.split_once(": "));
    let (_, methods) = headers.find(|(name, _)| name.eq_ignore_ascii_case("allow")).unwrap();
    // HEAD goes with GET.
    methods.split(',').map(|method| method.trim().to_lowercase()).filter(|method| method != "head").collect()
}

/// Asks, and checks that the answer is described for this path: its status, and its body's form.
async fn answer(setting: &Setting, openapi: &Value, described: &str, path: &str) -> (u16, Value) {
    let (status, body) = setting.service.get(path).await;
    let answers = &openapi["paths"][described]["get"]["responses"];
    let mut answer = &answers[status.to_string()];
    assert!(answer.is_object(), "{path}: {status} is not described: {body}");
    if let Some(reference) = answer["$ref"].as_str() {
        answer = openapi.pointer(&reference[1..]).unwrap();
    }
    let content = answer["content"].as_object().unwrap();
    let json = content.iter().find(|(media, _)| media.contains("json") && !media.contains("ndjson"));
    let Some((_, described)) = json else { return (status, Value::Null) };
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
    assert_eq!(violations(openapi, &described["schema"], &body), [""; 0], "{path}: {body}");
    (status, body)
}

#[tokio::test]
async fn over_http() {
    let setting = Setting::new("described_http", SCHEMA).await;
    setting.source.exec(CHANGES).await;
    setting.settled().await;
    let openapi = document(&setting, "/openapi.json").await;
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        let described: BTreeSet<String> = methods.as_object().unwrap().keys().cloned().collect();
        let filled = path.replace("{cursor}", "x").replace("{image}", "data").replace("{column}", "c");
        let filled = filled.replace("{table}", "t").replace("{key}", "1").replace("{session}", "s1");
        assert_eq!(allowed(&setting, &filled).await, described, "{path}");
    }

    let not_here =
        ["/v1/stream", "/v1/ack", "/v1/snapshot", "/v1/tickets", "/v1/sessions/{session}/disconnect"];
    let mut tried = BTreeSet::from(not_here);
    for (described, path, wanted) in [
        ("/v1/changes", "/v1/changes", 200),
        ("/v1/changes", "/v1/changes?limit=1", 200),
        ("/v1/changes", "/v1/changes?limit=0", 400),
        ("/v1/changes", "/v1/changes?after=00000001-0000000000000000-00000000", 410),
        ("/v1/rows/{table}/{key}/history", "/v1/rows/item/3/history?patch=rfc6902", 200),
        ("/v1/rows/{table}/{key}/history", "/v1/rows/item/1/history", 200),
        ("/v1/rows/{table}/{key}/history", "/v1/rows/none/1/history", 404),
        ("/v1/rows/{table}/{key}", "/v1/rows/item/9", 404),
        ("/v1/values/{cursor}/{image}/{column}", "/v1/values/x/data/c", 400),
        ("/v1/dictionaries/1", "/v1/dictionaries/1", 200),
        ("/v1/status", "/v1/status", 200),
        ("/v1/recent", "/v1/recent", 200),
        ("/v1/clients", "/v1/clients", 200),
        ("/livez", "/livez", 200),
        ("/readyz", "/readyz?verbose", 200),
        ("/metrics", "/metrics", 200),
        ("/openapi.json", "/openapi.json", 200),
        ("/asyncapi.json", "/asyncapi.json", 200),
    ] {
        let (status, body) = answer(&setting, &openapi, described, path).await;
        assert_eq!(status, wanted, "{path}: {body}");
        tried.insert(described);
    }
    let (_, page) = answer(&setting, &openapi, "/v1/changes", "/v1/changes?table=public.item").await;
    let transactions = page["transactions"].as_array().unwrap();
    let inserted = transactions.iter().find(|tx| tx["client_id"] == "author").unwrap();
    let (cursor, place) = (inserted["cursor"].as_str().unwrap(), &inserted["changes"][0]);
    let index = format!("{:08x}", place["seq"].as_u64().unwrap());
    let value = format!("/v1/values/{}/data/value", cursor.replace("ffffffff", &index));
    let (status, body) = answer(&setting, &openapi, "/v1/values/{cursor}/{image}/{column}", &value).await;
    assert_eq!((status, body), (200, json!("two")));
    let as_of = format!("/v1/rows/item/3?at={cursor}");
    let (status, body) = answer(&setting, &openapi, "/v1/rows/{table}/{key}", &as_of).await;
    assert_eq!((status, &body["data"]["value"]), (200, &json!("zwei")), "{body}");

    let ack = json!({"client_id": "reader", "cursor": cursor});
    assert_eq!(violations_of(&openapi, "AckRequest", &ack), [""; 0]);
    assert_eq!(setting.service.post("/v1/ack", &ack.to_string()).await.0, 204);
    // There are none where nobody has to authenticate.
    assert_eq!(setting.service.post("/v1/tickets", "{}").await.0, 404);
    let (_, known) = answer(&setting, &openapi, "/v1/clients", "/v1/clients?limit=5").await;
    assert!(known["clients"].as_array().unwrap().iter().any(|client| client["acked"] == cursor), "{known}");
    let paths: BTreeSet<&str> = openapi["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(tried, paths, "each path is tried");
}

/// The name of the schema of a frame's type.
fn schema_of<'a>(asyncapi: &'a Value, frame: &Value) -> &'a str {
    let kind = frame["type"].as_str().unwrap();
    let payload = asyncapi["components"]["messages"][kind]["payload"]["$ref"].as_str();
    payload.unwrap_or_else(|| panic!("{kind} is not described")).rsplit('/').next().unwrap()
}

#[tokio::test]
async fn in_frames() {
    let setting = Setting::new("described_ws", SCHEMA).await;
    let asyncapi = document(&setting, "/asyncapi.json").await;
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    let check = |frame: &Value| {
        let name = schema_of(&asyncapi, frame);
        assert_eq!(violations_of(&asyncapi, name, frame), [""; 0], "{frame}");
    };
    let hello = json!({"type": "hello", "client_id": "reader", "subscriptions": [
        {"id": "all", "table": "*", "old": true}, {"id": "item", "table": "public.item", "big_numbers": "string"}]});
    check(&hello);
    socket.send(&hello).await;
    let mut seen = BTreeSet::new();
    let mut changes = BTreeSet::new();
    let mut take = |frame: &Value| {
        check(frame);
        seen.insert(frame["type"].as_str().unwrap().to_owned());
        for change in frame["changes"].as_array().into_iter().flatten() {
            changes.insert(change["op"].as_str().unwrap().to_owned());
        }
    };
    loop {
        let frame = socket.next_json(PATIENCE).await;
        take(&frame);
        if frame["type"] == "live" {
            break;
        }
    }
    setting.source.exec(CHANGES).await;
    let cursor = loop {
        let frame = socket.next_json(PATIENCE).await;
        take(&frame);
        if frame["changes"].as_array().is_some_and(|all| all.iter().any(|change| change["op"] == "message")) {
            break frame["cursor"].clone();
        }
    };
    let mut wanted = BTreeSet::from(["acked", "pong", "error"]);
    for frame in [
        json!({"type": "ack", "cursor": cursor}),
        json!({"type": "ping", "n": 7}),
        json!({"type": "subscribe", "subscriptions": [{"id": "none", "table": "public.none"}]}),
    ] {
        check(&frame);
        socket.send(&frame).await;
    }
    while !wanted.is_empty() {
        let frame = socket.next_json(PATIENCE).await;
        take(&frame);
        wanted.remove(frame["type"].as_str().unwrap());
    }
    socket.send_text("{}").await;
    let reason = loop {
        match socket.next_frame(PATIENCE).await {
            Frame::Text(text) => take(&serde_json::from_str(&text).unwrap()),
            Frame::Closed { reason, .. } => break reason,
        }
    };
    let reason: Value = serde_json::from_str(&reason).unwrap();
    assert_eq!(violations_of(&asyncapi, "CloseReason", &reason), [""; 0], "{reason}");
    let of_a_session = [
        "acked",
        "error",
        "live",
        "pong",
        "rows",
        "schema",
        "snapshot_begin",
        "snapshot_end",
        "tx",
        "welcome",
    ];
    assert!(of_a_session.iter().all(|kind| seen.contains(*kind)), "{seen:?}");
    assert_eq!(
        changes,
        BTreeSet::from(["delete", "insert", "message", "truncate", "update"].map(str::to_owned))
    );
}
