//! A snapshot for one session: what it takes from a shared reading, step by step and at its own pace.
//!
//! How the reading is made, and why it and the stream fit together, is said in [`crate::snapshots`]. It reads nothing itself.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use waldelta_wal::{Code, Position, Table, TableName, chain_text};

use super::delivery::Overlap;
use crate::clock;
use crate::error::Error;
use crate::inner::Inner;
use crate::shapes::Shown;
use crate::snapshots::{self, Gaps, Told};
use crate::subscription::{Misfit, Tables};
use crate::wire::client::SnapshotFrom;
use crate::wire::server::TableSum;
use crate::wire::{Subprotocol, Utf8Bytes};

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub tables: Tables,
    /// The snapshot is of this position or a later one.
    pub at_least: Position,
    /// One that is read for this order is of this position or a later one, which is durable.
    pub head: Position,
    /// What the client has of a snapshot already.
    pub from: Option<SnapshotFrom>,
}

/// What comes of it, in this order; `Failed` ends it at any point.
#[derive(Clone)]
pub(crate) enum Step {
    /// `n` is the number of the first frame of rows that comes.
    Begun {
        id: String,
        n: u64,
        cursor: Position,
        tables: Vec<(TableName, i64)>,
    },
    Shape(Arc<Table>),
    Rows(Utf8Bytes),
    /// The same in the form in which they are kept.
    PackedRows(Bytes),
    /// Which tables it has, and which it left out. It goes before the end.
    Shown(Shown),
    Ended {
        consistent_at: Position,
        tables: Vec<TableSum>,
        overlap: Overlap,
    },
    Failed(Failure),
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// For now: a database is out of reach, or a transaction is not visible yet.
    ForNow { code: Code, message: String },
    /// A subscription names a table that is not captured.
    NotCaptured { subscription: String, table: String },
    /// A subscription does not fit its table.
    Misfit(Misfit),
    /// It was not taken over within [`Config::snapshot_timeout`](crate::Config::snapshot_timeout).
    TooSlow,
}

/// Hands a snapshot over step by step; the receiver's pace is its own. Ends early when nobody listens.
pub(crate) async fn run(order: Order, subprotocol: Subprotocol, inner: &Inner, steps: mpsc::Sender<Step>) {
    tokio::select! {
        biased;
        // The reading goes on only as long as somebody follows it.
        () = steps.closed() => {}
        // Kept small: it is part of what a session waits for.
        () = Box::pin(hand_over(order, subprotocol, inner, &steps)) => {}
    }
}

async fn hand_over(order: Order, subprotocol: Subprotocol, inner: &Inner, steps: &mpsc::Sender<Step>) {
    let began_at = clock::now();
    snapshots::hear_of(order.head, inner.history.feed()).await;
    let follower = match open_gaps(inner).await {
        Ok(gaps) => inner.snapshots.follow(&order, inner.history.feed(), &gaps),
        Err(failure) => Err(failure),
    };
    let mut follower = match follower {
        Ok(follower) => follower,
        Err(failure) => {
            // Nobody listens: then nobody misses it.
            let _ = steps.send(Step::Failed(failure)).await;
            return;
        }
    };
    loop {
        let told = follower.next().await;
        let is_last = told.is_last();
        let step = match told {
            Told::Begun(begun, n) => {
                Step::Begun { id: begun.id.clone(), n, cursor: begun.cursor, tables: begun.tables.clone() }
            }
            Told::Shape(table) => Step::Shape(table),
            Told::Rows(chunk) if subprotocol.takes_packed() => Step::PackedRows(chunk.packed()),
            Told::Rows(chunk) => match follower.open(&chunk).await {
                Ok(frame) => Step::Rows(frame),
                Err(source) => Step::Failed(failed(&Error::Compress { source })),
            },
            Told::Ended(begun, whole) => {
                inner.metrics.snapshots.increment(1);
                let took = clock::now().saturating_duration_since(began_at);
                inner.metrics.snapshot_seconds.record(took.as_secs_f64());
                if steps.send(Step::Shown(whole.shown.clone())).await.is_err() {
                    return;
                }
                let overlap = Overlap {
                    tables: order.tables.clone(),
                    without: whole.without.clone(),
                    from: begun.cursor,
                    until: whole.consistent_at,
                    shows: whole.shows.clone(),
                };
                Step::Ended { consistent_at: whole.consistent_at, tables: whole.sums.clone(), overlap }
            }
            Told::Failed(failure) => Step::Failed(failure),
        };
        let failed = matches!(step, Step::Failed(_));
        if steps.send(step).await.is_err() || is_last || failed {
            return;
        }
    }
}

/// The gaps that are open now: a snapshot that was taken before one may lack what it is about.
pub(crate) async fn open_gaps(inner: &Inner) -> Result<Gaps, Failure> {
    match inner.log.open_gaps().await {
        Ok(gaps) => Ok(Gaps::of(&gaps)),
        Err(error) => Err(failed(&error.into())),
    }
}

fn failed(error: &Error) -> Failure {
    let code = error.code();
    tracing::warn!(code = code.as_str(), error = chain_text(error), "a snapshot cannot be handed over");
    Failure::ForNow { code, message: error.for_client() }
}
