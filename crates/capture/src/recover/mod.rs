//! What is the case when capture cannot go on, and the way out of it: a diagnosis, and on somebody's word the new epoch that
//! it asks for. What is found is looked up in `look`, what follows from it decided in `decide`, done in `act`.
//!
//! Tables that need repair are mended without any of this: see [`reset_tables`](crate::reset_tables).

mod act;
mod busy;
mod decide;
mod look;
mod pace;
mod probe;

use std::time::Duration;

use waldelta_history::{Head, History, ReadLimit};
use waldelta_source::catalog;
use waldelta_wal::{Code, EndLsn, Epoch, Lsn, Position};

pub use act::act;
pub(crate) use busy::{BUSY_TIME_MAX, wait_until_free};
use decide::{Begin, By, Plan, SlotStep};
pub(crate) use decide::{Decision, Found, check_feed, check_slot_ours, check_source, decide};
pub(crate) use look::look;
pub(crate) use pace::{Pace, Turn};

use crate::start::values_for;
use crate::{Config, Error, OnGap, states, walsender};

/// Looking may take this long.
const LOOK_TIME_MAX: Duration = Duration::from_secs(60);
/// Transactions that did not survive are counted up to about this many changes.
const COUNTED_PAGES_MAX: usize = 10;
const COUNTED_PAGE: ReadLimit = ReadLimit { changes_max: 1_000, bytes_max: 1 << 20 };

/// What is the case, and what would let capture go on.
#[derive(Debug)]
pub struct Diagnosis {
    failure: Option<Error>,
    plan: Plan,
    /// What history held when it was looked at.
    head: Head,
    undecodable: bool,
    lost: Option<Lost>,
}

/// Transactions of history that the source has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// They commit at or after this place.
    pub from: Lsn,
    /// How many they are.
    pub transactions: u64,
    /// There are more: they were not counted to the end.
    pub or_more: bool,
}

/// What a diagnosis asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing stands in the way.
    None,
    /// It passes by itself.
    Patience,
    /// A new epoch, which [`act`] begins.
    NewEpoch,
    /// Somebody has to do something else first.
    Person,
}

impl Remedy {
    /// Whether it does not come by itself.
    pub fn needs_somebody(self) -> bool {
        match self {
            Remedy::None | Remedy::Patience => false,
            Remedy::NewEpoch | Remedy::Person => true,
        }
    }
}

impl Diagnosis {
    /// The stable code of what is the case; `None` when nothing is wrong.
    pub fn code(&self) -> Option<Code> {
        self.failure.as_ref().map(Error::code)
    }

    /// The name of the state.
    pub fn state(&self) -> &'static str {
        self.code().map_or("well", |code| states::named(code).map_or(code.as_str(), |state| state.name))
    }

    /// What is the case, in one line.
    pub fn message(&self) -> String {
        self.failure.as_ref().map_or_else(|| "nothing stands in the way of capture".to_owned(), Error::chain)
    }

    /// What it asks for.
    pub fn remedy(&self) -> Remedy {
        match &self.plan {
            Plan::GoOn => Remedy::None,
            Plan::Wait => Remedy::Patience,
            Plan::NewEpoch(_) => Remedy::NewEpoch,
            Plan::Person(_) => Remedy::Person,
        }
    }

    /// What did not survive, where that was counted.
    pub fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// What history will lack, and what the clients will see.
    pub fn consequences(&self) -> Vec<String> {
        let Plan::NewEpoch(begin) = &self.plan else { return Vec::new() };
        let Head { epoch: Epoch(epoch), durable_end } = self.head;
        let mut lines = Vec::new();
        match (begin.continues, begin.start) {
            (true, Some(start)) => {
                lines.push(format!("history lacks nothing: the new epoch goes on at {start}"));
                lines.push(format!(
                    "clients at or before {start} go on from where they are; others begin anew with a snapshot"
                ));
            }
            (_, start) => {
                let until = start.map_or_else(|| "the new slot".to_owned(), |start| start.to_string());
                lines.push(format!(
                    "history lacks what was committed between {durable_end} and {until}, in all tables: a gap says so"
                ));
                lines.push("every client begins anew with a snapshot (reset: epoch_changed)".to_owned());
            }
        }
        if let Some(Lost { from, transactions, or_more }) = self.lost {
            let more = if or_more { " or more" } else { "" };
            lines.push(format!(
                "{transactions}{more} transactions of history, from {from} on, did not survive at the source; they stay \
                 readable in epoch {epoch}"
            ));
        }
        lines
    }

    /// What is done, or has to be done by somebody else: SQL, or commands.
    pub fn steps(&self, slot: &str) -> Vec<String> {
        let begin = match &self.plan {
            Plan::GoOn | Plan::Wait => return Vec::new(),
            Plan::Person(advice) => return advice.clone(),
            Plan::NewEpoch(begin) => begin,
        };
        let create =
            format!("create replication slot {slot:?}; it waits for open transactions, 30 seconds at most");
        let mut steps = match begin.slot {
            SlotStep::Keep => Vec::new(),
            SlotStep::Create => vec![create],
            SlotStep::Replace => vec![format!("drop replication slot {slot:?}"), create],
        };
        steps.push(match begin.start {
            Some(start) => format!("begin a new epoch of history at {start}"),
            None => "begin a new epoch of history where the new slot begins".to_owned(),
        });
        steps
    }

    /// Whether capture may carry it out without anybody saying so now.
    pub(crate) fn may_happen_by_itself(&self, on_gap: OnGap) -> bool {
        matches!(&self.plan, Plan::NewEpoch(begin) if begin.may_happen_by_itself(on_gap))
    }

    /// Whether history lacks nothing afterwards, and nothing of it is lost.
    pub(crate) fn loses_nothing(&self) -> bool {
        matches!(&self.plan, Plan::NewEpoch(begin) if begin.by == By::Itself)
    }

    /// What has to be another for capture to be worth another try. What passes by itself is as nothing: it comes and goes.
    pub(crate) fn signature(&self) -> (Option<Code>, Remedy) {
        match self.remedy() {
            Remedy::None | Remedy::Patience => (None, Remedy::None),
            remedy @ (Remedy::NewEpoch | Remedy::Person) => (self.code(), remedy),
        }
    }

    pub(crate) fn into_failure(self) -> Option<Error> {
        self.failure
    }

    fn begin(&self) -> Option<&Begin> {
        match &self.plan {
            Plan::NewEpoch(begin) => Some(begin),
            _ => None,
        }
    }
}

/// Looks at source and history, and for a moment at what the slot has, and says what is the case. Nothing is changed.
///
/// # Errors
/// When something cannot be asked.
pub async fn diagnose(config: &Config, history: &History) -> Result<Diagnosis, Error> {
    let diagnosis = diagnose_knowing(config, history, false).await?;
    if diagnosis.remedy() != Remedy::None {
        return Ok(diagnosis);
    }
    let found = match probe::stream(config, diagnosis.head.durable_end).await {
        Ok(()) => return Ok(diagnosis),
        Err(walsender::Error::Publication(_)) => return diagnose_knowing(config, history, true).await,
        Err(error) => error,
    };
    let plan = match &found {
        walsender::Error::Streaming(source) if source.is_of_the_data() => Plan::Person(vec![
            "waldelta skip, for the transaction that a running service names when it stops".to_owned(),
        ]),
        _ => Plan::Wait,
    };
    Ok(Diagnosis { failure: Some(found.into()), plan, ..diagnosis })
}

/// What is the case after capture has ended with `error`.
pub(crate) async fn diagnose_after(
    config: &Config,
    history: &History,
    error: &Error,
) -> Result<Diagnosis, Error> {
    let met = matches!(
        error,
        Error::Walsender(walsender::Error::Publication(_))
            | Error::PublicationYounger { .. }
            | Error::CanaryLost { .. }
    );
    diagnose_knowing(config, history, met).await
}

async fn diagnose_knowing(config: &Config, history: &History, undecodable: bool) -> Result<Diagnosis, Error> {
    let looked = tokio::time::timeout(LOOK_TIME_MAX, Box::pin(look_and_decide(config, history, undecodable)));
    looked.await.unwrap_or_else(|_| Err(Error::unanswered("look at source and history", LOOK_TIME_MAX)))
}

async fn look_and_decide(config: &Config, history: &History, undecodable: bool) -> Result<Diagnosis, Error> {
    let source = &config.source;
    let Some((captured, head)) = history.captured().await? else {
        let plan = Plan::Person(vec!["waldelta init --apply".to_owned()]);
        let head = Head::default();
        return Ok(Diagnosis { failure: Some(Error::NotBegun), plan, head, undecodable, lost: None });
    };
    let client = source.connect().await?;
    let mut found = look(source, &client, history, &captured, head.durable_end).await?;
    found.undecodable = undecodable;
    // Somebody may write history meanwhile. What the slot was told is durable by now, and what is durable by now was
    // written at the source: asked in another order, a slot that streams well would seem ahead, or its server behind.
    let head = match history.captured().await? {
        Some((_, now)) if now.epoch == head.epoch => now,
        _ => head,
    };
    found.identity.wal_end = catalog::identity(&client).await?.wal_end;
    let Decision { mut failure, mut plan } = decide(source, &captured, head, &found);
    if failure.is_none() {
        // What else is checked before a start.
        let fits = async {
            waldelta_source::wal2json::check_fitness(&client, source).await?;
            values_for(source, history, &found.identity).await
        };
        if let Err(error) = fits.await {
            let fix = error.code().explanation().fix.to_owned();
            plan = if error.is_retryable() { Plan::Wait } else { Plan::Person(vec![fix]) };
            failure = Some(error);
        }
    }
    let lost = match &failure {
        Some(Error::DivergedTimeline { fork: Some(fork), .. }) => count_lost(history, head, *fork).await,
        _ => None,
    };
    Ok(Diagnosis { failure, plan, head, undecodable, lost })
}

/// How many transactions history has at or after `from`. Where they cannot be counted, nothing is said.
async fn count_lost(history: &History, head: Head, from: Lsn) -> Option<Lost> {
    let mut after = Position::before(head.epoch, EndLsn(from));
    let mut lost = Lost { from, transactions: 0, or_more: false };
    let mut last = None;
    for _ in 0..COUNTED_PAGES_MAX {
        let page = history.read_after(after, head.cursor(), COUNTED_PAGE).await.ok()?;
        for part in &page.parts {
            if last.replace(part.head.commit_lsn) != Some(part.head.commit_lsn) {
                lost.transactions += 1;
            }
            let index = part.changes.last().map_or(0, |change| change.seq);
            after = Position { epoch: head.epoch, commit_lsn: part.head.commit_lsn, index };
        }
        if !page.has_more {
            return Some(lost);
        }
    }
    Some(Lost { or_more: true, ..lost })
}
