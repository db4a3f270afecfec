//! What is checked before every start of the streaming, and then the start.
//!
//! A walsender takes almost any place to start from without a word: behind what the slot has confirmed it skips what lies
//! between, beyond the end of its WAL it waits and later skips. So everything that makes our durable end a place in *this*
//! source's WAL is compared first, and every mismatch is a named state.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use waldelta_history::{Captured, Gap, Head, History, Writer};
use waldelta_source::catalog::{self, Identity, Listing, PublishedTable, Slot};
use waldelta_source::{Plugin, Source};
use waldelta_wal::{Assembler, Lsn, TableName, ValuePolicy};

use crate::appender::Appender;
use crate::batch::Limits;
use crate::intake::Intake;
use crate::listed::Left;
use crate::lookup::Lookup;
use crate::outlines::Outlines;
use crate::walsender::{self, Asked, ClientEncoding, Connection, Streaming, Timing};
use crate::{Config, Error, questions, wal2json};

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
    pub(crate) outlines: Outlines,
    /// What history holds of the tables' physical state.
    pub(crate) fingerprints: HashMap<u32, String>,
    /// The tables that need repair.
    pub(crate) gaps: Vec<Gap>,
    /// What the published tables are called.
    pub(crate) names: HashMap<u32, TableName>,
    pub(crate) head: Head,
    /// End of the source's WAL when it was asked.
    pub(crate) wal_end: Lsn,
}

/// Checks everything and starts the streaming at the durable end. `left` is of the connections before, and for those after.
pub(crate) async fn start(config: &Config, history: &History, left: &mut Left) -> Result<Started, Error> {
    let (captured, _) = history.captured().await?.ok_or(Error::NotBegun)?;
    check_feed(&captured, &config.source)?;
    // First of all: taking over moves the durable end for the last time, and ends who else writes.
    let mut writer = history.writer(&config.holder).await?;
    match prepare(config, history, &captured, &mut writer, left).await {
        Ok(prepared) => prepared.stream(config, history, writer, left).await,
        Err(error) => {
            Appender::new(history.clone(), writer, Instant::now()).release(RELEASE_TIME_MAX).await;
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
    /// What wal2json is to be asked for.
    listing: Option<Listing>,
    values: ValuePolicy,
    fingerprints: HashMap<u32, String>,
    gaps: Vec<Gap>,
    wal_sender_timeout: Option<Duration>,
}

async fn prepare(
    config: &Config,
    history: &History,
    captured: &Captured,
    writer: &mut Writer,
    left: &mut Left,
) -> Result<Prepared, Error> {
    let source = &config.source;
    let head = writer.head();
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
    wal2json::note_missed(left, &client, writer).await?;
    waldelta_source::wal2json::check_fitness(&client, source).await?;
    let listing = match source.plugin {
        Plugin::Pgoutput => None,
        Plugin::Wal2json => Some(catalog::listing(&client, source).await?),
    };
    let tables = catalog::published_tables(&client, source).await?;
    let values = values_for(source, history, &identity).await?;
    let (fingerprints, gaps) = (history.fingerprints().await?, history.open_gaps().await?);
    let encoding = ClientEncoding::of_server(&identity.encoding);
    let target = source.target.clone();
    let (connection, system, wal_sender_timeout) = walsender::on_thread(move || {
        let mut connection = Connection::open(&target, APPLICATION_NAME, encoding)?;
        let system = connection.identify_system()?;
        connection.check_pinned()?;
        let wal_sender_timeout = connection.wal_sender_timeout()?;
        Ok((connection, system, wal_sender_timeout))
    })
    .await?;
    // Two connections can reach two servers, behind one name.
    check_system(captured, system.system_id, system.timeline)?;
    Ok(Prepared {
        client,
        connection,
        identity,
        tables,
        listing,
        values,
        fingerprints,
        gaps,
        wal_sender_timeout,
    })
}

impl Prepared {
    async fn stream(
        self,
        config: &Config,
        history: &History,
        writer: Writer,
        left: &mut Left,
    ) -> Result<Started, Error> {
        let Prepared {
            client,
            connection,
            identity,
            tables,
            listing,
            values,
            fingerprints,
            gaps,
            wal_sender_timeout,
        } = self;
        let head = writer.head();
        let client = Arc::new(client);
        let mut outlines = Outlines::none();
        let mut lines = None;
        let (slot, publication) = (config.source.slot.clone(), config.source.publication.clone());
        let asked = listing.map(|listing| wal2json::listed(listing, left, &writer));
        if let Some(listed) = &asked {
            lines = Some(wal2json::lines(listed, &writer, head.durable_end)?);
            outlines =
                Outlines::new(Arc::clone(&client), config.source.clone(), listed.clone(), identity.wal_end);
            left.listed = Some(listed.clone());
        }
        let copy = walsender::on_thread(move || match asked {
            None => connection.start_replication(&slot, &publication, head.durable_end),
            Some(listed) => {
                let asked = Asked { tables: listed.names(), actions: listed.listing.actions };
                connection.start_wal2json(&slot, &asked, head.durable_end)
            }
        })
        .await?;
        let now = Instant::now();
        let appender = Appender::new(history.clone(), writer, now);
        let timing = Timing::new(config.feedback_interval, wal_sender_timeout, config.stall_timeout);
        let streaming = Streaming::start(copy, timing, head.durable_end, appender.progress())?;
        let piece_bytes_max = (config.batch_bytes_max / 2).max(PIECE_BYTES_MIN);
        let assembler =
            Assembler::new(head.epoch, head.durable_end, identity.next_xid, piece_bytes_max, values);
        let limits =
            Limits { rows_max: config.batch_rows_max.max(1), bytes_max: config.batch_bytes_max.max(1) };
        let mut intake = Intake::new(assembler, limits, head.durable_end, now);
        if let Some(lines) = lines {
            intake = intake.translating(lines);
        }
        let names: HashMap<_, _> =
            tables.iter().map(|published| (published.table.oid, published.table.name.clone())).collect();
        intake.set_captured(names.keys().copied());
        Ok(Started {
            streaming,
            appender,
            intake,
            lookup: Lookup::new(
                client,
                config.source.clone(),
                tables.into_iter().map(|published| (published.table.oid, published)).collect(),
            ),
            outlines,
            fingerprints,
            gaps,
            names,
            head,
            wal_end: identity.wal_end,
        })
    }
}

/// How values are written into this history. It must have a place for every character of the source.
pub(crate) async fn values_for(
    source: &Source,
    history: &History,
    identity: &Identity,
) -> Result<ValuePolicy, Error> {
    let encoding = history.check_encoding(&identity.encoding).await?;
    Ok(ValuePolicy { ascii_escapes_only: encoding != "UTF8", ..source.values })
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
    if slot.plugin != source.plugin.name() {
        return Err(foreign("plugin", &slot.plugin, source.plugin.name()));
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
