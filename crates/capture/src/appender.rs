//! The hands that hold history's writer: one job at a time, run by whoever waits for it, and watched for standstill.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use waldelta_history::Writer;
use waldelta_wal::{EndLsn, Piece};

use crate::status::Stored;

type Job =
    Pin<Box<dyn Future<Output = (Box<Writer>, Result<Option<EndLsn>, waldelta_history::Error>)> + Send>>;

enum Hands {
    Free(Box<Writer>),
    Busy(Job),
    /// The writer failed: it is of no use any more.
    Empty,
}

/// See the module.
pub(crate) struct Appender {
    hands: Hands,
    /// What the job in flight will have stored when it succeeds.
    promised: Stored,
    progress: Arc<AtomicU64>,
    /// The progress last seen, and when it was first seen.
    seen: (u64, Instant),
}

impl Appender {
    pub(crate) fn new(writer: Writer, now: Instant) -> Self {
        let progress = writer.progress();
        let seen = (progress.load(Ordering::Relaxed), now);
        Appender { hands: Hands::Free(Box::new(writer)), promised: Stored::default(), progress, seen }
    }

    /// Whether a job is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.hands, Hands::Busy(_))
    }

    /// The writer, when no job is in flight.
    pub(crate) fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.hands {
            Hands::Free(writer) => Some(writer),
            Hands::Busy(_) | Hands::Empty => None,
        }
    }

    /// Begins to append. Without effect while a job is in flight.
    pub(crate) fn append(&mut self, pieces: Vec<Piece>, now: Instant) {
        let Some(mut writer) = self.take() else { return };
        self.promised = summary(&pieces);
        self.seen = (self.progress.load(Ordering::Relaxed), now);
        self.hands = Hands::Busy(Box::pin(async move {
            fail::fail_point!("capture::before_append");
            let result = writer.append(pieces).await;
            (writer, result)
        }));
    }

    /// Begins to store a durable end without a transaction. Without effect while a job is in flight.
    pub(crate) fn advance(&mut self, end: EndLsn, now: Instant) {
        let Some(mut writer) = self.take() else { return };
        self.promised = Stored::default();
        self.seen = (self.progress.load(Ordering::Relaxed), now);
        self.hands = Hands::Busy(Box::pin(async move {
            let result = writer.advance(end).await.map(|()| Some(end));
            (writer, result)
        }));
    }

    /// Runs the job in flight and waits for its end, for ever when there is none. Dropped before, it goes on when called
    /// again.
    pub(crate) async fn finished(&mut self) -> Result<Stored, waldelta_history::Error> {
        let Hands::Busy(job) = &mut self.hands else { return pending().await };
        let (writer, result) = job.await;
        // A writer that failed may be in the middle of anything.
        self.hands = if result.is_ok() { Hands::Free(writer) } else { Hands::Empty };
        let durable_end = result?;
        fail::fail_point!("capture::after_append_before_feedback");
        Ok(Stored { durable_end, ..std::mem::take(&mut self.promised) })
    }

    /// How long the job in flight has stood still.
    pub(crate) fn stalled_for(&mut self, now: Instant) -> Duration {
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
        let Hands::Free(writer) = self.hands else { return };
        match tokio::time::timeout(patience, writer.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "release history's writer"),
            Err(_) => tracing::debug!("release history's writer: no answer"),
        }
    }

    fn take(&mut self) -> Option<Box<Writer>> {
        match std::mem::replace(&mut self.hands, Hands::Empty) {
            Hands::Free(writer) => Some(writer),
            other => {
                self.hands = other;
                None
            }
        }
    }
}

fn summary(pieces: &[Piece]) -> Stored {
    let ended = |piece: &&Piece| piece.end.is_some();
    Stored {
        durable_end: None,
        // A sign of life is a transaction only to history's writer.
        transactions: pieces
            .iter()
            .filter(ended)
            .filter(|piece| !piece.changes.is_empty() || !piece.first)
            .count() as u64,
        changes: pieces.iter().map(|piece| piece.changes.len() as u64).sum(),
        last_commit_us: pieces.iter().rev().find(ended).map(|piece| piece.head.committed_at_us),
    }
}
