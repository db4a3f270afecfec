//! The loop of one connection: blocks in, pieces out into history, the durable end back to the slot.
//!
//! It waits for one event, then applies it. Work is begun at the top of each turn: a table that was looked up gets its
//! version as soon as the writer is free, then the pieces that wait are appended, then, when nothing waits, the durable end is
//! advanced. Exactly one job of history is in flight at a time. Decoding stops while enough pieces wait or a table is
//! looked up; then blocks stay in the channel, the channel fills, the thread stops reading, and the source waits.

use std::collections::{HashMap, HashSet};
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Gap, Numbered};
use waldelta_wal::{Epoch, Position, TableName, chain_text};

use crate::appender::Appender;
use crate::drift::{Decision, Drift, Look};
use crate::intake::{Intake, Wants};
use crate::joining::{Due, Joining, due};
use crate::lines::Outline;
use crate::lookup::Lookup;
use crate::outlines::Outlines;
use crate::repairs::NeedsRepair;
use crate::shape::{News, Shaped};
use crate::shown::ShownAt;
use crate::start::Started;
use crate::status::{Positions, Status, Stored};
use crate::walsender::{self, Link, Streaming};
use crate::watch::{Sighting, Watch};
use crate::{Config, Error, OnGap, metrics};

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
    Stored(Result<Stored, Error>),
    Answered(Result<(), Error>),
    Outlined(Result<Outline, Error>),
    Looked(Look),
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
    outlines: Outlines,
    sighting: Arc<Sighting>,
    looks: mpsc::Receiver<Look>,
    drift: Drift,
    /// What the published tables are called.
    names: HashMap<u32, TableName>,
    /// The gaps that are open, as they were read last.
    gaps: Vec<Gap>,
    /// The tables that have one.
    needs_repair: HashSet<u32>,
    on_gap: OnGap,
    epoch: Epoch,
    /// The tables to be reset.
    due: watch::Sender<Vec<Due>>,
    /// Nothing more comes, and why; what came before is still stored.
    ending: Option<Error>,
    /// What is removed from history has been shown there.
    shown: Arc<ShownAt>,
}

/// Runs a connection that was started until `stop` is cancelled (`Ok`) or it cannot go on.
pub(crate) async fn run(
    config: &Config,
    status: &Status,
    started: Started,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let sighting = Arc::new(Sighting::new(started.intake.source_end()));
    let (looks_in, looks) = mpsc::channel(1);
    let (due, due_tables) = watch::channel(Vec::new());
    let durable = started.head.durable_end.0;
    let known_at = status.tables_known_at().map_or(durable, |at| at.min(durable));
    let mut pump = Pump {
        status,
        stall_timeout: config.stall_timeout,
        link: started.streaming.link().clone(),
        streaming: started.streaming,
        appender: started.appender,
        intake: started.intake,
        lookup: started.lookup,
        outlines: started.outlines,
        sighting: sighting.clone(),
        looks,
        drift: Drift::new(started.fingerprints, known_at),
        names: started.names,
        gaps: Vec::new(),
        needs_repair: HashSet::new(),
        on_gap: config.on_gap,
        epoch: started.head.epoch,
        due,
        ending: None,
        shown: Arc::new(ShownAt(config.source.clone())),
    };
    pump.show_gaps(started.gaps);
    let joining = Joining::new(&config.source, status, due_tables);
    let watch = Watch::new(&config.source, config.canary_interval, status, sighting, looks_in)
        .comparing(pump.outlines.listed());
    match Box::pin(pump.drive(watch, joining, stop)).await {
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
    async fn drive(
        &mut self,
        watch: Watch<'_>,
        joining: Joining<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let watch = async {
            tokio::select! {
                error = watch.run() => error,
                never = joining.run() => match never {},
            }
        };
        tokio::pin!(watch);
        let keeper = self.lease_keeper();
        tokio::pin!(keeper);
        let mut tick = tokio::time::interval(TICK.min(self.stall_timeout / 4).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.begin_work(Instant::now())?;
            if let Some(error) = self.ended() {
                return Err(error);
            }
            let may_decode = self.lookup.is_idle() && self.outlines.is_idle();
            let wants_block = may_decode && self.ending.is_none() && self.intake.wants_block();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                stored = self.appender.finished() => Event::Stored(stored),
                answered = self.lookup.answered() => Event::Answered(answered),
                outlined = self.outlines.answered() => Event::Outlined(outlined),
                _ = tick.tick() => Event::Tick,
                Some(look) = self.looks.recv() => Event::Looked(look),
                error = &mut watch => Event::Watched(error),
                error = &mut keeper => Event::Watched(error),
                () = tokio::task::yield_now(), if may_decode && self.intake.can_decode() => Event::Slice,
                block = self.streaming.receive(), if wants_block => Event::Block(block),
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Stored(stored) => self.note_stored(stored?),
                Event::Answered(answered) => answered?,
                Event::Outlined(outlined) => self.intake.outline(outlined)?,
                Event::Looked(look) => self.take_look(look),
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
                Event::Block(None) => self.end_of_blocks().await?,
            }
        }
    }

    /// Nothing more is sent. Where that is because the source fails at a transaction, all before it is stored first, so that
    /// the durable end says which one it is.
    async fn end_of_blocks(&mut self) -> Result<(), Error> {
        match self.streaming.outcome().await {
            Err(walsender::Error::Streaming(source)) if source.is_of_the_data() => {
                self.ending = Some(Error::SourceCannotDecode {
                    durable: self.intake.progress().durable(),
                    transaction: self.intake.open_transaction(),
                    words: source.words(),
                    sqlstate: source.sqlstate,
                    times: 1,
                });
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(()) => Err(walsender::Error::Closed.into()),
        }
    }

    /// Why it ends, once all that came is stored. A transaction that the source cannot send, and that is ordered to be left
    /// out, is stored as that first.
    fn ended(&mut self) -> Option<Error> {
        let waits = !self.lookup.is_idle() || !self.outlines.is_idle();
        if waits || !self.intake.is_drained() || self.appender.is_busy() {
            return None;
        }
        let mut error = self.ending.take()?;
        if let Error::SourceCannotDecode { durable, .. } = &mut error {
            if let Some(transaction) = self.intake.leave_out() {
                self.ending = Some(Error::LeftOut { transaction });
                return None;
            }
            *durable = self.intake.progress().durable();
        }
        Some(error)
    }

    /// Renews the lease, removes what history is not to keep and seals what is durable, until the lease is another's.
    fn lease_keeper(&mut self) -> impl Future<Output = Error> + use<> {
        let shown = self.shown.clone();
        let beside = self.appender.writer();
        let beside = beside.map(|writer| (writer.lease_keeper(), writer.sweeper(shown), writer.sealer()));
        async move {
            let Some((keeper, sweeper, sealer)) = beside else { return pending().await };
            let ended = tokio::select! {
                ended = keeper.run(CancellationToken::new()) => ended,
                ended = sweeper.run(CancellationToken::new()) => ended,
                ended = sealer.run(CancellationToken::new()) => ended,
            };
            match ended {
                Err(error) => error.into(),
                Ok(()) => pending().await,
            }
        }
    }

    fn begin_work(&mut self, now: Instant) -> Result<(), Error> {
        if let Some(writer) = self.appender.writer() {
            if let Some(Shaped { table, is_doubtful }) = self.lookup.settle(|oid| writer.latest_shape(oid)) {
                let Numbered { table, changed } = writer.number(table);
                if changed {
                    self.sighting.set_changed();
                }
                self.intake.define(table, changed, is_doubtful)?;
            }
            let may_note = !writer.is_in_transaction() && self.appender.knows_gaps();
            let stored = self.intake.progress().stored_until();
            let needs_repair = |oid| self.needs_repair.contains(&oid);
            if may_note && let Some(decision) = self.drift.decide(stored, needs_repair) {
                self.note(decision, now);
            } else if self.intake.has_batch() {
                self.appender.append(self.intake.take_batch(), now);
            } else if let Some(end) = self.intake.progress().advance_due(now) {
                self.intake.progress().advancing();
                self.appender.advance(end, now);
            } else if self.drift.waits() && !self.appender.knows_gaps() {
                self.appender.read_gaps(now);
            }
        }
        self.link.set_appending(self.appender.is_busy());
        Ok(())
    }

    /// Stores what follows from a look. What is decoded from now on has the new shapes.
    fn note(&mut self, Decision { gaps, fingerprints, forgotten }: Decision, now: Instant) {
        for table_oid in forgotten {
            self.lookup.forget(table_oid, News::Types);
            self.intake.forget(table_oid);
        }
        self.appender.note(gaps, fingerprints, now);
        self.tell_due();
    }

    fn take_look(&mut self, look: Look) {
        self.names = look.tables.iter().map(|table| (table.oid, table.name.clone())).collect();
        self.intake.set_captured(self.names.keys().copied());
        self.drift.look(look);
        self.tell_due();
        self.status.set_tables_known_at(self.drift.known_at());
    }

    fn decode(&mut self) -> Result<(), Error> {
        let wants = self.intake.decode_slice()?;
        // The sign first: whoever sees the new end must also see what came before it.
        if let Some(sign) = self.intake.last_sign() {
            self.sighting.set_sign(sign);
        }
        let received = self.intake.progress().received();
        self.sighting.set_received(received);
        self.link.set_received(received);
        let ddl = self.intake.take_ddl();
        if ddl.seen {
            self.sighting.set_changed();
        }
        ddl.truncated.into_iter().for_each(|(table_oid, xid)| self.drift.truncated(table_oid, xid));
        ddl.reset.into_iter().for_each(|(table_oid, commit_lsn)| self.drift.reset(table_oid, commit_lsn));
        ddl.news.into_iter().for_each(|(table_oid, news)| self.lookup.forget(table_oid, news));
        match wants {
            None => {}
            Some(Wants::Shape(wanted)) => {
                // It was added since the last look.
                if !self.names.contains_key(&wanted.relation.oid) {
                    self.sighting.set_changed();
                }
                self.lookup.want(wanted);
            }
            Some(Wants::Outline(unshaped, xid)) => self.outlines.want(unshaped, xid),
        }
        Ok(())
    }

    fn note_stored(&mut self, mut stored: Stored) {
        self.link.set_appending(false);
        if let Some(end) = stored.durable_end {
            self.intake.progress().stored(end, Instant::now());
            self.link.set_durable(self.intake.progress().durable());
        }
        if let Some(gaps) = stored.gaps.take() {
            self.show_gaps(gaps);
        }
        self.status.stored(&stored);
    }

    fn show_gaps(&mut self, gaps: Vec<Gap>) {
        self.needs_repair = gaps.iter().filter_map(|gap| gap.table_oid).collect();
        let name = |oid| self.names.get(&oid).cloned();
        self.status.needs_repair(gaps.iter().map(|gap| NeedsRepair::new(gap, name)).collect());
        self.gaps = gaps;
        self.tell_due();
        // What is to be reset waits for a look.
        self.sighting.set_changed();
    }

    fn tell_due(&self) {
        let known_at = Position::whole(self.epoch, self.drift.known_at());
        let now = due(&self.gaps, &self.names, self.on_gap, known_at, |oid| self.drift.knows(oid));
        self.due.send_if_modified(|told| {
            let differs = *told != now;
            *told = now;
            differs
        });
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
            tracing::debug!(error = chain_text(&error), "end the streaming");
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
            Some(Ok(Ok(stored))) => self.note_stored(stored),
            Some(Ok(Err(error))) => tracing::warn!(error = chain_text(&error), "finish the append"),
            Some(Err(_)) | None => tracing::warn!("the append in flight did not end in time"),
        }
    }
}

fn publish_positions(status: &Status, intake: &mut Intake, link: &Link) {
    let arrived = intake.arrived();
    let progress = intake.progress();
    status.positions(Positions {
        received: arrived,
        decoded: progress.received(),
        reported: link.reported(),
        waiting: progress.is_undurable(),
    });
}
