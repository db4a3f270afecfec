//! What is checked before every start of the streaming, and then the start.
//!
//! A walsender takes almost any place to start from without a word: behind what the slot has confirmed it skips what lies
//! between, beyond the end of its WAL it waits and later skips. So everything that makes our durable end a place in *this*
//! source's WAL is compared first, and every mismatch is a named state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use waldelta_history::{Captured, Head, History, Writer};
use waldelta_source::Source;
use waldelta_source::catalog::{self, Identity, PublishedTable, Slot};
use waldelta_wal::{Assembler, Lsn};

use crate::appender::Appender;
use crate::batch::Limits;
use crate::intake::Intake;
use crate::lookup::Lookup;
use crate::walsender::{self, Connection, Streaming, Timing};
use crate::{Config, Error, questions};

/// Name of our connections at the source.
pub(crate) const APPLICATION_NAME: &str = "waldelta";
/// Smallest piece that a large transaction is cut into.
const PIECE_BYTES_MIN: usize = 64 << 10;
/// Giving the lease back after a failed check may take this long.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(2);

/// A connection that streams, and all that is needed behind it.
pub(crate) struct Started {
    pub(crate) streaming: Streaming,
    pub(crate) appender: Appender,
    pub(crate) intake: Intake,
    pub(crate) lookup: Lookup,
    pub(crate) head: Head,
    /// End of the source's WAL when it was asked.
    pub(crate) wal_end: Lsn,
}

/// Checks everything and starts the streaming at the durable end.
pub(crate) async fn start(config: &Config, history: &History) -> Result<Started, Error> {
    let (captured, _) = history.captured().await?.ok_or(Error::NotBegun)?;
    check_feed(&captured, &config.source)?;
    // First of all: taking over moves the durable end for the last time, and ends who else writes.
    let writer = history.writer(&config.holder).await?;
    match prepare(config, &captured, writer.head()).await {
        Ok(prepared) => prepared.stream(config, writer).await,
        Err(error) => {
            Appender::new(writer, Instant::now()).release(RELEASE_TIME_MAX).await;
            Err(error)
        }
    }
}

/// All checks passed.
struct Prepared {
    client: Client,
    connection: Connection,
    identity: Identity,
    tables: Vec<PublishedTable>,
    wal_sender_timeout: Option<Duration>,
}

async fn prepare(config: &Config, captured: &Captured, head: Head) -> Result<Prepared, Error> {
    let source = &config.source;
    let client = source.connect().await?;
    let identity = catalog::identity(&client).await?;
    check_identity(captured, &identity)?;
    let slot = catalog::slot(&client, &source.slot)
        .await?
        .ok_or_else(|| Error::SlotMissing { slot: source.slot.clone() })?;
    check_slot(source, &slot, &identity, head)?;
    if questions::publication(&client, &source.publication).await? == questions::Publication::WithoutCanary {
        tracing::warn!(
            publication = source.publication,
            "the publication has not waldelta.canary: a lost publication is noticed later"
        );
    }
    let tables = catalog::published_tables(&client, source).await?;
    check_types(&tables)?;
    let target = source.target.clone();
    let (connection, system, wal_sender_timeout) = walsender::on_thread(move || {
        let mut connection = Connection::open(&target, APPLICATION_NAME)?;
        let system = connection.identify_system()?;
        connection.check_pinned()?;
        let wal_sender_timeout = connection.wal_sender_timeout()?;
        Ok((connection, system, wal_sender_timeout))
    })
    .await?;
    // Two connections can reach two servers, behind one name.
    check_system(captured, system.system_id, system.timeline)?;
    Ok(Prepared { client, connection, identity, tables, wal_sender_timeout })
}

impl Prepared {
    async fn stream(self, config: &Config, writer: Writer) -> Result<Started, Error> {
        let Prepared { client, connection, identity, tables, wal_sender_timeout } = self;
        let head = writer.head();
        let (slot, publication) = (config.source.slot.clone(), config.source.publication.clone());
        let copy =
            walsender::on_thread(move || connection.start_replication(&slot, &publication, head.durable_end))
                .await?;
        let now = Instant::now();
        let appender = Appender::new(writer, now);
        let timing = Timing::new(config.feedback_interval, wal_sender_timeout, config.stall_timeout);
        let streaming = Streaming::start(copy, timing, head.durable_end, appender.progress())?;
        let piece_bytes_max = (config.batch_bytes_max / 2).max(PIECE_BYTES_MIN);
        let assembler = Assembler::new(head.epoch, head.durable_end, identity.next_xid, piece_bytes_max);
        let limits =
            Limits { rows_max: config.batch_rows_max.max(1), bytes_max: config.batch_bytes_max.max(1) };
        Ok(Started {
            streaming,
            appender,
            intake: Intake::new(assembler, limits, head.durable_end, now),
            lookup: Lookup::new(
                Arc::new(client),
                tables.into_iter().map(|published| (published.table.oid, published)).collect(),
            ),
            head,
            wal_end: identity.wal_end,
        })
    }
}

/// Whether every published table can be captured. Otherwise its first row would stop capture, at a bad moment.
fn check_types(tables: &[PublishedTable]) -> Result<(), Error> {
    match catalog::unsupported(tables).into_iter().next() {
        None => Ok(()),
        Some((table, column, type_name)) => {
            Err(waldelta_source::Error::UnsupportedType { table, column, type_name }.into())
        }
    }
}

/// Whether history is fed by what the configuration names.
pub(crate) fn check_feed(captured: &Captured, source: &Source) -> Result<(), Error> {
    for (what, stored, configured) in
        [("slot", &captured.slot, &source.slot), ("publication", &captured.publication, &source.publication)]
    {
        if stored != configured {
            return Err(Error::OtherFeed { what, stored: stored.clone(), configured: configured.clone() });
        }
    }
    Ok(())
}

/// Whether the source is the one that history was begun with.
pub(crate) fn check_identity(captured: &Captured, identity: &Identity) -> Result<(), Error> {
    check_system(captured, identity.system_id, identity.timeline)?;
    if captured.database_oid != identity.database_oid {
        return Err(Error::SourceChanged {
            what: "database (object id)",
            stored: captured.database_oid.into(),
            found: identity.database_oid.into(),
        });
    }
    Ok(())
}

fn check_system(captured: &Captured, system_id: u64, timeline: u32) -> Result<(), Error> {
    if captured.system_id != system_id {
        return Err(Error::SourceChanged {
            what: "system identifier",
            stored: captured.system_id,
            found: system_id,
        });
    }
    if captured.timeline != timeline {
        return Err(Error::TimelineChanged { stored: captured.timeline, found: timeline });
    }
    Ok(())
}

/// Whether the slot is ours, alive and free.
pub(crate) fn check_slot_usable(source: &Source, slot: &Slot, identity: &Identity) -> Result<(), Error> {
    let name = || source.slot.clone();
    let foreign = |what, found: &str, expected: &str| Error::SlotForeign {
        slot: name(),
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    if slot.plugin != "pgoutput" {
        return Err(foreign("plugin", &slot.plugin, "pgoutput"));
    }
    if slot.database != identity.database {
        return Err(foreign("database", &slot.database, &identity.database));
    }
    if slot.wal_status.as_deref() == Some("lost") || slot.restart.is_none() {
        return Err(Error::SlotLost { slot: name() });
    }
    match slot.active_pid {
        Some(pid) => Err(Error::SlotActive { slot: name(), pid }),
        None => Ok(()),
    }
}

fn check_slot(source: &Source, slot: &Slot, identity: &Identity, head: Head) -> Result<(), Error> {
    // Before all else: a gap must be named even while somebody else makes it larger.
    let durable = head.durable_end;
    if let Some(confirmed) = slot.confirmed.filter(|confirmed| *confirmed > durable) {
        return Err(Error::SlotAhead { confirmed, durable });
    }
    if durable.0 > identity.wal_end {
        return Err(Error::SourceBehind { durable, wal_end: identity.wal_end });
    }
    check_slot_usable(source, slot, identity)
}
