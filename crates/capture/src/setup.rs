//! Starting a history: the slot, and on request the rows that exist already.
//!
//! A slot without a history keeps WAL for ever and a history without its slot has a gap, so each step leaves something
//! that the next call understands: a slot that nothing was streamed from can be taken into use or made again; any other
//! slot belongs to somebody.

use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;
use std::time::Duration;

use tokio_postgres::Client;
use waldelta_history::{Captured, Head, History};
use waldelta_source::Source;
use waldelta_source::catalog::{self, Identity, Slot};
use waldelta_wal::chain_text;

use crate::baseline::Tell;
use crate::recover::{check_feed, check_slot_ours, check_source};
use crate::start::{APPLICATION_NAME, values_for};
use crate::walsender::{self, ClientEncoding, Connection, CreatedSlot};
use crate::{Error, baseline, promotion, questions};

pub use crate::baseline::Baselining;

/// Creating a slot waits for every transaction that writes; not longer than this unless told otherwise.
pub const SLOT_TIME_MAX: Duration = Duration::from_secs(30);
/// A slot on a standby waits for a sign from the primary, which writes one at least this often when asked.
const NUDGE_INTERVAL: Duration = Duration::from_secs(2);
/// From here on standbys can be told to keep a slot, so that it is there after a failover.
const VERSION_WITH_FAILOVER: u32 = 170_000;
/// From here on standbys have logical slots, and the primary can be asked for that sign.
pub(crate) const VERSION_OF_STANDBY_SLOTS: u32 = 160_000;
/// What was set up on the primary is on the standby within this.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(30);
const REPLAY_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The server notices within this that a writer of ours is gone.
const WRITER_GONE_MAX: Duration = Duration::from_secs(10);
const WRITER_LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Ending the connection that waited takes no longer than this.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(5);
/// Who holds the writer's lease meanwhile, for people.
const HOLDER: &str = "waldelta init";
/// Tables that a message names at most.
const TABLES_NAMED_MAX: usize = 10;

/// Creates the slot if it is missing and begins history at its consistent point. With `with_baseline`, the rows that
/// existed then are written first, as operation `baseline`, read in the slot's own snapshot, so that nothing lies
/// between them and the first change. A no-op when history has begun and the slot is there, and the baseline too where one
/// is asked for.
///
/// A slot that is there and was never used is taken into use from where it begins; for a baseline it is created anew.
///
/// # Errors
/// When there is a used slot without a history or a history without its slot: a gap may lie between, and only
/// its owner can decide. [`Error::BaselineMissing`] when history has begun and a baseline was not written to its end: the
/// rows as they were then can no longer be read. [`Error::SlotBlocked`] when open transactions kept the slot from being created in time; it leaves
/// nothing behind.
pub async fn begin(source: &Source, history: &History, with_baseline: bool) -> Result<Head, Error> {
    begin_telling(source, history, with_baseline, SLOT_TIME_MAX, &|_| {}).await
}

/// As [`begin`], with another bound on how long creating the slot may wait for open transactions. Tells how far the baseline is.
///
/// # Errors
/// As [`begin`].
pub async fn begin_telling(
    source: &Source,
    history: &History,
    with_baseline: bool,
    slot_time_max: Duration,
    tell: Tell<'_>,
) -> Result<Head, Error> {
    let client = source.connect().await?;
    let mut identity = catalog::identity(&client).await?;
    standby(source, &client, &mut identity).await?;
    if let Some(head) = already_begun(source, &client, &identity, history, with_baseline).await? {
        return Ok(head);
    }
    let source = &Source { values: values_for(source, history, &identity).await?, ..source.clone() };
    // Publication before slot: what is decoded from before it existed can never be decoded.
    questions::publication(&client, &source.publication).await?;
    waldelta_source::wal2json::check_fitness(&client, source).await?;
    // Before the slot too, so that whatever happens to the tables after it shows as a difference.
    let tables = state_of_tables(source, &client).await;
    let head =
        begin_new(source, &client, &identity, history, with_baseline.then_some(tell), slot_time_max).await?;
    note_tables(history, tables).await;
    Ok(head)
}

/// Of a standby: whether it can have a slot, what timeline it is on, and, where its primary is named, whether it has already
/// what was set up there.
async fn standby(source: &Source, client: &Client, identity: &mut Identity) -> Result<(), Error> {
    if !identity.is_standby {
        return Ok(());
    }
    if identity.version < VERSION_OF_STANDBY_SLOTS {
        return Err(Error::StandbyTooOld);
    }
    identity.timeline = promotion::timeline(source, identity).await?;
    if source.primary.is_none() {
        return Ok(());
    }
    let written = questions::written_end(&source.connect_primary().await?).await?;
    let replayed = async {
        while catalog::identity(client).await?.wal_end < written {
            tokio::time::sleep(REPLAY_LOOK_INTERVAL).await;
        }
        Ok(())
    };
    let replayed = tokio::time::timeout(REPLAY_TIME_MAX, replayed).await;
    replayed.unwrap_or_else(|_| {
        Err(Error::unanswered("wait until the standby has what was set up on its primary", REPLAY_TIME_MAX))
    })
}

async fn begin_new(
    source: &Source,
    client: &Client,
    identity: &Identity,
    history: &History,
    with_baseline: Option<Tell<'_>>,
    slot_time_max: Duration,
) -> Result<Head, Error> {
    if let Some(slot) = catalog::slot(client, &source.slot).await? {
        check_slot_usable(source, &slot, identity)?;
        if questions::slot_was_used(client, &source.slot).await? {
            return Err(Error::SlotWithoutHistory { slot: source.slot.clone() });
        }
        match slot.confirmed {
            Some(start) if with_baseline.is_none() => {
                let begun =
                    history.begin_anew(&captured(source, identity), start, "begun at an unused slot").await;
                return match begun {
                    Err(again @ waldelta_history::Error::AlreadyBegun) => {
                        let head = already_begun(source, client, identity, history, false).await?;
                        head.ok_or(again.into())
                    }
                    begun => Ok(begun?),
                };
            }
            _ => questions::drop_slot(client, &source.slot).await?,
        }
    }
    let (connection, created) = create_slot(source, client, identity, slot_time_max).await?;
    let begun = history
        .begin_anew(&captured(source, identity), created.consistent_point, "begun with a new slot")
        .await;
    let (error, is_unused) = match begun {
        Ok(head) => match write_baseline(source, history, &created.snapshot, with_baseline).await {
            Ok(()) => return Ok(head),
            // Somebody else writes this history already, so it is not ours alone to take back.
            Err(error @ Error::History(waldelta_history::Error::LeaseHeld { .. })) => (error, false),
            Err(error) => {
                // Half a baseline would be taken for a whole one. Nothing else can be in this history yet.
                if let Err(left) = take_back(history).await {
                    tracing::warn!(
                        error = chain_text(&left),
                        "the history that was begun could not be taken back"
                    );
                }
                (error, true)
            }
        },
        Err(again @ waldelta_history::Error::AlreadyBegun) => {
            let head = already_begun(source, client, identity, history, with_baseline.is_some()).await?;
            return head.ok_or(again.into());
        }
        // The answer may have been lost after the commit: the slot is unused only if history says so.
        Err(error) => (error.into(), matches!(history.captured().await, Ok(None))),
    };
    if is_unused {
        drop_created(connection, &source.slot).await;
    }
    Err(error)
}

/// Drops what was begun. The server may notice a moment later than we that who wrote the baseline is gone.
async fn take_back(history: &History) -> Result<(), waldelta_history::Error> {
    let until = tokio::time::Instant::now() + WRITER_GONE_MAX;
    loop {
        match history.drop_everything().await {
            Err(waldelta_history::Error::LeaseHeld { .. }) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(WRITER_LOOK_INTERVAL).await;
            }
            done => return done,
        }
    }
}

async fn write_baseline(
    source: &Source,
    history: &History,
    exported: &str,
    with_baseline: Option<Tell<'_>>,
) -> Result<(), Error> {
    match with_baseline {
        Some(tell) => baseline::write(source, history, exported, tell).await,
        None => Ok(()),
    }
}

/// Whether the slot is ours, alive and free.
fn check_slot_usable(source: &Source, slot: &Slot, identity: &Identity) -> Result<(), Error> {
    check_slot_ours(source, slot, identity)?;
    let name = || source.slot.clone();
    if let Some(reason) = slot.loss() {
        return Err(Error::SlotLost { slot: name(), reason: reason.to_owned() });
    }
    match slot.active_pid {
        Some(pid) => Err(Error::SlotActive { slot: name(), pid }),
        None => Ok(()),
    }
}

/// What state the published tables are in, as history keeps it; none where that cannot be told.
pub(crate) async fn state_of_tables(source: &Source, client: &Client) -> Vec<(u32, String)> {
    let tables = catalog::fingerprints(client, source).await.unwrap_or_else(|error| {
        tracing::debug!(error = chain_text(&error), "look at what state the tables are in");
        Vec::new()
    });
    tables.iter().map(|table| (table.oid, table.fingerprint.to_json())).collect()
}

/// Stores what state the tables were in, for the first look of whoever captures them. A capture that is quicker stores it
/// itself.
async fn note_tables(history: &History, fingerprints: Vec<(u32, String)>) {
    let noted = async {
        let mut writer = history.writer(HOLDER).await?;
        writer.note_source(Vec::new(), fingerprints).await?;
        writer.release().await
    };
    if let Err(error) = noted.await {
        tracing::debug!(error = chain_text(&error), "store what state the tables were in");
    }
}

/// Where history is if it has begun, perhaps by another instance in this very moment; and whether that is what was asked
/// for.
async fn already_begun(
    source: &Source,
    client: &Client,
    identity: &Identity,
    history: &History,
    with_baseline: bool,
) -> Result<Option<Head>, Error> {
    let Some((captured, head)) = history.captured().await? else { return Ok(None) };
    check_feed(&captured, source)?;
    check_source(&captured, identity)?;
    if catalog::slot(client, &source.slot).await?.is_none() {
        return Err(Error::SlotMissing { slot: source.slot.clone() });
    }
    if with_baseline {
        check_baseline(source, client, history).await?;
    }
    Ok(Some(head))
}

/// Drops the slot that was just created: nobody would ever read it.
pub(crate) async fn drop_created(mut connection: Connection, slot: &str) {
    let name = slot.to_owned();
    if let Err(left) = walsender::on_thread(move || connection.drop_slot(&name)).await {
        tracing::warn!(
            slot,
            error = chain_text(&left),
            "the slot that was created could not be dropped again"
        );
    }
}

/// Whether history has the rows that every published table had when it began.
async fn check_baseline(source: &Source, client: &Client, history: &History) -> Result<(), Error> {
    let stored = history.baselines().await?;
    let published = catalog::published_tables(client, source).await?;
    let missing = published.into_iter().filter(|published| !stored.contains(&published.table.oid));
    let missing: Vec<String> = missing.map(|published| published.table.name.to_string()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut tables = missing[..missing.len().min(TABLES_NAMED_MAX)].join(", ");
    if let Some(more) = missing.len().checked_sub(TABLES_NAMED_MAX).filter(|more| *more > 0) {
        tables.push_str(&format!(" and {more} more"));
    }
    Err(Error::BaselineMissing { tables })
}

pub(crate) fn captured(source: &Source, identity: &Identity) -> Captured {
    Captured {
        system_id: identity.system_id,
        timeline: identity.timeline,
        database_oid: identity.database_oid,
        slot: source.slot.clone(),
        publication: source.publication.clone(),
    }
}

/// Creates the slot, and waits no longer for open transactions than `slot_time_max`; then it leaves nothing behind and says
/// who was in the way.
pub(crate) async fn create_slot(
    source: &Source,
    client: &Client,
    identity: &Identity,
    slot_time_max: Duration,
) -> Result<(Connection, CreatedSlot), Error> {
    let target = source.target.clone();
    let encoding = ClientEncoding::of_server(&identity.encoding);
    let (mut connection, system) = walsender::on_thread(move || {
        let mut connection = Connection::open(&target, APPLICATION_NAME, encoding)?;
        let system = connection.identify_system()?;
        Ok((connection, system))
    })
    .await?;
    if system.system_id != identity.system_id {
        return Err(Error::SourceChanged {
            what: "system identifier",
            stored: identity.system_id,
            found: system.system_id,
        });
    }
    let (slot, plugin, pid) = (source.slot.clone(), source.plugin, connection.backend_pid());
    let failover = identity.version >= VERSION_WITH_FAILOVER && !identity.is_standby;
    let created = walsender::on_thread(move || {
        connection.set_patience(slot_time_max)?;
        let created = connection.create_slot(&slot, plugin, failover)?;
        Ok((connection, created))
    });
    let created = tokio::select! {
        created = created => created,
        never = nudge(source, identity) => match never {},
    };
    match created {
        Err(walsender::Error::Io { source: error, .. })
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            Err(blocked(source, client, pid, slot_time_max).await?)
        }
        other => Ok(other?),
    }
}

/// Asks the primary for what a slot that is being created waits for, where the role may: on an idle primary nothing else
/// writes it.
async fn nudge(source: &Source, identity: &Identity) -> Infallible {
    if !identity.is_standby {
        return pending().await;
    }
    loop {
        tokio::time::sleep(NUDGE_INTERVAL).await;
        let nudged = async { questions::log_standby_snapshot(&source.connect_primary().await?).await };
        if let Err(error) = nudged.await {
            tracing::debug!(error = error.chain(), "ask the primary for a snapshot of what runs");
            return pending().await;
        }
    }
}

/// Ends what waits for open transactions, takes the slot away if it came into being all the same, and says who was in
/// the way.
async fn blocked(source: &Source, client: &Client, pid: i32, waited: Duration) -> Result<Error, Error> {
    // Writers are at the primary.
    let blockers = match &source.primary {
        Some(_) => questions::slot_blockers(&source.connect_primary().await?).await?,
        None => questions::slot_blockers(client).await?,
    };
    // A backend that waits for a transaction does not notice that its client is gone.
    questions::terminate(client, pid, CLEAN_TIME_MAX).await?;
    if catalog::slot(client, &source.slot).await?.is_some() {
        questions::drop_slot(client, &source.slot).await?;
    }
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    Ok(Error::SlotBlocked { slot: source.slot.clone(), waited_ms, blockers })
}
