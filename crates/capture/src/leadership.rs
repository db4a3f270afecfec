//! Which of several instances writes history, and what the others do meanwhile: stand by, take over from a writer that no
//! longer renews its lease, and follow what the writer appends so that their own sessions have it.
//!
//! Taking over is safe whoever is right, because the fencing token decides at COMMIT: a wrong guess costs a reconnect and
//! loses nothing. It must only not go on for ever. Where history's server is so slow that renewals are late, two healthy
//! instances would take it from each other in turns. So an instance that was taken over is twice as patient the next time, up
//! to eight times, until it has found the lease free: the turns grow longer than the delay that causes them, and end.
//! Renewals and silence are both told by the clock of history's server; ours says nothing.
//!
//! What a writer is, how it is fenced and in which order it is taken over stands in `history`. Connections to the source are
//! none of its business: whoever holds the lease ends a walsender that the holder before it has left.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Error as HistoryError, History, Writer};
use waldelta_wal::chain_text;

use crate::status::Status;
use crate::{Config, Error};

/// A doubled patience is doubled this often at most.
const DOUBLED_MAX: u32 = 3;
/// Following begins this long after writing ended: who connects again in a moment need not begin.
const FOLLOW_AFTER: Duration = Duration::from_millis(250);
/// Following that failed for good is tried again after this long.
const FOLLOW_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Becomes the one writer of history, if no other instance is it or the other has been silent for too long.
///
/// # Errors
/// [`HistoryError::LeaseHeld`] while another instance writes; `status` then says that this one stands by.
pub(crate) async fn writer(config: &Config, history: &History, status: &Status) -> Result<Writer, Error> {
    // Nothing is left of the connection before.
    status.leadership().leads(false);
    let written = become_writer(config, history, status).await;
    match &written {
        Ok(_) => {}
        Err(error) => {
            status.leadership().leads(false);
            if let HistoryError::LeaseHeld { holder, .. } = error {
                status.standby(holder);
            }
        }
    }
    Ok(written?)
}

async fn become_writer(config: &Config, history: &History, status: &Status) -> Result<Writer, HistoryError> {
    let writer = take(config, history, status).await?;
    // From here on this process appends. Who follows must have ended before it does: what it has read may be older than what
    // is appended, and would be put into the feed behind it.
    status.leadership().leads(true);
    drop(status.leadership().following.lock().await);
    if history.feed().head() == writer.head() {
        return Ok(writer);
    }
    // A last look of it came late. Taking the lease makes the feed begin where the writer does.
    writer.release().await?;
    take(config, history, status).await
}

async fn take(config: &Config, history: &History, status: &Status) -> Result<Writer, HistoryError> {
    let error = match history.writer(&config.holder).await {
        Ok(writer) => {
            status.leadership().standing().found_free();
            return Ok(writer);
        }
        Err(error) => error,
    };
    let HistoryError::LeaseHeld { holder, backend_pid, silent_ms } = &error else { return Err(error) };
    let silent = Duration::from_millis(*silent_ms);
    let decision = status.leadership().standing().found_held(silent, config.takeover_after);
    if decision == Decision::StandBy {
        return Err(error);
    }
    tracing::warn!(
        holder,
        backend_pid,
        silent_ms,
        "the writer of history has not renewed its lease: taking over from it"
    );
    let writer = history.take_over(&config.holder).await?;
    status.leadership().standing().took_over();
    tracing::warn!(from = holder, "this instance writes history now; the other can no longer commit");
    Ok(writer)
}

/// Feeds the sessions of this process with what another instance appends, for as long as this one does not write; until
/// `stop` is cancelled. To be run beside [`run`](crate::run), with the same status.
pub async fn follow(history: &History, status: &Status, stop: CancellationToken) {
    stop.run_until_cancelled(Box::pin(follow_in_turns(history, status))).await;
}

async fn follow_in_turns(history: &History, status: &Status) {
    let leadership = status.leadership();
    let mut leads = leadership.leads.subscribe();
    // What history was opened with, until somebody knows more.
    status.followed(history.feed().head().durable_end);
    loop {
        until(&mut leads, false).await;
        if tokio::time::timeout(FOLLOW_AFTER, until(&mut leads, true)).await.is_ok() {
            continue;
        }
        let following = leadership.following.lock().await;
        tokio::select! {
            biased;
            // Looked at after the lock was taken: the writer waits for the lock after it has said that it leads.
            () = until(&mut leads, true) => {}
            () = show_head(history, status) => {}
            followed = history.follow(CancellationToken::new()) => {
                drop(following);
                if let Err(error) = followed {
                    tracing::warn!(
                        error = chain_text(&error),
                        "history cannot be followed; trying again"
                    );
                }
                tokio::time::sleep(FOLLOW_AGAIN_AFTER).await;
            }
        }
    }
}

/// Waits until this process writes, or until it does not.
async fn until(leads: &mut watch::Receiver<bool>, wanted: bool) {
    if leads.wait_for(|leads| *leads == wanted).await.is_err() {
        // The sender lives as long as the status, which whoever waits here holds.
        std::future::pending().await
    }
}

/// Tells the status what is durable while somebody else makes it so.
async fn show_head(history: &History, status: &Status) {
    let mut heads = history.feed().watch();
    loop {
        status.followed(heads.borrow_and_update().durable_end);
        if heads.changed().await.is_err() {
            return;
        }
    }
}

/// What of this outlives a connection.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// Whether this process writes, or is about to.
    leads: watch::Sender<bool>,
    /// Held for as long as history is followed: never by two, and never while this process appends.
    following: tokio::sync::Mutex<()>,
    standing: Mutex<Standing>,
}

impl Leadership {
    pub(crate) fn new() -> Self {
        Leadership {
            leads: watch::Sender::new(false),
            following: tokio::sync::Mutex::default(),
            standing: Mutex::default(),
        }
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leads.send_if_modified(|now| std::mem::replace(now, leads) != leads);
    }

    /// A connection has ended by a failure: of history, or of something else.
    pub(crate) fn interrupted(&self, error: &Error) {
        if !matches!(error, Error::History(_) | Error::HistoryStalled { .. }) {
            self.standing().gave_up();
        }
    }

    /// Whether whoever still has the slot is likely to be the one that was taken over from, for being silent.
    pub(crate) fn comes_after_silent(&self) -> bool {
        self.standing().after_silent
    }

    /// The slot was found free.
    pub(crate) fn found_slot_free(&self) {
        self.standing().after_silent = false;
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        // It is whole after each line below.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    StandBy,
    TakeOver,
}

/// How this instance stands towards the others. Pure.
#[derive(Debug, Default)]
struct Standing {
    /// It had the lease when it last tried, and has not given it back.
    leads: bool,
    /// How often it was taken over since it last found the lease free.
    taken_over: u32,
    /// It has taken over from a silent one, which may still have the slot.
    after_silent: bool,
}

impl Standing {
    /// The lease was free, so nobody has it who could be disturbed.
    fn found_free(&mut self) {
        self.leads = true;
        self.taken_over = 0;
    }

    fn took_over(&mut self) {
        self.leads = true;
        self.after_silent = true;
    }

    /// It ended by itself, and gave the lease back.
    fn gave_up(&mut self) {
        self.leads = false;
        self.after_silent = false;
    }

    /// Another has the lease, and has not renewed it for so long.
    fn found_held(&mut self, silent: Duration, takeover_after: Duration) -> Decision {
        if std::mem::replace(&mut self.leads, false) {
            self.taken_over += 1;
        }
        let patience = takeover_after.saturating_mul(1 << self.taken_over.min(DOUBLED_MAX));
        if silent > patience { Decision::TakeOver } else { Decision::StandBy }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AFTER: Duration = Duration::from_secs(20);

    fn silent(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_writer_that_is_silent_for_too_long_is_taken_over() {
        let mut standing = Standing::default();
        assert_eq!(standing.found_held(silent(0), AFTER), Decision::StandBy);
        assert_eq!(standing.found_held(silent(20), AFTER), Decision::StandBy);
        assert_eq!(standing.found_held(Duration::from_millis(20_001), AFTER), Decision::TakeOver);
        assert_eq!(
            standing.found_held(silent(21), AFTER),
            Decision::TakeOver,
            "again, if the first time failed"
        );
    }

    #[test]
    fn one_that_gave_the_lease_back_is_as_patient_as_before() {
        let mut standing = Standing::default();
        standing.found_free();
        standing.gave_up();
        assert_eq!(standing.found_held(silent(21), AFTER), Decision::TakeOver);
    }

    /// Renewals that are late by a minute make two instances take over from each other; each waits longer the next time.
    #[test]
    fn taking_over_in_turns_comes_to_an_end() {
        let (mut first, mut second) = (Standing::default(), Standing::default());
        first.found_free();
        let late = silent(60);
        let mut turns = 0;
        while second.found_held(late, AFTER) == Decision::TakeOver {
            second.took_over();
            std::mem::swap(&mut first, &mut second);
            turns += 1;
            assert!(turns < 10, "it goes on for ever");
        }
        assert_eq!(turns, 3, "patience of 20 s, 40 s, 40 s, 80 s: the fourth waits");
        // The writer ends: from then on all is as before.
        second.found_free();
        second.gave_up();
        assert_eq!(second.found_held(silent(21), AFTER), Decision::TakeOver);
    }

    /// What happens to one of several instances that look at the lease in turns.
    #[derive(Clone, Debug)]
    struct Turn {
        who: usize,
        /// How late the holder's renewals are, as history's server shows them; a slow one shows more to each.
        late_seconds: u64,
        /// The holder ends by itself before.
        ends: bool,
        /// Taking over does not come to its end.
        fails: bool,
    }

    fn turns(late_max: u64) -> impl Strategy<Value = Vec<Turn>> {
        let turn = (0usize..4, 0..late_max, prop::bool::weighted(0.05), prop::bool::weighted(0.1))
            .prop_map(|(who, late_seconds, ends, fails)| Turn { who, late_seconds, ends, fails });
        prop::collection::vec(turn, 1..200)
    }

    proptest! {
        /// However many instances there are and however late renewals seem: one whose renewals are no later than it is patient
        /// for is left alone, and so is everybody once each has been taken over often enough.
        #[test]
        fn nobody_is_taken_over_for_ever(turns in turns(8 * AFTER.as_secs() + 1)) {
            let mut standing: [Standing; 4] = Default::default();
            let mut holder: Option<usize> = None;
            // How often each was taken over since it found the lease free, as it can know.
            let mut lost = [0u32; 4];
            let mut has_lost = [false; 4];
            let mut taken_over = 0;
            for Turn { who, late_seconds, ends, fails } in turns {
                if let Some(before) = holder.take_if(|_| ends) {
                    standing[before].gave_up();
                }
                match holder {
                    None => {
                        standing[who].found_free();
                        (holder, lost[who], has_lost[who]) = (Some(who), 0, false);
                        taken_over = 0;
                    }
                    Some(holder) if holder == who => {}
                    Some(before) => {
                        lost[who] += u32::from(std::mem::take(&mut has_lost[who]));
                        let patience = AFTER.as_secs() * [1, 2, 4, 8][lost[who].min(3) as usize];
                        let decision = standing[who].found_held(silent(late_seconds), AFTER);
                        prop_assert_eq!(decision == Decision::TakeOver, late_seconds > patience);
                        if decision == Decision::TakeOver && !fails {
                            standing[who].took_over();
                            (holder, has_lost[before]) = (Some(who), true);
                            taken_over += 1;
                        }
                    }
                }
                // Each of four is taken over three times, and then waits for as long as renewals are late at most.
                prop_assert!(taken_over <= 4 * 3 + 4, "in turns for ever");
            }
        }
    }
}
