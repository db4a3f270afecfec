//! What is checked before every start of the streaming, and then the start.
//!
//! A walsender takes almost any place to start from without a word: behind what the slot has confirmed it skips what lies
//! between, beyond the end of its WAL it waits and later skips. So everything that makes our durable end a place in *this*
//! source's WAL is compared first, and every mismatch is a named state. What is compared, and what follows, stands in
//! `recover`; here nothing is mended.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Captured, Gap, Head, History, Writer};
use waldelta_source::catalog::{self, Identity, Listing, PublishedTable};
use waldelta_source::{Plugin, Source};
use waldelta_wal::{Assembler, Lsn, Skip, TableName, ValuePolicy};

use crate::appender::Appender;
use crate::intake::Intake;
use crate::listed::Left;
use crate::lookup::Lookup;
use crate::outlines::Outlines;
use crate::promotion::Timeline;
use crate::recover::{self, Found};
use crate::status::Status;
use crate::walsender::{self, Asked, ClientEncoding, Connection, Streaming, Timing};
use crate::{Config, Error, leadership, questions, wal2json};

/// Name of our connections at the source.
pub(crate) const APPLICATION_NAME: &str = "waldelta";
/// Becoming the writer may take this long: taking over waits for the end of who wrote before.
const LEASE_TIME_MAX: Duration = Duration::from_secs(60);
/// The checks may take this long, beside waiting for the slot.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(60).saturating_add(recover::BUSY_TIME_MAX);
/// And the beginning of the stream.
const STREAM_TIME_MAX: Duration = Duration::from_secs(60);
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
    /// The server's end of the replication connection.
    pub(crate) walsender_pid: i32,
    /// For questions beside the stream.
    pub(crate) client: Arc<Client>,
}

/// Checks everything and starts the streaming at the durable end. `left` is of the connections before, and for those after.
/// It ends within a bound, wherever a connection gets stuck.
pub(crate) async fn start(
    config: &Config,
    history: &History,
    status: &Status,
    left: &mut Left,
) -> Result<Started, Error> {
    let mut writer = within(LEASE_TIME_MAX, |waited_ms| Error::HistoryUnanswered { waited_ms }, async {
        let (captured, _) = history.captured().await?.ok_or(Error::NotBegun)?;
        recover::check_feed(&captured, &config.source)?;
        // First of all: taking over moves the durable end for the last time, and ends who else writes.
        Box::pin(leadership::writer(config, history, status)).await
    })
    .await?;
    status.followed(writer.head().durable_end);
    let unanswered =
        |waited_ms| Error::Unanswered { what: "check the source and start the streaming", waited_ms };
    // The checks may wait for long: nobody is to take over meanwhile.
    let keeper = writer.lease_keeper().run(CancellationToken::new());
    let prepared = async {
        tokio::select! {
            // In a box, as all that is large here: such futures are moved about, and would fill a stack.
            prepared = Box::pin(prepare(config, history, status, &mut writer, left)) => prepared,
            Err(lost) = keeper => Err(lost.into()),
        }
    };
    match within(PREPARE_TIME_MAX, unanswered, Box::pin(prepared)).await {
        Ok(prepared) => {
            let stream = Box::pin(prepared.stream(config, history, writer, left));
            within(STREAM_TIME_MAX, unanswered, stream).await
        }
        Err(error) => {
            Appender::new(history.clone(), writer, Instant::now()).release(RELEASE_TIME_MAX).await;
            Err(error)
        }
    }
}

/// Gives up after a while.
async fn within<T>(
    time_max: Duration,
    given_up: impl FnOnce(u64) -> Error,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let waited_ms = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
    tokio::time::timeout(time_max, work).await.unwrap_or_else(|_| Err(given_up(waited_ms)))
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
    skips: Vec<Skip>,
    wal_sender_timeout: Option<Duration>,
    timeline: Option<Timeline>,
}

async fn prepare(
    config: &Config,
    history: &History,
    status: &Status,
    writer: &mut Writer,
    left: &mut Left,
) -> Result<Prepared, Error> {
    let source = &config.source;
    let head = writer.head();
    // Once more: another epoch can have begun before the lease was taken.
    let (captured, _) = history.captured().await?.ok_or(Error::NotBegun)?;
    let client = source.connect().await?;
    let found = check(source, &client, history, status, &captured, head).await?;
    let Found { identity, timeline, publication, .. } = found;
    if publication == Some(questions::Publication::WithoutCanary) {
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
    let skips = history.skips().await?;
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
    if system.system_id != captured.system_id {
        let (stored, found) = (captured.system_id, system.system_id);
        return Err(Error::SourceChanged { what: "system identifier", stored, found });
    }
    if system.timeline != timeline {
        return Err(Error::PlanOutdated);
    }
    let timeline = Timeline::of(source, &identity, timeline).await?;
    Ok(Prepared {
        client,
        connection,
        identity,
        tables,
        listing,
        values,
        fingerprints,
        gaps,
        skips,
        wal_sender_timeout,
        timeline,
    })
}

/// Looks at the source until nothing stands in the way. A slot that a connection of ours still holds is waited for.
async fn check(
    source: &Source,
    client: &Client,
    history: &History,
    status: &Status,
    captured: &Captured,
    head: Head,
) -> Result<Found, Error> {
    let found = recover::look(source, client, history, captured, head.durable_end).await?;
    let failure = match recover::decide(source, captured, head, &found).failure {
        None => return Ok(found),
        Some(failure) => failure,
    };
    if !matches!(failure, Error::SlotActive { .. }) {
        return Err(failure);
    }
    recover::wait_until_free(source, client, status).await?;
    // Whoever had it can have moved it.
    let found = recover::look(source, client, history, captured, head.durable_end).await?;
    recover::decide(source, captured, head, &found).failure.map_or(Ok(found), Err)
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
            skips,
            wal_sender_timeout,
            timeline,
        } = self;
        let head = writer.head();
        let client = Arc::new(client);
        let walsender_pid = connection.backend_pid();
        let mut outlines = Outlines::none();
        let mut lines = None;
        let (slot, publication) = (config.source.slot.clone(), config.source.publication.clone());
        let asked = listing.map(|listing| wal2json::listed(listing, left, &writer));
        if let Some(listed) = &asked {
            lines = Some(wal2json::lines(listed, &writer, head.durable_end, &skips)?);
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
        let appender = Appender::new(history.clone(), writer, now).on(timeline);
        let timing = Timing::new(config.feedback_interval, wal_sender_timeout, config.stall_timeout);
        let streaming = Streaming::start(copy, timing, head.durable_end, appender.progress())?;
        let piece_bytes_max = config.piece_bytes_max();
        let assembler =
            Assembler::new(head.epoch, head.durable_end, identity.next_xid, piece_bytes_max, values)
                .skipping(skips);
        let mut intake = Intake::new(assembler, config.limits(), head.durable_end, now);
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
                Arc::clone(&client),
                config.source.clone(),
                tables.into_iter().map(|published| (published.table.oid, published)).collect(),
            ),
            outlines,
            fingerprints,
            gaps,
            names,
            head,
            wal_end: identity.wal_end,
            walsender_pid,
            client,
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
