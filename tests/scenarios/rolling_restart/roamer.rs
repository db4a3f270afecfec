//! Clients that do as they are told: on `goaway`, on a close frame and on a lost connection they go to the other process, after the time
//! that they were given, and go on from their cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waldelta_testkit::recorder::{Heard, Recorder};
use waldelta_testkit::{ConnectOptions, Frame, WsClient, wait_until};
use waldelta_wal::Position;

use crate::setting::PATIENCE;

/// Who has no connection.
const NOWHERE: usize = usize::MAX;
/// A process that cannot be reached is tried again, after the other, this much later.
const RETRY: Duration = Duration::from_millis(100);
/// Those whose connection broke without a word come back spread over this time.
const SPREAD: Duration = Duration::from_millis(500);

/// A client, and how it fared.
pub struct Roamer {
    pub recorder: Recorder,
    /// Close codes in order.
    pub closes: Vec<u16>,
    /// The longest time from the end of a connection until it was live again.
    pub outage: Duration,
    number: usize,
}

/// All of them, at work.
pub struct Crowd {
    clients: JoinSet<Roamer>,
    /// Which process each is live on.
    places: Arc<Vec<AtomicUsize>>,
    goal: watch::Sender<Option<Position>>,
}

impl Crowd {
    /// Connects them, each to another of the servers than the one before it.
    pub fn connect(recorders: Vec<Recorder>, servers: &[String]) -> Self {
        let places: Arc<Vec<_>> = Arc::new(recorders.iter().map(|_| AtomicUsize::new(NOWHERE)).collect());
        let goal = watch::Sender::new(None);
        let mut clients = JoinSet::new();
        for (number, recorder) in recorders.into_iter().enumerate() {
            let roamer = Roamer { recorder, closes: Vec::new(), outage: Duration::ZERO, number };
            clients.spawn(roamer.roam(servers.to_vec(), places.clone(), goal.subscribe()));
        }
        Crowd { clients, places, goal }
    }

    /// Waits until every client is live on one of these servers.
    pub async fn live_on(&self, servers: &[usize], patience: Duration) {
        let is_there = |place: &AtomicUsize| servers.contains(&place.load(Ordering::Relaxed));
        wait_until(&format!("everybody is live on {servers:?}"), patience, async || {
            self.places.iter().all(is_there)
        })
        .await;
    }

    /// Waits until every client has everything up to here, and lets them go.
    pub async fn finish(mut self, goal: Position) -> Vec<Roamer> {
        self.goal.send_replace(Some(goal));
        let mut all = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            all.push(ended.unwrap());
        }
        all
    }
}

/// How a connection ended.
enum Ended {
    /// With this code; it may come back after this time.
    Closed(u16, Option<Duration>),
    /// It has everything.
    Done,
}

impl Roamer {
    async fn roam(
        mut self,
        servers: Vec<String>,
        places: Arc<Vec<AtomicUsize>>,
        mut goal: watch::Receiver<Option<Position>>,
    ) -> Self {
        let mut server = self.number % servers.len();
        let mut left_at = None;
        loop {
            let Ok(mut socket) = WsClient::try_connect(&servers[server], &ConnectOptions::default()).await
            else {
                sleep(RETRY).await;
                server = (server + 1) % servers.len();
                continue;
            };
            let place = &places[self.number];
            let ended = self.listen(&mut socket, server, place, &mut left_at, &mut goal).await;
            place.store(NOWHERE, Ordering::Relaxed);
            let Ended::Closed(code, wait) = ended else {
                socket.close().await;
                return self;
            };
            self.closes.push(code);
            left_at.get_or_insert_with(Instant::now);
            let alone = SPREAD * u32::try_from(self.number % 100).unwrap() / 100;
            sleep(wait.unwrap_or(alone)).await;
            server = (server + 1) % servers.len();
        }
    }

    /// One session, to its end.
    async fn listen(
        &mut self,
        socket: &mut WsClient,
        server: usize,
        place: &AtomicUsize,
        left_at: &mut Option<Instant>,
        goal: &mut watch::Receiver<Option<Position>>,
    ) -> Ended {
        socket.send(&self.recorder.hello()).await;
        let mut told_to_wait = None;
        loop {
            let is_live = place.load(Ordering::Relaxed) == server;
            if is_live && goal.borrow_and_update().is_some_and(|goal| self.recorder.position() >= Some(goal))
            {
                return Ended::Done;
            }
            let frame = tokio::select! {
                frame = socket.next_frame(PATIENCE) => frame,
                Ok(()) = goal.changed() => continue,
            };
            match frame {
                Frame::Closed { code, reason } => {
                    let said: Value = serde_json::from_str(&reason).unwrap_or_default();
                    let retry = said["retry_ms"].as_u64().map(Duration::from_millis);
                    return Ended::Closed(code, retry.or(told_to_wait));
                }
                Frame::Text(text) => match self.recorder.record(&text) {
                    Ok(Heard::Live) => {
                        if let Some(left) = left_at.take() {
                            self.outage = self.outage.max(left.elapsed());
                        }
                        place.store(server, Ordering::Relaxed);
                    }
                    Ok(Heard::GoAway(retry)) => told_to_wait = Some(retry),
                    Ok(Heard::Other) => {}
                    Err(error) => panic!("{}: {error}", self.recorder.client_id()),
                },
            }
        }
    }
}
