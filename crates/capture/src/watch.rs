//! Watches the source beside the stream: how far its WAL reaches, whether the publication is still there, whether the
//! canary, a row of ours that is updated now and then, arrives, and what state the catalog shows the tables in. It stores
//! nothing, decides nothing of the tables (see `drift`) and never holds up the stream.
//!
//! Where a standby is captured, its primary is looked at: only there the canary can be updated, and places in the WAL are the
//! same. A primary that is not there, or is another one by now, is nothing that would end capture.
//!
//! A publication that was dropped can make the source skip changes without a word (from version 18 on), while logical
//! messages and keepalives still come. Only a row proves that rows come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::catalog::{self, Identity};
use waldelta_wal::{EndLsn, Lsn};

use crate::drift::Look;
use crate::listed::Listed;
use crate::status::{Canary, Status};
use crate::{Error, questions};

/// The source may take this long for one look.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// How often the source is looked at when there is no canary.
const LOOK_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);

/// A look that the stream asks for comes no sooner than this after the one before.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// What the stream has shown, for the watch to compare.
#[derive(Debug)]
pub(crate) struct Sighting {
    /// Commit LSN of the last sign of life.
    sign: AtomicU64,
    received: AtomicU64,
    /// Something that calls for a look at once.
    changed: Notify,
}

impl Sighting {
    pub(crate) fn new(from: Lsn) -> Self {
        Sighting { sign: AtomicU64::new(0), received: AtomicU64::new(from.0), changed: Notify::new() }
    }

    /// The stream shows that a table changed: it is to be looked at soon.
    pub(crate) fn set_changed(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn set_sign(&self, commit_lsn: Lsn) {
        self.sign.store(commit_lsn.0, Ordering::Release);
    }

    pub(crate) fn set_received(&self, end: EndLsn) {
        self.received.store(end.0.0, Ordering::Release);
    }

    /// `Some(false)` when everything up to `after` was received and no sign of life from `before` on.
    fn arrived(&self, update: &Update) -> Option<bool> {
        let received = self.received();
        if Lsn(self.sign.load(Ordering::Acquire)) >= update.before {
            return Some(true);
        }
        (received.0 >= update.after).then_some(false)
    }

    fn received(&self) -> EndLsn {
        EndLsn(Lsn(self.received.load(Ordering::Acquire)))
    }
}

/// An update of the canary: it committed between these two places.
#[derive(Clone, Copy, Debug)]
struct Update {
    before: Lsn,
    after: Lsn,
}

/// See the module.
pub(crate) struct Watch<'a> {
    source: &'a Source,
    canary_interval: Duration,
    status: &'a Status,
    sighting: Arc<Sighting>,
    looks: mpsc::Sender<Look>,
    /// What wal2json was asked for, and until when that was what is published.
    listed: Option<(Listed, Lsn)>,
    /// The tables could not be looked at, and that was said.
    blind: bool,
    client: Option<Client>,
    update: Option<Update>,
    canary_refused: bool,
    transactions_seen: u64,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        source: &'a Source,
        canary_interval: Duration,
        status: &'a Status,
        sighting: Arc<Sighting>,
        looks: mpsc::Sender<Look>,
    ) -> Self {
        Watch {
            source,
            canary_interval,
            status,
            sighting,
            looks,
            listed: None,
            blind: false,
            client: None,
            update: None,
            canary_refused: false,
            transactions_seen: 0,
        }
    }

    /// Watches also whether what is published is still what wal2json was asked for.
    pub(crate) fn comparing(self, listed: Option<(&Listed, Lsn)>) -> Self {
        Watch { listed: listed.map(|(listed, since)| (listed.clone(), since)), ..self }
    }

    /// Watches until something is found that ends capture. A source that does not answer is none: the stream itself shows
    /// whether it lives.
    pub(crate) async fn run(mut self) -> Error {
        let interval =
            if self.canary_interval.is_zero() { LOOK_INTERVAL_DEFAULT } else { self.canary_interval };
        loop {
            match tokio::time::timeout(LOOK_TIME_MAX, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error @ Error::TablesChanged { .. })) => return error,
                Ok(Err(error)) if error.is_retryable() => {
                    tracing::debug!(error = error.chain(), "look at the source");
                    self.client = None;
                }
                Ok(Err(error)) => return error,
                Err(_) => self.client = None,
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.sighting.changed.notified() => tokio::time::sleep(LOOK_INTERVAL_MIN.min(interval)).await,
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        if self.client.is_none() {
            self.client = Some(self.source.connect_primary().await?);
        }
        let Some(client) = &self.client else { return Ok(()) };
        let publication = questions::publication(client, &self.source.publication).await?;
        if let Some(update) = self.update {
            match self.sighting.arrived(&update) {
                Some(true) => {
                    self.update = None;
                    self.status.canary(Canary::Alive);
                }
                // What comes from a standby that has changed its timeline meanwhile is not stored (see `promotion`).
                Some(false)
                    if self.source.primary.is_some() && self.status.read().durable.0 < update.after => {}
                Some(false) => {
                    return Err(Error::CanaryLost {
                        updated: update.before,
                        received: self.sighting.received(),
                    });
                }
                None => {}
            }
        }
        let Identity { wal_end: before, is_standby, .. } = catalog::identity(client).await?;
        self.status.source_end(before);
        if let Some((listed, since)) = &mut self.listed {
            let now = catalog::listing(client, self.source).await?;
            if now != listed.listing {
                return Err(Error::TablesChanged { missing: listed.missing(&now), since: *since });
            }
            *since = before;
        }
        match look_at_tables(client, self.source, before).await {
            Ok(look) => {
                // The loop is over when nobody takes it.
                let _ = self.looks.send(look).await;
                self.blind = false;
            }
            Err(error) if error.is_retryable() || std::mem::replace(&mut self.blind, true) => {
                tracing::debug!(error = error.chain(), "look at the tables");
            }
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "tables that are rewritten without a change go unnoticed"
                );
            }
        }
        let transactions = self.status.read().transactions;
        let idle = std::mem::replace(&mut self.transactions_seen, transactions) == transactions;
        if publication == questions::Publication::WithoutCanary {
            self.status.canary(Canary::Refused("waldelta.canary is not in the publication".to_owned()));
            return Ok(());
        }
        if is_standby {
            self.status
                .canary(Canary::Refused("the source is a standby without source.primary_url".to_owned()));
            return Ok(());
        }
        let wanted = !self.canary_interval.is_zero() && !self.canary_refused && self.update.is_none() && idle;
        if !wanted {
            return Ok(());
        }
        match waldelta_source::beat_canary(client).await {
            Ok(false) => {
                self.status.canary(Canary::Refused("waldelta.canary has no row".to_owned()));
                self.canary_refused = true;
            }
            Ok(true) => {
                let after = catalog::identity(client).await?.wal_end;
                self.update = Some(Update { before, after });
            }
            Err(error) => {
                let error = Error::from(error);
                tracing::info!(error = error.chain(), "the canary cannot be updated; going on without it");
                self.status.canary(Canary::Refused(error.chain()));
                self.canary_refused = true;
            }
        }
        Ok(())
    }
}

async fn look_at_tables(client: &Client, source: &Source, before: Lsn) -> Result<Look, Error> {
    let tables = catalog::fingerprints(client, source).await?;
    let after = catalog::identity(client).await?.wal_end;
    Ok(Look { before, after, tables })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_lost_only_when_everything_around_it_arrived() {
        let sighting = Sighting::new(Lsn(10));
        let update = Update { before: Lsn(20), after: Lsn(30) };
        assert_eq!(sighting.arrived(&update), None, "not received so far");
        sighting.set_sign(Lsn(15));
        sighting.set_received(EndLsn(Lsn(29)));
        assert_eq!(sighting.arrived(&update), None);
        sighting.set_received(EndLsn(Lsn(30)));
        assert_eq!(sighting.arrived(&update), Some(false));
        sighting.set_sign(Lsn(20));
        assert_eq!(sighting.arrived(&update), Some(true));
    }
}
