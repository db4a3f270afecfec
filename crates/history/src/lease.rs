//! One writer at a time: the session advisory lock, the lease row with its fencing token, and taking over.
//!
//! The lock says at once whether a writer is there; the token makes sure that one who was thought dead cannot commit
//! when it wakes. What decides that somebody should take over is not in here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fail::fail_point;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;
use waldelta_wal::{EndLsn, Epoch, Lsn, chain_text};

use crate::{CAPTURE_ID, Error, HEAD_CHANNEL, History};

const TAKE: &str = include_str!("../../../sql/queries/take_lease.sql");
const HOLDER: &str = include_str!("../../../sql/queries/lease_holder.sql");
const REVOKE: &str = include_str!("../../../sql/queries/revoke_lease.sql");
const TERMINATE: &str = include_str!("../../../sql/queries/terminate_backend.sql");
const RENEW: &str =
    "UPDATE waldelta.leases SET renewed_at = clock_timestamp() WHERE capture_id = $1 AND token = $2";
const RELEASE: &str = "UPDATE waldelta.leases SET backend_pid = NULL, backend_start = NULL WHERE capture_id = $1 AND token = $2";

/// Key of the advisory lock that the writer's session holds: "WALDELTA".
pub(crate) const LOCK_KEY: i64 = 0x5741_4C44_454C_5441;
/// Tries to find the lock free or its holder there, and the pause between two: a backend that ends gives its locks back last.
const LOCK_TRIES_MAX: u32 = 100;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(20);
/// How long a terminated backend may take to be gone, and a lock to be free.
const GONE_WITHIN_MS: i64 = 30_000;
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
    pub(crate) backend: Backend,
    pub(crate) holder: Arc<str>,
}

/// A backend of the history database. Process ids are used again: together with its beginning it is the one that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pid: i32,
    /// `None` where this role may not see it; then it may not end it either.
    start: Option<SystemTime>,
}

/// Whoever holds the lock.
pub(crate) struct Holder {
    name: String,
    pub(crate) backend: Backend,
    silent_ms: u64,
}

impl Holder {
    /// Another writer is alive.
    pub(crate) fn refusal(self) -> Error {
        Error::LeaseHeld { holder: self.name, backend_pid: self.backend.pid, silent_ms: self.silent_ms }
    }
}

/// Locks out every other writer of this database for as long as the connection lives; or says who does.
///
/// `leftover` is the backend of a writer of this process that is gone; it may need a moment to notice that.
pub(crate) async fn lock(client: &Client, leftover: Option<Backend>) -> Result<Option<Holder>, Error> {
    match try_lock(client).await? {
        Some(holder) if leftover == Some(holder.backend) => {
            limit_waits(client, GONE_WITHIN_MS).await?;
            remove(client, holder.backend).await?;
            limit_waits(client, 0).await?;
            Ok(None)
        }
        held => Ok(held),
    }
}

/// Takes the lock away from whoever has it. The order matters: first the lease, so that the old holder learns of it when
/// it renews; then its backends, because one that is stuck inside COPY ends by no timeout and holds its keys; and
/// only when they are gone, the lock.
///
/// `known` is the holder that the caller decided on. Where another one has taken over from it meanwhile, that one is left alone.
///
/// The lock's backend is the one that writes. The one that the lease names is the same, unless something took the lock from
/// its session and left it its transaction.
pub(crate) async fn take_over_lock(client: &Client, known: Option<Backend>) -> Result<(), Error> {
    limit_waits(client, GONE_WITHIN_MS).await?;
    let holder = match try_lock(client).await? {
        Some(other) if known.is_some_and(|known| known != other.backend) => return Err(other.refusal()),
        holder => holder.map(|holder| holder.backend),
    };
    let revoked = client.query_opt(REVOKE, &[&CAPTURE_ID, &"being taken over"]).await;
    let revoked = revoked.map_err(|source| waited_too_long(source, 0))?;
    fail_point!("history::lease_revoked");
    let leased =
        revoked.and_then(|row| Some(Backend { pid: row.get::<_, Option<i32>>(0)?, start: row.get(1) }));
    if let Some(leased) = leased.filter(|leased| holder != Some(*leased)) {
        terminate(client, leased, GONE_WITHIN_MS).await?;
    }
    if let Some(holder) = holder {
        remove(client, holder).await?;
    }
    limit_waits(client, 0).await
}

/// Takes the lock if it is free, else says who has it.
async fn try_lock(client: &Client) -> Result<Option<Holder>, Error> {
    // Whoever had it can be gone before we asked who that is: then it is free, and we ask again.
    for _ in 0..LOCK_TRIES_MAX {
        let locked = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY]).await;
        if locked.map_err(Error::TakeLease)?.get(0) {
            return Ok(None);
        }
        let holder = client.query_opt(HOLDER, &[&CAPTURE_ID, &LOCK_KEY]).await.map_err(Error::TakeLease)?;
        if let Some(row) = holder {
            let backend = Backend { pid: row.get(1), start: row.get(2) };
            let silent_ms = row.get::<_, i64>(3).unsigned_abs();
            return Ok(Some(Holder { name: row.get(0), backend, silent_ms }));
        }
        tokio::time::sleep(LOCK_TRY_EVERY).await;
    }
    Err(Error::LeaseHeld { holder: "unknown".to_owned(), backend_pid: 0, silent_ms: 0 })
}

/// Terminates the backend that holds the lock, waits until it is gone and has the lock then.
async fn remove(client: &Client, backend: Backend) -> Result<(), Error> {
    terminate(client, backend, 0).await?;
    // It gives the lock back when its transaction is rolled back.
    let locked = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK_KEY]).await;
    locked.map(|_| ()).map_err(|source| waited_too_long(source, backend.pid))
}

async fn terminate(client: &Client, backend: Backend, wait_ms: i64) -> Result<(), Error> {
    let ended = client.query_opt(TERMINATE, &[&backend.pid, &backend.start, &wait_ms]).await;
    match ended.map_err(Error::TakeLease)? {
        Some(row) if wait_ms > 0 && !row.get::<_, bool>(0) => Err(does_not_end(backend.pid)),
        _ => Ok(()),
    }
}

async fn limit_waits(client: &Client, wait_ms: i64) -> Result<(), Error> {
    client.batch_execute(&format!("SET lock_timeout = {wait_ms}")).await.map_err(Error::TakeLease)
}

fn waited_too_long(source: tokio_postgres::Error, backend_pid: i32) -> Error {
    match source.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => does_not_end(backend_pid),
        _ => Error::TakeLease(source),
    }
}

fn does_not_end(backend_pid: i32) -> Error {
    Error::LeaseHeld { holder: "a backend that does not end".to_owned(), backend_pid, silent_ms: 0 }
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
        backend: Backend { pid: row.get(7), start: row.get(8) },
        holder: holder.into(),
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
                // There is nothing to renew any more: the next writer has a keeper of its own.
                Some(Err(error @ Error::Fenced { .. })) => return Err(error),
                Some(Err(error)) if error.is_retryable() => {
                    tracing::warn!(
                        error = chain_text(&error),
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
