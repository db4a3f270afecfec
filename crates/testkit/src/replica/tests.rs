//! The fold on frames written by hand, and that each breach of the protocol is noticed.

use serde_json::json;

use super::*;

fn cursor(lsn: u64, index: u32) -> String {
    format!("00000001-{lsn:016x}-{index:08x}")
}

fn whole(lsn: u64) -> String {
    cursor(lsn, u32::MAX)
}

/// A client with a snapshot of table `t (id, v)` at 0x100 with the rows 1 and 2.
fn begun() -> Replica {
    let mut replica = Replica::new();
    for frame in [
        json!({"type": "welcome", "session": "s", "protocol": 1, "epoch": 1, "head": whole(0x100), "floor": whole(0),
               "mode": "snapshot", "heartbeat_ms": 1000, "access": "0123456789abcdef"}),
        schema("t", &["id"]),
        json!({"type": "snapshot_begin", "cursor": whole(0x100), "tables": [{"table": "t", "rows_estimate": 7}]}),
        json!({"type": "rows", "table": "t", "rows": [{"id": 1, "v": "a"}, {"v": "b", "id": 2}]}),
        json!({"type": "snapshot_end", "cursor": whole(0x100), "consistent_at": whole(0x120),
               "tables": [{"table": "t", "rows": 2, "checksum": "x"}]}),
    ] {
        replica.apply(&frame.to_string()).unwrap();
    }
    replica
}

fn schema(table: &str, key: &[&str]) -> Value {
    let column =
        |name: &str| json!({"name": name, "type": "text", "nullable": false, "key": key.contains(&name)});
    json!({"type": "schema", "table": table, "version": 1, "columns": [column("id"), column("v")]})
}

fn tx(lsn: u64, prev: u64, changes: Value) -> Value {
    json!({"type": "tx", "cursor": whole(lsn), "prev": whole(prev), "lsn": format!("0/{lsn:X}"), "xid": 1, "ts": "x",
           "own": false, "last": true, "changes": changes})
}

fn part(lsn: u64, index: u32, prev: u64, changes: Value) -> Value {
    let mut part = tx(lsn, prev, changes);
    part["cursor"] = cursor(lsn, index).into();
    part["last"] = false.into();
    part
}

fn put(seq: u64, op: &str, id: u64, v: &str) -> Value {
    json!({"seq": seq, "op": op, "table": "t", "key": {"id": id}, "data": {"id": id, "v": v}, "sub": ["s1"]})
}

fn delete(seq: u64, id: u64) -> Value {
    json!({"seq": seq, "op": "delete", "table": "t", "key": {"id": id}, "sub": ["s1"]})
}

fn apply(replica: &mut Replica, frames: &[Value]) {
    for frame in frames {
        replica.apply(&frame.to_string()).unwrap();
    }
}

/// The frames of a snapshot of one table.
fn late(table: &str, key: &[&str], begins_at: u64, ends_at: u64, rows: &[Value]) -> Vec<Value> {
    vec![
        json!({"type": "snapshot_begin", "cursor": whole(begins_at), "tables": [{"table": table, "rows_estimate": 0}]}),
        schema(table, key),
        json!({"type": "rows", "table": table, "rows": rows}),
        json!({"type": "snapshot_end", "cursor": whole(ends_at), "consistent_at": whole(0x200),
               "tables": [{"table": table, "rows": rows.len(), "checksum": "x"}]}),
    ]
}

/// Checks that the last frame is refused for this reason, and the ones before it are not.
fn check_refused(mut replica: Replica, frames: &[Value], reason: &str) {
    let (last, before) = frames.split_last().unwrap();
    apply(&mut replica, before);
    let violation = replica.apply(&last.to_string()).expect_err(reason);
    assert!(violation.0.contains(reason), "{violation:?} instead of {reason}");
}

#[test]
fn folds_snapshot_and_transactions() {
    let mut replica = begun();
    assert!(!replica.is_consistent());
    let changes = json!([put(0, "insert", 3, "c"), put(1, "update", 1, "A"), delete(2, 2), delete(5, 99)]);
    apply(&mut replica, &[tx(0x110, 0x90, changes), json!({"type": "live", "cursor": whole(0x120)})]);
    assert_eq!(replica.rows("t"), [r#"{"id":1,"v":"A"}"#, r#"{"id":3,"v":"c"}"#]);
    assert_eq!(replica.row("t", &json!({"id": 3})), Some(json!({"id": 3, "v": "c"})));
    assert_eq!(replica.position().map(|position| position.to_string()), Some(whole(0x120)));
    assert!(replica.is_live() && replica.is_consistent() && replica.transactions() == 1);
    apply(
        &mut replica,
        &[tx(0x130, 0x110, json!([{"seq": 0, "op": "truncate", "table": "t", "key": null}]))],
    );
    assert!(replica.rows("t").is_empty());
}

#[test]
fn numbers_keep_their_digits() {
    let mut replica = begun();
    let text = tx(0x110, 0x90, json!([put(0, "insert", 7, "SENTINEL")])).to_string();
    replica.apply(&text.replace("\"SENTINEL\"", "9007199254740993.10")).unwrap();
    assert!(replica.rows("t").contains(&r#"{"id":7,"v":90071992547409931e-1}"#.to_owned()));
}

#[test]
fn unchanged_columns_keep_what_was_there() {
    let mut replica = begun();
    let change = |id: u64| json!([{"seq": 0, "op": "update", "table": "t", "key": {"id": id}, "data": {"id": id}, "unchanged": ["v"]}]);
    apply(&mut replica, &[tx(0x110, 0x90, change(1))]);
    assert_eq!(replica.rows("t")[0], r#"{"id":1,"v":"a"}"#);
    check_refused(replica, &[tx(0x130, 0x110, change(44))], "never sent");
}

#[test]
fn a_transaction_in_parts_is_applied_as_one_and_forgotten_if_the_connection_ends() {
    let mut replica = begun();
    let frames = [
        part(0x130, 0, 0x100, json!([put(0, "insert", 3, "c")])),
        part(0x130, 1, 0x100, json!([put(1, "insert", 4, "d")])),
        tx(0x130, 0x100, json!([put(2, "insert", 5, "e")])),
    ];
    apply(&mut replica, &frames[..2]);
    assert_eq!((replica.rows("t").len(), replica.transactions()), (2, 0));
    replica.disconnected();
    assert_eq!(replica.hello("c", &[])["after"], whole(0x100));
    apply(&mut replica, &[schema("t", &["id"])]);
    apply(&mut replica, &frames);
    assert_eq!((replica.rows("t").len(), replica.transactions()), (5, 1));
}

#[test]
fn a_table_without_key_is_a_multiset() {
    let mut replica = begun();
    let insert = |seq: u64| json!({"seq": seq, "op": "insert", "table": "log", "key": null, "data": {"id": 1, "v": "x"}});
    apply(&mut replica, &late("log", &[], 0x100, 0x100, &[]));
    apply(&mut replica, &[tx(0x230, 0x100, json!([insert(0), insert(1)]))]);
    assert_eq!(replica.rows("log").len(), 2);
    // With REPLICA IDENTITY FULL the row before names the row; one of several equal ones goes.
    let row = |v: &str| json!({"id": 1, "v": v});
    let update =
        json!({"seq": 0, "op": "update", "table": "log", "key": null, "data": row("y"), "old": row("x")});
    let delete = json!({"seq": 1, "op": "delete", "table": "log", "key": null, "old": row("x")});
    apply(&mut replica, &[tx(0x240, 0x230, json!([update]))]);
    assert_eq!(replica.rows("log"), [r#"{"id":1,"v":"x"}"#, r#"{"id":1,"v":"y"}"#]);
    apply(&mut replica, &[tx(0x250, 0x240, json!([delete]))]);
    assert_eq!(replica.rows("log"), [r#"{"id":1,"v":"y"}"#]);
    check_refused(replica, &[tx(0x260, 0x250, json!([delete]))], "has no row");
    let mut nameless = update;
    nameless.as_object_mut().unwrap().remove("old");
    let mut replica = begun();
    apply(&mut replica, &[schema("log", &[])]);
    check_refused(replica, &[tx(0x130, 0x100, json!([nameless]))], "\"old\" is missing");
}

#[test]
fn a_table_subscribed_late_comes_on_the_cursor_of_the_stream() {
    let row = json!({"id": 1, "v": "u"});
    let late = |cursor: u64| late("u", &["id"], cursor, cursor, std::slice::from_ref(&row));
    let next = tx(0x190, 0x100, json!([put(0, "insert", 3, "c")]));
    let mut replica = begun();
    apply(&mut replica, &late(0x100));
    apply(&mut replica, std::slice::from_ref(&next));
    assert_eq!((replica.rows("t").len(), replica.rows("u").len()), (3, 1));
    assert!(!replica.is_consistent());
    // The snapshot's own position instead would be stored, and what lies before it lost.
    let mut replica = begun();
    apply(&mut replica, &late(0x200));
    check_refused(replica, &[next], "comes after");
}

#[test]
fn a_reset_drops_tables_and_an_incomplete_snapshot_is_taken_again() {
    let mut replica = begun();
    apply(&mut replica, &[json!({"type": "reset", "reason": "epoch_changed"})]);
    assert!(replica.rows("t").is_empty() && replica.position().is_none());
    let begin = json!({"type": "snapshot_begin", "cursor": whole(0x50), "tables": [{"table": "t", "rows_estimate": 0}]});
    apply(&mut replica, &[begin, json!({"type": "rows", "table": "t", "rows": [{"id": 9, "v": "z"}]})]);
    replica.disconnected();
    assert!(replica.rows("t").is_empty());
    assert_eq!(replica.hello("c", &[]).get("after"), None);
    assert_eq!(replica.resets(), ["epoch_changed"]);
}

#[test]
fn own_transactions_are_confirmed_and_errors_kept() {
    let mut replica = begun();
    let mut own = tx(0x130, 0x100, json!([]));
    own["own"] = true.into();
    apply(&mut replica, &[own, json!({"type": "error", "code": "WD-X", "message": "m", "fatal": false})]);
    assert_eq!(replica.confirmed().len(), 1);
    assert_eq!(replica.errors()[0]["code"], "WD-X");
}

#[test]
fn a_key_change_is_one_change_told_as_two() {
    let mut replica = begun();
    let halves = |seq: u64, moved_from: Value| {
        json!([{"seq": 0, "op": "delete", "table": "t", "key": {"id": 1}},
               {"seq": seq, "op": "insert", "table": "t", "key": {"id": 7}, "moved_from": moved_from,
                "data": {"id": 7}, "unchanged": ["v"]}])
    };
    apply(&mut replica, &[tx(0x130, 0x100, halves(0, json!({"id": 1})))]);
    assert_eq!(replica.row("t", &json!({"id": 1})), None);
    assert_eq!(replica.row("t", &json!({"id": 7})), Some(json!({"id": 7, "v": "a"})));
    check_refused(begun(), &[tx(0x130, 0x100, halves(0, json!({"id": 2})))], "seq 0 follows Some(0)");
}

#[test]
fn a_gap_a_repetition_and_a_step_back_are_refused() {
    check_refused(begun(), &[tx(0x130, 0x110, json!([]))], "gap");
    check_refused(begun(), &[tx(0x130, 0x100, json!([])), tx(0x130, 0x100, json!([]))], "comes after");
    check_refused(begun(), &[tx(0x80, 0x70, json!([]))], "comes after");
    check_refused(begun(), &[json!({"type": "heartbeat", "cursor": whole(0x99), "ts": "x"})], "goes back");
    check_refused(
        begun(),
        &[json!({"type": "heartbeat", "cursor": cursor(0x200, 3), "ts": "x"})],
        "inside a transaction",
    );
}

#[test]
fn half_and_mixed_up_transactions_are_refused() {
    let first = || part(0x130, 0, 0x100, json!([put(0, "insert", 3, "c")]));
    let heartbeat = json!({"type": "heartbeat", "cursor": whole(0x200), "ts": "x"});
    check_refused(begun(), &[first(), heartbeat], "heartbeat inside a transaction");
    check_refused(begun(), &[first(), tx(0x140, 0x100, json!([]))], "follows part");
    check_refused(begun(), &[first(), first()], "follows part");
    let mut unfinished = first();
    unfinished["cursor"] = whole(0x130).into();
    check_refused(begun(), &[unfinished], "last false");
    let twice = json!([put(1, "insert", 3, "c"), put(1, "insert", 4, "d")]);
    check_refused(begun(), &[tx(0x130, 0x100, twice)], "seq 1 follows Some(1)");
}

#[test]
fn rows_that_do_not_fit_their_table_are_refused() {
    let change = |key: Value, data: Value| {
        tx(0x130, 0x100, json!([{"seq": 0, "op": "insert", "table": "t", "key": key, "data": data}]))
    };
    check_refused(begun(), &[change(json!({"id": 3}), json!({"id": 3}))], "has columns");
    check_refused(begun(), &[change(json!({"id": 3}), json!({"id": 3, "v": 1, "w": 1}))], "has columns");
    check_refused(begun(), &[change(json!({"id": 4}), json!({"id": 3, "v": 1}))], "has key");
    check_refused(begun(), &[change(json!(null), json!({"id": 3, "v": 1}))], "has key");
    let mut elsewhere = tx(0x130, 0x100, json!([put(0, "insert", 3, "c")]));
    elsewhere["changes"][0]["table"] = "x".into();
    check_refused(begun(), &[elsewhere], "before its schema");
}

#[test]
fn snapshots_that_do_not_add_up_are_refused() {
    let begin = json!({"type": "snapshot_begin", "cursor": whole(0x200), "tables": [{"table": "t", "rows_estimate": 0}]});
    let rows = json!({"type": "rows", "table": "t", "rows": [{"id": 1, "v": "a"}]});
    let end = json!({"type": "snapshot_end", "cursor": whole(0x200), "consistent_at": whole(0x200),
                     "tables": [{"table": "t", "rows": 2, "checksum": "x"}]});
    check_refused(begun(), &[begin.clone(), rows.clone(), end], "counts");
    check_refused(begun(), &[begin.clone(), rows.clone(), rows.clone()], "twice");
    check_refused(begun(), &[rows], "no snapshot_begin");
    check_refused(
        begun(),
        &[begin.clone(), tx(0x210, 0x100, json!([put(0, "insert", 3, "c")]))],
        "inside a snapshot",
    );
    check_refused(begun(), &[begin.clone(), begin], "inside a snapshot");
    check_refused(Replica::new(), &[tx(0x130, 0x100, json!([]))], "before any snapshot");
}

#[test]
fn a_resume_below_the_floor_is_refused_and_unknown_frames_are_skipped() {
    let welcome = |floor: u64| {
        json!({"type": "welcome", "session": "s", "protocol": 1, "epoch": 1, "head": whole(0x900), "floor": whole(floor),
               "mode": "resume", "heartbeat_ms": 1000, "access": "0123456789abcdef"})
    };
    check_refused(begun(), &[welcome(0x500)], "below its floor");
    let mut replica = begun();
    apply(&mut replica, &[welcome(0x50), json!({"type": "weather", "sun": true})]);
    assert_eq!(replica.position().map(|position| position.to_string()), Some(whole(0x100)));
    assert!(replica.apply("[1]").is_err() && replica.apply("{").is_err());
}

fn reset(tables: &[&str]) -> Value {
    json!({"type": "reset", "reason": "gap", "tables": tables})
}

#[test]
fn a_reset_of_tables_drops_their_rows_alone_and_the_stream_goes_on() {
    let mut replica = begun();
    let row = |id: u64| json!({"id": id, "v": "u"});
    apply(&mut replica, &late("u", &["id"], 0x100, 0x100, &[row(1)]));
    apply(&mut replica, &[reset(&["u", "gone"])]);
    assert!(replica.rows("u").is_empty() && !replica.is_consistent());
    assert_eq!((replica.rows("t").len(), replica.resets()), (2, &["gap".to_owned()][..]));
    apply(&mut replica, &late("u", &["id"], 0x110, 0x110, &[row(1), row(2)]));
    apply(&mut replica, &[tx(0x190, 0x100, json!([put(0, "insert", 3, "c")]))]);
    assert_eq!((replica.rows("t").len(), replica.rows("u").len()), (3, 2));
    apply(&mut replica, &[json!({"type": "heartbeat", "cursor": whole(0x200), "ts": "x"})]);
    assert!(replica.is_consistent());
    // Also where no other table is left.
    let mut replica = begun();
    apply(&mut replica, &[reset(&["t"])]);
    replica.disconnected();
    assert_eq!(replica.hello("c", &[])["after"], whole(0x100), "it comes again, before the next transaction");
}

#[test]
fn a_snapshot_that_is_older_than_a_change_of_shape_is_followed_by_it_once_more() {
    let mut wider = schema("t", &["id"]);
    wider["version"] = 2.into();
    wider["columns"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "c", "type": "text", "nullable": true, "key": false}));
    let row = json!({"id": 1, "v": "a"});
    for tables in [&[][..], &["t"]] {
        let mut replica = begun();
        apply(&mut replica, &[wider.clone(), reset(tables)]);
        apply(&mut replica, &late("t", &["id"], 0x100, 0x100, std::slice::from_ref(&row)));
        assert_eq!(replica.rows("t"), [r#"{"id":1,"v":"a"}"#]);
        apply(&mut replica, &[wider.clone()]);
        assert_eq!(replica.rows("t"), [r#"{"c":null,"id":1,"v":"a"}"#]);
    }
}

#[test]
fn a_reset_inside_a_transaction_takes_its_parts_back() {
    let mut replica = begun();
    let frames = [
        part(0x130, 0, 0x100, json!([put(0, "insert", 3, "c")])),
        tx(0x130, 0x100, json!([put(1, "insert", 4, "d")])),
    ];
    apply(&mut replica, &frames[..1]);
    apply(&mut replica, &[reset(&["u"])]);
    apply(&mut replica, &late("u", &["id"], 0x100, 0x100, &[]));
    apply(&mut replica, &frames);
    assert_eq!((replica.rows("t").len(), replica.transactions()), (4, 1));
}

#[test]
fn after_a_reset_of_tables_comes_their_snapshot_and_nothing_else() {
    let next = tx(0x130, 0x100, json!([]));
    check_refused(begun(), &[reset(&["u"]), next], "tx before the snapshot");
    let live = json!({"type": "live", "cursor": whole(0x200)});
    check_refused(begun(), &[reset(&["u"]), live], "live before the snapshot");
    check_refused(begun(), &[reset(&["u"]), reset(&["t"])], "before the snapshot of");
    let begin = |table: &str| late(table, &["id"], 0x100, 0x100, &[]).remove(0);
    check_refused(begun(), &[reset(&["u"]), begin("t")], "after the reset of");
    check_refused(begun(), &[begin("u"), reset(&["u"])], "inside a snapshot");
    check_refused(Replica::new(), &[reset(&["u"])], "before any snapshot");
    let mut elsewhere = vec![reset(&["u"])];
    elsewhere.extend(late("u", &["id"], 0x110, 0x120, &[]));
    check_refused(begun(), &elsewhere, "begins at");
}

#[test]
fn rows_of_a_table_that_joins_are_only_known_after_its_reset() {
    let update = |table: &str| json!([{"seq": 0, "op": "update", "table": table, "key": {"id": 7}, "data": {"id": 7}, "unchanged": ["v"]}]);
    let mut replica = begun();
    apply(&mut replica, &[schema("u", &["id"]), tx(0x130, 0x100, update("u")), reset(&["u"])]);
    apply(&mut replica, &late("u", &["id"], 0x130, 0x130, &[json!({"id": 7, "v": "u"})]));
    apply(&mut replica, &[tx(0x210, 0x130, update("u"))]);
    assert_eq!(replica.rows("u"), [r#"{"id":7,"v":"u"}"#]);
    apply(&mut replica, &[reset(&["u"])]);
    apply(&mut replica, &late("u", &["id"], 0x210, 0x210, &[]));
    check_refused(replica, &[tx(0x220, 0x210, update("u"))], "never sent");
}

/// Positions of a later epoch are greater, whatever the LSN.
#[test]
fn the_stream_goes_on_over_the_seam_of_two_epochs() {
    let mut replica = begun();
    apply(&mut replica, &[json!({"type": "heartbeat", "cursor": whole(0x120), "ts": "x"})]);
    let later = |lsn: u64| whole(lsn).replacen("00000001", "00000002", 1);
    let mut next = tx(0x90, 0x100, json!([put(0, "insert", 3, "c")]));
    next["cursor"] = later(0x90).into();
    apply(&mut replica, &[json!({"type": "heartbeat", "cursor": later(0x80), "ts": "x"}), next]);
    assert_eq!(replica.position().map(|position| position.to_string()), Some(later(0x90)));
    check_refused(replica, &[tx(0x900, 0x100, json!([]))], "comes after");
}

#[test]
fn a_new_epoch_before_the_snapshot_is_consistent_makes_it_doubtful() {
    let later = |lsn: u64| whole(lsn).replacen("00000001", "00000002", 1);
    let beat = |cursor: String| json!({"type": "heartbeat", "cursor": cursor, "ts": "x"});
    let mut replica = begun();
    apply(&mut replica, &[beat(whole(0x110)), beat(later(0x110))]);
    assert!(replica.must_begin_anew() && !replica.is_consistent());
    replica.disconnected();
    assert!(replica.hello("c", &[]).get("after").is_none() && replica.rows("t").is_empty());
    let mut replica = begun();
    apply(&mut replica, &[beat(whole(0x120)), beat(later(0x120))]);
    assert!(replica.is_consistent() && !replica.must_begin_anew());
    // The reset itself may not have survived: then it does not come again.
    apply(&mut replica, &[reset(&["t"])]);
    replica.disconnected();
    apply(&mut replica, &[beat(later(0x130))]);
    assert!(!replica.must_begin_anew(), "in the same epoch it does");
    apply(&mut replica, &[beat(whole(0x130).replacen("00000001", "00000003", 1))]);
    assert!(replica.must_begin_anew());
}

#[test]
fn what_the_copy_is_of_is_stored_with_the_next_position() {
    let mut replica = begun();
    let stored = |replica: &Replica| replica.hello("c", &[])["access"].clone();
    assert_eq!(stored(&replica), "0123456789abcdef");
    apply(&mut replica, &[json!({"type": "access", "access": "other"})]);
    assert_eq!(stored(&replica), "0123456789abcdef", "not before");
    apply(&mut replica, &[json!({"type": "heartbeat", "cursor": whole(0x200), "ts": "x"})]);
    assert_eq!(stored(&replica), "other");
    // Between such a reset and its snapshot there is nothing to come back with.
    apply(&mut replica, &[json!({"type": "reset", "reason": "permission_changed", "tables": ["t"]})]);
    replica.disconnected();
    assert_eq!((replica.position(), replica.access()), (None, None));
}
