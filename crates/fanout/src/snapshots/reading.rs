//! Reads the source once, for everybody who follows: a consistent reading that the stream goes on from without gap or doubt.
//!
//! A transaction can be in the WAL, and so in history, while no snapshot shows it yet. So the procedure is: take the durable
//! head; wait until every transaction up to it is visible; open the snapshot; read its rows; and then let each stream deliver
//! what comes after the head, dropping exactly what the snapshot shows. From the fence on, which was written after the snapshot
//! was taken, the state is the source's.
//!
//! None of this depends on when a client joins: whoever takes the rows goes on from the reading's position, and drops what the
//! reading shows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use futures_util::StreamExt;
use waldelta_history::Gap;
use waldelta_source::catalog::PublishedTable;
use waldelta_wal::{Code, EndLsn, Position, Table, chain_text};

use super::chunk::Packer;
use super::extract::{self, Extract};
use super::growth::Gaps;
use super::library::Library;
use super::tape::{Begun, Tape, Whole};
use crate::clock;
use crate::databases::OpenSnapshot;
use crate::error::Error;
use crate::inner::Inner;
use crate::session::hydrate::Failure;
use crate::shapes::Shown;
use crate::subscription::Part;
use crate::wire::projection::write_image;
use crate::wire::server::{self, NotText, TableSum};

/// Bytes of rows in one frame, about.
const FRAME_BYTES: usize = 64 * 1024;
/// Who waits for room looks this often whether others have made some.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a snapshot to its end, or as long as somebody wants it.
pub(super) async fn run(tape: Arc<Tape>, inner: &Inner) {
    let library = &inner.snapshots;
    // Should this be dropped half-way, nobody waits for the rest.
    let _ending = Ending { tape: &tape, library };
    let read = tokio::select! {
        biased;
        () = tape.abandoned() => Err(Stopped::NobodyListens),
        read = bounded(&tape, inner) => read,
    };
    let failure = match read {
        Ok(()) | Err(Stopped::NobodyListens) => return,
        Err(Stopped::OutOfTime) => {
            let code = Code::SnapshotTimeout;
            tracing::warn!(code = code.as_str(), "a snapshot was not read to its end in time");
            return tape.run_out();
        }
        Err(Stopped::Failed(failure)) => failure,
        Err(Stopped::Error(error)) => {
            let code = error.code();
            tracing::warn!(code = code.as_str(), error = chain_text(&error), "a snapshot failed");
            Failure::ForNow { code, message: error.for_client() }
        }
    };
    tape.fail(failure);
}

/// Refuses a reading that has not begun, because the service stops.
pub(super) fn refuse(tape: &Arc<Tape>, library: &Library) {
    drop(Ending { tape, library });
}

struct Ending<'a> {
    tape: &'a Arc<Tape>,
    library: &'a Library,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let code = Code::Stopping;
        // Nothing changes where it has ended.
        self.tape.fail(Failure::ForNow { code, message: code.explanation().title.to_owned() });
        self.library.ended(self.tape);
    }
}

enum Stopped {
    NobodyListens,
    OutOfTime,
    Failed(Failure),
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

/// One at a time of those that may run, and not for ever: a snapshot holds back what the source may clean up.
async fn bounded(tape: &Tape, inner: &Inner) -> Result<(), Stopped> {
    let _turn = inner.snapshots.turn().await.map_err(Stopped::Failed)?;
    let timeout = inner.config.snapshot_timeout;
    let read = Box::pin(read(tape, inner, clock::now() + timeout));
    match tokio::time::timeout(timeout, read).await {
        Ok(read) => read,
        Err(_elapsed) => Err(Stopped::OutOfTime),
    }
}

async fn read(tape: &Tape, inner: &Inner, deadline: Instant) -> Result<(), Stopped> {
    let (log, origin) = (&inner.log, &inner.origin);
    let cursor = inner.snapshots.fix(tape, inner.history.feed());
    // Asked after the head was taken: what is visible by now stays so, and only the rest has to be waited for.
    let visible = origin.visible_now().await?;
    let xids = log.xids_unseen_by(&visible, cursor).await?;
    origin.wait_visible(&xids, inner.config.visibility_timeout).await?;
    // Asked before the snapshot is taken: a table that joins only afterwards has its reset after what the snapshot shows.
    let gaps = log.open_gaps().await?;
    fail_point!("fanout::before_snapshot");
    let snapshot = origin.open_snapshot().await?;
    // After it was opened: history may have gone on to another timeline meanwhile.
    if let Some((captured, _)) = log.captured().await? {
        snapshot.check_timeline(captured.timeline)?;
    }
    let mut published = snapshot.tables().await?;
    extract::find_missing(&tape.tables, &published).map_err(Stopped::Failed)?;
    published.retain(|published| tape.tables.has(&published.table.name));
    let joining = joining(&gaps);
    let (without, published): (Vec<_>, Vec<_>) =
        published.into_iter().partition(|published| joining.contains(&published.table.oid));
    let published = numbered(published, &log.tables().await?);
    let shown = Shown::of(&tape.tables.selection, published.iter().map(|(table, _)| &**table));
    let shown = if tape.tables.part == Part::All { shown.whole() } else { shown };
    let extracts = extracts(tape, published)?;

    // Each reading emits a fence of its own, so its place in the WAL names it.
    let id = format!("{:08x}-{:016x}", cursor.epoch.0, snapshot.fence().0);
    let tables = extracts.iter().map(|of| (of.table.name.clone(), of.rows_estimate)).collect();
    tape.begin(Begun { id, cursor, tables, gaps: Gaps::of(&gaps) });
    inner.metrics.snapshot_readings.increment(1);
    let (library, stalled) = (&inner.snapshots, Duration::ZERO);
    let mut recording = Recording { tape, library, deadline, stalled, packer: packer(inner)? };
    let mut sums = Vec::with_capacity(extracts.len());
    for extract in &extracts {
        tape.add_shape(extract.table.clone());
        sums.push(recording.rows(&*snapshot, extract).await?);
    }
    let visibility = snapshot.visibility().clone();
    tape.finish(Whole {
        consistent_at: Position::before(cursor.epoch, EndLsn(snapshot.fence())).max(cursor),
        sums,
        without: without.into_iter().map(|published| published.table.name).collect(),
        shows: Arc::new(move |xid| visibility.visible(xid)),
        shown,
    });
    Ok(())
}

fn packer(inner: &Inner) -> Result<Packer, Stopped> {
    Packer::new(inner.snapshots.holdings.clone()).map_err(|source| Stopped::Error(Error::Compress { source }))
}

/// Puts what is read on the tape.
struct Recording<'a> {
    tape: &'a Tape,
    library: &'a Library,
    deadline: Instant,
    /// How long it has waited for room, since the last one was let go for that.
    stalled: Duration,
    packer: Packer,
}

impl Recording<'_> {
    async fn rows(&mut self, snapshot: &dyn OpenSnapshot, extract: &Extract) -> Result<TableSum, Stopped> {
        let mut sum = TableSum { table: extract.table.name.clone(), rows: 0, checksum: 0 };
        let condition = extract.condition.as_deref();
        let mut batches = snapshot.rows_where(extract.read.clone(), condition, FRAME_BYTES).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            fail_point!("fanout::inside_snapshot");
            let mut rows = Vec::with_capacity(batch.len());
            for row in &batch {
                let mut told = Vec::with_capacity(row.data.len());
                write_image(&mut told, extract.route.projection(), &row.data, None);
                rows.push(told);
            }
            if !rows.is_empty() {
                sum.rows += rows.len() as u64;
                sum.checksum = sum.checksum.wrapping_add(server::checksum(&rows));
                self.frame(&sum, &rows).await?;
            }
        }
        Ok(sum)
    }

    async fn frame(&mut self, sum: &TableSum, rows: &[Vec<u8>]) -> Result<(), Stopped> {
        let frame = server::rows(&sum.table, self.tape.next_frame(), rows)?;
        let packed = self.packer.pack(frame).await;
        let (chunk, frame) = packed.map_err(|source| Stopped::Error(Error::Compress { source }))?;
        self.make_room(chunk.bytes()).await;
        self.tape.add(chunk, frame, rows.len() as u64);
        Ok(())
    }

    /// Waits until there is room for a chunk. Beyond the bounds the source waits for those who follow, but not for ever: when it
    /// has waited for as long as there is time left, the slowest is let go, so that the others get the rest.
    async fn make_room(&mut self, bytes: usize) {
        while !self.library.has_room(self.tape, bytes) {
            if self.tape.drop_first() {
                continue;
            }
            let now = clock::now();
            if self.stalled >= self.deadline.saturating_duration_since(now) && self.tape.let_slowest_go() {
                self.stalled = Duration::ZERO;
                continue;
            }
            self.tape.followers_move(ROOM_INTERVAL).await;
            self.stalled += clock::now().saturating_duration_since(now);
        }
    }
}

/// What is read of each table, in order.
fn extracts(tape: &Tape, published: Vec<(Arc<Table>, i64)>) -> Result<Vec<Extract>, Stopped> {
    let mut extracts = Vec::with_capacity(published.len());
    for (table, rows_estimate) in published {
        let extract = Extract::new(&tape.tables.selection, table, rows_estimate);
        extracts.extend(extract.map_err(|misfit| Stopped::Failed(Failure::Misfit(misfit)))?);
    }
    Ok(extracts)
}

/// The tables of which a snapshot taken now could lack rows: transactions that wrote to them before they were captured may
/// still be open. Their rows come with the reset that ends the gap.
fn joining(gaps: &[Gap]) -> HashSet<u32> {
    gaps.iter().filter(|gap| !gap.needs_repair()).filter_map(|gap| gap.table_oid).collect()
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
    use crate::testing::table;

    #[test]
    fn a_shape_has_the_number_that_history_gave_it() {
        let published = |table: Table| PublishedTable {
            table: Table { version: 0, ..table },
            primary_key: Some(vec!["id".into()]),
            last_number: 2,
            rows_estimate: 7,
        };
        let known =
            [Arc::new(Table { version: 3, ..table("t") }), Arc::new(Table { version: 2, ..table("u") })];
        let mut altered = table("u");
        altered.columns.pop();
        let numbered =
            numbered(vec![published(table("t")), published(altered), published(table("new"))], &known);
        let versions: Vec<_> = numbered.iter().map(|(table, estimate)| (table.version, *estimate)).collect();
        assert_eq!(versions, [(3, 7), (0, 7), (0, 7)]);
    }
}
