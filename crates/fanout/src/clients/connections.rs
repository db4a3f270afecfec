//! Of two connections of a client the newer one stays, also where they came to different processes: each process writes whose
//! connections came to it, and is told of those that came to another afterwards.
//!
//! What is newer, a number says that history's database counts: no clock decides. It is drawn when the client says hello, and a
//! session waits for it before it is live, but not for a database that does not answer: then it goes without. So whoever has seen
//! a session live and connects elsewhere gets a higher number there. A session is written once, together with others that come
//! meanwhile; one that goes on costs nothing but being asked for once a minute, in case a notification was lost. Only a higher
//! number ends a session: a process that is cut off from the database ends none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use waldelta_history::{ClientNote, ConnectionListener, Error, NewestConnection, NumberedClient};
use waldelta_wal::chain_text;

use super::{BATCH_MAX, lock};
use crate::clock;
use crate::databases::Clientele;
use crate::registry::Client;
use crate::sessions::Entry;

/// Who comes within this time is written together.
const GATHER: Duration = Duration::from_millis(50);
/// A session that could not get a number for so long gets none: it is about to be live without, its client may go on elsewhere,
/// and the number would say that it was here later. It replaces nobody at another process then, and is replaced by nobody there.
const NUMBERED_WITHIN: Duration = Duration::from_secs(4);
/// The database answers in milliseconds. One that says nothing for so long is asked again, on another connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// What failed is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The sessions of this process that have begun, as other processes must know them.
pub(crate) struct Connections {
    /// Names this process, for as long as it runs.
    process: i64,
    state: Mutex<State>,
    came: Notify,
    numbered: Notify,
}

#[derive(Default)]
struct State {
    /// By the client's key, which is what history has as its id.
    present: HashMap<Arc<str>, Present>,
    /// Those that are not written yet, by the number of their session.
    waiting: BTreeMap<u64, Arc<str>>,
}

/// A client that is here.
struct Present {
    client: Client,
    entry: Arc<Entry>,
    began: Instant,
    /// Its connection's number, among those of all processes.
    number: Option<i64>,
    /// Dropped when it has a number, or is not to wait for one.
    waits: Option<oneshot::Sender<()>>,
}

/// What is written of one.
struct Newcomer {
    client_id: Arc<str>,
    protocol: &'static str,
    user_agent: Option<Arc<str>>,
    number: i64,
}

impl Connections {
    pub(super) fn new() -> Self {
        // Keyed by the system's random numbers.
        let process = RandomState::new().hash_one(()).cast_signed();
        let (came, numbered) = (Notify::new(), Notify::new());
        Connections { process, state: Mutex::default(), came, numbered }
    }

    /// A client has said hello. What is given back ends when its connection has a number, or need not wait for one any longer.
    pub(crate) fn begins(&self, client: &Client, entry: &Arc<Entry>) -> oneshot::Receiver<()> {
        let (waits, drawn) = oneshot::channel();
        self.lock().begins(client, entry, waits, clock::now());
        self.came.notify_one();
        drawn
    }

    /// It has ended.
    pub(crate) fn ends(&self, client_id: &str, session: u64) {
        self.lock().ends(client_id, session);
    }

    /// Writes who comes and hears who goes elsewhere, without end.
    pub(super) async fn run(&self, history: &dyn Clientele) {
        while self.repeated(async { history.raise_connections().await.map(|()| 0) }).await {}
        tokio::join!(self.number_all(history), self.write_all(history), self.listen(history));
    }

    /// Draws numbers for who comes; for those who come meanwhile with the next draw.
    async fn number_all(&self, history: &dyn Clientele) {
        loop {
            self.came.notified().await;
            while self.repeated(self.number(history)).await {}
        }
    }

    async fn write_all(&self, history: &dyn Clientele) {
        loop {
            self.numbered.notified().await;
            tokio::time::sleep(GATHER).await;
            while self.repeated(self.write(history)).await {}
        }
    }

    /// Whether to go on after a step, which is after a pause where it has failed.
    async fn repeated(&self, step: impl Future<Output = Result<usize, Error>>) -> bool {
        match tokio::time::timeout(ANSWER_TIMEOUT, step).await {
            Ok(Ok(done)) => done > 0,
            Err(_elapsed) => true,
            Ok(Err(error)) => {
                tracing::debug!(error = chain_text(&error), "write whose connections came here");
                tokio::time::sleep(AGAIN_AFTER).await;
                true
            }
        }
    }

    /// Draws numbers for some of those who have none; how many there were.
    async fn number(&self, history: &dyn Clientele) -> Result<usize, Error> {
        let bare = self.lock().without_number(clock::now());
        if bare.is_empty() {
            return Ok(0);
        }
        let numbers = match history.draw_connections(bare.len()).await {
            Ok(numbers) => numbers,
            Err(error) if error.is_retryable() => {
                self.lock().wait_no_longer(&bare);
                return Err(error);
            }
            // What got none cannot get one.
            Err(_) => Vec::new(),
        };
        self.lock().drew(&bare, &numbers, clock::now());
        self.numbered.notify_one();
        Ok(bare.len())
    }

    /// Writes some of those who have a number; how many there were.
    async fn write(&self, history: &dyn Clientele) -> Result<usize, Error> {
        let newcomers = self.lock().newcomers();
        if newcomers.is_empty() {
            return Ok(0);
        }
        let together = self.take(history, &newcomers).await;
        if !matches!(&together, Err(error) if !error.is_retryable()) {
            together?;
            return Ok(newcomers.len());
        }
        // An id that the database's encoding cannot hold must not keep the others from being written.
        for newcomer in &newcomers {
            match self.take(history, std::slice::from_ref(newcomer)).await {
                Err(error) if !error.is_retryable() => self.lock().give_up(newcomer),
                taken => taken?,
            }
        }
        Ok(newcomers.len())
    }

    async fn take(&self, history: &dyn Clientele, newcomers: &[Newcomer]) -> Result<(), Error> {
        let clients: Vec<NumberedClient<'_>> = newcomers.iter().map(Newcomer::numbered).collect();
        let taken = history.take_clients(self.process, &clients).await?;
        self.lock().took(newcomers, &taken, clock::now());
        Ok(())
    }

    async fn listen(&self, history: &dyn Clientele) {
        loop {
            let ended = match history.listen_for_connections().await {
                Ok(listener) => self.hear(history, listener).await,
                Err(error) => error,
            };
            tracing::debug!(
                error = chain_text(&ended),
                "cannot listen for clients that connect elsewhere; they are asked for"
            );
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Hears until listening fails.
    async fn hear(&self, history: &dyn Clientele, mut listener: ConnectionListener) -> Error {
        loop {
            // It listens by now: what came before is asked for, and nothing falls between the two.
            let everybody = self.lock().numbered();
            if let Err(error) = self.ask(history, &everybody).await {
                return error;
            }
            loop {
                match listener.next().await {
                    // Anybody may notify: it only says whom to ask about.
                    Ok(Some(newest)) => {
                        let Some(id) = self.lock().may_be_replaced(&newest) else { continue };
                        if let Err(error) = self.ask(history, &[id]).await {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error,
                }
            }
        }
    }

    /// Asks whether newer connections of these clients came to other processes.
    pub(super) async fn ask(&self, history: &dyn Clientele, client_ids: &[Arc<str>]) -> Result<(), Error> {
        for ids in client_ids.chunks(BATCH_MAX) {
            let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
            let newest = history.taken_elsewhere(self.process, &ids).await?;
            self.lock().heard(&newest);
        }
        Ok(())
    }

    /// Those of these clients that are written as here.
    pub(super) fn of<'a>(&self, client_ids: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
        let state = self.lock();
        client_ids.filter_map(|id| state.written(id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn begins(&mut self, client: &Client, entry: &Arc<Entry>, waits: oneshot::Sender<()>, now: Instant) {
        if self.present.get(&client.key).is_some_and(|known| known.client.session > client.session) {
            // It was replaced before it began.
            return;
        }
        let (owned, waits) = (client.clone(), Some(waits));
        let present = Present { client: owned, entry: entry.clone(), began: now, number: None, waits };
        if let Some(older) = self.present.insert(client.key.clone(), present) {
            self.waiting.remove(&older.client.session);
        }
        self.waiting.insert(client.session, client.key.clone());
    }

    fn ends(&mut self, client_id: &str, session: u64) {
        self.waiting.remove(&session);
        if self.present.get(client_id).is_some_and(|known| known.client.session == session) {
            self.present.remove(client_id);
        }
    }

    /// Sessions that need a number, in the order in which they came. Those that have waited for too long do without.
    fn without_number(&mut self, now: Instant) -> Vec<u64> {
        let State { present, waiting } = self;
        waiting.retain(|_, id| {
            present.get_mut(id).is_some_and(|known| {
                let stays = known.number.is_some() || known.is_recent(now);
                if !stays {
                    known.waits = None;
                }
                stays
            })
        });
        let bare =
            waiting.iter().filter(|(_, id)| present.get(*id).is_some_and(|known| known.number.is_none()));
        bare.take(BATCH_MAX).map(|(session, _)| *session).collect()
    }

    /// The database does not answer: these go on without a number. A later one would say that they came after a connection for
    /// which their client has left them.
    fn wait_no_longer(&mut self, sessions: &[u64]) {
        for session in sessions {
            let Some(id) = self.waiting.remove(session) else { continue };
            if let Some(known) = self.present.get_mut(&id) {
                known.waits = None;
            }
        }
    }

    /// Numbers were drawn for these sessions; for those that are left over there are none.
    fn drew(&mut self, sessions: &[u64], numbers: &[i64], now: Instant) {
        let mut numbers = numbers.iter();
        for session in sessions {
            let number = numbers.next();
            // It may have ended meanwhile.
            let Some(id) = self.waiting.get(session) else { continue };
            let Some(known) = self.present.get_mut(id) else { continue };
            known.waits = None;
            match number {
                Some(number) if known.is_recent(now) => known.number = Some(*number),
                _ => drop(self.waiting.remove(session)),
            }
        }
    }

    /// Who is to be written now, in an order that all processes have.
    fn newcomers(&self) -> Vec<Newcomer> {
        let newcomers = self.waiting.values().filter_map(|id| self.present.get(id)?.newcomer());
        let mut newcomers: Vec<Newcomer> = newcomers.take(BATCH_MAX).collect();
        newcomers.sort_unstable_by(|a, b| a.client_id.cmp(&b.client_id));
        newcomers
    }

    /// These were written, but for those that are not among `taken`: they have a newer connection elsewhere.
    fn took(&mut self, newcomers: &[Newcomer], taken: &[String], now: Instant) {
        let taken: HashSet<&str> = taken.iter().map(String::as_str).collect();
        for newcomer in newcomers {
            let Some(known) = self.same(newcomer) else { continue };
            match taken.contains(&*newcomer.client_id) {
                true => known.entry.noted(now),
                false => known.client.replaced.cancel(),
            }
            let session = known.client.session;
            self.waiting.remove(&session);
        }
    }

    /// It cannot be written.
    fn give_up(&mut self, newcomer: &Newcomer) {
        if let Some(known) = self.same(newcomer) {
            known.number = None;
            let session = known.client.session;
            self.waiting.remove(&session);
        }
    }

    /// The session that was meant, if it is there still.
    fn same(&mut self, newcomer: &Newcomer) -> Option<&mut Present> {
        self.present.get_mut(&newcomer.client_id).filter(|known| known.number == Some(newcomer.number))
    }

    /// Whose session this ends, if it is so.
    fn may_be_replaced(&self, newest: &NewestConnection) -> Option<Arc<str>> {
        let (id, known) = self.present.get_key_value(&*newest.client_id)?;
        known.number.is_some_and(|number| number < newest.connection).then(|| id.clone())
    }

    /// Connections came to other processes. Whose number is not known yet gets one above theirs.
    fn heard(&mut self, newest: &[NewestConnection]) {
        for NewestConnection { client_id, connection } in newest {
            if let Some(known) = self.present.get(&**client_id)
                && known.number.is_some_and(|number| number < *connection)
            {
                known.client.replaced.cancel();
            }
        }
    }

    /// Clients that are written as here.
    fn numbered(&self) -> Vec<Arc<str>> {
        self.present.keys().filter_map(|id| self.written(id)).collect()
    }

    fn written(&self, client_id: &str) -> Option<Arc<str>> {
        let known = self.present.get(client_id)?;
        let is_written = known.number.is_some() && !self.waiting.contains_key(&known.client.session);
        is_written.then(|| known.client.key.clone())
    }
}

impl Present {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) < NUMBERED_WITHIN
    }

    fn newcomer(&self) -> Option<Newcomer> {
        let (client_id, user_agent) = (self.client.key.clone(), self.entry.user_agent());
        Some(Newcomer { client_id, protocol: self.entry.protocol(), user_agent, number: self.number? })
    }
}

impl Newcomer {
    fn numbered(&self) -> NumberedClient<'_> {
        let note = ClientNote {
            client_id: &self.client_id,
            protocol: self.protocol,
            user_agent: self.user_agent.as_deref(),
        };
        NumberedClient { note, connection: self.number }
    }
}

#[cfg(test)]
mod tests;
