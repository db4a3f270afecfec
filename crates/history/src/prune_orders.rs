//! Orders to prune: whoever does not write history leaves one, and the process that does carries it out.

use std::time::Duration;

use sqlx::Row;

use crate::sweep::{Sweep, Sweeper};
use crate::{Error, History, Retention};

const ORDER: &str = "INSERT INTO waldelta.prune_orders (keep, force) VALUES ($1, $2) RETURNING id";
const OUTCOME: &str = "SELECT outcome FROM waldelta.prune_orders WHERE id = $1 AND done_at IS NOT NULL";
const WAITING: &str =
    "SELECT id, keep, force FROM waldelta.prune_orders WHERE done_at IS NULL ORDER BY id LIMIT 10";
const DONE: &str = "UPDATE waldelta.prune_orders SET done_at = clock_timestamp(), outcome = $2 WHERE id = $1";
const FORGET: &str = "DELETE FROM waldelta.prune_orders WHERE done_at IS NOT NULL AND id < $1 - 100";

/// What whoever waits for an order sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOrder {
    id: i64,
}

/// What prunes.
pub enum Pruner {
    /// This process, which writes history meanwhile.
    Here(Box<crate::Writer>),
    /// The one that does.
    Elsewhere,
}

impl History {
    /// Who is to prune: this process, as `holder`, where nobody writes history now.
    pub async fn pruner(&self, holder: &str) -> Result<Pruner, Error> {
        match self.writer(holder).await {
            Ok(writer) => Ok(Pruner::Here(Box::new(writer))),
            Err(Error::LeaseHeld { .. }) => Ok(Pruner::Elsewhere),
            Err(error) => Err(error),
        }
    }

    /// Orders the process that writes history to keep only so much, once.
    pub async fn order_prune(&self, keep: Retention, force: bool) -> Result<PruneOrder, Error> {
        let ordered = sqlx::query(ORDER).bind(keep.to_string()).bind(force).fetch_one(self.pool()).await;
        let id = ordered.and_then(|row| row.try_get(0)).map_err(Error::OrderPrune)?;
        Ok(PruneOrder { id })
    }

    /// What came of an order; `None`: it waits, or is being carried out.
    pub async fn prune_outcome(&self, order: PruneOrder) -> Result<Option<Sweep>, Error> {
        let row = sqlx::query(OUTCOME).bind(order.id).fetch_optional(self.pool()).await;
        let Some(row) = row.map_err(Error::OrderPrune)? else { return Ok(None) };
        let outcome: Option<String> = row.try_get(0).map_err(Error::OrderPrune)?;
        let outcome = outcome.and_then(|outcome| serde_json::from_str(&outcome).ok());
        outcome.map(Some).ok_or_else(|| Error::Corrupt { what: "what came of an order to prune".to_owned() })
    }
}

impl Sweeper {
    /// Carries out what was ordered.
    pub(crate) async fn carry_out_orders(&self) -> Result<(), Error> {
        let pool = self.history().pool();
        let orders = sqlx::query(WAITING).fetch_all(pool).await.map_err(Error::OrderPrune)?;
        for order in orders {
            let id: i64 = order.try_get(0).map_err(Error::OrderPrune)?;
            let keep: &str = order.try_get(1).map_err(Error::OrderPrune)?;
            let force: bool = order.try_get(2).map_err(Error::OrderPrune)?;
            let swept = match keep.parse() {
                Ok(keep) => self.sweep(keep, force, Duration::ZERO).await?,
                // Written by hand, or by a version that knows more: nothing is removed.
                Err(_) => Sweep::default(),
            };
            let outcome = serde_json::to_string(&swept).unwrap_or_default();
            sqlx::query(DONE).bind(id).bind(outcome).execute(pool).await.map_err(Error::OrderPrune)?;
            sqlx::query(FORGET).bind(id).execute(pool).await.map_err(Error::OrderPrune)?;
        }
        Ok(())
    }
}
