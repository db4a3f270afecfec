//! Tickets that can be used once in place of a token, in any process that serves clients of one history.
//!
//! No ticket's text comes here, only its hash. They expire by the clock of history's database: what is made by one process is
//! redeemed by another.

use std::time::Duration;

use sqlx::Row;

use crate::{Error, History};

const STORE: &str = include_str!("../../../sql/queries/store_ticket.sql");
const TAKE: &str = include_str!("../../../sql/queries/take_ticket.sql");
const FORGET: &str = include_str!("../../../sql/queries/forget_tickets.sql");

/// Tickets at once, of one owner and of all.
const OWNER_MAX: i64 = 32;
const ALL_MAX: i64 = 10_000;
/// Expired ones that are removed in one statement.
const FORGOTTEN_MAX: i64 = 1_000;

/// A ticket that was taken: nobody else gets it.
pub struct TakenTicket {
    /// What was stored with it.
    pub identity: Vec<u8>,
    /// Whether it could still be used.
    pub is_in_time: bool,
}

impl History {
    /// Stores a ticket for so long, and removes some that have expired. False where the owner, or all together, have as many as
    /// may be.
    pub async fn store_ticket(
        &self,
        hash: &[u8],
        owner: &[u8],
        identity: &[u8],
        lives_for: Duration,
    ) -> Result<bool, Error> {
        self.forget_tickets().await?;
        let stored = sqlx::query(STORE)
            .bind(hash)
            .bind(owner)
            .bind(identity)
            .bind(lives_for.as_secs_f64())
            .bind(OWNER_MAX)
            .bind(ALL_MAX)
            .execute(self.pool())
            .await;
        Ok(stored.map_err(Error::ChangeAccess)?.rows_affected() == 1)
    }

    /// Takes a ticket. Of all who try, one gets it.
    pub async fn take_ticket(&self, hash: &[u8]) -> Result<Option<TakenTicket>, Error> {
        let taken = sqlx::query(TAKE).bind(hash).fetch_optional(self.pool()).await;
        let Some(row) = taken.map_err(Error::ChangeAccess)? else { return Ok(None) };
        let columns = || -> Result<_, sqlx::Error> {
            Ok(TakenTicket { identity: row.try_get(0)?, is_in_time: row.try_get(1)? })
        };
        columns().map(Some).map_err(Error::ChangeAccess)
    }

    /// Removes tickets that have expired, 1,000 at most. How many.
    pub async fn forget_tickets(&self) -> Result<u64, Error> {
        let forgotten = sqlx::query(FORGET).bind(FORGOTTEN_MAX).execute(self.pool()).await;
        forgotten.map(|done| done.rows_affected()).map_err(Error::ChangeAccess)
    }
}
