//! A capture that stops, as it is seen from outside and mended: its named state with code and cure, its exit code, and
//! `waldelta recover`.

use serde_json::Value;
use waldelta_testkit::{Replica, Service, WsClient, wait_until};

use crate::setting::{PATIENCE, Setting, waldelta, waldelta_ok, with_databases};

/// Code with which the service ends when capture has stopped.
const EXIT_STOPPED: i32 = 3;

/// What the service says of itself.
pub async fn status(setting: &Setting) -> Value {
    let mut told = Value::Null;
    wait_until("the service has started", PATIENCE, async || {
        let (code, answer) = setting.service.get("/v1/status").await;
        told = serde_json::from_str(&answer).unwrap();
        assert!(code == 200 || told["code"] == "WD-STARTING", "{code} {answer}");
        code == 200
    })
    .await;
    told
}

/// Waits until capture has stopped in this named state, and checks that everything tells it: status, readiness, the cure.
pub async fn stopped(setting: &Setting, name: &str, code: &str) -> Value {
    let mut last = Value::Null;
    wait_until(&format!("capture stops ({name})"), PATIENCE, async || {
        last = status(setting).await["capture"].take();
        assert!(last["state"] != "stopped" || last["name"] == name, "{name} was expected: {last}");
        last["state"] == "stopped"
    })
    .await;
    assert_eq!(last["code"], code, "{last}");
    assert!(!last["message"].as_str().unwrap().is_empty(), "{last}");
    assert!(!last["fix"].as_str().unwrap().is_empty(), "{last}");
    let (http, ready) = setting.service.get("/readyz").await;
    assert!(http == 503 && ready.contains(code), "{http} {ready}");
    let (exit, answer, _) = waldelta(&["status".to_owned(), "--url".to_owned(), setting.service.http("")]);
    assert!(exit != Some(0) && answer.contains(name) && answer.contains(code), "{exit:?} {answer}");
    wait_until("the log tells", PATIENCE, async || setting.service.log().contains(code)).await;
    last
}

/// Waits until capture streams, also after a stop.
pub async fn streaming(setting: &Setting) {
    let service = &setting.service;
    let mut last = Value::Null;
    let streams = async || {
        last = status(setting).await["capture"].take();
        last["state"] == "streaming"
    };
    let deadline = tokio::time::timeout(PATIENCE, wait_until("capture streams", PATIENCE * 2, streams));
    let streams = deadline.await;
    assert!(streams.is_ok(), "capture does not stream: {}", service.log());
}

/// Ends the service in its stop: the exit code tells. Then it is started again, and is in the same state.
pub async fn stays_over_a_restart(setting: &mut Setting, name: &str, code: &str) {
    let ended = setting.service.stop().await;
    assert_eq!(ended.code(), Some(EXIT_STOPPED), "{ended}; {}", setting.service.log());
    setting.service = Service::spawn(setting.run_options());
    wait_until("the service answers", PATIENCE, async || setting.service.is_listening().await).await;
    stopped(setting, name, code).await;
}

/// `waldelta recover`: shown first, which changes nothing, then done. What it answered.
pub fn recover(setting: &Setting) -> String {
    let command = |words: &[&str]| with_databases(words, &setting.source, &setting.history);
    let (code, shown, log) = waldelta(&command(&["recover"]));
    assert_eq!(code, Some(EXIT_STOPPED), "something is left to be done: {shown}{log}");
    waldelta_ok(&command(&["recover", "--yes"]))
}

/// Does what `waldelta recover` asks for where the source has no publication any more.
pub async fn publish_again(setting: &Setting) {
    let command = |words: &[&str]| with_databases(words, &setting.source, &setting.history);
    let (code, shown, log) = waldelta(&command(&["recover"]));
    assert_eq!(code, Some(EXIT_STOPPED), "{shown}{log}");
    assert!(shown.contains("waldelta init --apply"), "{shown}");
    // Its last step, to begin history, is not for a history that has begun with another source.
    let (_, answer, log) = waldelta(&command(&["init", "--apply"]));
    let published = "SELECT count(*) FROM pg_publication WHERE pubname = 'waldelta'";
    assert_eq!(setting.source.query_text(published).await, "1", "{answer}{log}");
}

/// Checks that `waldelta recover` finds nothing to be done, and does nothing.
pub fn nothing_to_recover(setting: &Setting) {
    waldelta_ok(&with_databases(&["recover"], &setting.source, &setting.history));
    waldelta_ok(&with_databases(&["recover", "--yes"], &setting.source, &setting.history));
}

/// The `id`s of the rows that history has seen inserted, in order, each as often as it was.
pub async fn inserted(setting: &Setting) -> Vec<u32> {
    let sql = "SELECT data->>'id' FROM waldelta.change_history WHERE operation = 'insert' ORDER BY (data->>'id')::bigint";
    let rows = setting.history.query(sql).await;
    rows.into_iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

/// Epochs that history has, the current one included.
pub async fn epochs(setting: &Setting) -> u32 {
    setting.history.query_text("SELECT count(*) FROM waldelta.epochs").await.parse().unwrap()
}

/// Follows a client that was there all the time through the reset that a gap costs it.
pub async fn is_reset(socket: &mut WsClient, replica: &mut Replica) {
    let before = replica.resets().len();
    let again =
        |replica: &Replica| replica.resets().len() > before && replica.is_live() && replica.is_consistent();
    socket.follow(replica, "it is reset and live again", PATIENCE, again).await;
    assert_eq!(replica.resets().last().map(String::as_str), Some("epoch_changed"));
}
