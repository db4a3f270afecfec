//! Carrying out a diagnosis: the slot that a new epoch needs, and the epoch.
//!
//! The order is fixed: the writer's lease, so that nobody else writes or begins another epoch; another look, because the
//! diagnosis may be old; publication before slot; the state of the tables before a new slot, so that whatever changes after
//! it shows as a difference; the slot; the epoch. Whatever fails on the way leaves a state in which doing all of it again
//! is right: a slot that was created and not used is dropped again, and if that fails too, the next look finds a slot that
//! it can begin at.

use std::future::pending;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use waldelta_history::{Captured, Head, History, NewEpoch, Writer};
use waldelta_source::Source;
use waldelta_source::catalog::{self, Identity, Slot};
use waldelta_wal::EndLsn;

use super::Diagnosis;
use super::busy::wait_until_free;
use super::decide::{Begin, Decision, Found, Plan, SlotStep, check_slot_ours, decide};
use super::look::look;
use crate::start::values_for;
use crate::status::Status;
use crate::walsender::Connection;
use crate::{Config, Error, leadership, questions, setup};

/// Giving the lease back may take this long.
const RELEASE_TIME_MAX: Duration = Duration::from_secs(2);

/// Begins the new epoch that the diagnosis asks for. `None`: nothing was to be done, or not any more.
///
/// # Errors
/// [`Error::PlanOutdated`] when something else would have to be done by now, [`Error::SlotActive`] when somebody else uses the
/// slot, [`Error::SlotBlocked`] when open transactions kept a new slot from being created in time; [`Error::History`] with the
/// holder while another instance writes history. Nothing is left behind that a second try would not understand.
pub async fn act(
    config: &Config,
    history: &History,
    status: &Status,
    shown: &Diagnosis,
) -> Result<Option<Head>, Error> {
    if shown.begin().is_none() {
        return Ok(None);
    }
    let writer = leadership::writer(config, history, status).await?;
    let keeper = writer.lease_keeper();
    let kept = async {
        match keeper.run(CancellationToken::new()).await {
            Err(error) => error,
            Ok(()) => pending().await,
        }
    };
    // Waiting for a slot takes longer than a lease may go unrenewed.
    tokio::select! {
        biased;
        done = Box::pin(carry_out(config, history, status, shown, writer)) => done,
        lost = kept => Err(lost.into()),
    }
}

async fn carry_out(
    config: &Config,
    history: &History,
    status: &Status,
    shown: &Diagnosis,
    writer: Writer,
) -> Result<Option<Head>, Error> {
    let prepared = match prepare(config, history, status, shown, writer.head()).await {
        Ok(Some(prepared)) => prepared,
        nothing_or_error => {
            let released = tokio::time::timeout(RELEASE_TIME_MAX, writer.release()).await;
            if !matches!(released, Ok(Ok(()))) {
                tracing::debug!("the lease was not given back; it ends with the connection");
            }
            return nothing_or_error.map(|_| None);
        }
    };
    let Prepared { new, created } = prepared;
    let (before, slot, reason) = (writer.head(), new.captured.slot.clone(), new.reason.clone());
    match writer.begin_epoch(new).await {
        Ok(head) => {
            tracing::warn!(
                epoch = head.epoch.0,
                from = %head.durable_end,
                epoch_before = before.epoch.0,
                durable_before = %before.durable_end,
                reason,
                "a new epoch of history has begun"
            );
            Ok(Some(head))
        }
        Err(error) => {
            // The answer may have been lost after the commit: the slot is unused only if history says so.
            let is_unused =
                matches!(history.captured().await, Ok(Some((_, head))) if head.epoch == before.epoch);
            if let Some(connection) = created.filter(|_| is_unused) {
                setup::drop_created(connection, &slot).await;
            }
            Err(error.into())
        }
    }
}

/// All that the new epoch needs is there.
struct Prepared {
    new: NewEpoch,
    /// The connection that has created the slot.
    created: Option<Connection>,
}

async fn prepare(
    config: &Config,
    history: &History,
    status: &Status,
    shown: &Diagnosis,
    head: Head,
) -> Result<Option<Prepared>, Error> {
    let source = &config.source;
    let (captured, _) = history.captured().await?.ok_or(Error::NotBegun)?;
    let client = source.connect().await?;
    let found = look(source, &client, history, &captured, head.durable_end).await?;
    // Somebody else was quicker: what was met before that epoch says nothing of it.
    let undecodable = shown.undecodable && head.epoch == shown.head.epoch;
    let found = Found { undecodable, ..found };
    let Decision { failure, plan } = decide(source, &captured, head, &found);
    let begin = match plan {
        Plan::GoOn => return Ok(None),
        Plan::NewEpoch(begin) if shown.begin().is_some_and(|shown| is_alike(shown, &begin)) => begin,
        Plan::NewEpoch(_) | Plan::Wait | Plan::Person(_) => return Err(Error::PlanOutdated),
    };
    waldelta_source::wal2json::check_fitness(&client, source).await?;
    values_for(source, history, &found.identity).await?;
    let fingerprints = fingerprints(source, &client, history, &captured, &found, &begin).await?;
    let (start, created) = make_slot(source, &client, status, &found.identity, &begin).await?;
    let new = NewEpoch {
        captured: Captured { timeline: found.timeline, ..setup::captured(source, &found.identity) },
        start,
        fork: begin.fork,
        reason: reason(failure.as_ref()),
        continues: begin.continues,
        fingerprints,
    };
    Ok(Some(Prepared { new, created }))
}

/// Whether what is to be done is what was shown. Where exactly may have moved.
fn is_alike(shown: &Begin, begin: &Begin) -> bool {
    (shown.slot, shown.continues) == (begin.slot, begin.continues)
}

fn reason(failure: Option<&Error>) -> String {
    failure.map_or_else(String::new, |failure| {
        let state = crate::states::named(failure.code()).map_or(failure.code().as_str(), |state| state.name);
        format!("{state}: {}", failure.chain())
    })
}

/// What state the tables were in where the epoch begins. Where a slot is gone on with, that lies behind: then what history
/// knows is nearer to it than what the catalog says now, and every difference is noticed.
async fn fingerprints(
    source: &Source,
    client: &Client,
    history: &History,
    captured: &Captured,
    found: &Found,
    begin: &Begin,
) -> Result<Vec<(u32, String)>, Error> {
    let Identity { system_id, database_oid, .. } = found.identity;
    let same_tables = (system_id, database_oid) == (captured.system_id, captured.database_oid);
    if begin.slot == SlotStep::Keep && same_tables {
        return Ok(history.fingerprints().await?.into_iter().collect());
    }
    Ok(setup::state_of_tables(source, client).await)
}

/// Makes the slot what it has to be; says from where on everything will be stored.
async fn make_slot(
    source: &Source,
    client: &Client,
    status: &Status,
    identity: &Identity,
    begin: &Begin,
) -> Result<(EndLsn, Option<Connection>), Error> {
    if begin.slot != SlotStep::Create {
        wait_until_free(source, client, status).await?;
        // It is looked at once more, because nothing is ever dropped or begun at that is not ours.
        let slot = catalog::slot(client, &source.slot).await?.ok_or(Error::PlanOutdated)?;
        check_slot_ours(source, &slot, identity)?;
        if begin.slot == SlotStep::Keep {
            return Ok((start_of(&slot, begin).ok_or(Error::PlanOutdated)?, None));
        }
        tracing::warn!(slot = source.slot, "dropping the replication slot, which is of no use any more");
        questions::drop_slot(client, &source.slot).await?;
    }
    let (connection, created) = setup::create_slot(source, client, identity, setup::SLOT_TIME_MAX).await?;
    Ok((created.consistent_point, Some(connection)))
}

/// Where an epoch at this slot begins: at the place that was decided if it continues the one before and the slot still
/// reaches back there, else where the slot is.
fn start_of(slot: &Slot, begin: &Begin) -> Option<EndLsn> {
    let confirmed = slot.confirmed.filter(|_| !slot.is_lost())?;
    match begin.start.filter(|_| begin.continues) {
        Some(start) => (confirmed <= start).then_some(start),
        None => Some(confirmed),
    }
}
