//! The hands that hold history's writer: one job at a time, run by whoever waits for it, and watched for standstill.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use waldelta_history::{Gap, History, NewGap, Writer};
use waldelta_wal::{EndLsn, Operation, Piece, Table, chain_text};

use crate::promotion::Timeline;
use crate::status::Stored;
use crate::{Error, metrics};

type Job = Pin<Box<dyn Future<Output = (Box<Hand>, Result<Done, Error>)> + Send>>;

/// What a job came to.
#[derive(Default)]
struct Done {
    /// Where D moved to, if it moved.
    durable_end: Option<EndLsn>,
    /// The tables that need repair, where the job may have added some.
    gaps: Option<Vec<Gap>>,
}

/// What does a job.
struct Hand {
    writer: Writer,
    /// Of a source that is a standby.
    timeline: Option<Timeline>,
}

impl Hand {
    /// Whether what was received up to now may be stored.
    async fn check(&mut self) -> Result<(), Error> {
        match &mut self.timeline {
            Some(timeline) => timeline.check().await,
            None => Ok(()),
        }
    }
}

enum Hands {
    Free(Box<Hand>),
    Busy(Job),
    /// The writer failed: it is of no use any more.
    Empty,
}

/// A smaller image is digested in no time.
const LARGE_IMAGE_BYTES: u64 = 1 << 20;
/// How fast a slow history digests large images: a fifth of what a loaded machine of two cores did.
const DIGESTED_BYTES_PER_MS: u64 = 2_500;

/// See the module.
pub(crate) struct Appender {
    history: History,
    hands: Hands,
    /// What the job in flight will have stored when it succeeds.
    promised: Stored,
    /// Changes of the transaction that has not ended.
    open_changes: u64,
    /// Gaps were opened or closed, and were not read since.
    gaps_due: bool,
    progress: Arc<AtomicU64>,
    /// The progress last seen, and when it was first seen.
    seen: (u64, Instant),
    /// Until then the job in flight is not expected to show progress.
    patient_until: Instant,
}

impl Appender {
    pub(crate) fn new(history: History, writer: Writer, now: Instant) -> Self {
        let progress = writer.progress();
        let seen = (progress.load(Ordering::Relaxed), now);
        Appender {
            history,
            hands: Hands::Free(Box::new(Hand { writer, timeline: None })),
            promised: Stored::default(),
            open_changes: 0,
            gaps_due: false,
            progress,
            seen,
            patient_until: now,
        }
    }

    /// Stores nothing unless this timeline says so. To be called before the first job.
    pub(crate) fn on(mut self, timeline: Option<Timeline>) -> Self {
        if let Hands::Free(hand) = &mut self.hands {
            hand.timeline = timeline;
        }
        self
    }

    /// Whether a job is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.hands, Hands::Busy(_))
    }

    /// The writer, when no job is in flight.
    pub(crate) fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.hands {
            Hands::Free(hand) => Some(&mut hand.writer),
            Hands::Busy(_) | Hands::Empty => None,
        }
    }

    /// Begins to append. Without effect while a job is in flight.
    pub(crate) fn append(&mut self, pieces: Vec<Piece>, now: Instant) {
        let Some(mut hand) = self.take() else { return };
        self.gaps_due |= pieces.iter().any(moves_gaps);
        let gaps_of = self.gaps_due.then(|| self.history.clone());
        let patience = digestion(&pieces);
        let promised = summary(&pieces, &mut self.open_changes);
        self.begin(promised, now, async move {
            fail::fail_point!("capture::before_append");
            let result = match hand.check().await {
                Ok(()) => hand.writer.append(pieces).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            // Those of a large transaction are there when it ends.
            let gaps_of = gaps_of.filter(|_| result.is_ok() && !hand.writer.is_in_transaction());
            let gaps = read_gaps(gaps_of).await;
            (hand, result.map(|durable_end| Done { durable_end, gaps }))
        });
        self.patient_until = now + patience;
    }

    /// Begins to store a durable end without a transaction. Without effect while a job is in flight.
    pub(crate) fn advance(&mut self, end: EndLsn, now: Instant) {
        let Some(mut hand) = self.take() else { return };
        self.begin(Stored::default(), now, async move {
            let result = match hand.check().await {
                Ok(()) => hand.writer.advance(end).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            (hand, result.map(|()| Done { durable_end: Some(end), gaps: None }))
        });
    }

    /// Whether the gaps that were read last are those that there are: who decides by them has to wait otherwise.
    pub(crate) fn knows_gaps(&self) -> bool {
        !self.gaps_due
    }

    /// Begins to read the gaps once more. Without effect while a job is in flight.
    pub(crate) fn read_gaps(&mut self, now: Instant) {
        let Some(hand) = self.take() else { return };
        let history = self.history.clone();
        self.begin(Stored::default(), now, async move {
            let gaps = read_gaps(Some(history)).await;
            (hand, Ok(Done { durable_end: None, gaps }))
        });
    }

    /// Begins to store what follows from a look at the catalog. Without effect while a job is in flight.
    pub(crate) fn note(&mut self, gaps: Vec<NewGap>, fingerprints: Vec<(u32, String)>, now: Instant) {
        let Some(mut hand) = self.take() else { return };
        self.gaps_due |= !gaps.is_empty();
        let gaps_of = self.gaps_due.then(|| self.history.clone());
        self.begin(Stored::default(), now, async move {
            let result = hand.writer.note_source(gaps, fingerprints).await;
            let gaps = read_gaps(gaps_of.filter(|_| result.is_ok())).await;
            (hand, result.map(|_| Done { durable_end: None, gaps }).map_err(Error::from))
        });
    }

    fn begin(
        &mut self,
        promised: Stored,
        now: Instant,
        job: impl Future<Output = (Box<Hand>, Result<Done, Error>)> + Send + 'static,
    ) {
        self.promised = promised;
        self.seen = (self.progress.load(Ordering::Relaxed), now);
        self.patient_until = now;
        self.hands = Hands::Busy(Box::pin(job));
    }

    /// Runs the job in flight and waits for its end, for ever when there is none. Dropped before, it goes on when called
    /// again.
    pub(crate) async fn finished(&mut self) -> Result<Stored, Error> {
        let Hands::Busy(job) = &mut self.hands else { return pending().await };
        let (hand, result) = job.await;
        // A writer that failed may be in the middle of anything.
        self.hands = if result.is_ok() { Hands::Free(hand) } else { Hands::Empty };
        let Done { durable_end, gaps } = result.inspect_err(|_| metrics::append_failed())?;
        self.gaps_due &= gaps.is_none();
        fail::fail_point!("capture::after_append_before_feedback");
        Ok(Stored { durable_end, gaps, ..std::mem::take(&mut self.promised) })
    }

    /// How long the job in flight has stood still. While history digests large images, time counts as progress: for whoever
    /// watches the counter too.
    pub(crate) fn stalled_for(&mut self, now: Instant) -> Duration {
        if self.is_busy() && now < self.patient_until {
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        let progress = self.progress.load(Ordering::Relaxed);
        if !self.is_busy() || progress != self.seen.0 {
            self.seen = (progress, now);
        }
        now.duration_since(self.seen.1)
    }

    /// Counts bytes that history has accepted.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Gives the writer's lease back, if nothing is in flight; else drops the writer. Either rolls back what is half stored.
    pub(crate) async fn release(self, patience: Duration) {
        let Hands::Free(hand) = self.hands else { return };
        match tokio::time::timeout(patience, hand.writer.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = chain_text(&error), "release history's writer"),
            Err(_) => tracing::debug!("release history's writer: no answer"),
        }
    }

    fn take(&mut self) -> Option<Box<Hand>> {
        match std::mem::replace(&mut self.hands, Hands::Empty) {
            Hands::Free(hand) => Some(hand),
            other => {
                self.hands = other;
                None
            }
        }
    }
}

/// Whether it opens gaps, or closes some.
fn moves_gaps(piece: &Piece) -> bool {
    !piece.repairs.is_empty() || piece.changes.iter().any(|change| change.operation == Operation::Reset)
}

/// Reads which gaps are open. Nothing stands still because that fails: it is tried again.
async fn read_gaps(history: Option<History>) -> Option<Vec<Gap>> {
    match history?.open_gaps().await {
        Ok(gaps) => Some(gaps),
        Err(error) => {
            tracing::warn!(error = chain_text(&error), "read which tables need repair");
            None
        }
    }
}

/// After its last byte, history parses and compresses a large image and says nothing meanwhile. This long at most it may do so.
fn digestion(pieces: &[Piece]) -> Duration {
    let images =
        pieces.iter().flat_map(|piece| &piece.changes).flat_map(|change| [&change.data, &change.old_data]);
    let large = images.flatten().map(|image| image.len() as u64).filter(|bytes| *bytes > LARGE_IMAGE_BYTES);
    Duration::from_millis(large.sum::<u64>() / DIGESTED_BYTES_PER_MS)
}

/// `open_changes`: of the transaction that has not ended.
fn summary(pieces: &[Piece], open_changes: &mut u64) -> Stored {
    let mut stored = Stored::default();
    for piece in pieces {
        let changes = piece.changes.len() as u64;
        stored.changes += changes;
        *open_changes += changes;
        count_by_table(piece, &mut stored.of_tables);
        if piece.end.is_some() {
            stored.last_commit_us = Some(piece.head.committed_at_us);
            // A sign of life is a transaction only to history's writer.
            if !piece.changes.is_empty() || !piece.first {
                stored.transactions += 1;
                stored.sizes.push(*open_changes);
            }
            *open_changes = 0;
        }
    }
    stored
}

/// Changes of one table mostly stand together.
fn count_by_table(piece: &Piece, counts: &mut Vec<(Arc<Table>, u64)>) {
    let is_same = |one: &Option<Arc<Table>>, other: &Option<Arc<Table>>| match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    for run in piece.changes.chunk_by(|one, other| is_same(&one.table, &other.table)) {
        let Some(table) = run.first().and_then(|change| change.table.as_ref()) else { continue };
        match counts.iter_mut().find(|(known, _)| Arc::ptr_eq(known, table)) {
            Some((_, count)) => *count += run.len() as u64,
            None => counts.push((table.clone(), run.len() as u64)),
        }
    }
}
