//! A client over WebSocket: it connects to any of the processes, leaves without a word, does not read for a while, and now and then goes
//! on from what it had earlier, or from nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use waldelta_testkit::recorder::{Heard, Recorder};
use waldelta_testkit::{ConnectOptions, Dice, Frame, Replica, WsClient};

use super::wrong::{Answer, Wrong};
use super::{Client, Shared, Store};
use crate::access::check_told;
use crate::tables::MAY_BE_RESET;

/// A connection that a frozen process has taken is given up after this time.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A quiet session has a heartbeat every 2 seconds. One that says nothing for so long hangs, with its process or alone.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(25);
/// With a small one, a client that does not read is noticed soon.
const RECEIVE_BUFFER_BYTES: u32 = 16 << 10;
/// Close codes after which a client comes back. The others say that somebody did something that is not allowed.
pub(crate) const COMES_BACK: [u16; 9] = [1000, 1001, 1006, 1012, 1013, 4408, 4418, 4429, 4500];
/// A newer connection of the same client: of this one, before it left.
pub(crate) const REPLACED: u16 = 4409;

/// How a frame of this type begins.
const RESET: &str = r#"{"type":"reset""#;
const TRANSACTION: &str = r#"{"type":"tx""#;
/// Of a part there is nothing that could be acknowledged.
const WHOLE: &str = r#""last":true,"changes":["#;

/// Follows until the task is ended.
pub(super) async fn run(
    client: Arc<Client>,
    shared: Arc<Shared>,
    dice: Dice,
    calm: watch::Receiver<bool>,
    comes_late: bool,
) {
    let mut follower = Follower { client, shared, dice, calm, earlier: None };
    if comes_late {
        let late = follower.dice.ms(5_000, 30_000);
        // Not later than the first time that everybody has to have everything.
        _ = timeout(late, follower.calm.wait_for(|is_calm| *is_calm)).await;
    }
    loop {
        follower.session().await;
        follower.client.set_live(false);
        sleep(follower.dice.ms(0, 700)).await;
        follower.between_sessions().await;
    }
}

struct Follower {
    client: Arc<Client>,
    shared: Arc<Shared>,
    dice: Dice,
    calm: watch::Receiver<bool>,
    /// What it had a while ago.
    earlier: Option<Store>,
}

impl Follower {
    fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// One connection, to its end.
    async fn session(&mut self) {
        let fleet = &self.shared.stage.fleet;
        let server = fleet.any_serving(&mut self.dice);
        let receive_buffer_bytes = self.dice.once_in(3).then_some(RECEIVE_BUFFER_BYTES);
        let options = ConnectOptions { receive_buffer_bytes, ..ConnectOptions::default() };
        let connecting = WsClient::try_connect(fleet.stream(server), &options);
        let Ok(Ok(mut socket)) = timeout(CONNECT_TIMEOUT, connecting).await else { return };
        let mut hello = self.hello().await;
        let who = self.client.selection.who;
        hello["token"] = self.shared.stage.tokens.of(who).into();
        let mut awaited = self.spoil(&mut hello).await;
        if !socket.try_send(&hello).await {
            return;
        }
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let leaves_at = Instant::now() + self.dice.ms(100, 25_000);
        let mut stalls_at = self.dice.once_in(3).then(|| Instant::now() + self.dice.ms(0, 5000));
        let mut heard_at = Instant::now();
        while self.is_calm() || Instant::now() < leaves_at {
            if !self.is_calm() && stalls_at.is_some_and(|at| at <= Instant::now()) {
                stalls_at = None;
                let stall = self.dice.ms(500, 9000);
                _ = timeout(stall, self.calm.wait_for(|is_calm| *is_calm)).await;
                heard_at = Instant::now();
            }
            match socket.frame_within(LOOK_INTERVAL).await {
                None if heard_at.elapsed() > SILENCE_MAX => return,
                None => {}
                Some(Frame::Text(text)) => {
                    heard_at = Instant::now();
                    if !self.hear(&text, &mut awaited).await {
                        return;
                    }
                    let ends_one = text.starts_with(TRANSACTION) && text.contains(WHOLE);
                    if ends_one && self.dice.once_in(20) && !self.ack(&mut socket).await {
                        return;
                    }
                }
                Some(Frame::Closed { code, reason }) => return self.closed(code, &reason, awaited),
            }
        }
    }

    async fn hello(&self) -> Value {
        match &mut *self.client.store.lock().await {
            Store::Copy(replica) => {
                replica.disconnected();
                // Below `consistent_at` a client of a table without key comes back without cursor: docs/protocol.md, "Snapshots".
                if replica.position().is_some() && !replica.is_consistent() {
                    **replica = Replica::new();
                }
                replica.hello(&self.client.name, &self.client.selection.subscriptions)
            }
            Store::Notes(recorder) => {
                // So does one of a table whose keys move while long values stay.
                if recorder.is_ahead() {
                    let retired = std::mem::replace(&mut **recorder, self.empty_notes());
                    self.shared.retired.lock().await.push(retired);
                }
                recorder.hello()
            }
        }
    }

    /// Says something wrong in a hello, now and then. What has to follow, if it does.
    async fn spoil(&mut self, hello: &mut Value) -> Option<Answer> {
        let position = self.client.store.lock().await.position()?;
        let wrong = Wrong::now_and_then(&mut self.dice).filter(|_| !self.is_calm())?;
        self.shared.stage.chronicle.note(format!("{} says hello with {wrong:?}", self.client.name));
        wrong.spoil(hello, position);
        Some(wrong.answer())
    }

    /// Hears a frame, which may be the answer to what was wrong. Whether the session goes on.
    async fn hear(&self, text: &str, awaited: &mut Option<Answer>) -> bool {
        let name = &self.client.name;
        check_told(self.client.selection.who, name, text);
        match *awaited {
            Some(answer) if answer.is(name, text) => *awaited = None,
            Some(Answer::End(..)) => return true,
            Some(Answer::Reset(_)) => {}
            None => check_reset(name, text),
        }
        self.take(text).await
    }

    fn closed(&self, code: u16, reason: &str, awaited: Option<Answer>) {
        let (name, stage) = (&self.client.name, &self.shared.stage);
        stage.tokens.check_public("the reason of a close", reason);
        if awaited.is_some_and(|answer| answer.is_end(code, reason)) {
            return;
        }
        assert!(
            COMES_BACK.contains(&code) || code == REPLACED,
            "{name}, which is to hear {awaited:?}, is closed with {code}: {reason}"
        );
        if code == 4500 {
            stage.chronicle.note(format!("{name} is closed with {code}: {reason}"));
        }
    }

    /// Takes a frame. Whether the session goes on.
    async fn take(&self, text: &str) -> bool {
        let mut store = self.client.store.lock().await;
        let name = &self.client.name;
        match &mut *store {
            Store::Copy(replica) => {
                if let Err(violation) = replica.apply(text) {
                    let text = text.get(..text.floor_char_boundary(2000)).unwrap_or(text);
                    panic!("{name}, at {:?}: {} by {text}", replica.position(), violation.0);
                }
                self.client.set_live(replica.is_live());
            }
            Store::Notes(recorder) => match recorder.record(text) {
                Ok(Heard::Live) => self.client.set_live(true),
                Ok(Heard::GoAway(_) | Heard::Other) => {}
                // The service says what it cannot do for now, and closes.
                Err(said) if said.starts_with("WD-") => return false,
                Err(error) => panic!("{name}: {error}"),
            },
        }
        true
    }

    /// Keeps what it has for later, or goes on from what it kept, or from nothing.
    async fn between_sessions(&mut self) {
        let roll = self.dice.roll(24);
        if self.is_calm() {
            return;
        }
        let mut store = self.client.store.lock().await;
        let next = match roll {
            0..=5 => {
                self.earlier = Some(store.again());
                return;
            }
            6..=8 => self.earlier.take(),
            9 => Some(match &*store {
                Store::Copy(_) => Store::Copy(Box::new(Replica::new())),
                Store::Notes(_) => Store::Notes(Box::new(self.empty_notes())),
            }),
            _ => None,
        };
        let Some(next) = next else { return };
        let from = next.position().map_or_else(|| "nothing".to_owned(), |at| at.to_string());
        self.shared.stage.chronicle.note(format!("{} goes on from {from}", self.client.name));
        if let Store::Notes(recorder) = std::mem::replace(&mut *store, next) {
            self.shared.retired.lock().await.push(*recorder);
        }
    }

    /// Acknowledges what it has. What it comes back with later may be less.
    async fn ack(&self, socket: &mut WsClient) -> bool {
        let position = self.client.store.lock().await.position();
        let Some(cursor) = position else { return true };
        socket.try_send(&json!({"type": "ack", "cursor": cursor.to_string()})).await
    }

    fn empty_notes(&self) -> Recorder {
        self.client.selection.recorder(&self.client.name, &self.shared.archive)
    }
}

/// None is reset, but of tables whose rows DDL changes unseen: those are repaired (docs/protocol.md, "From the service").
fn check_reset(name: &str, text: &str) {
    if !text.starts_with(RESET) {
        return;
    }
    let reset: Value = serde_json::from_str(text).unwrap();
    let is_repaired = |table: &Value| table.as_str().is_some_and(|table| MAY_BE_RESET.contains(&table));
    let tables = reset["tables"].as_array();
    let is_repair = reset["reason"] == "gap" && tables.is_some_and(|tables| tables.iter().all(is_repaired));
    assert!(is_repair, "{name} is reset: {text}");
}
