//! Takes blocks of messages apart into pieces that wait for the next append, in slices, so that nobody is kept waiting
//! by a large block. No IO: what needs an answer from somewhere is handed out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use waldelta_wal::{
    AssembleError, Assembler, DDL_PREFIX, EndLsn, Envelope, Lsn, Message, Operation, Output, Piece, Repair,
    RepairReason, Reset, Table,
};

use crate::Error;
use crate::batch::{Batch, Limits};
use crate::lines::{Lines, Outline, Unshaped};
use crate::lookup::Wanted;
use crate::progress::Progress;
use crate::shape::News;
use crate::skipping;
use crate::walsender::{self, Frames};

/// CopyData.
const COPY_DATA_TAG: u8 = b'd';
/// Decoded at a time: some hundred microseconds' worth.
const SLICE_BYTES: usize = 64 << 10;
/// First bytes of the messages that are looked at here, beside the assembler.
const BEGIN: Option<&u8> = Some(&b'B');
const LOGICAL: Option<&u8> = Some(&b'M');

/// Everything between the socket and the append.
pub(crate) struct Intake {
    frames: Frames,
    /// Where wal2json wrote what comes.
    lines: Option<Lines>,
    assembler: Assembler,
    batch: Batch,
    progress: Progress,
    last_sign: Option<Lsn>,
    source_end: Lsn,
    /// The furthest place in the WAL at which something that arrived begins.
    arrived: Lsn,
    /// What was durable at the start: DDL of transactions below is in history's shapes already.
    durable_at_start: EndLsn,
    begun: Begun,
    /// Tables that are captured, as far as is known: only of those is it stored that they need repair.
    captured: HashSet<u32>,
    /// Tables whose columns are in doubt, each with the version of its shape.
    doubtful: HashSet<(u32, u32)>,
    ddl: Ddl,
}

/// What decoding waits for.
pub(crate) enum Wants {
    /// The shape of a table.
    Shape(Wanted),
    /// The outline of a table that a line names, and the id of the line's transaction.
    Outline(Unshaped, u32),
}

/// The transaction that began last.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    commit_lsn: Lsn,
    xid: u32,
}

/// What the stream said of tables beside their rows, since this was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Ddl {
    /// Whether there was a message of the event trigger.
    pub(crate) seen: bool,
    /// Tables to be asked for anew before their next row.
    pub(crate) news: Vec<(u32, News)>,
    /// Tables that were truncated, with the low 32 bits of the transaction's id.
    pub(crate) truncated: Vec<(u32, u32)>,
    /// Tables that were reset, with the commit that did it.
    pub(crate) reset: Vec<(u32, Lsn)>,
}

impl Intake {
    pub(crate) fn new(assembler: Assembler, limits: Limits, durable: EndLsn, now: Instant) -> Self {
        Intake {
            frames: Frames::default(),
            lines: None,
            assembler,
            batch: Batch::new(limits),
            progress: Progress::new(durable, now),
            last_sign: None,
            source_end: durable.0,
            arrived: durable.0,
            durable_at_start: durable,
            begun: Begun::default(),
            captured: HashSet::new(),
            doubtful: HashSet::new(),
            ddl: Ddl::default(),
        }
    }

    /// The same for what wal2json writes.
    pub(crate) fn translating(self, lines: Lines) -> Self {
        Intake { lines: Some(lines), ..self }
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
    /// before [`Self::define`], or [`Self::outline`].
    pub(crate) fn decode_slice(&mut self) -> Result<Option<Wants>, Error> {
        let mut frames = std::mem::take(&mut self.frames);
        let wants = self.decode_frames(&mut frames);
        self.frames = frames;
        wants.map_err(|error| self.located(error))
    }

    fn decode_frames(&mut self, frames: &mut Frames) -> Result<Option<Wants>, Error> {
        let mut left = SLICE_BYTES;
        while left > 0 && !self.batch.is_full() {
            let Some(frame) = frames.next_frame() else { break };
            left = left.saturating_sub(frame.body.len());
            if frame.tag != COPY_DATA_TAG {
                continue;
            }
            match Envelope::parse(frame.body).map_err(walsender::Error::from)? {
                Envelope::Keepalive { end, reply_requested, .. } => {
                    self.progress.keepalive(end, reply_requested);
                    self.source_end = self.source_end.max(end.0);
                }
                Envelope::XLogData { start, end, data, sent_at_us } => {
                    self.source_end = self.source_end.max(end);
                    self.arrived = self.arrived.max(start);
                    self.assembler.sent_at(sent_at_us);
                    let wants = self.take(data)?;
                    if wants.is_some() {
                        frames.give_back();
                        return Ok(wants);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes what the plugin wrote.
    fn take(&mut self, data: &[u8]) -> Result<Option<Wants>, Error> {
        let Some(lines) = &mut self.lines else { return Ok(self.push(data)?.map(Wants::Shape)) };
        if let Some(unshaped) = lines.read(data)? {
            return Ok(Some(Wants::Outline(unshaped, self.begun.xid)));
        }
        while let Some(message) = self.lines.as_mut().and_then(Lines::next_message) {
            if let Some(wanted) = self.push(&message)? {
                if let Some(lines) = &mut self.lines {
                    lines.give_back(message);
                }
                return Ok(Some(Wants::Shape(wanted)));
            }
        }
        Ok(None)
    }

    /// Takes a message of pgoutput, unless its table has to be defined first.
    fn push(&mut self, message: &[u8]) -> Result<Option<Wanted>, Error> {
        if matches!(message.first(), BEGIN | LOGICAL) {
            Self::look_at(message, self.durable_at_start, &mut self.begun, &mut self.ddl)?;
        }
        let was_inside = self.assembler.in_transaction();
        let output = self.assembler.push(message)?;
        match (was_inside, self.assembler.in_transaction()) {
            (false, true) => self.progress.begin(),
            (true, false) => self.progress.commit(),
            _ => {}
        }
        match output {
            None => {}
            Some(Output::Piece(piece)) => self.keep(piece),
            Some(Output::Undefined(relation)) => return Ok(Some(Wanted { relation, xid: self.begun.xid })),
        }
        Ok(None)
    }

    /// Answers a table that [`Self::decode_slice`] asked for. Whose columns are in doubt needs repair where it has changes.
    pub(crate) fn define(
        &mut self,
        table: Arc<Table>,
        changed: bool,
        is_doubtful: bool,
    ) -> Result<(), Error> {
        self.captured.insert(table.oid);
        if is_doubtful {
            self.doubtful.insert((table.oid, table.version));
        }
        self.assembler.define(table, changed).map_err(|error| self.located(error.into()))
    }

    /// Answers a table whose outline [`Self::decode_slice`] asked for; or it could not be found out.
    pub(crate) fn outline(&mut self, outline: Result<Outline, Error>) -> Result<(), Error> {
        let defined = match (outline, &mut self.lines) {
            (Ok(outline), Some(lines)) => lines.define(outline),
            (outline, _) => outline.map(drop),
        };
        defined.map_err(|error| self.located(error))
    }

    /// The error, with the transaction that it is in where it does not say that itself: so that it can be left out.
    fn located(&self, error: Error) -> Error {
        use AssembleError::{DefinitionMismatch, Message, UnknownRelation};
        let is_lost = matches!(
            error,
            Error::Wal2json(_)
                | Error::NoShape { .. }
                | Error::Assemble(Message(_) | UnknownRelation { .. } | DefinitionMismatch { .. })
        );
        match self.open_transaction().filter(|_| is_lost) {
            Some(commit_lsn) => Error::InTransaction { commit_lsn, source: Box::new(error) },
            None => error,
        }
    }

    /// The stream has ended inside a transaction. Where that was ordered to be left out, what stands for it is on its way from
    /// now on, and its commit LSN is returned. Any table may be in it.
    pub(crate) fn leave_out(&mut self) -> Option<Lsn> {
        let mut piece = self.assembler.leave_out()?;
        let commit_lsn = piece.head.commit_lsn;
        piece.repairs = skipping::of_all(self.captured.iter().copied());
        self.progress.commit();
        self.progress.piece(piece.end);
        self.batch.push(piece);
        Some(commit_lsn)
    }

    /// Sees to it that the table is asked for again before its next row.
    pub(crate) fn forget(&mut self, table_oid: u32) {
        self.lines.iter_mut().for_each(|lines| lines.forget(table_oid));
        self.assembler.forget(table_oid);
    }

    /// What was said of tables since the last call.
    pub(crate) fn take_ddl(&mut self) -> Ddl {
        std::mem::take(&mut self.ddl)
    }

    /// The tables that are captured by now.
    pub(crate) fn set_captured(&mut self, tables: impl IntoIterator<Item = u32>) {
        self.captured = tables.into_iter().collect();
    }

    /// Commit LSN of the transaction that has begun to arrive and not ended.
    pub(crate) fn open_transaction(&self) -> Option<Lsn> {
        self.assembler.in_transaction().then_some(self.begun.commit_lsn)
    }

    /// Whether all that arrived is decoded and handed on.
    pub(crate) fn is_drained(&self) -> bool {
        self.frames.is_empty() && self.batch.is_empty()
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

    /// The furthest place in the WAL of which something has arrived, of a transaction that has not ended too.
    pub(crate) fn arrived(&self) -> Lsn {
        self.arrived.max(self.progress.received().0)
    }

    /// The WAL position that the walsender last told.
    pub(crate) fn source_end(&self) -> Lsn {
        self.source_end
    }

    /// Notes what the assembler keeps to itself: which transaction begins, and what the trigger's messages say.
    fn look_at(message: &[u8], durable: EndLsn, begun: &mut Begun, ddl: &mut Ddl) -> Result<(), Error> {
        match Message::parse(message).map_err(walsender::Error::from)? {
            Message::Begin { commit_lsn, xid, .. } => *begun = Begun { commit_lsn, xid },
            Message::Logical { transactional: true, prefix, content, .. }
                if prefix == DDL_PREFIX.as_bytes() && !durable.includes(begun.commit_lsn) =>
            {
                ddl.seen = true;
                ddl.news.extend(news(content));
            }
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, mut piece: Piece) {
        if self.lines.is_some() && skipping::is_of_a_whole_transaction(&piece) {
            piece.repairs.extend(skipping::of_all(self.captured.iter().copied()));
        }
        let shapes = piece.changes.iter().filter_map(|change| change.table.as_ref());
        let shapes: HashSet<(u32, u32)> = shapes.map(|table| (table.oid, table.version)).collect();
        let doubtful = shapes.intersection(&self.doubtful);
        let unclear = |(table_oid, _): &(u32, u32)| Repair {
            table_oid: *table_oid,
            reason: RepairReason::ColumnsUnclear,
        };
        piece.repairs.extend(doubtful.map(unclear));
        piece.repairs.retain(|repair| self.captured.contains(&repair.table_oid));
        let truncates = piece.changes.iter().filter(|change| change.operation == Operation::Truncate);
        for table in truncates.filter_map(|change| change.table.as_ref()) {
            self.ddl.truncated.push((table.oid, self.begun.xid));
        }
        let reset = piece.changes.iter().filter_map(Reset::of);
        self.ddl.reset.extend(reset.map(|reset| (reset.table_oid, piece.head.commit_lsn)));
        if piece.urgent {
            self.last_sign = Some(piece.head.commit_lsn);
        }
        // Versions before 15, and wal2json, send every transaction, even those that touched nothing captured. Storing each at once would
        // be a transaction of ours for every foreign one, and in the captured cluster one that brings the next.
        let nothing = piece.first
            && piece.changes.is_empty()
            && piece.new_tables.is_empty()
            && piece.repairs.is_empty()
            && !piece.urgent;
        match piece.end {
            Some(end) if nothing => self.progress.nothing_until(end),
            end => {
                self.progress.piece(end);
                self.batch.push(piece);
            }
        }
    }
}

/// The tables that a message of the trigger says are to be asked for anew:
/// `{"tag":"ALTER TABLE","repairs":[{"table":16400,"reason":"type_changed"}],"forget":[16400]}`. Anybody may emit something
/// else with our prefix, which then says nothing.
fn news(content: &[u8]) -> Vec<(u32, News)> {
    let told: Value = serde_json::from_slice(content).unwrap_or_default();
    let listed = |name| told.get(name).and_then(Value::as_array).into_iter().flatten();
    // Whoever alters a table says what of it: its own columns, or those of which it is the type.
    let is_of_a_table = told.get("tag").is_some_and(|tag| tag == "ALTER TABLE" || tag == "CREATE TABLE");
    let has_other_types = |oid: &Value| {
        listed("repairs").any(|told| told.get("table") == Some(oid) && told["reason"] == "type_changed")
    };
    let news = |oid: &Value| {
        let news = if is_of_a_table && !has_other_types(oid) { News::Table } else { News::Types };
        Some((u32::try_from(oid.as_u64()?).ok()?, news))
    };
    listed("forget").filter_map(news).collect()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_asked_for_anew_is_read_and_nonsense_is_nothing() {
        use News::{Table, Types};
        let repairs = r#""repairs":[{"table":7,"reason":"type_changed"},{"table":8,"reason":"rewritten"}]"#;
        let message = |tag: &str| format!(r#"{{"tag":"{tag}",{repairs},"forget":[7,8]}}"#);
        assert_eq!(news(message("ALTER TABLE").as_bytes()), [(7, Types), (8, Table)]);
        assert_eq!(news(message("ALTER TYPE").as_bytes()), [(7, Types), (8, Types)]);
        assert_eq!(news(br#"{"forget":[7]}"#), [(7, Types)]);
        for content in ["", "{}", "[]", r#"{"forget":1}"#, r#"{"forget":[-1,"x",4294967296]}"#] {
            assert_eq!(news(content.as_bytes()), [], "{content}");
        }
    }
}
