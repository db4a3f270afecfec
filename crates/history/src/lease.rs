//! One writer at a time: the session advisory lock, the lease row with its fencing token, and taking over.
//!
//! The lock says at once whether a writer is there; the token makes sure that one who was thought dead cannot commit
//! when it wakes. What decides that somebody should take over is not in here.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{EndLsn, Epoch, Lsn};

use crate::{CAPTURE_ID, Error, HEAD_CHANNEL, History};

const TAKE: &str = include_str!("../../../sql/queries/take_lease.sql");
const HOLDER: &str = include_str!("../../../sql/queries/lease_holder.sql");
const REVOKE: &str = include_str!("../../../sql/queries/revoke_lease.sql");
const RENEW: &str =
    "UPDATE waldelta.leases SET renewed_at = clock_timestamp() WHERE capture_id = $1 AND token = $2";
const RELEASE: &str = "UPDATE waldelta.leases SET backend_pid = NULL, backend_start = NULL WHERE capture_id = $1 AND token = $2";

/// Key of the advisory lock that the writer's session holds: "WALDELTA".
const LOCK_KEY: i64 = 0x5741_4C44_454C_5441;
/// Tries to find the lock free or its holder there.
const LOCK_TRIES_MAX: u32 = 10;
/// How long a terminated backend may take to be gone.
const GONE_WITHIN: &str = "30s";
/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// At least this lies between two notifications.
const NOTIFY_EVERY: Duration = Duration::from_millis(50);
/// Pause after a connection for renewing was lost.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Of the connection that renews.
const SETTINGS: &[(&str, &str)] = &[("default_transaction_read_only", "off")];

/// What taking the lease gives.
pub(crate) struct Taken {
    pub(crate) token: i64,
    pub(crate) epoch: Epoch,
    pub(crate) durable_end: EndLsn,
    pub(crate) epoch_start: EndLsn,
    pub(crate) partition_bytes: u64,
    pub(crate) system_id: String,
    pub(crate) database_oid: u32,
    pub(crate) backend_pid: i32,
}

/// Locks out every other writer of this database for as long as the connection lives.
///
/// `leftover` is the backend of a writer of this process that is gone; it may need a moment to notice that.
pub(crate) async fn lock(client: &Client, leftover: Option<i32>) -> Result<(), Error> {
    match try_lock(client).await? {
        None => Ok(()),
        Some((_, backend_pid)) if leftover == Some(backend_pid) => remove(client, backend_pid).await,
        Some((holder, backend_pid)) => Err(Error::LeaseHeld { holder, backend_pid }),
    }
}

/// Takes the lock away from whoever has it. The order matters: first the lease, so that the old holder learns of it when
/// it renews; then its backend, because one that is stuck inside COPY ends by no timeout and holds its keys; and
/// only when that is gone, the lock.
pub(crate) async fn take_over_lock(client: &Client) -> Result<(), Error> {
    client.execute(REVOKE, &[&CAPTURE_ID, &"being taken over"]).await.map_err(Error::TakeLease)?;
    match try_lock(client).await? {
        None => Ok(()),
        Some((_, backend_pid)) => remove(client, backend_pid).await,
    }
}

/// Takes the lock if it is free, else says who has it: name and backend.
async fn try_lock(client: &Client) -> Result<Option<(String, i32)>, Error> {
    // Whoever had it can be gone before we asked who that is: then it is free, and we ask again.
    for _ in 0..LOCK_TRIES_MAX {
        let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY]).await;
        if locked.map_err(Error::TakeLease)?.get(0) {
            return Ok(None);
        }
        let holder = client.query_opt(HOLDER, &[&CAPTURE_ID, &LOCK_KEY]).await.map_err(Error::TakeLease)?;
        if let Some(row) = holder {
            return Ok(Some((row.get(0), row.get(1))));
        }
    }
    Err(Error::LeaseHeld { holder: "unknown".to_owned(), backend_pid: 0 })
}

/// Terminates the backend that holds the lock and waits until it is gone.
async fn remove(client: &Client, backend_pid: i32) -> Result<(), Error> {
    let terminate = client.execute("SELECT pg_terminate_backend($1)", &[&backend_pid]).await;
    terminate.map_err(Error::TakeLease)?;
    let limited = format!("SET lock_timeout = '{GONE_WITHIN}'");
    client.batch_execute(&limited).await.map_err(Error::TakeLease)?;
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await;
    match locked {
        Ok(_) => client.batch_execute("SET lock_timeout = 0").await.map_err(Error::TakeLease),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(Error::LeaseHeld { holder: "a backend that does not end".to_owned(), backend_pid })
        }
        Err(error) => Err(Error::TakeLease(error)),
    }
}

/// With the lock held: a new token in lease and progress row.
pub(crate) async fn take(client: &Client, holder: &str) -> Result<Taken, Error> {
    let row = client.query_opt(TAKE, &[&CAPTURE_ID, &holder]).await.map_err(Error::TakeLease)?;
    let row = row.ok_or(Error::NotBegun)?;
    let lsn = |at| EndLsn(Lsn(row.get::<_, PgLsn>(at).into()));
    Ok(Taken {
        token: row.get(0),
        epoch: Epoch(row.get::<_, i32>(1).cast_unsigned()),
        durable_end: lsn(2),
        system_id: row.get(3),
        database_oid: row.get(4),
        partition_bytes: row.get::<_, i64>(5).cast_unsigned(),
        epoch_start: lsn(6),
        backend_pid: row.get(7),
    })
}

/// Gives lease and lock back.
pub(crate) async fn release(client: &Client, token: i64) -> Result<(), Error> {
    client.execute(RELEASE, &[&CAPTURE_ID, &token]).await.map_err(Error::ReleaseLease)?;
    let unlock = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK_KEY]).await;
    unlock.map(|_| ()).map_err(Error::ReleaseLease)
}

/// What the writer needs done beside it, on a connection of its own so that no append ever blocks or delays it: renewing the
/// lease, and telling other processes that the head has moved.
///
/// It is optional for correctness: without it followers find out by polling, and the lease looks stale to people.
pub struct LeaseKeeper {
    history: History,
    token: i64,
}

impl LeaseKeeper {
    pub(crate) fn new(history: History, token: i64) -> Self {
        LeaseKeeper { history, token }
    }

    /// Works until told to stop. A lost connection is made again; only a lease that is another's now, or an error that
    /// does not pass, ends it early.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let kept = stop.run_until_cancelled(self.keep()).await;
            match kept {
                None => return Ok(()),
                Some(Err(error)) if error.is_retryable() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the lease could not be renewed; trying again"
                    );
                }
                Some(result) => return result,
            }
            if stop.run_until_cancelled(tokio::time::sleep(RECONNECT_AFTER)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn keep(&self) -> Result<(), Error> {
        let target = &self.history.config().target;
        let client = target.connect("waldelta-history-lease", SETTINGS).await.map_err(Error::Connect)?;
        let mut head = self.history.feed().watch();
        let mut renew = tokio::time::interval(RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notify_at = Instant::now();
        loop {
            tokio::select! {
                _ = renew.tick() => self.renew(&client).await?,
                moved = head.changed() => {
                    if moved.is_err() {
                        return Ok(());
                    }
                    tokio::time::sleep_until(notify_at).await;
                    let cursor = head.borrow_and_update().cursor().to_string();
                    let notify = client.execute("SELECT pg_notify($1, $2)", &[&HEAD_CHANNEL, &cursor]).await;
                    notify.map_err(Error::TakeLease)?;
                    notify_at = Instant::now() + NOTIFY_EVERY;
                }
            }
        }
    }

    async fn renew(&self, client: &Client) -> Result<(), Error> {
        let renewed = client.execute(RENEW, &[&CAPTURE_ID, &self.token]).await.map_err(Error::TakeLease)?;
        match renewed {
            1 => Ok(()),
            _ => Err(Error::Fenced { expected: self.history.feed().head().durable_end }),
        }
    }
}
