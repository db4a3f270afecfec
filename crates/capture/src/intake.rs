//! Takes blocks of messages apart into pieces that wait for the next append, in slices, so that nobody is kept waiting
//! by a large block. No IO: what needs an answer from somewhere is handed out.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use waldelta_wal::{Assembler, EndLsn, Envelope, Lsn, Output, Piece, Relation, Table};

use crate::Error;
use crate::batch::{Batch, Limits};
use crate::progress::Progress;
use crate::walsender::{self, Frames};

/// CopyData.
const COPY_DATA_TAG: u8 = b'd';
/// Decoded at a time: some hundred microseconds' worth.
const SLICE_BYTES: usize = 64 << 10;

/// Everything between the socket and the append.
pub(crate) struct Intake {
    frames: Frames,
    assembler: Assembler,
    batch: Batch,
    progress: Progress,
    last_sign: Option<Lsn>,
    source_end: Lsn,
}

impl Intake {
    pub(crate) fn new(assembler: Assembler, limits: Limits, durable: EndLsn, now: Instant) -> Self {
        Intake {
            frames: Frames::default(),
            assembler,
            batch: Batch::new(limits),
            progress: Progress::new(durable, now),
            last_sign: None,
            source_end: durable.0,
        }
    }

    /// Whether the block has been taken apart, so that the next may come.
    pub(crate) fn wants_block(&self) -> bool {
        self.frames.is_empty()
    }

    /// The next block. The one before must have been taken apart.
    pub(crate) fn give_block(&mut self, block: Bytes) {
        debug_assert!(self.frames.is_empty(), "a block would be lost");
        self.frames = Frames::new(block);
    }

    /// Whether there is something to take apart, and room for what comes of it.
    pub(crate) fn can_decode(&self) -> bool {
        !self.frames.is_empty() && !self.batch.is_full()
    }

    /// Takes a slice of the block apart. It ends early at a table whose shape has to be looked up; decoding must not go on
    /// before [`Self::define`].
    pub(crate) fn decode_slice(&mut self) -> Result<Option<Relation>, Error> {
        let mut left = SLICE_BYTES;
        while left > 0 && !self.batch.is_full() {
            let Some(frame) = self.frames.next_frame() else { break };
            left = left.saturating_sub(frame.body.len());
            if frame.tag != COPY_DATA_TAG {
                continue;
            }
            match Envelope::parse(frame.body).map_err(walsender::Error::from)? {
                Envelope::Keepalive { end, reply_requested, .. } => {
                    self.progress.keepalive(end, reply_requested);
                    self.source_end = self.source_end.max(end.0);
                }
                Envelope::XLogData { end, data, .. } => {
                    self.source_end = self.source_end.max(end);
                    let was_inside = self.assembler.in_transaction();
                    let output = self.assembler.push(data)?;
                    match (was_inside, self.assembler.in_transaction()) {
                        (false, true) => self.progress.begin(),
                        (true, false) => self.progress.commit(),
                        _ => {}
                    }
                    match output {
                        None => {}
                        Some(Output::Piece(piece)) => self.keep(piece),
                        Some(Output::Relation(relation)) => return Ok(Some(relation)),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Answers a table that [`Self::decode_slice`] asked for.
    pub(crate) fn define(&mut self, table: Arc<Table>) -> Result<(), Error> {
        Ok(self.assembler.define(table)?)
    }

    /// The pieces of the next append; empty when nothing waits.
    pub(crate) fn take_batch(&mut self) -> Vec<Piece> {
        self.batch.take()
    }

    /// Whether pieces wait.
    pub(crate) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// What may be told to the slot.
    pub(crate) fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Commit LSN of the last sign of life: a canary or a fence.
    pub(crate) fn last_sign(&self) -> Option<Lsn> {
        self.last_sign
    }

    /// The WAL position that the walsender last told.
    pub(crate) fn source_end(&self) -> Lsn {
        self.source_end
    }

    fn keep(&mut self, piece: Piece) {
        if piece.urgent {
            self.last_sign = Some(piece.head.commit_lsn);
        }
        // Versions before 15 send every transaction, even those that touched nothing captured. Storing each at once would
        // be a transaction of ours for every foreign one, and in the captured cluster one that brings the next.
        let nothing = piece.first && piece.changes.is_empty() && piece.new_tables.is_empty() && !piece.urgent;
        match piece.end {
            Some(end) if nothing => self.progress.nothing_until(end),
            end => {
                self.progress.piece(end);
                self.batch.push(piece);
            }
        }
    }
}
