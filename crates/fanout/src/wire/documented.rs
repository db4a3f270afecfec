//! Holds docs/protocol.md to the code: every example parses, and has no field that the code does not write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use waldelta_wal::{Author, Change, Code, Operation, TruncateOptions};

use super::client;
use super::server::{self, TableSum, Welcome};
use super::transaction::{self, Envelope, TxAuthor};
use crate::start::Reset;
use crate::testing::{change, head, position, route, table};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// The fenced JSON texts of the page.
fn examples() -> Vec<&'static str> {
    PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A frame of each type with all members that the code can write.
fn full_frames() -> BTreeMap<String, BTreeSet<String>> {
    let at = position(1);
    let name = table("t").name;
    let sum = TableSum { table: name.clone(), rows: 1, checksum: 1 };
    let (head, author) = (head(1, 1), Author { client_id: "a".into(), metadata: Some("1".into()) });
    let author = TxAuthor::One(&author);
    let origin = Some("o");
    let envelope =
        Envelope { head: &head, cursor: at, prev: at, own: false, author, origin, part: Some(0), last: true };
    let welcome =
        Welcome { session: "s", head: at, floor: at, snapshot: true, heartbeat: Duration::from_secs(1) };
    let frames = [
        server::welcome(&welcome),
        server::schema(&table("t")),
        server::snapshot_begin(at, &[(name.clone(), 1)]),
        server::rows(&name, &[]).unwrap(),
        server::snapshot_end(at, at, &[sum]),
        transaction::encode(&envelope, std::iter::empty()).unwrap(),
        server::live(at),
        server::heartbeat(at, 0),
        server::reset_of(Reset::Gap, [&name].into_iter()),
        server::goaway(1),
        server::error(Code::Internal, "m", Some("s"), true),
        server::acked(at),
        server::pong(Some(1)),
    ];
    let members = |frame: &str| {
        let frame: BTreeMap<String, Value> = serde_json::from_str(frame).unwrap();
        (frame["type"].as_str().unwrap().to_owned(), frame.into_keys().collect())
    };
    frames.iter().map(|frame| members(frame)).collect()
}

/// The members that the code can write into a change.
fn change_members() -> BTreeSet<String> {
    let t = std::sync::Arc::new(table("t"));
    let full = Change {
        row_key: Some("[2]".into()),
        old_data: Some(r#"{"id":1}"#.into()),
        unchanged: vec!["v".into()],
        flagged: vec!["v".into()],
        truncate: TruncateOptions { cascade: true, restart_identity: true },
        author: Some(std::sync::Arc::new(Author { client_id: "a".into(), metadata: Some("1".into()) })),
        ..change(0, Operation::Update, &t, 2)
    };
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
    let frame = transaction::encode(&envelope, [(&full, &route("s1", true))].into_iter()).unwrap();
    let frame: Value = serde_json::from_str(&frame).unwrap();
    let changes = frame["changes"].as_array().unwrap();
    changes.iter().flat_map(|change| change.as_object().unwrap().keys().cloned()).collect()
}

#[test]
fn every_example_is_what_the_code_reads_and_writes() {
    let (full, change_members) = (full_frames(), change_members());
    let mut seen = BTreeSet::new();
    for example in examples() {
        let value: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        let Some(kind) = value["type"].as_str().filter(|kind| *kind != "about:blank") else { continue };
        seen.insert(kind.to_owned());
        let Some(known) = full.get(kind) else {
            let parsed =
                client::parse(example, 10).unwrap_or_else(|refusal| panic!("{refusal:?}: {example}"));
            assert_ne!(parsed, client::ClientFrame::Unknown, "{example}");
            continue;
        };
        for member in value.as_object().unwrap().keys() {
            assert!(known.contains(member), "{kind} has no {member}");
        }
        for change in value["changes"].as_array().into_iter().flatten() {
            for member in change.as_object().unwrap().keys() {
                assert!(change_members.contains(member), "a change has no {member}");
            }
        }
    }
    for kind in full.keys().map(String::as_str).chain(["hello", "subscribe", "unsubscribe", "ack", "ping"]) {
        assert!(seen.contains(kind), "docs/protocol.md has no example of {kind}");
    }
}

#[test]
fn every_close_code_is_documented() {
    use crate::closing::Closing;
    let all = [
        Closing::Stopping,
        Closing::Replaced,
        Closing::HelloMissing,
        Closing::Refused(Code::FrameInvalid),
        Closing::NotAllowed(Code::TableNotCaptured),
        Closing::FrameTooLarge,
        Closing::SubprotocolUnknown,
        Closing::TooMany(Code::TooManyFrames),
        Closing::NotResumable,
        Closing::TooSlow,
        Closing::TryLater(Code::SourceUnreachable),
        Closing::Internal,
    ];
    let table = PAGE.split("### Close codes").nth(1).unwrap().split("## HTTP").next().unwrap();
    for closing in all {
        let code = closing.close_code().unwrap().to_string();
        assert!(table.contains(&code), "{code}");
    }
}
