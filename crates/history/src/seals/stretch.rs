//! Reading history as seals see it, in short statements over a connection of its own: a reader that lasts is in the way of pruning.
//!
//! The database computes the digest of each row, so that no value travels; here they are folded. Nothing is compared or stored here.

use sha2::{Digest as _, Sha256};
use tokio_postgres::types::{PgLsn, ToSql};
use tokio_postgres::{Client, Error, Statement};
use waldelta_wal::{Epoch, Lsn};

use super::seal::{Digest, Place, Seal, Sum};
use crate::{CAPTURE_ID, History};

const CHANGES: &str = include_str!("../../../../sql/queries/changes_to_seal.sql");
const SHAPES: &str = include_str!("../../../../sql/queries/shapes_to_seal.sql");
const STATE: &str = include_str!("../../../../sql/queries/seal_state.sql");
const NEWEST: &str = include_str!("../../../../sql/queries/newest_seal.sql");
const EPOCHS: &str = "SELECT epoch, start_lsn FROM waldelta.epochs ORDER BY epoch";

/// Of one statement: rows, and bytes of images as stored, at most. One row is read whatever its size.
const PAGE_ROWS_MAX: u64 = 5_000;
const PAGE_BYTES_MAX: i64 = 8 << 20;

const APPLICATION_NAME: &str = "waldelta-history-seals";
/// The encoding is part of what is hashed. A page is planned for its bounds: only then are other partitions left alone.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "on"),
    ("search_path", "waldelta,pg_catalog"),
    ("client_encoding", "UTF8"),
    ("plan_cache_mode", "force_custom_plan"),
    // Where there is an index it is used, whatever statistics a young partition lacks.
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// A connection that reads.
pub(super) struct Reader {
    pub(super) client: Client,
    changes: Statement,
    shapes: Statement,
}

/// Where history is.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) epoch: Epoch,
    pub(super) durable_end: Lsn,
    pub(super) pruned: Option<(Epoch, Lsn)>,
    pub(super) now_us: i64,
    /// Epochs in order, and where they begin.
    pub(super) epochs: Vec<(Epoch, Lsn)>,
}

impl State {
    /// Up to where an epoch was pruned.
    pub(super) fn pruned_in(&self, epoch: Epoch) -> Place {
        match self.pruned {
            Some((pruned, _)) if epoch < pruned => Place::END,
            Some((pruned, lsn)) if epoch == pruned => Place::at(lsn),
            _ => Place::BEGIN,
        }
    }

    /// Where an epoch begins.
    pub(super) fn start_of(&self, epoch: Epoch) -> Option<Lsn> {
        self.epochs.iter().find(|(known, _)| *known == epoch).map(|(_, start)| *start)
    }
}

/// Changes that were read.
pub(super) struct Folded {
    pub(super) sum: Sum,
    /// Where the last one stands.
    pub(super) last: Option<Place>,
    /// There may be more: as many were read as may be.
    pub(super) is_cut: bool,
}

impl Reader {
    pub(super) async fn connect(
        history: &History,
        failed: fn(Error) -> crate::Error,
    ) -> Result<Self, crate::Error> {
        let client = history.config().target.connect(APPLICATION_NAME, SETTINGS).await;
        let client = client.map_err(crate::Error::Connect)?;
        let prepared = async {
            let changes = client.prepare(CHANGES).await?;
            Ok((changes, client.prepare(SHAPES).await?))
        };
        let (changes, shapes) = prepared.await.map_err(failed)?;
        Ok(Reader { client, changes, shapes })
    }

    /// Where history is; `None` for a writer that is not the one any more, or where nothing was ever captured.
    pub(super) async fn state(&self, token: Option<i64>) -> Result<Option<State>, Error> {
        let row = self.client.query_opt(STATE, &[&CAPTURE_ID, &token]).await?;
        let Some(row) = row else { return Ok(None) };
        let epoch = |epoch: i32| Epoch(epoch.cast_unsigned());
        let lsn = |lsn: PgLsn| Lsn(lsn.into());
        let pruned = row.get::<_, Option<i32>>(2).map(epoch).zip(row.get::<_, Option<PgLsn>>(3).map(lsn));
        let epochs = self.client.query(EPOCHS, &[]).await?;
        Ok(Some(State {
            epoch: epoch(row.get(0)),
            durable_end: lsn(row.get(1)),
            pruned,
            now_us: row.get(4),
            epochs: epochs.iter().map(|row| (epoch(row.get(0)), lsn(row.get(1)))).collect(),
        }))
    }

    /// The newest seal of all.
    pub(super) async fn newest(&self) -> Result<Option<Seal>, Error> {
        self.client.query_opt(NEWEST, &[]).await?.as_ref().map(Seal::read).transpose()
    }

    /// The changes of a stretch, so many at most.
    pub(super) async fn changes(
        &self,
        epoch: Epoch,
        from: Place,
        to: Place,
        rows_max: u64,
    ) -> Result<Folded, Error> {
        let (mut rows, mut digest, mut last) = (0, Sha256::new(), None);
        let mut from = from;
        while rows < rows_max {
            let limit = PAGE_ROWS_MAX.min(rows_max - rows).cast_signed();
            let ((from_lsn, from_seq), (to_lsn, to_seq)) = (from.columns(), to.columns());
            let bounds: [&(dyn ToSql + Sync); 7] =
                [&epoch.0.cast_signed(), &from_lsn, &from_seq, &to_lsn, &to_seq, &limit, &PAGE_BYTES_MAX];
            let page = self.client.query(&self.changes, &bounds).await?;
            let Some(end) = page.last() else { break };
            let end = Place::read(end, 0)?;
            (from, last) = (end.next(), Some(end));
            rows += page.len() as u64;
            for row in &page {
                digest.update(row.try_get::<_, &[u8]>(2)?);
            }
        }
        let sum = Sum { rows, digest: digest.finalize().into() };
        Ok(Folded { sum, last, is_cut: rows >= rows_max })
    }

    /// The shapes that tables first had in a stretch.
    pub(super) async fn shapes(&self, epoch: Epoch, from: Place, to: Place) -> Result<Sum, Error> {
        let ((from_lsn, from_seq), (to_lsn, to_seq)) = (from.columns(), to.columns());
        let bounds: [&(dyn ToSql + Sync); 5] =
            [&epoch.0.cast_signed(), &from_lsn, &from_seq, &to_lsn, &to_seq];
        let rows = self.client.query(&self.shapes, &bounds).await?;
        let mut digest = Sha256::new();
        for row in &rows {
            digest.update(row.try_get::<_, &[u8]>(0)?);
        }
        let digest: Digest = digest.finalize().into();
        Ok(Sum { rows: rows.len() as u64, digest })
    }
}
