//! The one writer: appends whole transactions, moves the durable end with them, and tells the feed.
//!
//! It does not decide when to append, and it does not retry: after any failure but a refused order it is closed, what
//! was open is rolled back, and the next writer starts from the stored durable end, which alone says what is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fail::fail_point;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{Change, EndLsn, Epoch, Piece, STAGE, Table, TransactionHead};

use crate::copy_buffer::CopyBuffer;
use crate::encode::RowEncoder;
use crate::error::sqlstate_is_poison;
use crate::gap_notes::GapNotes;
use crate::large::Survey;
use crate::lease::{self, LeaseKeeper, Taken};
use crate::link::{CommitFailure, Link, Move};
use crate::partition::Partitions;
use crate::poison::{Blame, too_large};
use crate::seals::Sealer;
use crate::sequence::{Run, Sequence, cut_into_runs};
use crate::shapes::{Appearance, Numbered, Shapes, StoredTable};
use crate::short::{Arrays, is_short};
use crate::sweep::{Shown, Sweeper};
use crate::{Entry, Error, Head, History, Transaction, gaps, metrics};

const STORE_TABLE: &str = include_str!("../../../sql/queries/store_table.sql");
const STORE_HISTORY_FROM: &str = include_str!("../../../sql/queries/store_history_from.sql");

/// Bytes that are gathered before they are handed to the connection.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// The holder of the lease. Dropping it in the middle of a transaction rolls that back.
pub struct Writer {
    pub(crate) history: History,
    pub(crate) taken: Taken,
    pub(crate) head: Head,
    /// Taken out while statements run, so that an append that fails or is cancelled leaves a closed writer.
    pub(crate) link: Option<Link>,
    pub(crate) encoder: RowEncoder,
    pub(crate) shapes: Shapes,
    pub(crate) buffer: CopyBuffer,
    pub(crate) accepted: Arc<AtomicU64>,
    pub(crate) partitions: Partitions,
    sequence: Sequence,
    gaps: GapNotes,
    /// Whom the large transaction under way concerns.
    large: Survey,
    /// Tells [`History`] that this writer is still there.
    _alive: Arc<()>,
}

impl Writer {
    /// With the lease taken.
    pub(crate) fn new(
        history: History,
        link: Link,
        taken: Taken,
        tables: Vec<Arc<Table>>,
        partitions: Partitions,
        alive: Arc<()>,
    ) -> Self {
        let head = Head { epoch: taken.epoch, durable_end: taken.durable_end };
        if history.feed().head() != head {
            // The tail moved without this process: by a writer elsewhere, or by a commit whose answer was lost.
            history.feed().restart_at(head);
        }
        metrics::durable(head);
        Writer {
            encoder: RowEncoder::new(&taken.system_id, taken.database_oid),
            sequence: Sequence::new(head.epoch, head.durable_end),
            shapes: Shapes::new(tables),
            buffer: CopyBuffer::with_capacity(2 * CHUNK_BYTES),
            accepted: Arc::default(),
            partitions,
            gaps: GapNotes::default(),
            large: Survey::default(),
            link: Some(link),
            head,
            history,
            taken,
            _alive: alive,
        }
    }

    /// What is durable.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Current epoch.
    pub fn epoch(&self) -> Epoch {
        self.head().epoch
    }

    /// Whether a large transaction is being appended.
    pub fn is_in_transaction(&self) -> bool {
        self.sequence.is_open()
    }

    /// The work beside the writer, to be run as a task of its own for as long as the writer lives.
    pub fn lease_keeper(&self) -> LeaseKeeper {
        LeaseKeeper::new(self.history.clone(), self.taken.token)
    }

    /// What removes history that is not to be kept any longer, to be run as a task of its own for as long as the writer lives. It
    /// asks first what the source shows.
    pub fn sweeper(&self, shown: Arc<dyn Shown>) -> Sweeper {
        Sweeper::new(self.history.clone(), self.taken.token, shown)
    }

    /// What seals what is durable, to be run as a task of its own for as long as the writer lives.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.history.clone(), self.taken.token)
    }

    /// Gives a table's shape its version: the known one when it is unchanged, else the next, which is stored with the
    /// first piece that names it in `new_tables` or in a change.
    pub fn number(&mut self, table: Table) -> Numbered {
        self.shapes.number(table)
    }

    /// The latest shape of a table that history has, or that was numbered since.
    pub fn latest_shape(&self, table_oid: u32) -> Option<&Arc<Table>> {
        self.shapes.latest(table_oid)
    }

    /// Counts bytes that the database has accepted, so that a watcher sees progress inside a long append.
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.accepted)
    }

    /// Appends pieces in order. Whole transactions become durable together. When the last piece does not end its
    /// transaction, what is whole before it is committed, the large one's SQL transaction stays open and the next call
    /// goes on with it; nothing of it is durable before its end. Returns the durable end if it moved.
    ///
    /// After an error the writer is closed, except after [`Error::OutOfOrder`], which changes nothing. It can have
    /// committed some of the pieces before the error: the stored durable end tells.
    pub async fn append(&mut self, pieces: Vec<Piece>) -> Result<Option<EndLsn>, Error> {
        let sequence = self.open_sequence()?.after(&pieces)?;
        let before = self.head.durable_end;
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        for run in cut_into_runs(pieces, &mut self.partitions) {
            self.append_run(&mut link, run).await?;
        }
        self.link = Some(link);
        self.sequence = sequence;
        Ok((self.head.durable_end != before).then_some(self.head.durable_end))
    }

    /// Stores that everything below `end` is included although no transaction ended there (a keepalive). An end at or
    /// below the durable one is included already: nothing is stored.
    pub async fn advance(&mut self, end: EndLsn) -> Result<(), Error> {
        if self.open_sequence()?.is_open() {
            return Err(Error::TransactionOpen);
        }
        if end <= self.head.durable_end {
            return Ok(());
        }
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        let moved = self.move_to(end);
        link.move_durable_end(moved).await.map_err(|failure| self.failed(moved, failure, None))?;
        self.sequence = Sequence::new(self.head.epoch, end);
        self.made_durable(end, Vec::new());
        self.link = Some(link);
        Ok(())
    }

    /// Gives up the large transaction under way, so that it can be sent again from its beginning. What was whole
    /// before it stays durable. Shapes that were numbered and not stored are forgotten: number them again as they come.
    pub async fn abandon(&mut self) -> Result<(), Error> {
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        link.rollback().await?;
        self.shapes.rolled_back();
        self.gaps = GapNotes::default();
        self.large = Survey::default();
        self.sequence = Sequence::new(self.head.epoch, self.head.durable_end);
        self.link = Some(link);
        Ok(())
    }

    /// Gives the lease back at once, so that another writer need not wait; what was open is rolled back.
    pub async fn release(mut self) -> Result<(), Error> {
        let mut link = self.link.take().ok_or(Error::WriterClosed)?;
        link.rollback().await?;
        lease::release(&link.client, self.taken.token).await
    }

    /// What may come next, unless the writer is closed.
    pub(crate) fn open_sequence(&self) -> Result<Sequence, Error> {
        if self.link.is_some() { Ok(self.sequence) } else { Err(Error::WriterClosed) }
    }

    async fn append_run(&mut self, link: &mut Link, run: Run) -> Result<(), Error> {
        let started = Instant::now();
        tracing::trace!(target: STAGE, stage = "appending");
        let accepted_before = self.accepted.load(Ordering::Relaxed);
        self.note_shapes(&run);
        run.pieces.iter().for_each(|piece| self.gaps.note(piece));
        if !self.append_short(link, &run).await? {
            self.append_by_copy(link, &run).await?;
        }
        let rows = run.rows();
        if let Some(end) = run.end() {
            let entries = self.feed_entries(run.pieces);
            fail_point!("history::before_publish");
            tracing::trace!(target: STAGE, stage = "durable");
            self.made_durable(end, entries);
        } else {
            run.pieces.iter().for_each(|piece| self.large.note(&piece.changes));
        }
        metrics::appended(
            started.elapsed(),
            rows as u64,
            self.accepted.load(Ordering::Relaxed) - accepted_before,
        );
        Ok(())
    }

    /// Appends a run of few rows in one statement. `false`: nothing was done, it is to go by COPY.
    async fn append_short(&mut self, link: &mut Link, run: &Run) -> Result<bool, Error> {
        let (Some(partition), Some(end)) = (run.partition, run.end()) else { return Ok(false) };
        if link.is_copying() || self.has_notes() || !is_short(run) {
            return Ok(false);
        }
        let statements = link.prepare_partition(partition).await?;
        fail_point!("history::before_copy");
        self.encode_rows(run)?;
        let bytes = self.buffer.len() as u64;
        let arrays = Arrays::of(self.buffer.tail());
        self.buffer.tail().clear();
        let Some(arrays) = arrays else { return Ok(false) };
        fail_point!("history::after_copy");
        let moved = self.move_to(end);
        match link.append_short(&statements, &arrays, moved).await {
            Ok(()) => {
                self.accepted.fetch_add(bytes, Ordering::Relaxed);
                Ok(true)
            }
            // COPY says which change it is of, or that it was the guard.
            Err(CommitFailure::Refused(source)) if is_poison(&source) => Ok(false),
            Err(failure) => {
                let blame = Blame { run, rows_before: 0 };
                Err(self.refused(link, moved, failure, blame).await)
            }
        }
    }

    /// Appends a run by COPY, and commits where a transaction ends with it.
    async fn append_by_copy(&mut self, link: &mut Link, run: &Run) -> Result<(), Error> {
        let rows_before = link.rows_sent();
        if let Some(partition) = run.partition {
            // Only a large transaction leaves a COPY open, and its pieces come first in the next run.
            if !link.is_copying() {
                let statements = link.prepare_partition(partition).await?;
                link.begin_copy(&statements).await?;
                self.encoder.begin(&mut self.buffer);
            }
            fail_point!("history::before_copy");
            self.send_rows(link, run).await?;
            fail_point!("history::after_copy");
        }
        match run.end() {
            Some(end) => self.commit(link, end, run, rows_before).await,
            None => Ok(()),
        }
    }

    fn note_shapes(&mut self, run: &Run) {
        for piece in &run.pieces {
            let commit_lsn = piece.head.commit_lsn;
            for change in &piece.changes {
                if let Some(table) = &change.table {
                    self.shapes.appears(table, commit_lsn, change.seq);
                }
            }
            // Those that no change of the transaction has (all of its rows were filtered out, say).
            let first_seq = piece.changes.first().map_or(0, |change| change.seq);
            for table in &piece.new_tables {
                self.shapes.appears(table, commit_lsn, first_seq);
            }
        }
    }

    /// All of few rows.
    fn encode_rows(&mut self, run: &Run) -> Result<(), Error> {
        for piece in &run.pieces {
            for change in &piece.changes {
                self.encode_row(&piece.head, change)?;
            }
        }
        Ok(())
    }

    fn encode_row(&mut self, head: &TransactionHead, change: &Change) -> Result<(), Error> {
        let xid = (head.xid != 0).then_some(head.xid);
        self.encoder.row(&mut self.buffer, head, xid, change).map_err(|_| too_large(head, change))
    }

    async fn send_rows(&mut self, link: &mut Link, run: &Run) -> Result<(), Error> {
        let mut rows = 0;
        for piece in &run.pieces {
            for change in &piece.changes {
                self.encode_row(&piece.head, change)?;
                rows += 1;
                if self.buffer.len() >= CHUNK_BYTES {
                    self.send(link, rows).await?;
                    rows = 0;
                }
            }
        }
        if run.end().is_some() {
            self.encoder.end(&mut self.buffer);
        }
        self.send(link, rows).await
    }

    pub(crate) async fn send(&mut self, link: &mut Link, rows: u64) -> Result<(), Error> {
        link.send(&mut self.buffer, rows, &self.accepted).await
    }

    async fn commit(
        &mut self,
        link: &mut Link,
        end: EndLsn,
        run: &Run,
        rows_before: u64,
    ) -> Result<(), Error> {
        let moved = self.move_to(end);
        let blame = Blame { run, rows_before };
        let has_notes = self.has_notes();
        if !has_notes && run.partition.is_none() && !link.is_copying() {
            let result = link.move_durable_end(moved).await;
            return result.map_err(|failure| self.failed(moved, failure, None));
        }
        let mut needing_repair = 0;
        if has_notes {
            if link.is_copying() {
                if let Err(source) = link.finish_copy().await {
                    return Err(self.refused(link, moved, CommitFailure::Refused(source), blame).await);
                }
            } else {
                link.begin().await?;
            }
            for appearance in self.shapes.waiting() {
                self.store_shape(link, appearance).await?;
            }
            needing_repair = gaps::store(link, self.head.epoch, &self.gaps).await?;
        }
        if let Err(failure) = link.commit(moved).await {
            return Err(self.refused(link, moved, failure, blame).await);
        }
        self.gaps = GapNotes::default();
        metrics::gaps_changed(needing_repair);
        Ok(())
    }

    /// Whether shapes or gaps are to be stored with the rows.
    fn has_notes(&self) -> bool {
        !self.shapes.waiting().is_empty() || !self.gaps.is_empty()
    }

    /// What it means that rows were not committed. One that is there already was written by another writer, unless this one
    /// may still write: then history has more than the durable end says, and no writer can ever go on.
    async fn refused(&self, link: &Link, moved: Move, failure: CommitFailure, blame: Blame<'_>) -> Error {
        let error = self.failed(moved, failure, Some(blame));
        if !matches!(error, Error::Fenced { .. }) {
            return error;
        }
        match link.is_where_it_was(moved).await {
            Ok(true) => Error::Corrupt {
                what: format!("there are changes at or beyond the durable end {}", moved.from),
            },
            _ => error,
        }
    }

    pub(crate) async fn store_shape(&self, link: &Link, appearance: &Appearance) -> Result<(), Error> {
        let Appearance { table, commit_lsn, seq } = appearance;
        let failed = |source| Error::StoreTable { table: table.name.to_string(), source };
        let epoch = self.head.epoch.0.cast_signed();
        let lsn = |lsn: u64| PgLsn::from(lsn);
        let stored = StoredTable::from_table(table)?;
        link.client
            .execute(
                STORE_TABLE,
                &[
                    &stored.oid,
                    &stored.version,
                    &stored.schema,
                    &stored.name,
                    &stored.columns,
                    &stored.key,
                    &stored.identity,
                    &epoch,
                    &lsn(commit_lsn.0),
                    &seq.cast_signed(),
                ],
            )
            .await
            .map_err(failed)?;
        // Not the durable end: the table may have been published after it, and have changed in between.
        let from = lsn(commit_lsn.0);
        link.client.execute(STORE_HISTORY_FROM, &[&stored.oid, &epoch, &from]).await.map_err(failed)?;
        Ok(())
    }

    /// What the feed gets of a run that is durable: nothing of empty transactions, a reference to large ones.
    fn feed_entries(&mut self, pieces: Vec<Piece>) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let head = piece.head;
            match (piece.first, piece.end) {
                (true, Some(_)) if piece.changes.is_empty() => {}
                (true, Some(_)) => {
                    entries.push(Entry::Whole(Arc::new(Transaction { head, changes: piece.changes })));
                }
                (_, None) => self.large.note(&piece.changes),
                (false, Some(_)) => {
                    let mut large = std::mem::take(&mut self.large);
                    large.note(&piece.changes);
                    if !large.is_empty() {
                        entries.push(Entry::Large(Arc::new(large.finish(head))));
                    }
                }
            }
        }
        entries
    }

    /// COMMIT has returned.
    pub(crate) fn made_durable(&mut self, end: EndLsn, entries: Vec<Entry>) {
        self.head.durable_end = end;
        self.history.remember(self.shapes.committed());
        self.history.feed().publish(entries, self.head);
        metrics::durable(self.head);
    }

    pub(crate) fn move_to(&self, end: EndLsn) -> Move {
        Move { token: self.taken.token, epoch: self.head.epoch, from: self.head.durable_end, to: end }
    }

    /// What a failed commit means.
    pub(crate) fn failed(&self, moved: Move, failure: CommitFailure, blame: Option<Blame<'_>>) -> Error {
        match failure {
            CommitFailure::Fenced => Error::Fenced { expected: moved.from },
            CommitFailure::Unknown(source) => {
                Error::CommitUnknown { expected: moved.from, attempted: moved.to, source }
            }
            CommitFailure::Refused(source) => match source.code() {
                // A row that is there already was written by another writer.
                Some(code) if code.code() == "23505" => Error::Fenced { expected: moved.from },
                _ if is_poison(&source) => {
                    blame.and_then(|blame| blame.poison(&source)).unwrap_or(Error::Append(source))
                }
                _ => Error::Append(source),
            },
        }
    }
}

/// The database refuses a value.
fn is_poison(source: &tokio_postgres::Error) -> bool {
    source.code().is_some_and(|code| sqlstate_is_poison(code.code()))
}
