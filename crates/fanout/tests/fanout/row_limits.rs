//! What is told of one row where it is not known, and where an answer would be too much work.

use serde_json::{Value, json};
use waldelta_history::NewGap;
use waldelta_wal::{Change, Lsn, Operation, Position};

use crate::rows::{change, history, key, lacking, patched, segment, told};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn in_a_gap_a_version_is_told_and_how_long_it_stayed_so_is_not_known() {
    let mut world = World::new("row_in_gap").await;
    let first = change(&mut world, Operation::Insert, r#"{"id":7,"v":"a","big":1}"#, |it| it).await;
    let from = world.next_lsn();
    let second = change(&mut world, Operation::Update, r#"{"id":7,"v":"b"}"#, lacking("big")).await;
    let third = change(&mut world, Operation::Delete, "", |it| it).await;
    let gap = NewGap { table_oid: world.t.oid, from: Lsn(from), reason: "rewritten".into() };
    world.writer.note_source(vec![gap], Vec::new()).await.unwrap();
    let begin = Position { commit_lsn: Lsn(from - 1), ..first };
    let until = world.head();
    let fourth = change(&mut world, Operation::Update, r#"{"id":7,"v":"c"}"#, lacking("big")).await;
    let fifth = change(&mut world, Operation::Update, r#"{"id":7,"v":"d","big":2}"#, |it| it).await;

    let body = history(&world, "7", "").await;
    let (a, d) = (json!({"id": 7, "v": "a", "big": 1}), json!({"id": 7, "v": "d", "big": 2}));
    let expected = [
        ("insert", a.clone(), Value::Null),
        ("gap", Value::Null, Value::Null),
        ("update", json!({"id": 7, "v": "b"}), json!(true)),
        ("delete", Value::Null, json!(true)),
        ("update", json!({"id": 7, "v": "c"}), Value::Null),
        ("update", d.clone(), Value::Null),
    ];
    let versions = body["versions"].as_array().unwrap();
    let found =
        versions.iter().map(|it| (it["op"].as_str().unwrap(), it["data"].clone(), it["in_gap"].clone()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let gap = json!({"cursor": begin.to_string(), "op": "gap", "until": until.to_string(), "data": null});
    assert_eq!(versions[1], gap);
    for version in [2, 4] {
        assert_eq!(
            versions[version]["unchanged"],
            json!(["big"]),
            "not from before, where it may have been another"
        );
    }
    // Behind a version in a gap the row is not known: patches begin with null there, on whatever page.
    for limit in 1..=6 {
        let (mut from, mut document, mut seen) = (String::new(), Value::Null, 0);
        loop {
            let page = history(&world, "7", &format!("limit={limit}&patch=rfc6902{from}")).await;
            for version in page["versions"].as_array().unwrap() {
                let next = patched(&document, &version["patch"]);
                assert_eq!(next, version["data"], "{version}");
                assert_eq!(patched(&next, &version["reverse"]), document, "{version}");
                document = if version["in_gap"] == true { Value::Null } else { next };
                seen += 1;
            }
            from = format!("&from={}", page["cursor"].as_str().unwrap());
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen, expected.len(), "{limit}");
    }
    // As of a place in it nothing is known; before it and behind it what there is.
    let row = async |at: Position| {
        let (status, body) = world.get(&format!("/v1/rows/t/7?at={at}"), "").await;
        if status == 200 { Ok(body["data"].clone()) } else { Err((status, body["code"].clone())) }
    };
    let unknown = Err((410, json!("WD-ROW-UNKNOWN")));
    assert_eq!(row(first).await, Ok(a));
    for at in [begin, Position { index: 0, ..second }, second, third, until] {
        assert_eq!(row(at).await, unknown, "{at}");
    }
    assert_eq!((row(fourth).await, row(fifth).await), (Ok(json!({"id": 7, "v": "c"})), Ok(d)));
}

/// The row goes from key to key, `count` times, with what it was at first: inserted, or taken from `from`.
fn moves(world: &World, from: Option<u64>, keys: std::ops::Range<u64>, to: u64, v: &str) -> Vec<Change> {
    let change = |id: u64, before: u64| Change {
        operation: Operation::Update,
        row_key: Some(format!("[{id}]").into()),
        data: Some(format!(r#"{{"id":{id},"v":"{v}"}}"#).into()),
        old_data: Some(format!(r#"{{"id":{before}}}"#).into()),
        unchanged: vec!["big".into()],
        ..insert(&world.t, 0, id)
    };
    let first = keys.start;
    let data = Some(format!(r#"{{"id":{first},"v":"{v}","big":{first}}}"#).into());
    let whole = match from {
        Some(from) => Change { data, unchanged: Vec::new(), ..change(first, from) },
        None => Change { data, ..insert(&world.t, 0, first) },
    };
    let last = keys.end - 1;
    let mut changes = vec![whole];
    changes.extend(keys.skip(1).map(|id| change(id, id - 1)));
    changes.push(change(to, last));
    (0..).zip(&mut changes).for_each(|(seq, change)| change.seq = seq);
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_answer_looks_for_is_bounded_and_the_next_goes_on() {
    let mut world = World::new("row_bounds").await;
    // Twice to key 9, each time along a way of 150 others.
    let changes = moves(&world, None, 1_000..1_150, 9, "a");
    world.commit(FUTURE_XID, changes).await;
    let changes = moves(&world, Some(9), 2_000..2_150, 9, "b");
    world.commit(FUTURE_XID, changes).await;
    let first = history(&world, "9", "").await;
    assert_eq!(
        told(&first),
        [("insert".to_owned(), json!({"id": 9, "v": "a", "big": 1_000})), ("delete".to_owned(), Value::Null)]
    );
    assert_eq!(first["has_more"], true, "what comes next needs as much again");
    assert_eq!(first["cursor"], first["versions"][1]["cursor"]);
    let second = history(&world, "9", &format!("from={}", first["cursor"].as_str().unwrap())).await;
    assert_eq!(told(&second), [("insert".to_owned(), json!({"id": 9, "v": "b", "big": 2_000}))]);
    assert_eq!((&second["has_more"], &second["versions"][0]["cut"]), (&json!(false), &Value::Null));

    // Longer than what one answer looks for: by steps, and by bytes.
    let changes = moves(&world, None, 5_000..5_250, 99, "a");
    world.commit(FUTURE_XID, changes).await;
    let large = "x".repeat(1 << 20);
    let changes = moves(&world, None, 7_000..7_006, 100, &large);
    world.commit(FUTURE_XID, changes).await;
    for (key, big) in [(99_u64, 5_000), (100, 7_000)] {
        let page = history(&world, &key.to_string(), "").await;
        let version = &page["versions"][0];
        assert_eq!((&version["unchanged"], &page["has_more"]), (&json!(["big"]), &json!(false)));
        let (mut cut, mut steps) = (version["cut"].clone(), 0);
        let (_, row) = world.get(&format!("/v1/rows/t/{key}"), "").await;
        // Finding the row takes a step, too.
        assert_eq!(row["unchanged"], json!(["big"]));
        assert_ne!(row["cut"], Value::Null);
        // The row by the key and as of the place that are told goes on.
        while cut != Value::Null {
            let path =
                format!("/v1/rows/t/{}?at={}", segment(&cut["key"].to_string()), cut["at"].as_str().unwrap());
            let (status, row) = world.get(&path, "").await;
            assert_eq!(status, 200, "{row}");
            assert_eq!(row["data"]["big"], if row["cut"] == Value::Null { json!(big) } else { Value::Null });
            (cut, steps) = (row["cut"].clone(), steps + 1);
        }
        assert!((1..=2).contains(&steps), "{steps}");
    }
    // Where a version needs what was not found before it, it says so too.
    let still = |it| lacking("big")(key("[99]", r#"{"id":99}"#)(it));
    change(&mut world, Operation::Update, r#"{"id":99,"v":"z"}"#, still).await;
    let page = history(&world, "99", "").await;
    assert_eq!(page["versions"][1]["cut"], page["versions"][0]["cut"]);
    assert_ne!(page["versions"][1]["cut"], Value::Null);
}
