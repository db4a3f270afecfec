//! Holds docs/protocol.md to the code: every example parses, and has no field that the code does not write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use waldelta_wal::{Author, Change, Code, Operation, TruncateOptions};

use waldelta_testkit::json_schema::violations_of;

use super::Subprotocol;
use super::client;
use super::server::{self, TableSum, Welcome};
use super::transaction::{self, Envelope, TxAuthor};
use crate::describe::tests as describe;
use crate::start::Reset;
use crate::testing::{change, head, message, position, route, table};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// The fenced JSON texts of the page.
fn examples() -> Vec<&'static str> {
    PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A frame of each type with all members that the code can write.
fn full_frames() -> BTreeMap<String, Value> {
    let at = position(1);
    let name = table("t").name;
    let sum = TableSum { table: name.clone(), rows: 1, checksum: 1 };
    let (head, author) = (head(1, 1), Author { client_id: "a".into(), metadata: Some("{}".into()) });
    let author = TxAuthor::One(&author);
    let origin = Some("o");
    let envelope =
        Envelope { head: &head, cursor: at, prev: at, own: false, author, origin, part: Some(0), last: true };
    let heartbeat = Duration::from_secs(1);
    let welcome = Welcome {
        session: "s",
        subprotocol: Subprotocol::Zstd,
        head: at,
        floor: at,
        snapshot: true,
        heartbeat,
        access: "0123456789abcdef",
    };
    let frames = [
        server::welcome(&welcome),
        server::schema(&table("t"), None),
        server::snapshot_begin(at, "i", 0, &[(name.clone(), 1)]),
        server::rows(&name, 0, &[""; 0]).unwrap(),
        server::snapshot_end(at, at, &[sum]),
        transaction::encode(&envelope, std::iter::empty()).unwrap(),
        server::live(at),
        server::heartbeat(at, 0),
        server::reset_of(Reset::Gap, [&name].into_iter()),
        server::goaway(1),
        server::error(Code::Internal, "m", Some("s"), true),
        server::acked(at),
        server::access("0123456789abcdef"),
        server::auth_required(heartbeat),
        server::authenticated(Some(heartbeat)),
        server::pong(Some(1)),
    ];
    let kind = |frame: &Value| frame["type"].as_str().unwrap().to_owned();
    let frames = frames.iter().map(|frame| serde_json::from_str(frame).unwrap());
    frames.map(|frame: Value| (kind(&frame), frame)).collect()
}

/// Changes of each kind, with all members that the code can write.
fn full_changes() -> Vec<Value> {
    let t = std::sync::Arc::new(table("t"));
    let author = Some(std::sync::Arc::new(Author { client_id: "a".into(), metadata: Some("{}".into()) }));
    let (old, moved) = (Some(r#"{"id":2,"v":"w"}"#.into()), Some(r#"{"id":1,"v":"w"}"#.into()));
    let of = |seq, operation| Change { author: author.clone(), ..change(seq, operation, &t, 2) };
    let row = |seq, operation| Change { flagged: vec!["v".into()], ..of(seq, operation) };
    let changed = || Change { unchanged: vec!["v".into()], ..row(1, Operation::Update) };
    let options = TruncateOptions { cascade: true, restart_identity: true };
    let changes = [
        row(0, Operation::Insert),
        Change { old_data: old.clone(), ..changed() },
        Change { old_data: old, ..row(2, Operation::Delete) },
        Change { truncate: options, row_key: None, ..of(3, Operation::Truncate) },
        Change { old_data: moved, seq: 4, ..changed() },
        Change { author: author.clone(), ..message(5, "x") },
    ];
    let head = head(1, 1);
    let envelope = Envelope {
        head: &head,
        cursor: position(1),
        prev: position(0),
        own: false,
        author: TxAuthor::Several,
        origin: None,
        part: None,
        last: true,
    };
    let route = route("s1", true);
    let frame = transaction::encode(&envelope, changes.iter().map(|change| (change, &route))).unwrap();
    let frame: Value = serde_json::from_str(&frame).unwrap();
    frame["changes"].as_array().unwrap().clone()
}

/// The name of the schema that an example is of.
fn schema_of(example: &Value) -> &'static str {
    let of_type = example["type"].as_str().and_then(describe::schema_of_frame);
    let has = |member: &str| example.get(member).is_some();
    match of_type {
        Some(name) => name,
        None if has("$too_large") => "TooLarge",
        None if has("transactions") => "Changes",
        None if has("versions") => "RowHistory",
        None if has("version") && has("at") => "RowAsOf",
        None if has("title") => "Problem",
        None if has("versions") => "RowHistory",
        None if has("version") => "RowAsOf",
        None if has("client_id") && has("cursor") => "AckRequest",
        None if has("ticket") => "Ticket",
        None if has("code") => "CloseReason",
        None => panic!("no schema is known for {example}"),
    }
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_example_is_what_the_code_reads_and_writes() {
    let document = describe::everything();
    let mut seen = BTreeSet::new();
    for example in examples() {
        let value: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        let name = schema_of(&value);
        assert_eq!(violations_of(&document, name, &value), [""; 0], "{name}: {example}");
        seen.insert(name);
        if describe::is_from_client(name) {
            let parsed =
                client::parse(example, 10).unwrap_or_else(|refusal| panic!("{refusal:?}: {example}"));
            assert_ne!(parsed, client::ClientFrame::Unknown, "{example}");
        }
    }
    for name in describe::frame_schemas() {
        assert!(seen.contains(name), "docs/protocol.md has no example of {name}");
    }
}

/// What the code writes is described, and what is described the code writes.
#[test]
fn every_frame_is_as_it_is_described() {
    let document = describe::everything();
    let schemas = &document["components"]["schemas"];
    let frames = full_frames();
    for (kind, frame) in &frames {
        let name = describe::schema_of_frame(kind).unwrap();
        assert_eq!(violations_of(&document, name, frame), [""; 0], "{frame}");
        assert_eq!(members(frame), members(&schemas[name]["properties"]), "{kind}");
    }
    let written: BTreeSet<&str> =
        frames.keys().map(|kind| describe::schema_of_frame(kind).unwrap()).collect();
    for name in describe::frame_schemas() {
        assert!(written.contains(name) != describe::is_from_client(name), "{name}");
    }
}

#[test]
fn every_change_is_as_it_is_described() {
    let document = describe::everything();
    let schemas = &document["components"]["schemas"];
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for change in full_changes() {
        assert_eq!(violations_of(&document, "Change", &change), [""; 0], "{change}");
        let op = change["op"].as_str().unwrap().to_owned();
        written.entry(op).or_default().extend(members(&change).into_iter().map(str::to_owned));
    }
    for (op, name) in [
        ("insert", "Insert"),
        ("update", "Update"),
        ("delete", "Delete"),
        ("truncate", "Truncate"),
        ("message", "Message"),
    ] {
        let described = members(&schemas[name]["properties"]);
        let written: BTreeSet<&str> = written[op].iter().map(String::as_str).collect();
        assert_eq!(written, described, "{op}");
    }
}

#[test]
fn every_close_code_is_documented() {
    let table = PAGE.split("### Close codes").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let codes = rows.flat_map(|row| row.split(" |").next().unwrap().split(", "));
    let told: BTreeSet<u16> = codes.filter_map(|code| code.parse().ok()).collect();
    // Those of WebSockets that the service does not send itself.
    assert_eq!(told, describe::close_codes().into_iter().chain([1000, 1001]).collect());
}
