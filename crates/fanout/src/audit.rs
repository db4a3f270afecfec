//! What is told to the audit of history: who was let in, who was turned away, and who has read what a row was.
//!
//! One writer, with a bounded queue before it: what many tell in one moment is one statement. Nothing is dropped. Those who are
//! turned away are counted, by address and reason, and those who ask again and again are noted now and then, so that a flood of
//! them is few entries. While history is out of reach,
//! sessions are let in and their entries wait; when as many wait as may, so do those who come. Who reads the past waits until
//! the entry is durable, and gets nothing where that fails.
//!
//! What is in an entry, and how it is stored, is history's to say.

mod noted;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use waldelta_access::{Access, Identity};
use waldelta_history::{AuditAction, AuditEntry, History};
use waldelta_wal::{Code, Position, chain_text};

use self::noted::{Note, Noted};
use crate::error::Error;
use crate::lock::lock;
use crate::metrics;

/// Entries of one statement at most.
const BATCH_MAX: usize = 1_000;
/// Entries that wait at most; more wait in those who tell them.
const QUEUE_MAX: usize = 10_000;
/// Who comes waits for room in the queue for so long.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
/// Who reads the past waits for its entry for so long.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// One statement may take this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after one has failed.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What is left at the end is written within this time, or the log says how much was not.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked who was turned away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Those who are turned away from one address for one reason are counted for so long.
const FOLD_FOR: Duration = Duration::from_secs(10);
/// Pairs of address and reason that are counted apart at most; of more, the addresses are not told.
const FOLDS_MAX: usize = 10_000;

/// Who does something, as far as that is known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Who<'a> {
    pub identity: Option<&'a Identity>,
    pub client_id: Option<&'a str>,
    pub address: Option<IpAddr>,
}

/// What is to be written into the audit.
pub(crate) struct Audit {
    access: Access,
    entries: mpsc::Sender<Waiting>,
    queue: tokio::sync::Mutex<mpsc::Receiver<Waiting>>,
    refusals: Mutex<Refusals>,
    noted: Mutex<Noted>,
}

struct Waiting {
    entry: AuditEntry,
    /// Who waits for it.
    written: Option<oneshot::Sender<Result<(), Code>>>,
}

impl Audit {
    /// Whether it is told who comes depends on whether one can know: on `access`.
    pub(crate) fn new(access: Access) -> Self {
        let (entries, queue) = mpsc::channel(QUEUE_MAX);
        Audit {
            access,
            entries,
            queue: tokio::sync::Mutex::new(queue),
            refusals: Mutex::default(),
            noted: Mutex::default(),
        }
    }

    /// A session begins: to be told before it gets anything. Nothing is told where nobody authenticates.
    ///
    /// # Errors
    /// With the code to send the client away with for now: the audit could not be written for so long that no more entries may wait.
    pub(crate) async fn began(
        &self,
        who: Who<'_>,
        session: &str,
        transport: &'static str,
    ) -> Result<(), Code> {
        if !self.access.is_required() {
            return Ok(());
        }
        let action = AuditAction::SessionBegan { session: Some(session.to_owned()), transport };
        self.send(Waiting { entry: entry(who, action), written: None }, ROOM_TIMEOUT).await
    }

    /// Somebody asks once, over HTTP: told like a session, but again only after a while. Of more than can be remembered it is told
    /// together that there are some.
    ///
    /// # Errors
    /// As of [`Self::began`].
    pub(crate) async fn asked(&self, who: Who<'_>) -> Result<(), Code> {
        if !self.access.is_required() {
            return Ok(());
        }
        let who = match lock(&self.noted).note(who, Instant::now()) {
            Note::Known => return Ok(()),
            Note::Caller => who,
            Note::Others => Who::default(),
        };
        let action = AuditAction::SessionBegan { session: None, transport: "http" };
        self.send(Waiting { entry: entry(who, action), written: None }, ROOM_TIMEOUT).await
    }

    /// Somebody was turned away. Nothing is told but to the metrics where nobody authenticates.
    pub(crate) fn refused(&self, who: Who<'_>, code: Code) {
        metrics::turned_away(code);
        if self.access.is_required() {
            lock(&self.refusals).note(who, code, Instant::now());
        }
    }

    /// Somebody reads what a row was: returns when the entry is durable. `count` is of versions or states, `cursor` up to where
    /// history was read.
    ///
    /// # Errors
    /// With the code of why it is not durable: then the answer must not go out (503).
    pub(crate) async fn row_history_read(
        &self,
        who: Who<'_>,
        table: &str,
        read: &'static str,
        count: u64,
        cursor: Option<Position>,
    ) -> Result<(), Code> {
        let action = AuditAction::RowHistoryRead { table: table.to_owned(), read, count, cursor };
        let (written, answer) = oneshot::channel();
        let told = async {
            let waiting = Waiting { entry: entry(who, action), written: Some(written) };
            self.send(waiting, READ_TIMEOUT).await?;
            answer.await.unwrap_or(Err(Code::Stopping))
        };
        tokio::time::timeout(READ_TIMEOUT, told).await.unwrap_or(Err(Code::HistoryUnreachable))
    }

    async fn send(&self, waiting: Waiting, timeout: Duration) -> Result<(), Code> {
        match self.entries.send_timeout(waiting, timeout).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Code::Stopping),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Code::HistoryUnreachable),
        }
    }

    /// Writes until `ended` is cancelled, and then what is left.
    pub(crate) async fn run(&self, history: &History, ended: &CancellationToken) {
        let mut queue = self.queue.lock().await;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut batch, mut failing) = (Vec::with_capacity(BATCH_MAX), false);
        loop {
            let room = BATCH_MAX - batch.len();
            tokio::select! {
                _ = queue.recv_many(&mut batch, room), if room > 0 => {}
                () = ended.cancelled() => break,
                _ = looks.tick() => {
                    batch.extend(lock(&self.refusals).take(room, Instant::now().checked_sub(FOLD_FOR)));
                }
            }
            match write(history, &mut batch).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tell(&error);
                    }
                    ended.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
                }
            }
        }
        // Who comes now is told that the service stops.
        queue.close();
        let rest = self.write_rest(history, &mut queue, &mut batch);
        if tokio::time::timeout(LAST_WRITE_TIMEOUT, rest).await.is_err() {
            let entries = batch.len() + queue.len() + lock(&self.refusals).len();
            tracing::error!(entries, "the last entries of the audit were not written in time, and are lost");
        }
    }

    /// Writes what is left, however often it takes.
    async fn write_rest(
        &self,
        history: &History,
        queue: &mut mpsc::Receiver<Waiting>,
        batch: &mut Vec<Waiting>,
    ) {
        loop {
            let room = BATCH_MAX - batch.len();
            batch.extend(lock(&self.refusals).take(room, None));
            while batch.len() < BATCH_MAX
                && let Ok(waiting) = queue.try_recv()
            {
                batch.push(waiting);
            }
            if batch.is_empty() {
                return;
            }
            if write(history, batch).await.is_err() {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// Writes a batch: it is empty then. Where that fails, those who wait are told so, and their entries are dropped with the answers
/// that they were for.
async fn write(history: &History, batch: &mut Vec<Waiting>) -> Result<(), Failure> {
    if batch.is_empty() {
        return Ok(());
    }
    let entries: Vec<AuditEntry> = batch.iter().map(|waiting| waiting.entry.clone()).collect();
    let result = match tokio::time::timeout(WRITE_TIMEOUT, history.audit(&entries)).await {
        Ok(result) => result.map_err(|error| Failure::Failed(error.into())),
        Err(_) => Err(Failure::Late),
    };
    let answer = result.as_ref().copied().map_err(Failure::code);
    batch.retain_mut(|waiting| match waiting.written.take() {
        Some(written) => {
            // Whose request has ended needs none.
            let _ = written.send(answer);
            false
        }
        None => answer.is_err(),
    });
    result
}

/// Why entries were not written.
enum Failure {
    Failed(Error),
    Late,
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Failure::Failed(error) => error.code(),
            Failure::Late => Code::HistoryUnreachable,
        }
    }
}

fn tell(failure: &Failure) {
    let code = failure.code().as_str();
    let words = "the audit cannot be written; its entries wait, and the past of rows is not read meanwhile";
    match failure {
        Failure::Failed(error) => {
            tracing::error!(code, error = chain_text(error), "{words}");
        }
        Failure::Late => tracing::error!(code, "{words}"),
    }
}

fn entry(who: Who<'_>, action: AuditAction) -> AuditEntry {
    let mut entry = AuditEntry::new(action);
    if let Some(identity) = who.identity {
        entry = entry.by(identity.subject.clone()).of_issuer(identity.issuer());
    }
    if let Some(client_id) = who.client_id {
        entry = entry.client(client_id);
    }
    match who.address {
        Some(address) => entry.from(address),
        None => entry,
    }
}

/// Those who were turned away, counted.
#[derive(Default)]
struct Refusals(BTreeMap<(Option<IpAddr>, &'static str), Folded>);

struct Folded {
    since: Instant,
    code: Code,
    count: u64,
    /// Issuer and subject, and client id, of all of them, where they have the same.
    subject: Option<(Box<str>, Arc<str>)>,
    client_id: Option<Arc<str>>,
}

impl Refusals {
    fn note(&mut self, who: Who<'_>, code: Code, now: Instant) {
        let mut key = (who.address.map(|address| address.to_canonical()), code.as_str());
        if self.0.len() >= FOLDS_MAX && !self.0.contains_key(&key) {
            key.0 = None;
        }
        let subject = who.identity.map(|identity| (identity.issuer(), &identity.subject));
        let folded = self.0.entry(key).or_insert_with(|| Folded {
            since: now,
            code,
            count: 0,
            subject: subject.map(|(issuer, subject)| (issuer.into(), subject.clone())),
            client_id: who.client_id.map(Into::into),
        });
        folded.count = folded.count.saturating_add(1);
        if folded.subject.as_ref().map(|(issuer, subject)| (&**issuer, subject)) != subject {
            folded.subject = None;
        }
        if folded.client_id.as_deref() != who.client_id {
            folded.client_id = None;
        }
    }

    /// Takes out those that were begun to be counted at or before `since`, `max` at most; `None`: whenever it was.
    fn take(&mut self, max: usize, since: Option<Instant>) -> Vec<Waiting> {
        let is_due = |folded: &Folded| since.is_none_or(|since| folded.since <= since);
        let due: Vec<_> =
            self.0.iter().filter(|(_, folded)| is_due(folded)).map(|(key, _)| *key).take(max).collect();
        let take = |key: (Option<IpAddr>, &'static str)| {
            let folded = self.0.remove(&key)?;
            let action = AuditAction::SessionRefused { code: folded.code, count: folded.count };
            let mut entry = AuditEntry::new(action).at(folded.since);
            if let Some((issuer, subject)) = folded.subject {
                entry = entry.by(subject).of_issuer(&issuer);
            }
            if let Some(client_id) = folded.client_id {
                entry = entry.client(client_id);
            }
            if let Some(address) = key.0 {
                entry = entry.from(address);
            }
            Some(Waiting { entry, written: None })
        };
        due.into_iter().filter_map(take).collect()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: u64, since: Instant) -> AuditEntry {
        AuditEntry::new(AuditAction::SessionRefused { code: Code::TokenInvalid, count }).at(since)
    }

    #[test]
    fn a_flood_is_few_entries_and_none_is_lost() {
        let now = Instant::now();
        let later = now + FOLD_FOR;
        let mut refusals = Refusals::default();
        let addresses = u32::try_from(FOLDS_MAX).unwrap() + 50;
        for turn in 0..3 {
            for address in 0..addresses {
                let address = Some(IpAddr::from(address.to_be_bytes()));
                let client_id = Some(if turn == 0 { "a" } else { "b" });
                refusals.note(Who { address, client_id, identity: None }, Code::TokenInvalid, now);
            }
        }
        assert_eq!(refusals.len(), FOLDS_MAX + 1);
        assert!(refusals.take(10, later.checked_sub(FOLD_FOR + Duration::from_millis(1))).is_empty());
        let taken = refusals.take(2, later.checked_sub(FOLD_FOR));
        // Those without an address come first: they are the ones beyond what is counted apart.
        assert_eq!(taken[0].entry, refused(150, now));
        assert_eq!(taken[1].entry, refused(3, now).from(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(refusals.take(usize::MAX, None).len(), FOLDS_MAX - 1);
        assert_eq!(refusals.len(), 0);
    }

    #[test]
    fn those_turned_away_are_named_where_they_are_the_same() {
        let now = Instant::now();
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut refusals = Refusals::default();
        let who = |client_id| Who { address: Some(address), client_id: Some(client_id), identity: None };
        refusals.note(who("a"), Code::TokenInvalid, now);
        refusals.note(who("a"), Code::TokenInvalid, now);
        refusals.note(who("b"), Code::TokenExpired, now);
        refusals.note(who("c"), Code::TokenExpired, now);
        let entries: Vec<_> = refusals.take(10, None).into_iter().map(|waiting| waiting.entry).collect();
        let expired = AuditEntry::new(AuditAction::SessionRefused { code: Code::TokenExpired, count: 2 });
        assert_eq!(entries, [expired.at(now).from(address), refused(2, now).client("a").from(address)]);
    }
}
