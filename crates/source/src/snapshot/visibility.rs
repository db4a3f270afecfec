//! Which transactions a snapshot taken now would show.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use waldelta_wal::PgSnapshot;

use crate::ask::ask_one;
use crate::{Error, Source};

/// Mostly a transaction becomes visible within microseconds of its commit record.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// `age` counts from the next id.
const NEXT_XID: &str =
    "SELECT (xmax::text::int8 + age(xmax::xid))::text AS next_xid, pg_is_in_recovery() AS is_standby
    FROM pg_snapshot_xmax(pg_current_snapshot()) AS xmax";

/// Waits until every one of `xids` (transactions that history already has) is visible to new snapshots.
///
/// A transaction can be in the WAL and in history while no snapshot shows it yet, longest with synchronous standbys.
///
/// # Errors
/// [`Error::NotVisibleYet`] names the first that is not visible when the time is up; or when a question fails.
pub async fn wait_visible(source: &Source, xids: &[u64], timeout: Duration) -> Result<(), Error> {
    if xids.is_empty() {
        return Ok(());
    }
    let began = Instant::now();
    let client = source.connect_primary().await?;
    let mut pause = FIRST_PAUSE;
    loop {
        let snapshot = visible_to(&client).await?;
        let Some(&xid) = xids.iter().find(|xid| !snapshot.visible(**xid)) else { return Ok(()) };
        let waited = began.elapsed();
        if waited >= timeout {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            return Err(Error::NotVisibleYet { xid, waited_ms });
        }
        tokio::time::sleep(pause.min(timeout - waited)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a snapshot taken now would show.
///
/// # Errors
/// [`Error::Standby`]: what a standby shows says nothing of what the primary has. Or when there is no connection, or the question
/// fails.
pub async fn visible_now(source: &Source) -> Result<PgSnapshot, Error> {
    visible_to(&source.connect_primary().await?).await
}

async fn visible_to(client: &Client) -> Result<PgSnapshot, Error> {
    super::look(client, "look at the transactions in progress").await
}

/// The id that the server will give next: every transaction that has one by now has a lower one.
///
/// The `xmax` of a snapshot is not that: it lies behind the last transaction that has ended, and those that began after that one and
/// are still open lie behind it.
///
/// # Errors
/// [`Error::Standby`]: a standby gives no ids. Or when the question fails.
pub async fn next_xid(client: &Client) -> Result<u64, Error> {
    let answer = ask_one(client, "ask for the next transaction id", NEXT_XID, &[]).await?;
    if answer.read("is_standby")? {
        return Err(Error::Standby);
    }
    answer.parse("next_xid")
}
