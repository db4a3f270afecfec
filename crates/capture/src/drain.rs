//! Reads what a slot holds, decodes it as for history, and throws it away: what catching up takes beside the writing.
//!
//! It reads a copy of the slot, which the server drops with the connection: neither the slot nor history moves.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use waldelta_source::{Source, catalog};
use waldelta_wal::{Assembler, EndLsn, Epoch, Lsn, Operation, Piece, Table};

use crate::intake::{Intake, Wants};
use crate::lookup::Lookup;
use crate::shape::Shaped;
use crate::start::APPLICATION_NAME;
use crate::walsender::{self, ClientEncoding, Connection, Streaming, Timing};
use crate::{Config, Error};

/// The slot is told nothing, and nobody is behind the reader that could stand still.
const FEEDBACK_INTERVAL: Duration = Duration::from_secs(1);
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Where it began: what the slot had confirmed.
    pub from: Lsn,
    /// Where it ended: the end of the source's WAL when it began.
    pub until: Lsn,
    /// Transactions with changes of captured tables.
    pub transactions: u64,
    /// Rows that were inserted, updated or deleted in them.
    pub changes: u64,
    /// Bytes of the rows, as they are stored and told.
    pub image_bytes: u64,
    /// From the first message on.
    pub took: Duration,
}

/// Reads everything that a slot of pgoutput's holds, up to the end that the source's WAL has now.
///
/// # Errors
/// When the source cannot be reached, lacks the slot or refuses to copy it, or sends what cannot be decoded.
pub async fn drain(config: &Config) -> Result<Drained, Error> {
    let source = &config.source;
    let client = Arc::new(source.connect().await?);
    let identity = catalog::identity(&client).await?;
    let tables = catalog::published_tables(&client, source).await?;
    let (copy, from, timeout) = start(source, &identity.encoding).await?;
    let began = Instant::now();
    let timing = Timing::new(FEEDBACK_INTERVAL, timeout, STALL_TIMEOUT);
    let mut drain = Drain {
        streaming: Streaming::start(copy, timing, from, Arc::new(AtomicU64::new(0)))?,
        intake: Intake::new(
            Assembler::new(Epoch(1), from, identity.next_xid, config.piece_bytes_max(), source.values),
            config.limits(),
            from,
            began,
        ),
        shapes: HashMap::new(),
        drained: Drained { from: from.0, until: identity.wal_end, ..Drained::default() },
        lookup: Lookup::new(
            client,
            source.clone(),
            tables.into_iter().map(|published| (published.table.oid, published)).collect(),
        ),
    };
    drain.run().await?;
    drain.drained.took = began.elapsed();
    Ok(drain.drained)
}

/// Begins to stream a copy of the slot.
async fn start(
    source: &Source,
    encoding: &str,
) -> Result<(walsender::CopyBoth, EndLsn, Option<Duration>), Error> {
    let (target, encoding) = (source.target.clone(), ClientEncoding::of_server(encoding));
    let (slot, publication) = (source.slot.clone(), source.publication.clone());
    let started = walsender::on_thread(move || {
        let mut connection = Connection::open(&target, APPLICATION_NAME, encoding)?;
        connection.check_pinned()?;
        let timeout = connection.wal_sender_timeout()?;
        let (copy, from) = connection.copy_slot(&slot)?;
        Ok((connection.start_replication(&copy, &publication, from)?, from, timeout))
    });
    Ok(started.await?)
}

struct Drain {
    streaming: Streaming,
    intake: Intake,
    lookup: Lookup,
    shapes: HashMap<u32, Arc<Table>>,
    drained: Drained,
}

impl Drain {
    async fn run(&mut self) -> Result<(), Error> {
        // What comes is read as while history is written: a little later, and much at a time.
        self.streaming.link().set_appending(true);
        while self.intake.progress().received().0 < self.drained.until {
            if let Some(Shaped { table, .. }) = self.lookup.settle(|oid| self.shapes.get(&oid)) {
                let table = Arc::new(Table { version: 1, ..table });
                self.shapes.insert(table.oid, table.clone());
                self.intake.define(table, true, false)?;
            }
            if !self.lookup.is_idle() {
                self.lookup.answered().await?;
            } else if self.intake.can_decode() {
                // pgoutput needs no outlines.
                if let Some(Wants::Shape(wanted)) = self.intake.decode_slice()? {
                    self.lookup.want(wanted);
                }
                self.intake.take_batch().iter().for_each(|piece| self.count(piece));
            } else if let Some(block) = self.streaming.receive().await {
                self.intake.give_block(block);
            } else {
                self.streaming.outcome().await?;
                return Err(walsender::Error::Closed.into());
            }
        }
        Ok(())
    }

    fn count(&mut self, piece: &Piece) {
        let bytes = |image: &Option<bytes::Bytes>| image.as_ref().map_or(0, bytes::Bytes::len);
        let images = piece.changes.iter().map(|change| bytes(&change.data) + bytes(&change.old_data));
        self.drained.image_bytes += images.sum::<usize>() as u64;
        let of_rows =
            |operation| matches!(operation, Operation::Insert | Operation::Update | Operation::Delete);
        self.drained.changes +=
            piece.changes.iter().filter(|change| of_rows(change.operation)).count() as u64;
        self.drained.transactions += u64::from(piece.end.is_some() && !piece.changes.is_empty());
    }
}
