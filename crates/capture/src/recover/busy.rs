//! A slot that another connection uses. One of ours that a connection before has left (a half-open socket, a frozen process)
//! is ended after a while; anybody else's is left alone.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use waldelta_source::Source;
use waldelta_source::catalog;

use crate::start::APPLICATION_NAME;
use crate::status::Status;
use crate::{Error, questions};

/// A connection of ours that was just closed is gone within this; one that is not is ended.
const LEFT_TIME_MAX: Duration = Duration::from_secs(10);
/// That of a writer which was taken over has had its time: it did not renew its lease for longer than that.
const SILENT_TIME_MAX: Duration = Duration::from_secs(1);
/// And one that was ended.
const ENDED_TIME_MAX: Duration = Duration::from_secs(10);
/// How often the slot is looked at meanwhile.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(50);
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// All of the above together, at most.
pub(crate) const BUSY_TIME_MAX: Duration = LEFT_TIME_MAX.saturating_add(ENDED_TIME_MAX);

/// Waits until nobody uses the slot, and ends a walsender of ours that does not go by itself. Only the holder of the
/// writer's lease may call this: nobody else has a right to the slot.
///
/// # Errors
/// [`Error::SlotActive`] when it is somebody else's, or does not end.
pub(crate) async fn wait_until_free(source: &Source, client: &Client, status: &Status) -> Result<(), Error> {
    let left_time_max =
        if status.leadership().comes_after_silent() { SILENT_TIME_MAX } else { LEFT_TIME_MAX };
    let own_name = source.target.application_name().unwrap_or(APPLICATION_NAME);
    let mut seen: Option<(i32, Instant)> = None;
    let mut is_ended = false;
    let mut interval = LOOK_INTERVAL_MIN;
    loop {
        let slot = catalog::slot(client, &source.slot).await?;
        let Some(pid) = slot.and_then(|slot| slot.active_pid) else {
            status.leadership().found_slot_free();
            return Ok(());
        };
        let active = || Error::SlotActive { slot: source.slot.clone(), pid };
        let since = match seen {
            Some((known, since)) if known == pid => since,
            _ => {
                is_ended = false;
                seen.insert((pid, Instant::now())).1
            }
        };
        if !questions::is_own_walsender(client, &source.slot, pid, own_name, false).await? {
            // It may have gone in this moment.
            let slot = catalog::slot(client, &source.slot).await?;
            if slot.and_then(|slot| slot.active_pid) == Some(pid) {
                return Err(active());
            }
            continue;
        }
        status.reconnecting(&active());
        let waited = since.elapsed();
        if waited >= BUSY_TIME_MAX {
            return Err(active());
        }
        if waited >= left_time_max && !is_ended {
            tracing::warn!(
                pid,
                slot = source.slot,
                "a connection of ours still holds the slot, although this instance is the one that writes: ending it"
            );
            questions::is_own_walsender(client, &source.slot, pid, own_name, true).await?;
            is_ended = true;
        }
        tokio::time::sleep(interval).await;
        interval = (interval * 2).min(LOOK_INTERVAL_MAX);
    }
}
