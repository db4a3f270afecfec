//! What may be told to the slot. Pure: no clock, no socket, no history.
//!
//! There are three places. *Received*: everything that commits strictly below it has been taken in. *Durable* (D):
//! everything that commits strictly below it is in history, in the same SQL transaction that says so. *Reported* (A): what
//! the slot was told; it may then forget what lies before, so A must never pass D. Hence the whole rule: **only D is ever
//! reported as flushed, and D is moved only by storing it.**
//!
//! D moves in two ways.
//!
//! 1. An append stores the end of its last whole transaction together with the rows.
//! 2. When nothing is captured, the source's WAL still grows and the slot would retain it for ever. A keepalive with end
//!    K says that everything committing strictly below K has been sent, and so does the end of a transaction that
//!    held nothing for us. If nothing that was received is still on its way into history (no transaction half received, none
//!    waiting, none being appended), then all of it is durable, so K may be stored as D, and reported once it is.
//!
//!    Where history lies in the captured cluster, storing K writes WAL itself, which brings the next keepalive. So that
//!    this does not feed itself, K is stored only when it is a good distance ahead, and not often. The exception is a keepalive
//!    that wants an answer: a server that shuts down waits until its walsenders have everything confirmed.
//!
//! Inside a transaction a keepalive is ignored: its end lies at or below that transaction's commit and brings nothing
//! that the commit will not bring.

use std::time::{Duration, Instant};

use waldelta_wal::{EndLsn, Lsn};

/// D is not advanced by less than this without a transaction of ours.
const ADVANCE_BYTES_MIN: u64 = 1 << 20;
/// And not more often than this.
const ADVANCE_INTERVAL_MIN: Duration = Duration::from_secs(3);

/// The places, and what is on the way between them.
#[derive(Debug)]
pub(crate) struct Progress {
    durable: EndLsn,
    received: EndLsn,
    /// A transaction has begun to arrive.
    in_transaction: bool,
    /// Pieces of a transaction wait or are being appended without its end.
    half_stored: bool,
    /// End of the newest transaction that must be appended and has not been.
    awaited: Option<EndLsn>,
    /// The server wants to know as much as can be told.
    asked: bool,
    advanced_at: Instant,
}

impl Progress {
    /// Everything is durable up to `durable`, and nothing is on the way.
    pub(crate) fn new(durable: EndLsn, now: Instant) -> Self {
        Progress {
            durable,
            received: durable,
            in_transaction: false,
            half_stored: false,
            awaited: None,
            asked: false,
            advanced_at: now,
        }
    }

    /// D: what may be reported as flushed.
    pub(crate) fn durable(&self) -> EndLsn {
        self.durable
    }

    /// What may be reported as written: it has been taken in, and is perhaps only in memory.
    pub(crate) fn received(&self) -> EndLsn {
        self.received
    }

    /// A transaction begins to arrive.
    pub(crate) fn begin(&mut self) {
        self.in_transaction = true;
    }

    /// The transaction that arrived is over; what of it has to be stored follows as pieces or came before.
    pub(crate) fn commit(&mut self) {
        self.in_transaction = false;
    }

    /// A piece that has to be appended is on its way; `end` if it is its transaction's last.
    pub(crate) fn piece(&mut self, end: Option<EndLsn>) {
        match end {
            Some(end) => {
                self.half_stored = false;
                self.awaited = self.awaited.max(Some(end));
                self.received = self.received.max(end);
            }
            None => self.half_stored = true,
        }
    }

    /// A transaction was received in which there is nothing to store.
    pub(crate) fn nothing_until(&mut self, end: EndLsn) {
        self.received = self.received.max(end);
    }

    /// A keepalive arrived.
    pub(crate) fn keepalive(&mut self, end: EndLsn, reply_requested: bool) {
        self.asked |= reply_requested;
        if !self.in_transaction {
            self.received = self.received.max(end);
        }
    }

    /// History has stored `end` as D, by an append or by an advance.
    pub(crate) fn stored(&mut self, end: EndLsn, now: Instant) {
        self.durable = self.durable.max(end);
        self.advanced_at = now;
        if self.awaited.is_some_and(|awaited| awaited <= self.durable) {
            self.awaited = None;
        }
    }

    /// Everything that committed strictly below it is in history: D, or beyond it what was received and held nothing.
    pub(crate) fn stored_until(&self) -> Lsn {
        if self.is_undurable() { self.durable.0 } else { self.received.0 }
    }

    /// Whether something received is still on its way into history.
    pub(crate) fn is_undurable(&self) -> bool {
        self.in_transaction || self.half_stored || self.awaited.is_some()
    }

    /// The end to store as D without a transaction, if it is time to.
    pub(crate) fn advance_due(&self, now: Instant) -> Option<EndLsn> {
        if self.is_undurable() || self.received <= self.durable {
            return None;
        }
        let far = self.received.0.0 - self.durable.0.0 >= ADVANCE_BYTES_MIN;
        let rested = now.duration_since(self.advanced_at) >= ADVANCE_INTERVAL_MIN;
        (self.asked || (far && rested)).then_some(self.received)
    }

    /// The advance that was due is on its way; what the server wanted to know is being answered.
    pub(crate) fn advancing(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(lsn: u64) -> EndLsn {
        EndLsn(Lsn(lsn))
    }

    fn later(now: Instant) -> Instant {
        now + ADVANCE_INTERVAL_MIN
    }

    #[test]
    fn an_idle_source_advances_by_a_megabyte_now_and_then() {
        let now = Instant::now();
        let mut progress = Progress::new(end(100), now);
        progress.keepalive(end(100 + ADVANCE_BYTES_MIN - 1), false);
        assert_eq!(progress.advance_due(later(now)), None, "too near");
        progress.keepalive(end(100 + ADVANCE_BYTES_MIN), false);
        assert_eq!(progress.advance_due(now), None, "too soon");
        assert_eq!(progress.advance_due(later(now)), Some(end(100 + ADVANCE_BYTES_MIN)));
        assert_eq!(progress.durable(), end(100), "not before it is stored");
        progress.stored(end(100 + ADVANCE_BYTES_MIN), now);
        assert_eq!(progress.durable(), end(100 + ADVANCE_BYTES_MIN));
        assert_eq!(progress.advance_due(later(now)), None);
    }

    #[test]
    fn a_server_that_shuts_down_is_told_everything() {
        let now = Instant::now();
        let mut progress = Progress::new(end(100), now);
        progress.keepalive(end(101), true);
        assert_eq!(progress.advance_due(now), Some(end(101)));
        progress.advancing();
        assert_eq!(progress.advance_due(now), None, "once per question");
    }

    #[test]
    fn nothing_advances_past_what_is_on_its_way() {
        let now = Instant::now();
        let far = 100 * ADVANCE_BYTES_MIN;
        let mut progress = Progress::new(end(100), now);
        progress.begin();
        progress.keepalive(end(far), true);
        assert_eq!(progress.advance_due(later(now)), None, "inside a transaction");
        progress.piece(None);
        progress.commit();
        progress.keepalive(end(far), true);
        assert_eq!(progress.advance_due(later(now)), None, "half of it is on its way");
        progress.piece(Some(end(200)));
        assert_eq!(progress.advance_due(later(now)), None, "it is whole and on its way");
        progress.stored(end(200), now);
        assert_eq!(progress.advance_due(later(now)), Some(end(far)));
    }

    /// What a walsender can say, and what history can answer, in any order that they can.
    #[derive(Clone, Debug)]
    enum Step {
        /// A transaction of so many bytes, with or without something to store, after a gap; with a keepalive inside.
        Transaction {
            gap: u64,
            bytes: u64,
            captured: bool,
            keepalive_inside: bool,
        },
        Keepalive {
            gap: u64,
            asks: bool,
        },
        /// A logical message that belongs to no transaction: a piece of its own between two, with an end one beyond its
        /// beginning.
        Message {
            gap: u64,
        },
        AppendReturns,
        AdvanceIfDue,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_000_000u64, 1..5_000u64, any::<bool>(), any::<bool>()).prop_map(
                |(gap, bytes, captured, keepalive_inside)| Step::Transaction {
                    gap,
                    bytes,
                    captured,
                    keepalive_inside
                }
            ),
            (0..3_000_000u64, any::<bool>()).prop_map(|(gap, asks)| Step::Keepalive { gap, asks }),
            (0..3_000_000u64).prop_map(|gap| Step::Message { gap }),
            Just(Step::AppendReturns),
            Just(Step::AdvanceIfDue),
        ]
    }

    proptest! {
        /// I1: whatever is reported, every captured transaction that commits strictly below it is in history.
        #[test]
        fn nothing_is_reported_that_is_not_stored(steps in proptest::collection::vec(step(), 1..200)) {
            let now = Instant::now();
            let mut progress = Progress::new(end(1_000), now);
            let mut sent = 1_000u64;
            // Commit and end of captured transactions that are not in history.
            let mut missing: Vec<(u64, u64)> = Vec::new();
            let mut reported = progress.durable();
            for step in steps {
                match step {
                    Step::Transaction { gap, bytes, captured, keepalive_inside } => {
                        let (commit, commit_end) = (sent + gap, sent + gap + bytes);
                        progress.begin();
                        if keepalive_inside {
                            progress.keepalive(end(commit), true);
                            prop_assert_eq!(progress.advance_due(later(now)), None);
                        }
                        progress.commit();
                        if captured {
                            progress.piece(Some(end(commit_end)));
                            missing.push((commit, commit_end));
                        } else {
                            progress.nothing_until(end(commit_end));
                        }
                        sent = commit_end;
                    }
                    Step::Keepalive { gap, asks } => {
                        sent += gap;
                        progress.keepalive(end(sent), asks);
                    }
                    Step::Message { gap } => {
                        let (commit, commit_end) = (sent + gap, sent + gap + 1);
                        progress.piece(Some(end(commit_end)));
                        missing.push((commit, commit_end));
                        sent = commit_end;
                    }
                    Step::AppendReturns => {
                        if !missing.is_empty() {
                            let (_, commit_end) = missing.remove(0);
                            progress.stored(end(commit_end), now);
                        }
                    }
                    Step::AdvanceIfDue => {
                        if let Some(due) = progress.advance_due(later(now)) {
                            progress.advancing();
                            progress.stored(due, now);
                        }
                    }
                }
                prop_assert!(progress.durable() >= reported, "never back");
                reported = progress.durable();
                prop_assert!(missing.iter().all(|(commit, _)| !reported.includes(Lsn(*commit))));
                prop_assert!(missing.iter().all(|(commit, _)| *commit >= progress.stored_until().0));
                prop_assert!(reported <= progress.received());
            }
            // And nothing keeps it from getting there in the end.
            for (_, commit_end) in missing {
                progress.stored(end(commit_end), now);
            }
            progress.keepalive(end(sent), true);
            if let Some(due) = progress.advance_due(now) {
                progress.stored(due, now);
            }
            prop_assert_eq!(progress.durable(), end(sent));
        }
    }
}
