//! A client that was away gets everything after its cursor, once and in order, or is told that it cannot.

use serde_json::{Value, json};
use waldelta_testkit::{Replica, WsClient};
use waldelta_wal::{Epoch, Lsn, Position};

use crate::setting::{PATIENCE, Setting, all_tables, changes, config_file, of_type, record};

const SCHEMA: &str =
    "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)";
const TABLES: [&str; 2] = ["public.a", "public.b"];

/// Transactions `from..to`, each over both tables; the rows have the transaction's number.
async fn write(setting: &Setting, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let before = number.saturating_sub(1);
        setting
            .source
            .exec(&format!(
                "BEGIN; INSERT INTO a VALUES ({number}, 'a{number}'); UPDATE a SET v = v || '+' WHERE id = {before};
                 INSERT INTO b VALUES ({number}, 'b{number}'); COMMIT"
            ))
            .await;
    }
}

/// Comes back with what the client has and gives all frames up to `live`.
async fn come_back(setting: &Setting, client_id: &str, replica: &mut Replica) -> (WsClient, Vec<Value>) {
    replica.disconnected();
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    socket.send(&replica.hello(client_id, &[all_tables()])).await;
    let frames = record(&mut socket, replica, "live", |frame| frame["type"] == "live").await;
    (socket, frames)
}

/// Checks that the frames hold exactly these transactions, whole and in order, and no snapshot.
fn assert_exactly(frames: &[Value], numbers: std::ops::Range<u32>) {
    assert_eq!(of_type(frames, "welcome")[0]["mode"], "resume");
    assert!(of_type(frames, "snapshot_begin").is_empty() && of_type(frames, "reset").is_empty());
    let cursors: Vec<_> = of_type(frames, "tx").iter().map(|tx| tx["cursor"].as_str().unwrap()).collect();
    assert!(cursors.is_sorted_by(|a, b| a < b), "{cursors:?}");
    // A page that is read may end inside a transaction: then it comes in parts.
    let whole = of_type(frames, "tx").iter().filter(|tx| tx["last"] == true).count();
    let rows = |table: &str| -> Vec<u64> {
        let inserts = changes(frames).into_iter().filter(|c| c["table"] == table && c["op"] == "insert");
        inserts.map(|insert| insert["data"]["id"].as_u64().unwrap()).collect()
    };
    let expected: Vec<u64> = numbers.map(u64::from).collect();
    assert_eq!(rows("public.a"), expected);
    assert_eq!(rows("public.b"), expected);
    assert_eq!(whole, expected.len(), "a transaction over both tables moves one cursor");
}

#[tokio::test]
async fn a_client_that_was_away_gets_what_it_missed_once_and_in_order() {
    let setting = Setting::new("resume_near", SCHEMA).await;
    write(&setting, 1..10).await;
    let (mut socket, mut replica) = setting.client("c").await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let (_, mut other) = setting.client("other").await;
    socket.close().await;

    write(&setting, 10..40).await;
    setting.settled().await;
    let (mut socket, frames) = come_back(&setting, "c", &mut replica).await;
    assert_exactly(&frames, 10..40);
    write(&setting, 40..50).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;

    // Nothing happened meanwhile: nothing comes.
    socket.close().await;
    let (mut socket, frames) = come_back(&setting, "c", &mut replica).await;
    assert_exactly(&frames, 50..50);
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    // One that came when there were ten goes on from there.
    let (mut socket, frames) = come_back(&setting, "other", &mut other).await;
    assert_exactly(&frames, 10..50);
    setting.equal(&mut socket, &mut other, &TABLES).await;
}

#[tokio::test]
async fn a_client_far_behind_is_served_from_the_table() {
    let setting = Setting::new("resume_far", SCHEMA).await;
    // A feed so small that it has only the last few transactions.
    let mut setting = setting;
    setting.service.stop().await;
    let config = config_file("[history]\nfeed_bytes_max = 20000");
    setting.service.start_again_with(config.add_to(setting.run_options())).await;
    let (socket, mut replica) = setting.client("c").await;
    socket.close().await;
    write(&setting, 1..600).await;
    setting
        .source
        .exec("INSERT INTO a SELECT i, repeat('x', 500) FROM generate_series(10001, 12000) i")
        .await;
    setting.settled().await;

    let (mut socket, frames) = come_back(&setting, "c", &mut replica).await;
    let large_xid = of_type(&frames, "tx").last().unwrap()["xid"].clone();
    let (large, small): (Vec<_>, Vec<_>) = frames.into_iter().partition(|frame| frame["xid"] == large_xid);
    assert_exactly(&small, 1..600);
    assert_eq!(changes(&large).len(), 2_000);
    assert!(large.len() > 1 && large[0]["last"] == false, "a megabyte comes in parts");
    write(&setting, 600..620).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
}

#[tokio::test]
async fn clients_resume_after_the_service_was_restarted() {
    let mut setting = Setting::new("resume_restart", SCHEMA).await;
    let (mut socket, mut replica) = setting.client("c").await;
    let (mut staying, mut stayer) = setting.client("staying").await;
    write(&setting, 1..20).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    socket.close().await;
    write(&setting, 20..30).await;
    setting.equal(&mut staying, &mut stayer, &TABLES).await;

    assert!(setting.service.stop().await.success());
    let goodbye = record_to_end(&mut staying, &mut stayer).await;
    assert_eq!(goodbye.0, 1012, "{}", goodbye.1);
    assert!(goodbye.1.contains("retry_ms"), "{}", goodbye.1);
    // While nobody listens; the slot keeps it.
    write(&setting, 30..40).await;
    setting.service.start_again().await;
    write(&setting, 40..50).await;
    setting.settled().await;

    let (mut socket, frames) = come_back(&setting, "c", &mut replica).await;
    assert_exactly(&frames, 20..50);
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let (_, frames) = come_back(&setting, "staying", &mut stayer).await;
    assert_exactly(&frames, 30..50);
    setting.history_equals_source(&TABLES).await;
}

/// Reads to the close frame: its code and reason.
async fn record_to_end(socket: &mut WsClient, replica: &mut Replica) -> (u16, String) {
    loop {
        match socket.next_frame(PATIENCE).await {
            waldelta_testkit::Frame::Text(text) => replica.apply(&text).unwrap(),
            waldelta_testkit::Frame::Closed { code, reason } => return (code, reason),
        }
    }
}

/// Says hello with this cursor and gives the frames up to `live`, or the close code and what came before.
async fn ask(setting: &Setting, after: &str, snapshot: bool) -> Result<Vec<Value>, (u16, Vec<Value>)> {
    let mut socket = WsClient::connect(&setting.service.stream()).await;
    let hello = json!({"type": "hello", "client_id": "asker", "after": after, "snapshot": snapshot,
                       "subscriptions": [all_tables()]});
    socket.send(&hello).await;
    let mut frames = Vec::new();
    loop {
        match socket.next_frame(PATIENCE).await {
            waldelta_testkit::Frame::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                let is_live = frame["type"] == "live";
                frames.push(frame);
                if is_live {
                    return Ok(frames);
                }
            }
            waldelta_testkit::Frame::Closed { code, .. } => return Err((code, frames)),
        }
    }
}

#[tokio::test]
async fn every_cursor_gets_a_typed_answer() {
    let setting = Setting::new("resume_cursors", SCHEMA).await;
    let (mut socket, mut replica) = setting.client("c").await;
    write(&setting, 1..4).await;
    setting.equal(&mut socket, &mut replica, &TABLES).await;
    let welcome = ask(&setting, &replica.position().unwrap().to_string(), true).await.unwrap().remove(0);
    let at = |name: &str| -> Position { welcome[name].as_str().unwrap().parse().unwrap() };
    let (floor, head) = (at("floor"), at("head"));
    let first = floor_first(&setting).await;

    // Everything from the floor on.
    assert_exactly(&ask(&setting, &floor.to_string(), false).await.unwrap(), 1..4);
    // By its cursor a transaction does not come again; by its LSN, and by a place inside it, it does.
    assert_exactly(&ask(&setting, &first.to_string(), false).await.unwrap(), 2..4);
    assert_exactly(&ask(&setting, &first.commit_lsn.to_string(), false).await.unwrap(), 1..4);
    let inside = Position { index: 1, ..first };
    assert_exactly(&ask(&setting, &inside.to_string(), false).await.unwrap(), 1..4);

    let moved = |position: Position, bytes: i64| {
        let lsn = position.commit_lsn.0.checked_add_signed(bytes).unwrap();
        Position { commit_lsn: Lsn(lsn), ..position }
    };
    let elsewhere = Position { epoch: Epoch(head.epoch.0 + 1), ..head };
    let far_lsn = Lsn(head.commit_lsn.0 + (1 << 40)).to_string();
    let low_lsn = moved(floor, -8).commit_lsn.to_string();
    for (after, reason) in [
        (moved(head, 1 << 40).to_string(), "epoch_changed"),
        (elsewhere.to_string(), "epoch_changed"),
        (far_lsn, "epoch_changed"),
        (moved(floor, -1).to_string(), "history_pruned"),
        (Position { epoch: floor.epoch, commit_lsn: Lsn(0), index: 0 }.to_string(), "history_pruned"),
    ] {
        let frames = ask(&setting, &after, true).await.unwrap();
        assert_eq!(frames[0]["mode"], "snapshot", "{after}");
        assert_eq!(of_type(&frames, "reset")[0]["reason"], reason, "{after}");
        assert_eq!(of_type(&frames, "snapshot_end").len(), 1, "{after}");
        let (code, frames) = ask(&setting, &after, false).await.unwrap_err();
        assert_eq!((code, &frames[0]["code"]), (4410, &json!("WD-CURSOR-NOT-RESUMABLE")), "{after}");
    }
    let frames = ask(&setting, &low_lsn, true).await.unwrap();
    assert_eq!(of_type(&frames, "reset").len(), 1, "{low_lsn}");

    for garbage in ["", "garbage", "0/", "0/XYZ", "00000001-00000000016B3748-ffffffff", "-1", "1 or 1=1"] {
        let (code, frames) = ask(&setting, garbage, true).await.unwrap_err();
        assert_eq!((code, &frames[0]["code"]), (4400, &json!("WD-CURSOR-INVALID")), "{garbage:?}");
        assert!(frames[0]["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{:?}", frames[0]);
    }
}

/// The first transaction in history.
async fn floor_first(setting: &Setting) -> Position {
    let lsn = setting.history.query_text("SELECT min(lsn) FROM waldelta.change_history").await;
    let epoch = setting.history.query_text("SELECT min(epoch) FROM waldelta.change_history").await;
    Position::whole(Epoch(epoch.parse().unwrap()), lsn.parse().unwrap())
}
