//! A snapshot for one session: a consistent reading of the source that the stream goes on from without gap or doubt.
//!
//! A transaction can be in the WAL, and so in history, while no snapshot shows it yet. So the procedure is: take the durable
//! head; wait until every transaction up to it is visible; open the snapshot; send its rows; and then deliver what comes
//! after the head, dropping exactly what the snapshot shows. From the fence on, which was written after the snapshot was
//! taken, the state is the source's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use waldelta_history::History;
use waldelta_source::catalog::PublishedTable;
use waldelta_source::snapshot::{self, Snapshot};
use waldelta_wal::{Code, EndLsn, Position, Table, TableName};

use super::delivery::Overlap;
use crate::error::Error;
use crate::inner::Inner;
use crate::subscription::{Part, Pattern, Tables};
use crate::wire::oversize;
use crate::wire::server::{self, NotText, TableSum};

/// Bytes of rows in one frame, about.
const BATCH_BYTES: usize = 64 * 1024;
/// Reason of the gap of a table that was added while capture runs: its rows come with the reset that ends it.
const JOINING: &str = "added";

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub tables: Tables,
    /// The snapshot is of this position or a later one.
    pub at_least: Position,
}

/// What comes of it, in this order; `Failed` ends it at any point.
pub(crate) enum Step {
    Begun { cursor: Position, tables: Vec<(TableName, i64)> },
    Shape(Arc<Table>),
    Rows(Utf8Bytes),
    Ended { consistent_at: Position, tables: Vec<TableSum>, overlap: Overlap },
    Failed(Failure),
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// For now: a database is out of reach, or a transaction is not visible yet.
    ForNow { code: Code, message: String },
    /// A subscription names a table that is not captured.
    NotCaptured { subscription: String, table: String },
    /// It was not taken over within [`Config::snapshot_timeout`](crate::Config::snapshot_timeout).
    TooSlow,
}

/// Reads a snapshot and hands it over step by step; the receiver's pace is its own. Ends early when nobody listens.
pub(crate) async fn run(order: Order, inner: &Inner, steps: mpsc::Sender<Step>) {
    let config = &inner.config;
    // A waiting session holds nothing of the source.
    let permit = match tokio::time::timeout(config.snapshot_wait_timeout, inner.snapshots.acquire()).await {
        Ok(permit) => permit,
        Err(_elapsed) => {
            let code = Code::SnapshotsBusy;
            let message = code.explanation().title.to_owned();
            let _ = steps.send(Step::Failed(Failure::ForNow { code, message })).await;
            return;
        }
    };
    // A snapshot holds back what the source may clean up: its time is bounded, whatever the client's pace is.
    let read = tokio::time::timeout(config.snapshot_timeout, read(&order, inner, &steps)).await;
    // Before anything is handed over: the client's pace is no matter of others.
    drop(permit);
    let failure = match read.unwrap_or(Err(Stopped::TooSlow)) {
        Ok(()) => return,
        Err(Stopped::NobodyListens) => return,
        Err(Stopped::TooSlow) => Failure::TooSlow,
        Err(Stopped::NotCaptured { subscription, table }) => Failure::NotCaptured { subscription, table },
        Err(Stopped::Error(error)) => {
            let code = error.code();
            tracing::warn!(
                code = code.as_str(),
                error = &error as &dyn std::error::Error,
                "a snapshot failed"
            );
            Failure::ForNow { code, message: error.for_client() }
        }
    };
    // Nobody listens: then nobody misses it.
    let _ = steps.send(Step::Failed(failure)).await;
}

enum Stopped {
    NobodyListens,
    TooSlow,
    NotCaptured { subscription: String, table: String },
    Error(Error),
}

impl From<waldelta_history::Error> for Stopped {
    fn from(error: waldelta_history::Error) -> Self {
        Stopped::Error(error.into())
    }
}

impl From<waldelta_source::Error> for Stopped {
    fn from(error: waldelta_source::Error) -> Self {
        Stopped::Error(error.into())
    }
}

impl From<NotText> for Stopped {
    fn from(error: NotText) -> Self {
        Stopped::Error(error.into())
    }
}

async fn read(order: &Order, inner: &Inner, steps: &mpsc::Sender<Step>) -> Result<(), Stopped> {
    let (history, source) = (&inner.history, &inner.source);
    let cursor = history.feed().head().cursor().max(order.at_least);
    // Asked after the head was taken: what is visible by now stays so, and only the rest has to be waited for.
    let visible = snapshot::visible_now(source).await?;
    let xids = history.xids_unseen_by(&visible, cursor).await?;
    snapshot::wait_visible(source, &xids, inner.config.visibility_timeout).await?;
    // Asked before the snapshot is taken: a table that joins only afterwards has its reset after what the snapshot shows.
    let joining = joining(history).await?;
    let snapshot = Snapshot::open(source).await?;
    // After it was opened: history may have gone on to another timeline meanwhile.
    if let Some((captured, _)) = history.captured().await? {
        snapshot.check_timeline(captured.timeline)?;
    }
    let mut published = snapshot.tables().await?;
    find_missing(order, &published)?;
    published.retain(|published| order.tables.has(&published.table.name));
    let (without, published): (Vec<_>, Vec<_>) =
        published.into_iter().partition(|published| joining.contains(&published.table.oid));
    let tables = numbered(published, &history.tables().await?);

    let estimates = tables.iter().map(|(table, estimate)| (table.name.clone(), *estimate)).collect();
    send(steps, Step::Begun { cursor, tables: estimates }).await?;
    let mut sums = Vec::with_capacity(tables.len());
    for (table, _) in tables {
        send(steps, Step::Shape(table.clone())).await?;
        sums.push(send_rows(&snapshot, table, steps).await?);
    }
    let consistent_at = Position::before(cursor.epoch, EndLsn(snapshot.fence())).max(cursor);
    let shown = snapshot.visibility().clone();
    let overlap = Overlap {
        tables: order.tables.clone(),
        without: without.into_iter().map(|published| published.table.name).collect(),
        from: cursor,
        until: consistent_at,
        shows: Arc::new(move |xid| shown.visible(xid)),
    };
    send(steps, Step::Ended { consistent_at, tables: sums, overlap }).await?;
    inner.metrics.snapshots.increment(1);
    Ok(())
}

async fn send_rows(
    snapshot: &Snapshot,
    table: Arc<Table>,
    steps: &mpsc::Sender<Step>,
) -> Result<TableSum, Stopped> {
    let mut sum = TableSum { table: table.name.clone(), rows: 0, checksum: 0 };
    let mut batches = snapshot.rows(table, BATCH_BYTES).await?;
    while let Some(batch) = batches.next().await {
        let rows: Vec<_> = batch?.iter().map(|row| oversize::bounded(&row.data, None)).collect();
        for row in &rows {
            sum.rows += 1;
            sum.checksum = sum.checksum.wrapping_add(server::checksum(row));
        }
        if !rows.is_empty() {
            let frame = server::rows(&sum.table, &rows)?;
            send(steps, Step::Rows(frame)).await?;
        }
    }
    Ok(sum)
}

async fn send(steps: &mpsc::Sender<Step>, step: Step) -> Result<(), Stopped> {
    steps.send(step).await.map_err(|_| Stopped::NobodyListens)
}

/// The tables of which a snapshot taken now could lack rows: transactions that wrote to them before they were captured may
/// still be open.
async fn joining(history: &History) -> Result<HashSet<u32>, waldelta_history::Error> {
    let gaps = history.open_gaps().await?;
    Ok(gaps.into_iter().filter(|gap| gap.reason == JOINING).filter_map(|gap| gap.table_oid).collect())
}

/// A subscription to a table by its name must find it: a client would wait for ever for a table that is misspelt. One that
/// was there once may be gone by now.
fn find_missing(order: &Order, published: &[PublishedTable]) -> Result<(), Stopped> {
    let Tables { selection, part } = &order.tables;
    let had = |id: &str| match part {
        Part::All => false,
        Part::Except(except) => except.has(id),
        Part::Only(_) => true,
    };
    for subscription in selection.subscriptions().iter().filter(|subscription| !had(&subscription.id)) {
        if let Pattern::Table(table) = &subscription.table
            && !published.iter().any(|published| published.table.name == *table)
        {
            let table = table.to_string();
            return Err(Stopped::NotCaptured { subscription: subscription.id.clone(), table });
        }
    }
    Ok(())
}

/// Gives each table the version that history knows its shape by; 0 where history has not seen this shape yet.
fn numbered(published: Vec<PublishedTable>, known: &[Arc<Table>]) -> Vec<(Arc<Table>, i64)> {
    let known: HashMap<u32, &Arc<Table>> = known.iter().map(|table| (table.oid, table)).collect();
    let number = |mut table: Table| {
        if let Some(same) = known.get(&table.oid) {
            table.version = same.version;
            if table == ***same {
                return (*same).clone();
            }
        }
        table.version = 0;
        Arc::new(table)
    };
    published.into_iter().map(|published| (number(published.table), published.rows_estimate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Selection;
    use crate::testing::{position, subscription, table};

    fn published(table: Table) -> PublishedTable {
        PublishedTable {
            table: Table { version: 0, ..table },
            primary_key: Some(vec!["id".into()]),
            rows_estimate: 7,
        }
    }

    #[test]
    fn a_shape_has_the_number_that_history_gave_it() {
        let known =
            [Arc::new(Table { version: 3, ..table("t") }), Arc::new(Table { version: 2, ..table("u") })];
        let mut altered = table("u");
        altered.columns.pop();
        let numbered =
            numbered(vec![published(table("t")), published(altered), published(table("new"))], &known);
        let versions: Vec<_> = numbered.iter().map(|(table, estimate)| (table.version, *estimate)).collect();
        assert_eq!(versions, [(3, 7), (0, 7), (0, 7)]);
    }

    #[test]
    fn a_table_asked_for_by_name_must_be_there() {
        let selection =
            |tables: &[&str]| Selection::new(tables.iter().map(|table| subscription(table, table)).collect());
        let order = |tables: &[&str], part| Order {
            tables: Tables { selection: selection(tables), part },
            at_least: position(0),
        };
        let there = [published(table("t"))];
        assert!(find_missing(&order(&["t", "other.*", "*"], Part::All), &there).is_ok());
        let missing = find_missing(&order(&["t", "u"], Part::All), &there);
        assert!(matches!(missing, Err(Stopped::NotCaptured { subscription, .. }) if subscription == "u"));
        let added = order(&["t", "u"], Part::Except(selection(&["u"])));
        assert!(find_missing(&added, &there).is_ok(), "`u` is what the client had before");
        let reset = order(&["t", "u"], Part::Only([table("u").name].into()));
        assert!(find_missing(&reset, &there).is_ok(), "it is gone since");
    }
}
