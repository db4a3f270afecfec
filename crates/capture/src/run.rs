//! Capture over many connections: start, run, and after a failure wait and start again. Where only a decision helps it is
//! taken if the configuration has taken it, else it stops and waits until somebody does; the process goes on, and serves its
//! clients with what is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use waldelta_history::History;
use waldelta_wal::{Code, EndLsn, Epoch, Skip};

use crate::backoff::Backoff;
use crate::listed::Left;
use crate::recover::{self, Diagnosis, Pace, Remedy, Turn};
use crate::start::start;
use crate::status::Status;
use crate::{Config, Error, budget, pump, synchronous};

/// Another instance captures: this one looks as often as this whether it still does.
const STANDBY_WAIT_MAX: Duration = Duration::from_secs(1);
/// While it is stopped, how often it looks whether somebody has decided.
const DECISION_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// And every how many of those looks it looks at the source too.
const SOURCE_LOOK_EVERY: u32 = 5;

/// Captures until `stop` is cancelled, reconnecting with growing waits. Where going on would lose or double something, or needs
/// a decision, the status says so (`Stopped`, with the state's code and the cure), and it waits for a new epoch, an order
/// to skip, or a source that is mended; then it goes on.
///
/// # Errors
/// Why it had stopped, when it was ended in such a state.
pub async fn run(
    config: Config,
    history: History,
    status: Arc<Status>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let capture = Capture { config: &config, history: &history, status: &status, stop: &stop };
    tokio::select! {
        ended = capture.keep_going() => ended,
        // Whatever state capture is in, the slot is looked at.
        never = budget::watch(&config, &status) => match never {},
    }
}

struct Capture<'a> {
    config: &'a Config,
    history: &'a History,
    status: &'a Status,
    stop: &'a CancellationToken,
}

/// What follows after capture has stopped.
enum Next {
    /// It is worth another try.
    Again,
    /// The process ends.
    End(Error),
}

/// What a stop waits for the change of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Orders {
    epoch: Option<Epoch>,
    skips: Vec<Skip>,
}

impl Capture<'_> {
    async fn keep_going(&self) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        let mut failed_before = None;
        let mut left = Left::default();
        let mut pace = Pace::default();
        loop {
            let durable_before = self.status.read().durable;
            // Before it starts: what is ordered from here on, it may not know.
            let Some(orders) = self.stop.run_until_cancelled(self.orders()).await else { return Ok(()) };
            let Err(mut error) = self.attempt(&mut left).await else { return Ok(()) };
            if let Error::TablesChanged { missing, since } = &error {
                left.miss(missing, *since);
            }
            count_times(&mut error, &mut failed_before);
            if !error.is_retryable() {
                match self.stopped(error, orders, &mut pace, &mut backoff).await {
                    Next::Again => {
                        self.status.reconnected();
                        continue;
                    }
                    Next::End(error) => return Err(error),
                }
            }
            // A connection that made something durable was a good one: the next failure is a new one. Time says nothing,
            // since one that fails for the same reason each time can take long to do so.
            if self.status.read().durable > durable_before {
                backoff.reset();
            }
            if !self.wait_after(&error, &mut backoff).await {
                return Ok(());
            }
            self.status.reconnected();
        }
    }

    /// One connection, from its start to its end; `Ok` when stopped.
    async fn attempt(&self, left: &mut Left) -> Result<(), Error> {
        let Capture { config, history, status, stop } = *self;
        // In boxes: such futures are moved about, and would fill a stack.
        let started = stop.run_until_cancelled(Box::pin(start(config, history, status, left))).await;
        let Some(started) = started else { return Ok(()) };
        let started = started?;
        status.streaming(started.head.durable_end, started.wal_end);
        tracing::info!(slot = config.source.slot, from = %started.head.durable_end, "capture streams");
        let beside =
            synchronous::watch(&config.source, started.client.clone(), started.walsender_pid, status);
        tokio::select! {
            ended = Box::pin(pump::run(config, status, started, stop)) => ended,
            never = beside => match never {},
        }
    }

    /// Waits before another try; false when it is to end.
    async fn wait_after(&self, error: &Error, backoff: &mut Backoff) -> bool {
        self.status.reconnecting(error);
        let wait = match error {
            // A standby: the lock tells at once when the other is gone, so it may be asked often. It is a state, told once.
            Error::History(waldelta_history::Error::LeaseHeld { .. }) => backoff.wait().min(STANDBY_WAIT_MAX),
            _ => {
                let wait = backoff.wait();
                tracing::warn!(
                    code = error.code().as_str(),
                    error = error.chain(),
                    wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "capture was interrupted; trying again"
                );
                wait
            }
        };
        self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }

    /// Only a decision helps. It is carried out if the configuration has taken it, or none is needed because nothing would be
    /// missing; else somebody is waited for.
    async fn stopped(
        &self,
        met: Error,
        orders: Option<Orders>,
        pace: &mut Pace,
        backoff: &mut Backoff,
    ) -> Next {
        // Looking, and all the more a new slot, can take a while.
        self.status.reconnecting(&met);
        loop {
            let looked = Box::pin(recover::diagnose_after(self.config, self.history, &met));
            let Some(looked) = self.stop.run_until_cancelled(looked).await else { return Next::End(met) };
            let diagnosis = match looked {
                Ok(diagnosis) => diagnosis,
                Err(error) if error.is_retryable() => {
                    if !self.wait_after(&error, backoff).await {
                        return Next::End(met);
                    }
                    continue;
                }
                Err(error) => {
                    let found = (Some(error.code()), Remedy::Person);
                    return self.wait_for_decision(met, orders, found).await;
                }
            };
            if met.is_of_the_source_as_it_was() && !diagnosis.remedy().needs_somebody() {
                // It was so a moment ago.
                return if self.wait_after(&met, backoff).await { Next::Again } else { Next::End(met) };
            }
            match self.begin_epoch(&diagnosis, pace).await {
                None => return Next::End(met),
                Some(Ok(true)) => {
                    backoff.reset();
                    return Next::Again;
                }
                Some(Ok(false)) => {
                    let signature = diagnosis.signature();
                    let error = diagnosis.into_failure().filter(|error| !error.is_retryable());
                    return self.wait_for_decision(error.unwrap_or(met), orders, signature).await;
                }
                Some(Err(error)) if error.is_retryable() => {
                    if !self.wait_after(&error, backoff).await {
                        return Next::End(met);
                    }
                }
                Some(Err(error)) => {
                    let signature = diagnosis.signature();
                    return self.wait_for_decision(error, orders, signature).await;
                }
            }
        }
    }

    /// Begins the new epoch that the diagnosis asks for, where that may happen by itself: whether it did. `None` when it is to
    /// end.
    async fn begin_epoch(&self, diagnosis: &Diagnosis, pace: &mut Pace) -> Option<Result<bool, Error>> {
        let on_gap = self.config.on_gap;
        let Some(code) = diagnosis.code().filter(|_| diagnosis.may_happen_by_itself(on_gap)) else {
            return Some(Ok(false));
        };
        match pace.turn(code, Instant::now()) {
            Turn::Now => {}
            Turn::In(wait) => {
                tracing::warn!(
                    code = code.as_str(),
                    wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "another epoch began a moment ago; waiting before the next"
                );
                self.stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
            }
            // The source was promoted again, say.
            Turn::Never if diagnosis.loses_nothing() => {}
            Turn::Never => {
                tracing::error!(code = code.as_str(), "a new epoch has not helped against this not long ago");
                return Some(Ok(false));
            }
        }
        tracing::warn!(
            code = code.as_str(),
            state = diagnosis.state(),
            found = diagnosis.message(),
            "a new epoch begins: {}",
            diagnosis.consequences().join("; ")
        );
        let acted = Box::pin(recover::act(self.config, self.history, self.status, diagnosis));
        let acted = self.stop.run_until_cancelled(acted).await?;
        if acted.as_ref().is_ok_and(Option::is_some) {
            pace.done(code, Instant::now());
        }
        Some(acted.map(|_| true))
    }

    /// Says that capture has stopped, and waits until something has changed that makes another try worth it.
    async fn wait_for_decision(
        &self,
        error: Error,
        mut before: Option<Orders>,
        found: (Option<Code>, Remedy),
    ) -> Next {
        self.status.stopped(error.code(), error.chain());
        let mut looks = 0;
        loop {
            let pause = tokio::time::sleep(DECISION_LOOK_INTERVAL);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return Next::End(error);
            }
            let now = self.orders().await;
            if before.is_some() && now.is_some() && before != now {
                tracing::info!("somebody has decided: capture starts again");
                return Next::Again;
            }
            before = before.or(now);
            looks += 1;
            if looks % SOURCE_LOOK_EVERY != 0 {
                continue;
            }
            let looked = Box::pin(recover::diagnose_after(self.config, self.history, &error));
            let Some(looked) = self.stop.run_until_cancelled(looked).await else { return Next::End(error) };
            let now = match looked {
                Ok(diagnosis) => diagnosis.signature(),
                Err(error) if error.is_retryable() => continue,
                Err(error) => (Some(error.code()), Remedy::Person),
            };
            if now != found {
                tracing::info!("the source is another than when capture stopped: it starts again");
                return Next::Again;
            }
        }
    }

    /// What somebody can decide by, as far as history can be asked.
    async fn orders(&self) -> Option<Orders> {
        let read = async {
            let epoch = self.history.captured().await?.map(|(_, head)| head.epoch);
            Ok::<_, waldelta_history::Error>(Orders { epoch, skips: self.history.skips().await? })
        };
        tokio::time::timeout(DECISION_LOOK_INTERVAL, read).await.ok()?.ok()
    }
}

/// Counts how often the source has failed at the same transaction. `before` is where it did the last time; what else went
/// wrong in between says nothing.
fn count_times(error: &mut Error, before: &mut Option<(EndLsn, String, u32)>) {
    let Error::SourceCannotDecode { durable, sqlstate, times, .. } = error else { return };
    *times = match before {
        Some((place, code, times)) if place == durable && code == sqlstate => *times + 1,
        _ => 1,
    };
    *before = Some((*durable, sqlstate.clone(), *times));
}
