//! That the check finds what it is for: each way of breaking a promise, in a run that is right otherwise.

use std::sync::Arc;

use serde_json::{Value, json};
use waldelta_wal::{EndLsn, Epoch, Lsn, Position};

use super::history::HistoryLog;
use super::note::{Change, Op};
use super::rows::Row;
use super::*;

const TABLE: &str = "public.t";
const EPOCH: Epoch = Epoch(1);

fn whole(lsn: u64) -> Position {
    Position::whole(EPOCH, Lsn(lsn))
}

fn change(seq: u32, op: Op, table: &str, id: u64, data: Option<&str>) -> Change {
    Change {
        seq,
        op,
        table: table.to_owned(),
        key: Some(format!("{{\"id\":{id}}}")),
        moved_from: None,
        data: data.map(|v| Row::parse(&json!({"id": id, "v": v}).to_string()).unwrap()),
        unchanged: Vec::new(),
    }
}

/// Three transactions, of which the second concerns another table only; then a stored end at 0x500.
fn history() -> HistoryLog {
    let mut log = HistoryLog::default();
    log.add(whole(0x100), true, Some(change(0, Op::Insert, TABLE, 1, Some("a"))));
    log.add(whole(0x100), true, Some(change(1, Op::Insert, TABLE, 2, Some("b"))));
    log.add(whole(0x200), true, Some(change(0, Op::Insert, "public.other", 7, Some("x"))));
    log.add(whole(0x300), true, Some(change(0, Op::Update, TABLE, 1, Some("c"))));
    log.add(whole(0x300), true, Some(change(1, Op::Delete, TABLE, 2, None)));
    log.add_end(Position::before(EPOCH, EndLsn(Lsn(0x500))));
    log.fold();
    log
}

fn start() -> Position {
    Position::before(EPOCH, EndLsn(Lsn(0x80)))
}

fn end() -> String {
    Position::before(EPOCH, EndLsn(Lsn(0x500))).to_string()
}

fn put(seq: u32, op: &str, id: u64, v: &str) -> Value {
    json!({"seq": seq, "op": op, "table": TABLE, "key": {"id": id}, "data": {"v": v, "id": id}, "sub": ["s0"]})
}

fn tx(lsn: u64, prev: Position, changes: Vec<Value>) -> Value {
    json!({"type": "tx", "cursor": whole(lsn).to_string(), "prev": prev.to_string(), "lsn": Lsn(lsn).to_string(),
           "own": false, "last": true, "changes": changes})
}

fn first() -> Value {
    tx(0x100, start(), vec![put(0, "insert", 1, "a"), put(1, "insert", 2, "b")])
}

fn second() -> Value {
    let gone = json!({"seq": 1, "op": "delete", "table": TABLE, "key": {"id": 2}, "sub": ["s0"]});
    tx(0x300, whole(0x100), vec![put(0, "update", 1, "c"), gone])
}

fn moved(kind: &str, cursor: impl ToString) -> Value {
    json!({"type": kind, "cursor": cursor.to_string(), "ts": "2026-11-03T12:00:15.000000Z"})
}

fn schema() -> Value {
    let column = |name: &str, key: bool| json!({"name": name, "type": "text", "nullable": false, "key": key});
    json!({"type": "schema", "table": TABLE, "version": 1, "columns": [column("id", true), column("v", false)]})
}

/// What a client is told that began at the start: all there is.
fn good() -> Vec<Value> {
    vec![schema(), moved("live", start()), first(), second(), moved("heartbeat", end())]
}

/// A client that was told this, in as many sessions as there are lists.
fn told(sessions: &[Vec<Value>]) -> Recorder {
    let mut recorder = Recorder::new("c", &[TABLE], &Arc::default()).starting_at(start());
    replay(&mut recorder, sessions);
    recorder
}

fn replay(recorder: &mut Recorder, sessions: &[Vec<Value>]) {
    for frames in sessions {
        recorder.hello();
        for frame in frames {
            recorder.record(&frame.to_string()).unwrap();
        }
    }
}

fn log() -> HistoryLog {
    let mut log = history();
    log.add_end(start());
    log
}

/// The first violation of a client that was told this.
fn found(sessions: &[Vec<Value>]) -> Kind {
    let violations = check(&[told(sessions)], &log()).unwrap_err();
    violations[0].kind.clone()
}

/// A good run with one frame in another form.
fn with(at: usize, change: impl FnOnce(&mut Value)) -> Vec<Vec<Value>> {
    let mut frames = good();
    change(&mut frames[at]);
    vec![frames]
}

#[test]
fn a_run_that_is_right_is_found_right() {
    let checked = check(&[told(&[good()])], &log()).unwrap();
    assert_eq!(checked, Checked { sessions: 1, transactions: 2, changes: 4, left_out: 0, states: 4 });
    // Over a lost connection, with a transaction in parts, of which the first session got one.
    let part = json!({"type": "tx", "cursor": Position { index: 0, ..whole(0x300) }.to_string(),
        "prev": whole(0x100).to_string(), "own": false, "last": false, "part": 0, "changes": [put(0, "update", 1, "c")]});
    let mut rest = second();
    rest["changes"].as_array_mut().unwrap().remove(0);
    let sessions = [vec![schema(), first(), part.clone()], vec![schema(), part, rest]];
    let checked = check(&[told(&sessions)], &log()).unwrap();
    assert_eq!((checked.sessions, checked.transactions), (2, 2));
}

#[test]
fn it_goes_on_from_the_cursor_that_could_be_stored() {
    let mut recorder = told(&[vec![first()]]);
    assert_eq!(recorder.hello()["after"], whole(0x100).to_string());
    let mut anew = Recorder::new("c", &[TABLE], &Arc::default());
    assert_eq!(anew.hello()["after"], Value::Null);
    let heard = |recorder: &mut Recorder, frame: Value| recorder.record(&frame.to_string());
    assert_eq!(heard(&mut recorder, moved("live", end())), Ok(Heard::Live));
    let goaway = json!({"type": "goaway", "retry_ms": 250});
    assert_eq!(heard(&mut recorder, goaway), Ok(Heard::GoAway(Duration::from_millis(250))));
    let fatal = json!({"type": "error", "code": "WD-X", "message": "no", "fatal": true});
    assert_eq!(heard(&mut recorder, fatal), Err("WD-X: no".to_owned()));
    heard(&mut recorder, json!({"type": "reset", "reason": "epoch_changed"})).unwrap();
    assert_eq!(recorder.position(), None);
}

#[test]
fn a_transaction_that_is_lost_is_found() {
    let lost = |lost: usize| {
        let mut frames = good();
        frames.remove(lost);
        vec![frames]
    };
    assert_eq!(found(&lost(2)), Kind::Gap { prev: whole(0x100) });
    assert_eq!(found(&lost(3)), Kind::Missing { transaction: whole(0x300) });
    // The cursor of a transaction is not passed by a heartbeat on it.
    let passed = vec![first(), moved("heartbeat", whole(0x300))];
    assert_eq!(found(&[passed]), Kind::Missing { transaction: whole(0x300) });
    // And with a `prev` that hides it.
    let hides = vec![schema(), tx(0x300, start(), second()["changes"].as_array().unwrap().clone())];
    assert_eq!(found(&[hides]), Kind::PrevTooLow { hidden: whole(0x100) });
}

#[test]
fn a_transaction_that_comes_again_is_found() {
    let again = vec![schema(), first(), first()];
    assert_eq!(found(&[again]), Kind::NotAhead { of: Some(whole(0x100)) });
    // In the next session too: the client resumes after what it has.
    assert_eq!(found(&[vec![first()], vec![first()]]), Kind::NotAhead { of: Some(whole(0x100)) });
    let back = vec![schema(), first(), second(), moved("heartbeat", whole(0x100))];
    assert_eq!(found(&[back]), Kind::NotAhead { of: Some(whole(0x300)) });
    let swapped = vec![schema(), second(), first()];
    assert!(matches!(found(&[swapped]), Kind::Gap { .. }));
}

#[test]
fn a_transaction_that_is_not_what_was_committed_is_found() {
    let changes = |at: usize, change: fn(&mut Vec<Value>)| {
        with(at, |frame| change(frame["changes"].as_array_mut().unwrap()))
    };
    assert_eq!(found(&changes(2, |all| drop(all.remove(0)))), Kind::Lacks { seq: 0 });
    assert_eq!(found(&changes(2, |all| drop(all.pop()))), Kind::Lacks { seq: 1 });
    assert_eq!(found(&changes(2, |all| all.push(put(2, "insert", 9, "z")))), Kind::Surplus { seq: 2 });
    assert_eq!(found(&changes(2, |all| all.push(all[1].clone()))), Kind::Surplus { seq: 1 });
    assert_eq!(found(&changes(2, |all| all[0]["data"]["v"] = "z".into())), Kind::Altered { seq: 0 });
    assert_eq!(found(&changes(2, |all| all[0]["op"] = "update".into())), Kind::Altered { seq: 0 });
    assert_eq!(found(&changes(3, |all| all[1]["key"]["id"] = 3.into())), Kind::Lacks { seq: 1 });
    let foreign = |all: &mut Vec<Value>| all[0]["table"] = "public.other".into();
    assert_eq!(found(&changes(2, foreign)), Kind::Lacks { seq: 0 });
    let unknown = vec![schema(), first(), tx(0x250, whole(0x100), vec![put(0, "insert", 9, "z")])];
    assert_eq!(found(&[unknown]), Kind::NotInHistory);
    // Of a table that the client does not follow: there is nothing of it to tell.
    let other = json!({"seq": 0, "op": "insert", "table": "public.other", "key": {"id": 7}, "data": {"id": 7, "v": "x"}});
    let not_its_own = vec![schema(), first(), tx(0x200, whole(0x100), vec![other])];
    assert_eq!(found(&[not_its_own]), Kind::Surplus { seq: 0 });
}

#[test]
fn a_cursor_that_is_no_place_in_history_is_found() {
    let nowhere = Position::before(EPOCH, EndLsn(Lsn(0x480)));
    assert_eq!(found(&with(4, |frame| frame["cursor"] = nowhere.to_string().into())), Kind::NoPlace);
    let inside = Position { index: 0, ..whole(0x300) };
    assert_eq!(found(&[vec![first(), moved("live", inside)]]), Kind::NoPlace);
}

/// A snapshot at the first transaction that holds the second one already, or not quite.
fn snapshot(rows: Value) -> Recorder {
    let mut recorder = Recorder::new("c", &[TABLE], &Arc::default());
    let frames = vec![
        json!({"type": "welcome", "mode": "snapshot"}),
        json!({"type": "snapshot_begin", "cursor": whole(0x100).to_string(), "tables": []}),
        schema(),
        json!({"type": "rows", "table": TABLE, "rows": rows}),
        json!({"type": "snapshot_end", "cursor": whole(0x100).to_string(), "consistent_at": end(), "tables": []}),
        moved("heartbeat", end()),
    ];
    replay(&mut recorder, &[frames]);
    recorder
}

#[test]
fn rows_that_are_not_what_history_folds_to_are_found() {
    let checked = check(&[snapshot(json!([{"id": 1, "v": "c"}]))], &log()).unwrap();
    assert_eq!(checked.states, 1, "where it is consistent, and not before");
    for (rows, sample) in [
        (json!([]), "has 0 rows of 1; {\"id\":1} is no row, in history {\"id\":1,\"v\":\"c\"}"),
        (json!([{"id": 1, "v": "a"}]), "{\"id\":1} is {\"id\":1,\"v\":\"a\"}"),
        (json!([{"id": 1, "v": "c"}, {"id": 2, "v": "b"}]), "has 2 rows of 1; {\"id\":2} is"),
    ] {
        let violations = check(&[snapshot(rows.clone())], &log()).unwrap_err();
        let Kind::StateDiffers { sample: found } = &violations[0].kind else { panic!("{violations:?}") };
        assert!(found.contains(sample), "{rows}: {found}");
        assert_eq!(violations[0].kind.invariant(), "I8");
        assert!(violations[0].to_string().starts_with("I8: c, session 0 at "), "{}", violations[0]);
    }
}

/// What a snapshot is ahead of may be told or left out; nothing else may be told.
#[test]
fn before_a_snapshot_is_consistent_only_what_is_in_history_is_told() {
    let rows = json!([{"id": 1, "v": "c"}]);
    let mut ahead = snapshot(rows.clone());
    let position = ahead.sessions[0].pop().unwrap();
    ahead.record(&second().to_string()).unwrap();
    ahead.sessions[0].push(position);
    check(&[ahead], &log()).unwrap();
    let mut wrong = snapshot(rows);
    let position = wrong.sessions[0].pop().unwrap();
    wrong.record(&tx(0x300, whole(0x100), vec![put(0, "insert", 9, "z")]).to_string()).unwrap();
    wrong.sessions[0].push(position);
    let violations = check(&[wrong], &log()).unwrap_err();
    assert_eq!(violations[0].kind, Kind::Surplus { seq: 0 });
}

/// What the snapshot was ahead of was nothing for the client, also for a `prev` that comes after it.
#[test]
fn what_a_snapshot_held_already_is_not_hidden() {
    let mut log = log();
    for (lsn, id) in [(0x600, 5), (0x700, 6)] {
        log.add(whole(lsn), true, Some(change(0, Op::Insert, TABLE, id, Some("new"))));
    }
    log.fold();
    let told = |prev: Position| {
        let mut client = snapshot(json!([{"id": 1, "v": "c"}]));
        let first = tx(0x600, whole(0x100), vec![put(0, "insert", 5, "new")]);
        let second = tx(0x700, prev, vec![put(0, "insert", 6, "new")]);
        for frame in [first, second] {
            client.record(&frame.to_string()).unwrap();
        }
        check(&[client], &log)
    };
    told(whole(0x600)).unwrap();
    assert_eq!(told(whole(0x100)).unwrap_err()[0].kind, Kind::PrevTooLow { hidden: whole(0x600) });
}

#[test]
fn what_stands_where_it_cannot_is_found() {
    let rows = json!({"type": "rows", "table": TABLE, "rows": [{"id": 1}]});
    assert!(matches!(found(&[vec![schema(), rows]]), Kind::OutOfPlace { .. }));
    let mut recorder = Recorder::new("c", &[TABLE], &Arc::default());
    replay(&mut recorder, &[vec![first()]]);
    let violations = check(&[recorder], &log()).unwrap_err();
    assert_eq!(violations[0].kind, Kind::NotAhead { of: None }, "a transaction before any snapshot");
}

/// A key change is one change of the transaction, told as two.
#[test]
fn a_key_change_is_a_delete_and_an_insert() {
    let mut log = log();
    let change = Change {
        moved_from: Some("{\"id\":1}".to_owned()),
        unchanged: vec!["v".to_owned()],
        ..change(0, Op::Update, TABLE, 4, None)
    };
    let data = Some(Row::parse("{\"id\":4}").unwrap());
    log.add(whole(0x600), true, Some(Change { data, ..change }));
    log.fold();
    let told_as_two = |id: u64| {
        let gone = json!({"seq": 0, "op": "delete", "table": TABLE, "key": {"id": 1}});
        let come = json!({"seq": 0, "op": "insert", "table": TABLE, "key": {"id": id}, "data": {"id": id},
            "moved_from": {"id": 1}, "unchanged": ["v"]});
        let mut frames = good();
        frames.push(tx(0x600, whole(0x300), vec![gone, come]));
        told(&[frames])
    };
    let checked = check(&[told_as_two(4)], &log).unwrap();
    assert_eq!(checked.changes, 6);
    assert!(check(&[told_as_two(5)], &log).is_err());
}

/// A client that made the second transaction, of which the delete is another's.
fn authored(own: bool, told: Vec<Value>) -> Recorder {
    let mut transaction = tx(0x300, whole(0x100), told);
    transaction["own"] = own.into();
    let mut recorder = Recorder::new("c", &[TABLE], &Arc::default()).starting_at(start());
    replay(
        &mut recorder,
        &[vec![schema(), moved("live", start()), first(), transaction, moved("heartbeat", end())]],
    );
    recorder
}

fn authors(begun: u64) -> HistoryLog {
    let mut log = log();
    log.add_author(whole(0x300), 0, "c", begun);
    log.add_author(whole(0x300), 1, "d", begun);
    log
}

#[test]
fn an_author_is_told_of_its_transaction_without_its_changes() {
    let changes = || second()["changes"].as_array().unwrap().clone();
    let (all, others) = (changes(), changes().split_off(1));
    let kinds = |recorder: Recorder, begun| {
        check(&[recorder], &authors(begun)).map_err(|violations| violations[0].kind.clone())
    };
    let left_out = |checked: Checked| checked.left_out;
    assert_eq!(kinds(authored(true, others.clone()), 0).map(left_out), Ok(1));
    // It may have begun before the client was there.
    assert_eq!(kinds(authored(true, all.clone()), 0).map(left_out), Ok(0));
    assert_eq!(kinds(authored(true, all), u64::MAX), Err(Kind::Echoed { seq: 0 }));
    assert_eq!(kinds(authored(true, Vec::new()), 0), Err(Kind::Lacks { seq: 1 }), "another's is told");
    assert_eq!(kinds(authored(false, others), 0), Err(Kind::Lacks { seq: 0 }), "the frame does not say why");
}
