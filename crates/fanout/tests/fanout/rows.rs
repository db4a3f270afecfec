//! One row over time: `GET /v1/rows/{table}/{key}/history` and `GET /v1/rows/{table}/{key}`. Gaps and bounds are in
//! `row_limits.rs`.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_history::NewGap;
use waldelta_wal::{Change, Column, Kind, Operation, Position, Table};

use crate::support::*;

/// A change of row 7 of `t` in a transaction of its own.
pub(crate) async fn change(
    world: &mut World,
    op: Operation,
    data: &str,
    more: impl FnOnce(Change) -> Change,
) -> Position {
    let data = (!data.is_empty()).then(|| data.to_owned().into());
    let change = more(Change { operation: op, data, ..insert(&world.t, 0, 7) });
    world.commit(FUTURE_XID, vec![change]).await
}

fn old(text: &'static str) -> impl FnOnce(Change) -> Change {
    move |change| Change { old_data: Some(text.into()), ..change }
}

pub(crate) fn key(text: &'static str, old: &'static str) -> impl FnOnce(Change) -> Change {
    move |change| Change { row_key: Some(text.into()), old_data: Some(old.into()), ..change }
}

pub(crate) fn lacking(column: &'static str) -> impl FnOnce(Change) -> Change {
    move |change| Change { unchanged: vec![column.into()], ..change }
}

pub(crate) async fn history(world: &World, key: &str, query: &str) -> Value {
    let (status, body) = world.get(&format!("/v1/rows/public.t/{key}/history?{query}"), "").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["key"], json!([key.parse::<u64>().unwrap()]));
    body
}

pub(crate) fn told(body: &Value) -> Vec<(String, Value)> {
    let versions = body["versions"].as_array().unwrap();
    versions.iter().map(|it| (it["op"].as_str().unwrap().to_owned(), it["data"].clone())).collect()
}

/// Applies a patch of which each operation is about a column, or about the whole document (RFC 6902).
pub(crate) fn patched(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    for operation in patch.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let Some(column) = path.strip_prefix('/') else {
            assert_eq!((path, &operation["op"]), ("", &json!("replace")));
            document = operation["value"].clone();
            continue;
        };
        let column = column.replace("~1", "/").replace("~0", "~");
        let members = document.as_object_mut().unwrap();
        let before = match operation["op"].as_str().unwrap() {
            "remove" => members.remove(&column),
            "add" => {
                assert!(members.insert(column, operation["value"].clone()).is_none());
                continue;
            }
            "replace" => members.insert(column, operation["value"].clone()),
            other => panic!("{other}"),
        };
        assert!(before.is_some(), "{operation}");
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_a_row_come_in_order_with_what_was_not_sent_carried_forward() {
    let mut world = World::new("row_versions").await;
    let first =
        change(&mut world, Operation::Insert, r#"{"id":7,"v":"a","big":[1,2]}"#, |it| by("me", it)).await;
    change(&mut world, Operation::Update, r#"{"id":7,"v":"b"}"#, lacking("big")).await;
    let third = change(&mut world, Operation::Update, r#"{"id":7,"v":1.50}"#, lacking("big")).await;
    change(&mut world, Operation::Delete, "", |it| it).await;
    change(&mut world, Operation::Insert, r#"{"id":7,"v":null}"#, |it| it).await;
    // Other rows, and another table.
    let (t, u) = world.both();
    world.commit(FUTURE_XID, vec![insert(&t, 0, 8), insert(&u, 1, 7)]).await;

    let body = history(&world, "7", "").await;
    let expected = [
        ("insert", json!({"id": 7, "v": "a", "big": [1, 2]})),
        ("update", json!({"id": 7, "v": "b", "big": [1, 2]})),
        ("update", json!({"id": 7, "v": 1.5, "big": [1, 2]})),
        ("delete", Value::Null),
        ("insert", json!({"id": 7, "v": null})),
    ]
    .map(|(op, data)| (op.to_owned(), data));
    assert_eq!(told(&body), expected);
    assert_eq!((&body["table"], &body["has_more"]), (&json!("public.t"), &json!(false)));
    let version = &body["versions"][0];
    assert_eq!(version["cursor"], Position { index: 0, ..first }.to_string());
    assert_eq!((&version["client_id"], &version["metadata"]), (&json!("me"), &json!({"user": "42"})));
    assert_eq!(
        (&version["lsn"], &version["xid"]),
        (&json!(first.commit_lsn.to_string()), &json!(FUTURE_XID))
    );
    assert_eq!(
        (&version["ts"], &version["table"]),
        (&json!("2026-11-03T12:00:00.000000Z"), &json!("public.t"))
    );

    // In pages, and with patches that lead there and back.
    for limit in 1..7 {
        let (mut pages, mut from, mut document) = (Vec::new(), String::new(), Value::Null);
        loop {
            let query = format!("limit={limit}&patch=rfc6902{from}");
            let page = history(&world, "7", &query).await;
            for version in page["versions"].as_array().unwrap() {
                let next = patched(&document, &version["patch"]);
                assert_eq!(next, version["data"], "{version}");
                assert_eq!(patched(&next, &version["reverse"]), document, "{version}");
                document = next;
            }
            pages.extend(told(&page));
            from = format!("&from={}", page["cursor"].as_str().unwrap());
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(pages, expected, "{limit}");
    }
    let patch = &history(&world, "7", "patch=rfc6902").await["versions"][2]["patch"];
    assert_eq!(*patch, json!([{"op": "replace", "path": "/v", "value": 1.5}]), "only what changed");

    // A stretch of it.
    let body = history(&world, "7", &format!("from={first}&to={third}")).await;
    assert_eq!(told(&body), expected[1..3]);
    assert_eq!(body["cursor"], third.to_string());
    let body = history(&world, "7", &format!("to={}", third.commit_lsn)).await;
    assert_eq!(told(&body), expected[..2], "an LSN is everything strictly before it");
    assert!(told(&history(&world, "6", "").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changes_its_key_ends_under_one_and_begins_under_the_other() {
    let mut world = World::new("row_moved").await;
    change(&mut world, Operation::Insert, r#"{"id":7,"v":"a","big":[1]}"#, |it| it).await;
    let moved = |it| lacking("big")(key("[9]", r#"{"id":7}"#)(it));
    let away = change(&mut world, Operation::Update, r#"{"id":9,"v":"a"}"#, moved).await;
    let still = |it| lacking("big")(key("[9]", r#"{"id":9}"#)(it));
    change(&mut world, Operation::Update, r#"{"id":9,"v":"b"}"#, still).await;
    let old_row = history(&world, "7", "").await;
    assert_eq!(told(&old_row)[1], ("delete".to_owned(), Value::Null));
    assert_eq!(old_row["versions"][1]["moved_to"], json!([9]));
    let new_row = history(&world, "9", "").await;
    assert_eq!(
        told(&new_row),
        [
            ("insert".to_owned(), json!({"id": 9, "v": "a", "big": [1]})),
            ("update".to_owned(), json!({"id": 9, "v": "b", "big": [1]}))
        ]
    );
    assert_eq!(new_row["versions"][0]["moved_from"], json!([7]));
    let before = Position { commit_lsn: waldelta_wal::Lsn(away.commit_lsn.0 - 1), ..away };
    for (id, at, status) in [("7", before, 200), ("9", before, 404), ("7", away, 404), ("9", away, 200)] {
        let (got, body) = world.get(&format!("/v1/rows/t/{id}?at={at}"), "").await;
        assert_eq!(got, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_as_of_a_place_is_what_it_was_then_or_it_is_said_why_not() {
    let mut world = World::new("row_as_of").await;
    let floor = world.head();
    let inserted = change(&mut world, Operation::Insert, r#"{"id":7,"v":"a","big":"b"}"#, |it| it).await;
    let updated = change(&mut world, Operation::Update, r#"{"id":7,"v":"b"}"#, |it| {
        lacking("big")(old(r#"{"id":7}"#)(it))
    })
    .await;
    let truncate =
        Change { operation: Operation::Truncate, row_key: None, data: None, ..insert(&world.t, 0, 7) };
    let truncated = world.commit(FUTURE_XID, vec![truncate]).await;
    let (_, u) = world.both();
    let of_u = Change { operation: Operation::Delete, data: None, ..insert(&u, 0, 5) };
    let deleted = world.commit(FUTURE_XID, vec![of_u]).await;
    let again = change(&mut world, Operation::Insert, r#"{"id":7,"v":"c"}"#, |it| it).await;
    let gap = NewGap {
        table_oid: world.t.oid,
        from: waldelta_wal::Lsn(world.next_lsn()),
        reason: "rewritten".into(),
    };
    world.writer.note_source(vec![gap], Vec::new()).await.unwrap();
    let other = insert(&u, 0, 6);
    let in_gap = world.commit(FUTURE_XID, vec![other]).await;

    let row = async |path: String| {
        let (status, body) = world.get(&format!("/v1/rows/public.{path}"), "").await;
        (status, if status == 200 { body["data"].clone() } else { body["code"].clone() })
    };
    let gone = |code: &str| (410, json!(code));
    let missing = (404, json!("WD-ROW-NOT-FOUND"));
    assert_eq!(row(format!("t/7?at={inserted}")).await, (200, json!({"id": 7, "v": "a", "big": "b"})));
    assert_eq!(row(format!("t/7?at={updated}")).await, (200, json!({"id": 7, "v": "b", "big": "b"})));
    assert_eq!(
        row(format!("t/7?at={}", updated.commit_lsn)).await,
        (200, json!({"id": 7, "v": "a", "big": "b"}))
    );
    assert_eq!(row(format!("t/7?at={truncated}")).await, missing);
    assert_eq!(row(format!("t/8?at={truncated}")).await, missing);
    assert_eq!(row(format!("t/7?at={again}")).await, (200, json!({"id": 7, "v": "c"})));
    assert_eq!(row(format!("t/7?at={in_gap}")).await, gone("WD-ROW-UNKNOWN"));
    assert_eq!(row("t/7".to_owned()).await, gone("WD-ROW-UNKNOWN"), "at the head, without a place");
    assert_eq!(row("u/6".to_owned()).await, (200, json!({"id": 6, "v": "x"})));
    // It was there before it was deleted, and history has nothing of that.
    let before = Position { commit_lsn: waldelta_wal::Lsn(deleted.commit_lsn.0 - 1), ..deleted };
    assert_eq!(row(format!("u/5?at={deleted}")).await, missing);
    let (_, body) = world.get(&format!("/v1/rows/u/5?at={before}"), "").await;
    assert_eq!(body["code"], "WD-ROW-UNKNOWN", "history of the table begins later: {body}");
    let low = Position { commit_lsn: waldelta_wal::Lsn(floor.commit_lsn.0 - 1), ..floor };
    assert_eq!(row(format!("t/7?at={low}")).await, gone("WD-ROW-UNKNOWN"), "below what can be resumed");
    let beyond = Position { commit_lsn: waldelta_wal::Lsn(in_gap.commit_lsn.0 + 1_000), ..in_gap };
    assert_eq!(row(format!("t/7?at={beyond}")).await, gone("WD-CURSOR-NOT-RESUMABLE"));

    for (path, status, code) in [
        ("t/7?at=yesterday", 400, "WD-CURSOR-INVALID"),
        ("t/7?when=0/1", 400, "WD-REQUEST-INVALID"),
        ("nothing/7", 404, "WD-TABLE-NOT-CAPTURED"),
        ("a.b.c/7", 400, "WD-REQUEST-INVALID"),
        ("t/7/history?limit=0", 400, "WD-REQUEST-INVALID"),
    ] {
        let (got, body) = world.get(&format!("/v1/rows/{path}"), "").await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{path}");
    }
    let (_, body) = world.get(&format!("/v1/rows/t/%5B7%5D?at={updated}"), "").await;
    assert_eq!(body["version"]["cursor"], Position { index: 0, ..updated }.to_string());
    assert_eq!((&body["at"], &body["version"]["op"]), (&json!(updated.to_string()), &json!("update")));
}

/// What is told of a row of another table than `t`.
async fn history_of(world: &World, path: &str) -> Value {
    let (status, body) = world.get(&format!("/v1/rows/{path}"), "").await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn of_all_rows(table: &Arc<Table>, operation: Operation) -> Change {
    Change { operation, row_key: None, data: None, ..insert(table, 0, 0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_have_the_names_and_shapes_of_their_time_and_another_table_has_none_of_them() {
    let mut world = World::new("row_shapes").await;
    change(&mut world, Operation::Insert, r#"{"id":7,"v":"a"}"#, |it| it).await;
    let mut renamed = Table::clone(&world.t);
    renamed.name.name = "renamed".into();
    renamed.columns[1].name = "w".into();
    renamed.columns.push(Column { number: 3, name: "more".into(), ..renamed.columns[1].clone() });
    let renamed = world.writer.number(renamed).table;
    let data = Some(r#"{"id":7,"w":"a","more":null}"#.into());
    let update = Change { operation: Operation::Update, data, ..insert(&renamed, 0, 7) };
    world.commit(FUTURE_XID, vec![update]).await;
    world.commit(FUTURE_XID, vec![of_all_rows(&renamed, Operation::Truncate)]).await;
    let data = Some(r#"{"id":7,"w":"b","more":1}"#.into());
    let again = Change { data, ..insert(&renamed, 0, 7) };
    let last = world.commit(FUTURE_XID, vec![again]).await;

    let body = history_of(&world, "public.renamed/7/history?patch=rfc6902").await;
    assert_eq!(body["table"], "public.renamed");
    let expected = [
        ("insert", json!({"id": 7, "v": "a"})),
        ("update", json!({"id": 7, "w": "a", "more": null})),
        ("truncate", Value::Null),
        ("insert", json!({"id": 7, "w": "b", "more": 1})),
    ]
    .map(|(op, data)| (op.to_owned(), data));
    assert_eq!(told(&body), expected);
    let names: Vec<_> = body["versions"].as_array().unwrap().iter().map(|it| it["table"].clone()).collect();
    assert_eq!(names, ["public.t", "public.renamed", "public.renamed", "public.renamed"]);
    let patch = json!([
        {"op": "remove", "path": "/v"},
        {"op": "add", "path": "/w", "value": "a"},
        {"op": "add", "path": "/more", "value": null}
    ]);
    assert_eq!(sorted(&body["versions"][1]["patch"]), sorted(&patch));
    // By the name it had last where no table has that name, and nothing of a row that was not there.
    assert_eq!(told(&history_of(&world, "t/7/history").await), expected);
    assert!(told(&history_of(&world, "t/8/history").await).is_empty());

    // Dropped, and made anew under its name.
    let anew = world.add_table(4_000_000_000, "renamed");
    world.commit(FUTURE_XID, vec![insert(&anew, 0, 7)]).await;
    let body = history_of(&world, "renamed/7/history").await;
    assert_eq!(told(&body), [("insert".to_owned(), json!({"id": 7, "v": "x"}))]);
    let (status, body) = world.get(&format!("/v1/rows/renamed/7?at={last}"), "").await;
    assert_eq!((status, &body["code"]), (410, &json!("WD-ROW-UNKNOWN")), "it was not there then: {body}");
}

fn sorted(patch: &Value) -> Vec<String> {
    let mut operations: Vec<_> = patch.as_array().unwrap().iter().map(Value::to_string).collect();
    operations.sort();
    operations
}

/// A segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|it| if keeps(it) { char::from(it).to_string() } else { format!("%{it:02X}") }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_found_by_a_key_of_any_type_as_clients_write_it() {
    let mut world = World::new("row_keys").await;
    // Type, a value, and what clients make of it.
    let cases: [(u32, &str, &str, &[&str]); 9] = [
        (701, "float8", "1e20", &["1e+20", "1e20", "100000000000000000000", "[1E20]"]),
        (701, "float8", "0.1", &["0.1", "[0.10]", "1e-1"]),
        (701, "float8", "-1.5e-7", &["-1.5e-07", "-0.00000015"]),
        (701, "float8", "123456789012345678", &["1.2345678901234568e+17", "123456789012345680"]),
        (700, "float4", "1234567", &["1.234567e+06", "1234567", "[1234567.0]"]),
        (701, "float8", "NaN", &["NaN", "[\"NaN\"]"]),
        (
            1114,
            "timestamp",
            "2026-11-03 12:00:00.5",
            &["2026-11-03T12:00:00.5", "[\"2026-11-03T12:00:00.5\"]"],
        ),
        (1184, "timestamptz", "2026-11-03 12:00:00+02", &["2026-11-03T10:00:00+00:00"]),
        (25, "text", "a/b//../\"c\" ü?#%2F[1]", &["a/b//../\"c\" ü?#%2F[1]"]),
    ];
    for (oid, (type_oid, type_name, value, written)) in (4_000_000_000..).zip(cases) {
        // As the stream has it: floats as they print themselves.
        let text = format!("'{value}'::{type_name}");
        let is_number = type_name.starts_with("float") && value != "NaN";
        world.database.exec("SET timezone = 'UTC'").await;
        let json = match is_number {
            true => world.database.query_text(&format!("SELECT {text}::text")).await,
            false => world.database.query_text(&format!("SELECT to_jsonb({text})")).await,
        };
        let mut table = Table { oid, version: 0, ..Table::clone(&world.t) };
        table.name.name = format!("t{oid}");
        let kind = Kind::builtin(type_oid).unwrap();
        table.columns[0] = Column { type_oid, kind, type_name: type_name.into(), ..table.columns[0].clone() };
        let table = world.writer.number(table).table;
        let key = format!("[{json}]");
        let data = Some(format!("{{\"id\":{json},\"v\":\"x\"}}").into());
        let change = Change { row_key: Some(key.clone().into()), data, ..insert(&table, 0, 7) };
        world.commit(FUTURE_XID, vec![change]).await;
        for written in written.iter().copied().chain([key.as_str()]) {
            let path = format!("{}/{}", table.name, segment(written));
            let body = history_of(&world, &format!("{path}/history")).await;
            assert_eq!(told(&body).len(), 1, "{written}: {key}");
            assert_eq!(history_of(&world, &path).await["data"]["v"], "x", "{written}: {key}");
        }
    }
    // A slash that is not escaped is another path.
    let (status, _) = world.get("/v1/rows/t4000000008/a/b", "").await;
    assert_eq!(status, 404);
}
