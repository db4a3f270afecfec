//! What outlives a session: the cursor that each client acknowledged last, and when it was here.
//!
//! A client that is away is a row in history and nothing in memory, until it is forgotten. While it is here it costs few writes:
//! what many acknowledge in one moment is recorded by one statement, and that it is here is noted once a minute. Which process it
//! is connected to is [`connections`]' part.

mod connections;
mod key;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use connections::Connections;
pub(crate) use key::{client_of, key};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use waldelta_history::ClientNote;
use waldelta_wal::{Code, Position, chain_text};

use crate::clock;
use crate::databases::Clientele;
use crate::error::Error;
use crate::lock::lock;
use crate::sessions::Sessions;

/// Clients of one statement at most.
const BATCH_MAX: usize = 1_000;
/// Acknowledgements that wait to be recorded at most; more wait in their sessions, one in each.
const QUEUE_MAX: usize = BATCH_MAX;
/// How often it is looked who is to be noted.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A client that stays is noted this often.
pub(crate) const NOTE_EVERY: Duration = Duration::from_secs(60);
/// What is left at the end is written within this time, or not at all.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Clients that came and went, or asked, between two looks at most; of more, some are not noted.
const VISITS_MAX: usize = 10_000;
/// How often it is looked whether clients are to be forgotten, and when again if that failed.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3_600);
const FORGET_AGAIN_AFTER: Duration = Duration::from_secs(600);

/// What is to be written of clients.
pub(crate) struct Clients {
    /// Which of them are connected here.
    pub connections: Connections,
    forget_after: Duration,
    acks: mpsc::Sender<Ack>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Ack>>,
    visits: Mutex<Vec<Visit>>,
}

/// An acknowledgement that is to be recorded.
struct Ack {
    key: Arc<str>,
    cursor: Position,
    recorded: oneshot::Sender<Result<(), Code>>,
}

/// That a client is or was here, at about this time.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The client's key.
    pub key: Arc<str>,
    /// How it follows: a subprotocol of the WebSocket, or a form of `/v1/changes`.
    pub protocol: &'static str,
    pub user_agent: Option<Arc<str>>,
}

impl Clients {
    /// Clients that were not here for `forget_after` are forgotten.
    pub(crate) fn new(forget_after: Duration) -> Self {
        let (acks, queue) = mpsc::channel(QUEUE_MAX);
        let (queue, visits) = (tokio::sync::Mutex::new(queue), Mutex::default());
        Clients { connections: Connections::new(), forget_after, acks, queue, visits }
    }

    /// Records the last cursor that the client with this key has acknowledged, together with what others acknowledge meanwhile.
    pub(crate) async fn record(&self, key: Arc<str>, cursor: Position) -> Result<(), Code> {
        let (recorded, answer) = oneshot::channel();
        self.acks.send(Ack { key, cursor, recorded }).await.map_err(|_| Code::Stopping)?;
        answer.await.unwrap_or(Err(Code::Stopping))
    }

    /// A session has ended whose client is to be noted, or a client has asked over HTTP.
    pub(crate) fn visited(&self, visit: Visit) {
        let mut visits = lock(&self.visits);
        if visits.len() < VISITS_MAX {
            visits.push(visit);
        }
    }

    /// Writes until `ended` is cancelled, and then what is left.
    pub(crate) async fn run(&self, history: &dyn Clientele, sessions: &Sessions, ended: &CancellationToken) {
        // Each is large, and lasts as long as the process.
        tokio::join!(
            Box::pin(self.write(history, sessions, ended)),
            Box::pin(ended.run_until_cancelled(self.connections.run(history))),
            Box::pin(ended.run_until_cancelled(self.forget(history))),
        );
    }

    async fn write(&self, history: &dyn Clientele, sessions: &Sessions, ended: &CancellationToken) {
        let mut queue = self.queue.lock().await;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut acks = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                biased;
                () = ended.cancelled() => break,
                // Seldom: however many acknowledge, it is its turn now and then.
                _ = looks.tick() => self.note(history, sessions).await,
                count = queue.recv_many(&mut acks, BATCH_MAX) => match count {
                    0 => break,
                    _ => record_all(history, &mut acks).await,
                },
            }
        }
        // Who comes now is told that the service stops.
        queue.close();
        let rest = async {
            while queue.recv_many(&mut acks, BATCH_MAX).await > 0 {
                record_all(history, &mut acks).await;
            }
            self.note(history, sessions).await;
        };
        if tokio::time::timeout(LAST_WRITE_TIMEOUT, rest).await.is_err() {
            tracing::debug!("the last clients were not noted in time");
        }
    }

    /// Notes the clients that are here and those that have gone or asked since the last look.
    async fn note(&self, history: &dyn Clientele, sessions: &Sessions) {
        let now = clock::now();
        let mut visits = std::mem::take(&mut *lock(&self.visits));
        let here = sessions.to_note(now);
        visits.extend(here.iter().filter_map(|entry| entry.visit()));
        // Of one client the newest counts; in one order, as others write theirs.
        let visits: BTreeMap<&str, &Visit> = visits.iter().map(|visit| (&*visit.key, visit)).collect();
        let notes: Vec<ClientNote<'_>> = visits
            .into_values()
            .map(|visit| ClientNote {
                client_id: &visit.key,
                protocol: visit.protocol,
                user_agent: visit.user_agent.as_deref(),
            })
            .collect();
        for batch in notes.chunks(BATCH_MAX) {
            if let Err(error) = note_all(history, batch).await {
                // They are noted with the next look, or the next visit.
                tracing::debug!(error = chain_text(&error), "note which clients are here");
                return;
            }
            let ids = self.connections.of(batch.iter().map(|note| note.client_id));
            if let Err(error) = self.connections.ask(history, &ids).await {
                tracing::debug!(error = chain_text(&error), "ask which clients are elsewhere");
            }
        }
        here.iter().for_each(|entry| entry.noted(now));
    }

    /// Has clients forgotten that were away for long, without end. Others do the same: one at a time.
    async fn forget(&self, history: &dyn Clientele) {
        loop {
            let again_after = match history.forget_clients(self.forget_after).await {
                Ok(forgotten) => {
                    if let Some(clients @ 1..) = forgotten {
                        tracing::info!(clients, "clients that were away for long are forgotten");
                    }
                    FORGET_EVERY
                }
                Err(error) => {
                    tracing::debug!(error = chain_text(&error), "forget clients");
                    FORGET_AGAIN_AFTER
                }
            };
            tokio::time::sleep(again_after).await;
        }
    }
}

/// An id that the history database's encoding cannot hold must not keep the others from being written.
async fn note_all(history: &dyn Clientele, notes: &[ClientNote<'_>]) -> Result<(), waldelta_history::Error> {
    match history.note_clients(notes).await {
        Err(error) if !error.is_retryable() => {}
        result => return result,
    }
    for note in notes {
        if let Err(error) = history.note_clients(std::slice::from_ref(note)).await {
            if error.is_retryable() {
                return Err(error);
            }
            tracing::debug!(error = chain_text(&error), "note that a client is here");
        }
    }
    Ok(())
}

async fn record_all(history: &dyn Clientele, acks: &mut Vec<Ack>) {
    let mut newest: BTreeMap<&str, Position> = BTreeMap::new();
    for ack in acks.iter() {
        let known = newest.entry(&ack.key).or_insert(ack.cursor);
        *known = ack.cursor.max(*known);
    }
    let newest: Vec<_> = newest.into_iter().collect();
    let together = history.record_acks(&newest).await;
    let apart = matches!(&together, Err(error) if !error.is_retryable() && newest.len() > 1);
    if !apart {
        let result = together.map_err(failed);
        acks.drain(..).for_each(|ack| answer(ack, result));
        return;
    }
    // One of them cannot be stored: the others must not suffer for it.
    for ack in acks.drain(..) {
        let result = history.record_ack(&ack.key, ack.cursor).await.map_err(failed);
        answer(ack, result);
    }
}

fn answer(ack: Ack, result: Result<(), Code>) {
    // Whose session has ended needs none.
    let _ = ack.recorded.send(result);
}

/// Logs a failure where it is handled, and gives the code that the clients are told.
fn failed(error: waldelta_history::Error) -> Code {
    let error = Error::from(error);
    let code = error.code();
    tracing::warn!(
        code = code.as_str(),
        error = chain_text(&error),
        "acknowledgements could not be recorded"
    );
    code
}
