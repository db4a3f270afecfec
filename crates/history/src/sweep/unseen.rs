//! What the source does not show yet is not removed.
//!
//! A transaction can be in the WAL, and in history, while no snapshot of the source shows it: most of all while its commit waits for
//! a synchronous standby. Whoever takes a snapshot meanwhile looks up here what it has to wait for, so as long as that
//! lasts, the transaction must be here. What was shown once is shown for ever: it is asked before something is removed, and what
//! is removed then is missed by no snapshot that is taken later.
//!
//! How the source is asked is not known here.

use std::error::Error as StdError;

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;
use waldelta_wal::{Epoch, PgSnapshot};

use super::holdings::columns;
use super::plan::Place;
use crate::Error;
use crate::partition::Partition;

const UNSEEN_OF: &str = include_str!("../../../../sql/queries/unseen_of.sql");

/// Says what the source shows.
pub trait Shown: Send + Sync {
    /// What a snapshot of the source would show that is taken now, on the server that takes writes.
    fn now(&self) -> BoxFuture<'_, Result<PgSnapshot, Box<dyn StdError + Send + Sync>>>;
}

/// What one sweep asks: the source once, and only when something is to go.
pub(super) struct Unseen<'a> {
    shown: &'a dyn Shown,
    client: &'a Client,
    /// The current epoch. What survived of one that has ended, the source that took over shows; and what did not has ids of
    /// another numbering.
    epoch: Epoch,
    /// `None`: the source could not be asked.
    snapshot: OnceCell<Option<PgSnapshot>>,
    /// The sweep before has told that something stays.
    is_told: bool,
}

impl<'a> Unseen<'a> {
    pub(super) fn new(shown: &'a dyn Shown, client: &'a Client, epoch: Epoch, is_told: bool) -> Self {
        Unseen { shown, client, epoch, snapshot: OnceCell::new(), is_told }
    }

    /// Whether a partition has, before a place, what the source does not show yet, or may not.
    pub(super) async fn has(&self, part: Partition, before: Place) -> Result<bool, Error> {
        if part.epoch != self.epoch {
            return Ok(false);
        }
        let Some(snapshot) = self.snapshot.get_or_init(|| self.ask()).await else { return Ok(true) };
        let stored = |xid: u64| i64::try_from(xid).unwrap_or(i64::MAX);
        let in_progress: Vec<i64> = snapshot.in_progress().iter().map(|xid| stored(*xid)).collect();
        let (epoch, lsn): (i32, PgLsn) = columns(before);
        let sql = UNSEEN_OF.replace("{name}", &part.name());
        let found =
            self.client.query_opt(&sql, &[&stored(snapshot.xmax()), &in_progress, &epoch, &lsn]).await;
        let Some(found) = found.map_err(Error::Prune)? else { return Ok(false) };
        let xid: i64 = found.get(0);
        if !self.is_told {
            tracing::warn!(
                xid,
                partition = part.name(),
                "history is kept for longer: the source does not show a transaction yet; does its commit wait for a standby?"
            );
        }
        Ok(true)
    }

    async fn ask(&self) -> Option<PgSnapshot> {
        match self.shown.now().await {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                if !self.is_told {
                    let error = &*error as &dyn StdError;
                    tracing::warn!(
                        error,
                        "history is kept for longer: the source cannot be asked what it shows"
                    );
                }
                None
            }
        }
    }
}
