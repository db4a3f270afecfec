//! Frames of transactions, by example.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_wal::{Operation, Table, TruncateOptions};

use super::*;
use crate::subscription::{Numbers, Subscription};
use crate::testing::{change, filtered, head, message, schema_change, subscription, table};

fn frame(changes: &[Change], old: bool) -> Value {
    frame_for(&Subscription { old, ..subscription("s1", "*") }, changes)
}

fn frame_for(subscription: &Subscription, changes: &[Change]) -> Value {
    let head = head(0x100, 7);
    let envelope = Envelope {
        head: &head,
        cursor: head.position(),
        prev: Position::default(),
        own: false,
        author: TxAuthor::of(changes),
        origin: origin_of(changes),
        part: None,
        last: true,
    };
    let selection = crate::testing::everything(vec![subscription.clone()]);
    let route = |change: &Change| selection.route(change.table.as_deref()).unwrap().unwrap();
    let routes: Vec<Route> = changes.iter().map(route).collect();
    let text = encode(&envelope, changes.iter().zip(&routes)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a column holds that may not be seen, planted wherever the source can tell of it: nothing of it is in any frame.
#[test]
fn a_column_that_may_not_be_seen_is_in_no_bytes_of_a_frame() {
    let mut shape = table("t");
    let mut secret = shape.columns[1].clone();
    (secret.name, secret.number) = ("hidden".into(), 3);
    shape.columns.push(secret);
    shape.identity = waldelta_wal::ReplicaIdentity::Full;
    let large = "SECRET".repeat(2 << 20);
    let row =
        |id: u8, hidden: &str| Some(Bytes::from(format!(r#"{{"id":{id},"v":"x","hidden":"{hidden}"}}"#)));
    let grant =
        crate::testing::grant(&[crate::testing::rule("*", Some(&["v"]), Some("hidden > 'A'"))], json!({}));
    for (key, old) in [(vec![0], true), (vec![0], false), (Vec::new(), false)] {
        let shape = Arc::new(Table { key: key.clone(), ..shape.clone() });
        let selection = crate::testing::everything(vec![Subscription { old, ..subscription("s1", "*") }]);
        let route = selection.granted(grant.clone()).route(Some(&shape)).unwrap().unwrap();
        let make = |seq, operation, data, old_data| Change {
            data,
            old_data,
            row_key: (!key.is_empty()).then(|| "[1]".into()),
            flagged: vec!["hidden".into()],
            ..change(seq, operation, &shape, 1)
        };
        let unchanged = Some(Bytes::from_static(br#"{"id":1,"v":"y"}"#));
        let changes = [
            make(0, Operation::Insert, row(1, "SECRET 1"), None),
            make(1, Operation::Update, row(1, "SECRET 2"), row(1, "SECRET 1")),
            make(2, Operation::Update, row(1, "SECRET 2"), row(9, "SECRET 1")),
            Change {
                unchanged: vec!["hidden".into()],
                ..make(3, Operation::Update, unchanged, row(1, "SECRET 2"))
            },
            make(4, Operation::Update, row(1, &large), row(1, &large)),
            // It comes into what may be seen, and leaves it.
            make(5, Operation::Update, row(1, "SECRET 3"), row(1, "0 SECRET")),
            make(6, Operation::Update, row(1, "0 SECRET"), row(1, "SECRET 3")),
            make(7, Operation::Delete, None, row(1, "SECRET 4")),
        ];
        let head = head(0x100, 7);
        let envelope = Envelope {
            head: &head,
            cursor: head.position(),
            prev: Position::default(),
            own: false,
            author: TxAuthor::Nobody,
            origin: None,
            part: None,
            last: true,
        };
        let text = encode(&envelope, changes.iter().map(|change| (change, &route))).unwrap();
        let schema = crate::wire::server::schema(&shape, route.projection());
        for text in [&text, &schema] {
            assert!(
                !text.contains("SECRET") && !text.contains("hidden"),
                "{}",
                &text[..text.len().min(2_000)]
            );
        }
        let frame: Value = serde_json::from_str(&text).unwrap();
        let ops = frame["changes"].as_array().unwrap().iter().map(|change| change["op"].as_str().unwrap());
        let moved = if key.is_empty() { "update" } else { "delete insert" };
        let expected = format!("insert update {moved} update update insert delete delete");
        assert_eq!(ops.collect::<Vec<_>>().join(" "), expected);
    }
}

fn update(key: &'static str, data: &'static str, old: Option<&'static str>) -> Change {
    Change {
        row_key: Some(Bytes::from_static(key.as_bytes())),
        data: Some(Bytes::from_static(data.as_bytes())),
        old_data: old.map(|old| Bytes::from_static(old.as_bytes())),
        ..change(0, Operation::Update, &Arc::new(table("t")), 1)
    }
}

fn author(id: &str, metadata: Option<&str>) -> Option<Arc<Author>> {
    Some(Arc::new(Author { client_id: id.into(), metadata: metadata.map(str::to_owned) }))
}

#[test]
fn a_frame_has_the_documented_fields() {
    let table = Arc::new(table("t"));
    assert_eq!(
        frame(&[change(0, Operation::Insert, &table, 1), change(1, Operation::Delete, &table, 2)], false),
        json!({
            "type": "tx",
            "cursor": "00000001-0000000000000100-ffffffff",
            "prev": "00000000-0000000000000000-00000000",
            "lsn": "0/100",
            "xid": 7,
            "ts": "1970-01-01T00:00:01.000000Z",
            "own": false,
            "last": true,
            "changes": [
                {"seq": 0, "op": "insert", "table": "public.t", "key": {"id": 1}, "data": {"id": 1, "v": "x"}, "sub": ["s1"]},
                {"seq": 1, "op": "delete", "table": "public.t", "key": {"id": 2}, "sub": ["s1"]},
            ],
        })
    );
}

#[test]
fn an_update_that_keeps_the_key_stays_an_update() {
    for old in [None, Some(r#"{"id": 1, "v": "y"}"#), Some(r#"{"v":"y"}"#)] {
        let value = frame(&[update("[1]", r#"{"id":1,"v":"x"}"#, old)], false);
        assert_eq!(value["changes"][0]["op"], "update");
        assert_eq!(value["changes"].as_array().unwrap().len(), 1);
        assert_eq!(value["changes"][0]["old"], Value::Null, "the old image was not asked for");
    }
    let value = frame(&[update("[1]", r#"{"id":1,"v":"x"}"#, Some(r#"{"id": 1, "v": "y"}"#))], true);
    assert_eq!(value["changes"][0]["old"], json!({"id": 1, "v": "y"}));
}

#[test]
fn a_key_change_is_a_delete_and_an_insert() {
    let mut change = update("[2]", r#"{"id":2}"#, Some(r#"{"id": 1}"#));
    change.unchanged = vec!["v".into()];
    assert_eq!(
        frame(&[change], true)["changes"],
        json!([
            {"seq": 0, "op": "delete", "table": "public.t", "key": {"id": 1}, "old": {"id": 1}, "sub": ["s1"]},
            {"seq": 0, "op": "insert", "table": "public.t", "key": {"id": 2}, "data": {"id": 2}, "moved_from": {"id": 1},
             "unchanged": ["v"], "sub": ["s1"]},
        ])
    );
}

#[test]
fn one_author_stands_at_the_transaction_and_several_at_their_changes() {
    let table = Arc::new(table("t"));
    let mut changes = [change(0, Operation::Insert, &table, 1), change(1, Operation::Insert, &table, 2)];
    changes[1].author = author("web-7", Some(r#"{"user": "42"}"#));
    let value = frame(&changes, false);
    assert_eq!((&value["client_id"], &value["metadata"]), (&json!("web-7"), &json!({"user": "42"})));
    changes[0].author = author("web-8", Some("not json"));
    let value = frame(&changes, false);
    assert_eq!(value["client_id"], Value::Null);
    assert_eq!(value["changes"][0]["client_id"], "web-8");
    assert_eq!(value["changes"][0]["metadata"], Value::Null, "what is no JSON would break the frame");
    assert_eq!(value["changes"][1]["client_id"], "web-7");
}

#[test]
fn a_table_without_key_has_a_null_key() {
    let mut keyless = table("log");
    keyless.key.clear();
    let mut change = change(0, Operation::Insert, &Arc::new(keyless), 1);
    change.row_key = None;
    assert_eq!(frame(std::slice::from_ref(&change), false)["changes"][0]["key"], Value::Null);

    // With REPLICA IDENTITY FULL its rows change and go: the row before is sent without being asked for, it names the row.
    let old = Some(Bytes::from_static(br#"{"id":1,"v":"y"}"#));
    let update = Change { operation: Operation::Update, old_data: old.clone(), ..change.clone() };
    let delete = Change { operation: Operation::Delete, data: None, old_data: old, ..change };
    assert_eq!(
        frame(&[update, delete], false)["changes"],
        json!([
            {"seq": 0, "op": "update", "table": "public.log", "key": null, "data": {"id": 1, "v": "x"},
             "old": {"id": 1, "v": "y"}, "sub": ["s1"]},
            {"seq": 0, "op": "delete", "table": "public.log", "key": null, "old": {"id": 1, "v": "y"}, "sub": ["s1"]},
        ])
    );
}

#[test]
fn a_message_has_no_table_and_without_a_transaction_no_id() {
    let mut hello = message(0, "hello");
    hello.origin = Some("elsewhere".into());
    let value = frame(std::slice::from_ref(&hello), false);
    let data = json!({"prefix": "app", "content": "hello"});
    assert_eq!(value["changes"], json!([{"seq": 0, "op": "message", "data": data, "sub": ["s1"]}]));
    assert_eq!((&value["xid"], &value["origin"]), (&json!(7), &json!("elsewhere")));

    let head = head(0x100, 0);
    let envelope = Envelope {
        head: &head,
        cursor: head.position(),
        prev: Position::default(),
        own: false,
        author: TxAuthor::Nobody,
        origin: None,
        part: None,
        last: true,
    };
    let value: Value = serde_json::from_str(&encode(&envelope, std::iter::empty()).unwrap()).unwrap();
    assert_eq!((&value["xid"], value.get("origin")), (&Value::Null, None));
}

#[test]
fn a_truncate_says_how_it_was_written() {
    let table = Arc::new(table("t"));
    let plain = change(0, Operation::Truncate, &table, 1);
    let mut full = change(1, Operation::Truncate, &table, 1);
    full.truncate = TruncateOptions { cascade: true, restart_identity: true };
    assert_eq!(
        frame(&[plain, full], false)["changes"],
        json!([
            {"seq": 0, "op": "truncate", "table": "public.t", "key": null, "sub": ["s1"]},
            {"seq": 1, "op": "truncate", "table": "public.t", "key": null, "cascade": true, "restart_identity": true,
             "sub": ["s1"]},
        ])
    );
}

#[test]
fn a_shape_is_no_change_of_a_frame() {
    let table = Arc::new(table("t"));
    let value = frame(&[schema_change(0, &table), change(1, Operation::Insert, &table, 1)], false);
    assert_eq!(value["changes"].as_array().unwrap().len(), 1);
    assert_eq!(value["changes"][0]["op"], "insert");
}

#[test]
fn what_is_too_large_says_where_it_is() {
    let huge = format!(r#"{{"id": 1, "v": "{}"}}"#, "x".repeat(9 << 20));
    let insert = Change { data: Some(huge.into()), ..change(5, Operation::Insert, &Arc::new(table("t")), 1) };
    let value = &frame(&[insert], false)["changes"][0]["data"];
    assert_eq!((&value["id"], &value["v"]["$too_large"]["bytes"]), (&json!(1), &json!((9 << 20) + 2)));
    assert_eq!(value["v"]["$too_large"]["url"], "/v1/values/00000001-0000000000000100-00000005/data/v");
}

/// The row leaves the client's copy, comes into it, and is none of it; what is told has the columns that were asked for.
#[test]
fn a_change_is_told_as_what_it_is_to_the_rows_asked_for() {
    let full = |old: &'static str, new: &'static str| {
        let mut change = update("[1]", new, Some(old));
        (change.unchanged, change.flagged) = (vec!["v".into()], vec!["v".into(), "id".into()]);
        change
    };
    let (inside, outside) = (r#"{"id":1,"v":"in"}"#, r#"{"id":1,"v":"out"}"#);
    let changes =
        [full(inside, outside), full(outside, inside), full(outside, outside), full(inside, inside)];
    let columns = Some(["id".to_owned()].into());
    let some = Subscription { columns, old: true, ..filtered("s1", "t", "v = 'in'") };
    assert_eq!(
        frame_for(&some, &changes)["changes"],
        json!([
            {"seq": 0, "op": "delete", "table": "public.t", "key": {"id": 1}, "old": {"id": 1}, "flagged": ["id"],
             "sub": ["s1"]},
            {"seq": 0, "op": "insert", "table": "public.t", "key": {"id": 1}, "data": {"id": 1}, "flagged": ["id"],
             "sub": ["s1"]},
            {"seq": 0, "op": "update", "table": "public.t", "key": {"id": 1}, "data": {"id": 1}, "old": {"id": 1},
             "flagged": ["id"], "sub": ["s1"]},
        ])
    );
}

#[test]
fn big_numbers_are_strings_in_keys_too() {
    let mut big = table("t");
    (big.columns[0].type_oid, big.columns[0].type_name) = (20, "bigint".into());
    let big = Arc::new(big);
    let moved = Change {
        data: Some(Bytes::from_static(br#"{"id":9007199254740993,"v":"x"}"#)),
        row_key: Some(Bytes::from_static(b"[9007199254740993]")),
        old_data: Some(Bytes::from_static(br#"{"id": -1, "v": null}"#)),
        ..change(0, Operation::Update, &big, 1)
    };
    let strings = Subscription { big_numbers: Numbers::String, old: true, ..subscription("s1", "*") };
    assert_eq!(
        frame_for(&strings, &[moved])["changes"],
        json!([
            {"seq": 0, "op": "delete", "table": "public.t", "key": {"id": "-1"}, "old": {"id": "-1", "v": null},
             "sub": ["s1"]},
            {"seq": 0, "op": "insert", "table": "public.t", "key": {"id": "9007199254740993"},
             "data": {"id": "9007199254740993", "v": "x"}, "moved_from": {"id": "-1"}, "sub": ["s1"]},
        ])
    );
}
