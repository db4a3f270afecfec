//! The loop of one connection: blocks in, pieces out into history, the durable end back to the slot.
//!
//! It waits for one event, then applies it. Work is begun at the top of each turn: a table that was looked up gets its
//! version as soon as the writer is free, then the pieces that wait are appended, then, when nothing waits, the durable end is
//! advanced. Exactly one job of history is in flight at a time. Decoding stops while enough pieces wait or a table is
//! looked up; then blocks stay in the channel, the channel fills, the thread stops reading, and the source waits.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::appender::Appender;
use crate::intake::Intake;
use crate::lookup::Lookup;
use crate::start::Started;
use crate::status::{Status, Stored};
use crate::walsender::{self, Link, Streaming};
use crate::watch::{Sighting, Watch};
use crate::{Config, Error, metrics};

/// How often positions are published and a standstill is looked for.
const TICK: Duration = Duration::from_millis(250);
/// An append in flight when capture is stopped gets this long to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// A writer that hangs is waited for this long before another is taken, which ends it by force at the server.
const HUNG_TIME_MAX: Duration = Duration::from_secs(60);
/// Giving the lease back may take this long.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(2);

enum Event {
    Stop,
    Stored(Result<Stored, waldelta_history::Error>),
    Answered(Result<(), Error>),
    Watched(Error),
    Tick,
    Slice,
    Block(Option<Bytes>),
}

struct Pump<'a> {
    status: &'a Status,
    stall_timeout: Duration,
    link: Arc<Link>,
    streaming: Streaming,
    appender: Appender,
    intake: Intake,
    lookup: Lookup,
    sighting: Arc<Sighting>,
}

/// Runs a connection that was started until `stop` is cancelled (`Ok`) or it cannot go on.
pub(crate) async fn run(
    config: &Config,
    status: &Status,
    started: Started,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let sighting = Arc::new(Sighting::new(started.intake.source_end()));
    let mut pump = Pump {
        status,
        stall_timeout: config.stall_timeout,
        link: started.streaming.link().clone(),
        streaming: started.streaming,
        appender: started.appender,
        intake: started.intake,
        lookup: started.lookup,
        sighting: sighting.clone(),
    };
    let watch = Watch::new(&config.source, config.canary_interval, status, sighting);
    match pump.drive(watch, stop).await {
        Ok(()) => {
            pump.stop().await;
            Ok(())
        }
        Err(error) => {
            pump.give_up(&error, stop).await;
            Err(error)
        }
    }
}

impl Pump<'_> {
    async fn drive(&mut self, watch: Watch<'_>, stop: &CancellationToken) -> Result<(), Error> {
        let watch = watch.run();
        tokio::pin!(watch);
        let keeper = self.lease_keeper();
        tokio::pin!(keeper);
        let mut tick = tokio::time::interval(TICK.min(self.stall_timeout / 4).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.begin_work(Instant::now())?;
            let may_decode = self.lookup.is_idle();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                stored = self.appender.finished() => Event::Stored(stored),
                answered = self.lookup.answered() => Event::Answered(answered),
                _ = tick.tick() => Event::Tick,
                error = &mut watch => Event::Watched(error),
                error = &mut keeper => Event::Watched(error),
                () = tokio::task::yield_now(), if may_decode && self.intake.can_decode() => Event::Slice,
                block = self.streaming.receive(), if may_decode && self.intake.wants_block() => Event::Block(block),
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Stored(stored) => self.note_stored(&stored?),
                Event::Answered(answered) => answered?,
                Event::Watched(error) => return Err(error),
                Event::Tick => self.check(Instant::now())?,
                Event::Slice => self.decode()?,
                Event::Block(Some(block)) => {
                    self.intake.give_block(block);
                    // The first slice at once: it is all there is of a small transaction.
                    if self.intake.can_decode() {
                        self.decode()?;
                    }
                }
                Event::Block(None) => {
                    self.streaming.outcome().await?;
                    return Err(walsender::Error::Closed.into());
                }
            }
        }
    }

    /// Renews the lease, until it is another's.
    fn lease_keeper(&mut self) -> impl Future<Output = Error> + use<> {
        let keeper = self.appender.writer().map(|writer| writer.lease_keeper());
        async move {
            match keeper {
                Some(keeper) => match keeper.run(CancellationToken::new()).await {
                    Err(error) => error.into(),
                    Ok(()) => pending().await,
                },
                None => pending().await,
            }
        }
    }

    fn begin_work(&mut self, now: Instant) -> Result<(), Error> {
        if let Some(writer) = self.appender.writer() {
            if let Some(table) = self.lookup.take() {
                self.intake.define(writer.number(table))?;
            }
            if self.intake.has_batch() {
                self.appender.append(self.intake.take_batch(), now);
            } else if let Some(end) = self.intake.progress().advance_due(now) {
                self.intake.progress().advancing();
                self.appender.advance(end, now);
            }
        }
        self.link.set_appending(self.appender.is_busy());
        Ok(())
    }

    fn decode(&mut self) -> Result<(), Error> {
        let relation = self.intake.decode_slice()?;
        // The sign first: whoever sees the new end must also see what came before it.
        if let Some(sign) = self.intake.last_sign() {
            self.sighting.set_sign(sign);
        }
        let received = self.intake.progress().received();
        self.sighting.set_received(received);
        self.link.set_received(received);
        match relation {
            Some(relation) => self.lookup.ask(relation),
            None => Ok(()),
        }
    }

    fn note_stored(&mut self, stored: &Stored) {
        if let Some(end) = stored.durable_end {
            self.intake.progress().stored(end, Instant::now());
            self.link.set_durable(self.intake.progress().durable());
        }
        self.status.stored(stored);
    }

    fn check(&mut self, now: Instant) -> Result<(), Error> {
        self.status.source_end(self.intake.source_end());
        publish_positions(self.status, &mut self.intake, &self.link);
        let stalled = self.appender.stalled_for(now);
        if stalled < self.stall_timeout {
            return Ok(());
        }
        Err(Error::HistoryStalled { stalled_ms: u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Ends in order: what is being appended is finished and reported, what was only received comes again next time.
    async fn stop(mut self) {
        self.finish_append(STOP_TIME_MAX, &CancellationToken::new()).await;
        if let Err(error) = self.streaming.finish().await {
            tracing::debug!(%error, "end the streaming");
        }
        publish_positions(self.status, &mut self.intake, &self.link);
        self.appender.release(RELEASE_TIME_MAX).await;
    }

    /// Closes the socket at once, so that it is not left unread; then waits for the append in flight, because a writer that
    /// is left alone in the middle of one holds its locks at the server.
    async fn give_up(mut self, error: &Error, stop: &CancellationToken) {
        let stalled = matches!(
            error,
            Error::HistoryStalled { .. } | Error::Walsender(walsender::Error::Stalled { .. })
        );
        if stalled {
            metrics::stall();
        }
        if error.is_retryable() {
            self.status.reconnecting(error);
        }
        if stalled && self.appender.is_busy() {
            tracing::warn!(
                error = error.chain(),
                "history does not take anything in: closed the replication connection, the source keeps WAL meanwhile"
            );
        }
        self.streaming.cut();
        self.finish_append(if stalled { HUNG_TIME_MAX } else { self.stall_timeout }, stop).await;
        self.appender.release(RELEASE_TIME_MAX).await;
    }

    async fn finish_append(&mut self, patience: Duration, stop: &CancellationToken) {
        if !self.appender.is_busy() {
            return;
        }
        let finished = tokio::time::timeout(patience, self.appender.finished());
        match stop.run_until_cancelled(finished).await {
            Some(Ok(Ok(stored))) => self.note_stored(&stored),
            Some(Ok(Err(error))) => tracing::warn!(%error, "finish the append"),
            Some(Err(_)) | None => tracing::warn!("the append in flight did not end in time"),
        }
    }
}

fn publish_positions(status: &Status, intake: &mut Intake, link: &Link) {
    let progress = intake.progress();
    status.positions(progress.received(), link.reported(), progress.is_undurable());
}
