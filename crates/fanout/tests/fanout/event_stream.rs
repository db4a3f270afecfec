//! `GET /v1/changes` as an event stream and as lines.

use std::time::Duration;

use serde_json::{Value, json};
use waldelta_fanout::Config;
use waldelta_testkit::{Event, HttpStream, wait_until};
use waldelta_wal::{Change, Operation, Position};

use crate::support::*;

const EVENTS: &str = "Accept: text/event-stream\r\n";
const LINES: &str = "Accept: application/x-ndjson\r\n";

async fn open(world: &World, query: &str, headers: &str) -> HttpStream {
    let url = world.stream_url();
    let address = url.trim_start_matches("ws://").trim_end_matches("/v1/stream");
    HttpStream::get(address, &format!("/v1/changes?{query}"), headers).await
}

/// Events up to and including the first of this type.
async fn until(stream: &mut HttpStream, kind: &str) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event =
            stream.event(PATIENCE).await.unwrap_or_else(|| panic!("the end before {kind}: {events:?}"));
        assert_eq!(event.data["type"], event.kind.as_str(), "the event's name is the frame's type");
        let is_last = event.kind == kind;
        events.push(event);
        if is_last {
            return events;
        }
    }
}

fn told(events: &[Event]) -> Vec<u64> {
    events.iter().filter(|event| event.kind == "tx").flat_map(|event| ids(&event.data)).collect()
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_tells_what_there_is_and_then_what_comes() {
    let mut world = World::new("events").await;
    let positions = world.commit_inserts(1..4).await;
    let mut stream = open(&world, "table=public.t&client_id=me", EVENTS).await;
    assert_eq!((stream.status(), stream.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(stream.header("cache-control"), Some("no-store"));
    let events = until(&mut stream, "live").await;
    assert_eq!(kinds(&events), ["schema", "tx", "tx", "tx", "live"]);
    assert!(stream.retry_ms().is_some_and(|ms| ms >= 250), "it says when to come back");
    assert_eq!(told(&events), [1, 2, 3]);
    for (event, position) in events[1..].iter().zip(&positions) {
        assert_eq!(event.id, Some(position.to_string()));
        assert_eq!(cursor(&event.data), *position);
    }
    assert_eq!(events[0].id, None, "nothing is had with a shape alone");

    // Its own change, and one that does not concern it.
    let own = by("me", insert(&world.t, 0, 4));
    let other = insert(&world.u, 0, 9);
    world.commit(FUTURE_XID, vec![other]).await;
    let position = world.commit(FUTURE_XID, vec![own]).await;
    let events = until(&mut stream, "tx").await;
    assert_eq!((told(&events), &events[0].data["own"]), (vec![4], &json!(true)));
    // A table that begins anew, with the place behind it.
    let t = world.t.clone();
    let reset = world.reset(&[&t]).await;
    let event = until(&mut stream, "reset").await.pop().unwrap();
    assert_eq!((&event.data["tables"], &event.data["reason"]), (&json!(["public.t"]), &json!("gap")));
    assert_eq!(event.id, Some(reset.to_string()));

    // Another client goes on from where this one was.
    let again = format!("{EVENTS}Last-Event-ID: {}\r\n", positions[1]);
    let mut second = open(&world, "table=public.t", &again).await;
    let events = until(&mut second, "live").await;
    assert_eq!((told(&events), kinds(&events).contains(&"reset")), (vec![3, 4], true));
    assert_eq!(events.iter().filter(|event| event.id == Some(position.to_string())).count(), 1);

    // A shape that changes is told before the first row that has it.
    let table = world.add_column("extra");
    let changes = vec![schema_change(&table, 0), insert(&table, 1, 5)];
    world.commit(FUTURE_XID, changes).await;
    let events = until(&mut second, "tx").await;
    assert_eq!(kinds(&events), ["schema", "tx"]);
    assert_eq!(events[0].data["version"], 2);

    // At a stop it ends, and says so.
    world.stop.cancel();
    assert_eq!(second.event(PATIENCE).await, None);
    assert!(second.comments().last().unwrap().contains("WD-STOPPING"), "{:?}", second.comments());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_comes_in_parts_and_goes_on_inside() {
    let mut world = World::new("events_parts").await;
    let text = "x".repeat(20_000);
    let changes = (0..60).map(|seq| insert_text(&world.t, seq, seq.into(), &text)).collect();
    let position = world.commit(FUTURE_XID, changes).await;
    let mut stream = open(&world, "table=public.t", EVENTS).await;
    let events = until(&mut stream, "live").await;
    let parts: Vec<&Event> = events.iter().filter(|event| event.kind == "tx").collect();
    assert!(parts.len() > 2 && parts[0].data["last"] == false);
    assert_eq!(told(&events), (0..60).collect::<Vec<_>>());
    assert_eq!(parts.last().unwrap().id, Some(position.to_string()));
    // Where the first part ended.
    let after = parts[0].id.clone().unwrap();
    let first = ids(&parts[0].data).len() as u64;
    let mut stream = open(&world, "table=public.t", &format!("{EVENTS}Last-Event-ID: {after}\r\n")).await;
    assert_eq!(told(&until(&mut stream, "live").await), (first..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_shows_that_it_lives_and_where_it_is() {
    let config = Config { heartbeat_interval: Duration::from_millis(100), ..Config::default() };
    let mut world = World::with("events_quiet", Setup { config, ..Setup::default() }).await;
    let mut stream = open(&world, "table=public.t", EVENTS).await;
    until(&mut stream, "live").await;
    let other = insert(&world.u, 0, 1);
    world.commit(FUTURE_XID, vec![other]).await;
    // What does not concern it moves its cursor all the same.
    let event = until(&mut stream, "heartbeat").await.pop().unwrap();
    let head = world.head();
    assert_eq!((cursor(&event.data), event.id), (head, Some(head.to_string())));
    // And where nothing moves, a comment does.
    while stream.comments().is_empty() {
        let line = stream.line(PATIENCE).await.unwrap();
        if line.starts_with(':') {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_end_where_the_client_has_everything() {
    let mut world = World::new("lines").await;
    world.commit_inserts(1..4).await;
    let stream = open(&world, "table=public.t", LINES).await;
    assert_eq!((stream.status(), stream.header("content-type")), (200, Some("application/x-ndjson")));
    let body = stream.body(PATIENCE).await;
    let frames: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["schema", "tx", "tx", "tx", "live"]);
    assert_eq!(cursor(&frames[4]), world.head());

    // With `wait` it follows for that long.
    let head = world.head();
    let mut stream = open(&world, &format!("table=public.t&after={head}&wait=2s"), LINES).await;
    assert_eq!(stream.json(PATIENCE).await.unwrap()["type"], "live");
    let position = world.commit_inserts(4..5).await[0];
    assert_eq!(stream.json(PATIENCE).await.unwrap()["type"], "schema");
    assert_eq!(cursor(&stream.json(PATIENCE).await.unwrap()), position);
    // What lies behind the last transaction is known at the end, too.
    let end = stream.json(PATIENCE).await.unwrap();
    assert_eq!((&end["type"], cursor(&end)), (&json!("heartbeat"), world.head()));
    assert_eq!(stream.line(PATIENCE).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_columns_are_chosen_as_over_the_websocket() {
    let mut world = World::new("http_where").await;
    let into = |id, text: &str| insert_text(&world.t, 0, id, text);
    let out = Change { operation: Operation::Update, ..insert_text(&world.t, 0, 1, "b") };
    let all = [into(1, "a"), into(2, "b"), out, into(3, "a")];
    for change in all {
        world.commit(FUTURE_XID, vec![change]).await;
    }
    let query = "table=public.t&where=v%20%3D%20'a'&columns=v";
    let (status, page) = world.get(&format!("/v1/changes?{query}"), "").await;
    assert_eq!(status, 200, "{page}");
    let changes = |frames: &[&Value]| -> Vec<(String, u64)> {
        let changes = frames.iter().flat_map(|tx| tx["changes"].as_array().unwrap().clone());
        changes.map(|it| (it["op"].as_str().unwrap().into(), it["key"]["id"].as_u64().unwrap())).collect()
    };
    let expected = [("insert".to_owned(), 1), ("delete".to_owned(), 1), ("insert".to_owned(), 3)];
    let frames: Vec<&Value> = page["transactions"].as_array().unwrap().iter().collect();
    assert_eq!(changes(&frames), expected);
    let mut stream = open(&world, query, EVENTS).await;
    let events = until(&mut stream, "live").await;
    let frames: Vec<&Value> = events.iter().filter(|it| it.kind == "tx").map(|it| &it.data).collect();
    assert_eq!(changes(&frames), expected);

    // What does not fit the table is refused before anything is told.
    for (query, status, code) in [
        ("table=public.t&where=nothing%20%3D%201", 400, "WD-FILTER-INVALID"),
        ("table=public.t&where=v%20%3D", 400, "WD-FILTER-INVALID"),
        ("table=public.t&columns=nothing", 400, "WD-FILTER-INVALID"),
        ("table=public.*&columns=v", 400, "WD-REQUEST-INVALID"),
    ] {
        for accept in ["", EVENTS] {
            let stream = open(&world, query, accept).await;
            assert_eq!(stream.status(), status, "{query}");
            let body: Value = serde_json::from_str(&stream.body(PATIENCE).await).unwrap();
            assert_eq!(body["code"], code, "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_resumed_is_refused_and_one_that_loses_its_place_ends() {
    let mut world = World::new("events_lost").await;
    let last = world.commit_inserts(1..3).await[1];
    let beyond = Position { epoch: waldelta_wal::Epoch(7), ..world.head() };
    let stream = open(&world, "", &format!("{EVENTS}Last-Event-ID: {beyond}\r\n")).await;
    assert_eq!((stream.status(), stream.header("content-type")), (410, Some("application/problem+json")));
    let mut stream = open(&world, "table=public.t", EVENTS).await;
    until(&mut stream, "live").await;
    let next = last.commit_lsn.0 + 1_000;
    let _world = world.begin_epoch(next, None, false).await;
    let event = until(&mut stream, "reset").await.pop().unwrap();
    assert_eq!((&event.data["reason"], event.id), (&json!("epoch_changed"), None));
    assert_eq!(stream.event(PATIENCE).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_may_follow_as_sessions_may_be_connected() {
    let config = Config { sessions_max: 2, ..Config::default() };
    let world = World::with("events_many", Setup { config, ..Setup::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = open(&world, "", EVENTS).await;
        until(&mut stream, "live").await;
        streams.push(stream);
    }
    // A browser's `EventSource` comes back from nothing but an event stream.
    let told = open(&world, "", EVENTS).await;
    assert_eq!((told.status(), told.header("content-type")), (200, Some("text/event-stream")));
    let told = told.body(PATIENCE).await;
    assert!(told.starts_with(": WD-TOO-MANY-SESSIONS\nretry: ") && told.ends_with("\n\n"), "{told}");
    let refused = open(&world, "", LINES).await;
    assert_eq!((refused.status(), refused.header("retry-after").is_some()), (429, true));
    let body: Value = serde_json::from_str(&refused.body(PATIENCE).await).unwrap();
    assert_eq!((&body["code"], &body["retry_after_ms"]), (&json!("WD-TOO-MANY-SESSIONS"), &json!(1_000)));
    // A page that does not wait needs no place.
    assert_eq!(world.get("/v1/changes", "").await.0, 200);
    drop(streams);
    wait_until("there is room again", PATIENCE, async || open(&world, "", LINES).await.status() == 200).await;
}
