//! What there is, as a sweep finds it. Nothing is decided or removed here.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};
use waldelta_wal::{Epoch, Lsn, Position};

use super::plan::{CLIENT_HOLDS, Holdings, Mark, Place};
use crate::partition::Partition;
use crate::{CAPTURE_ID, Error, History, Retention};

const STATE: &str = include_str!("../../../../sql/queries/prune_state.sql");
const PARTITIONS: &str = include_str!("../../../../sql/queries/partitions.sql");
const MARKS: &str = include_str!("../../../../sql/queries/retention_marks.sql");
const NOTE_MARK: &str = include_str!("../../../../sql/queries/note_mark.sql");
const FORGET_MARKS: &str = include_str!("../../../../sql/queries/forget_marks.sql");
const OLDEST_ACK: &str = include_str!("../../../../sql/queries/oldest_ack.sql");
const LAST_TIME: &str = include_str!("../../../../sql/queries/last_time.sql");
const EPOCHS: &str =
    "SELECT epoch, end_lsn, (extract(epoch FROM started_at) * 1000000)::bigint FROM waldelta.epochs";
const TOKEN: &str = "SELECT token FROM waldelta.captures WHERE id = $1";

/// What there is, and where it begins.
pub(super) struct Found {
    pub(super) holdings: Holdings,
    pub(super) floor: Place,
    /// When the newest mark was noted.
    noted_us: Option<i64>,
    epoch_ends: Vec<Place>,
}

/// When the last change of partitions was committed that were there before there were marks, by the source's clock: as far as it was
/// asked for, which is done once. `None`: there is nothing in it.
pub(crate) type LastTimes = BTreeMap<Partition, Option<i64>>;

impl Found {
    /// Where a reader goes on when a partition is gone: at its end, or at its epoch's, which has a next one.
    pub(super) fn end_of(&self, part: Partition) -> Place {
        let of_epoch = self.epoch_ends.iter().find(|of| of.epoch == part.epoch);
        of_epoch.map_or(part.end(), |of| part.end().min(*of))
    }
}

/// Reads it, as far as it matters for how much is kept; `None` where another writer has taken over from the one with this token.
pub(super) async fn read(
    history: &History,
    client: &Client,
    token: Option<i64>,
    retention: Retention,
    ahead: Duration,
) -> Result<Option<Found>, Error> {
    let token = match token {
        Some(token) => token,
        None => match client.query_opt(TOKEN, &[&CAPTURE_ID]).await.map_err(Error::Prune)? {
            Some(row) => row.get(0),
            None => return Ok(None),
        },
    };
    let ahead_us = i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX);
    let state = client.query_opt(STATE, &[&CAPTURE_ID, &token, &ahead_us]).await.map_err(Error::Prune)?;
    let Some(state) = state else { return Ok(None) };
    let (head, floor) = (place(&state, 0, 1), place(&state, 2, 3));
    let pruned = state.get::<_, Option<i32>>(4).map(|_| place(&state, 4, 5));
    let (moved_us, now_us): (i64, i64) = (state.get(6), state.get(7));
    let partitions = client.query(PARTITIONS, &[]).await.map_err(Error::Prune)?;
    let partitions: Vec<_> = partitions.iter().map(partition).collect();
    let epochs = client.query(EPOCHS, &[]).await.map_err(Error::Prune)?;
    let since_us = now_us.saturating_sub(i64::try_from(CLIENT_HOLDS.as_micros()).unwrap_or(i64::MAX));
    let ack = client.query_one(OLDEST_ACK, &[&floor.cursor().to_string(), &since_us]).await;
    let oldest_ack: Option<Position> =
        ack.map_err(Error::Prune)?.get::<_, Option<String>>(0).and_then(|ack| ack.parse().ok());
    let stored = client.query(MARKS, &[]).await.map_err(Error::Prune)?;
    let stored = stored.iter().map(|row| Mark { place: place(row, 0, 1), at_us: row.get(2) });
    // What was noted while the clock was ahead says nothing.
    let stored: Vec<Mark> = stored.filter(|mark| mark.place <= head && mark.at_us <= now_us).collect();
    let noted_us = stored.last().map(|mark| mark.at_us);
    let unmarked = unmarked(&partitions, stored.first().map_or(head, |mark| mark.place));
    let early = early(history, client, &partitions, asked(&unmarked, retention), &epochs).await?;
    let marks = in_order(early, stored, Mark { place: head, at_us: moved_us }, now_us);
    let holdings = Holdings { now_us, head, pruned, partitions, marks, oldest_ack };
    let ends = epochs.iter().filter(|row| row.get::<_, Option<PgLsn>>(1).is_some());
    let epoch_ends = ends.map(|row| place(row, 0, 1)).collect();
    Ok(Some(Found { holdings, floor, noted_us, epoch_ends }))
}

/// The partitions that end at or before the first mark: no mark says how old they are.
fn unmarked(partitions: &[(Partition, u64)], first: Place) -> Vec<Partition> {
    partitions.iter().map(|(part, _)| *part).filter(|part| part.end() <= first).collect()
}

/// Where history is not kept for a time, only how old the oldest is is told.
fn asked(unmarked: &[Partition], retention: Retention) -> &[Partition] {
    match retention {
        Retention::Age(_) => unmarked,
        Retention::Off | Retention::Size(_) => &unmarked[..unmarked.len().min(1)],
    }
}

/// The commit time of a partition's last change says how old it is; but nothing is older than its epoch.
async fn early(
    history: &History,
    client: &Client,
    partitions: &[(Partition, u64)],
    asked: &[Partition],
    epochs: &[Row],
) -> Result<Vec<Mark>, Error> {
    let mut known = history.last_times();
    known.retain(|known, _| partitions.iter().any(|(part, _)| part == known));
    let mut marks = Vec::with_capacity(asked.len());
    for part in asked {
        let last_us = match known.get(part) {
            Some(last_us) => *last_us,
            None => match last_time(client, *part, part.begin(), part.end()).await {
                Ok(last_us) => *known.entry(*part).or_insert(last_us),
                // Dropped meanwhile, by the process that writes.
                Err(source) if source.code() == Some(&SqlState::UNDEFINED_TABLE) => continue,
                Err(source) => return Err(Error::Prune(source)),
            },
        };
        let began = epochs.iter().find(|row| row.get::<_, i32>(0).cast_unsigned() == part.epoch.0);
        if let Some(began_us) = began.map(|row| row.get::<_, i64>(2)) {
            marks
                .push(Mark { place: part.end(), at_us: last_us.map_or(began_us, |last| last.max(began_us)) });
        }
    }
    history.set_last_times(known);
    Ok(marks)
}

/// When the last change of a partition between two places was committed.
pub(super) async fn last_time(
    client: &Client,
    part: Partition,
    low: Place,
    high: Place,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let ((epoch, from), (_, to)) = (columns(low), columns(high));
    let sql = LAST_TIME.replace("{name}", &part.name());
    Ok(client.query_opt(&sql, &[&epoch, &from, &to]).await?.map(|row| row.get(0)))
}

/// In order of places, and of times: what was stored later is not older, and nothing was stored after now. What is known from before
/// there were marks is by another clock, and not younger than the first of them.
fn in_order(early: Vec<Mark>, stored: Vec<Mark>, head: Mark, now_us: i64) -> Vec<Mark> {
    let head = Mark { at_us: head.at_us.min(now_us), ..head };
    let youngest_us = stored.first().map_or(now_us, |mark| mark.at_us);
    let early = early.into_iter().map(|mark| Mark { at_us: mark.at_us.min(youngest_us), ..mark });
    let mut all: Vec<Mark> = early.chain(stored).collect();
    if all.last().is_none_or(|last| last.place < head.place) {
        all.push(head);
    }
    let mut latest_us = i64::MIN;
    for mark in &mut all {
        latest_us = latest_us.max(mark.at_us);
        mark.at_us = latest_us;
    }
    all
}

/// Notes how old the head is, unless another place was noted within the gap before now; and forgets what is known of places that
/// were pruned. What commit times say is no note: they may be of a clock that was ahead, and then nothing would ever be noted.
pub(super) async fn mark(client: &Client, found: &Found, gap: Duration) -> Result<(), Error> {
    if let Some(Mark { place, at_us }) = found.holdings.marks.last() {
        let since_us =
            found.holdings.now_us.saturating_sub(i64::try_from(gap.as_micros()).unwrap_or(i64::MAX));
        if found.noted_us.is_none_or(|noted_us| noted_us <= since_us) {
            let (epoch, lsn) = columns(*place);
            client.execute(NOTE_MARK, &[&epoch, &lsn, at_us]).await.map_err(Error::Prune)?;
        }
    }
    if let Some(pruned) = found.holdings.pruned {
        let (epoch, lsn) = columns(pruned);
        client.execute(FORGET_MARKS, &[&epoch, &lsn]).await.map_err(Error::Prune)?;
    }
    Ok(())
}

/// A place as parameters.
pub(super) fn columns(place: Place) -> (i32, PgLsn) {
    (place.epoch.0.cast_signed(), PgLsn::from(place.lsn.0))
}

/// A place in two columns.
pub(super) fn place(row: &Row, epoch: usize, at: usize) -> Place {
    Place { epoch: Epoch(row.get::<_, i32>(epoch).cast_unsigned()), lsn: lsn(row, at) }
}

fn partition(row: &Row) -> (Partition, u64) {
    let epoch = Epoch(row.get::<_, i32>(1).cast_unsigned());
    (Partition { epoch, low: lsn(row, 2), high: lsn(row, 3) }, row.get::<_, i64>(4).unsigned_abs())
}

fn lsn(row: &Row, at: usize) -> Lsn {
    Lsn(row.get::<_, PgLsn>(at).into())
}

#[cfg(test)]
mod tests;
